"""What the daemon promises, end to end, by the promises' numbers in the design."""

from __future__ import annotations

import os
from pathlib import Path
from random import Random

import pytest
from daemon_process import FAULTY, HAMPERED, Daemon, once, running
from dicom_files import write_slice
from disturbed import end_state, filled, killed
from drops import contents, dropped, fates, made, states

SERIES = 10
NAME = "GEHEIMNIS"


def _fill(inbox: Path) -> None:
    """Fill an inbox with every kind of thing that people drop."""
    made(inbox / "a" / "deep", 3, series_uid="1.2.3")
    made(inbox / "b", 2, series_uid="1.2.4")
    (inbox / "b" / "notes.txt").write_text("not an image")
    cut = write_slice(inbox / "c" / "cut.dcm", series_uid="1.2.5")
    cut.write_bytes(cut.read_bytes()[:-7])
    write_slice(inbox / "loose.dcm", series_uid="1.2.6").chmod(0o440)
    os.utime(inbox / "loose.dcm", ns=(10**18 + 123456789, 10**18 + 987654321))
    (inbox / "empty").mkdir()


def test_promises_1_and_6_every_file_has_one_outcome_and_the_inbox_is_as_it_was(
    tmp_path: Path,
) -> None:
    _fill(tmp_path / "inbox")
    before = states(tmp_path / "inbox")
    code, daemon = once(tmp_path, verify="independent")
    assert (code, len(daemon.all("job.done"))) == (0, 4)
    assert states(tmp_path / "inbox") == before
    found = [fates(path) for path in sorted(daemon.output.glob("*/"))]
    assert sorted(path for drop in found for path in drop) == sorted(contents(daemon.inbox))
    assert [set(drop.values()) for drop in found] == [
        {"archived"},
        {"archived"},
        {"archived", "ignored"},
        {"archived"},
    ]


def test_promise_6_holds_when_jobs_fail(tmp_path: Path) -> None:
    _fill(tmp_path / "inbox")
    (tmp_path / "crash").touch()
    before = states(tmp_path / "inbox")
    code, daemon = once(tmp_path, command=FAULTY, FAULTS=tmp_path, max_attempts=1)
    assert (code, len(daemon.all("job.rejected"))) == (1, 4)
    assert states(tmp_path / "inbox") == before


@pytest.mark.integration
def test_promise_7_kills_at_any_instant_lead_to_the_same_result(tmp_path: Path) -> None:
    inbox = filled(tmp_path / "inbox", SERIES)
    _, undisturbed = once(tmp_path / "undisturbed", inbox=inbox)
    moments = Random(7)  # noqa: S311 - the same moments in every run
    daemon, odd = killed(tmp_path / "disturbed", inbox, moments, times=5, series=SERIES)
    assert odd == []
    found = end_state(daemon.output)
    assert found == end_state(undisturbed.output)
    assert [receipt["revision"] for receipt in found["receipts"]] == [1] * SERIES
    assert not any(name.startswith(".") for name in found["names"])


def _drop_secret(daemon: Daemon, faults: Path) -> None:
    """Drop what makes the daemon speak, with a secret in each place that bears names."""
    folder = daemon.place / "made" / f"{NAME} 1970"
    facts = {"PatientName": f"{NAME}^Anna", "PatientID": f"{NAME}-ZX4711Q"}
    dropped(daemon, f"{NAME} {NAME}", 2, series_uid="1.2.3", **facts)
    write_slice(folder / f"{NAME}-1.dcm", series_uid="1.2.4", **facts)
    cut = write_slice(folder / f"{NAME}-2.dcm", series_uid="1.2.4", **facts)
    cut.write_bytes(cut.read_bytes()[:-7])
    write_slice(folder / f"{NAME}-3.dcm", series_uid="1.2.4", **facts).chmod(0)
    facts |= {"series_uid": "1.2.5", "SpecificCharacterSet": "ISO_IR 100"}
    odd = write_slice(folder / "odd", **facts)
    odd.write_bytes(odd.read_bytes().replace(b"ISO_IR 100", f"{NAME} ".encode()))
    (folder / f"{NAME}.txt").write_text(NAME)
    (folder / f"{NAME}-folder").mkdir(0)
    (faults / "crash").write_text(f"{NAME} broke it")
    folder.rename(daemon.inbox / folder.name)


@pytest.mark.parametrize("identifiers", ["hashed", "plain"])
def test_promise_8_the_log_names_nobody_unless_told_to(tmp_path: Path, identifiers: str) -> None:
    settings = {"truncated_hold_s": 1.0, "retry_max_s": 0.3, "max_attempts": 50}
    names = {"HAMPER": "permissions", "FAULTS": tmp_path, "identifiers": identifiers}
    with running(tmp_path, command=(*HAMPERED, *FAULTY[1:]), **settings, **names) as daemon:
        _drop_secret(daemon, tmp_path)
        daemon.wait("job.retry", count=3)
        (tmp_path / "crash").unlink()
        daemon.wait("job.done", count=3)
        (daemon.inbox / f"{NAME} 1970" / f"{NAME}-3.dcm").unlink()
        daemon.wait("drop.finished", count=2)
        assert daemon.stop() == 0
    told = {event["event"] for event in daemon.events}
    assert {"series.held", "file.unreadable", "inbox.unreadable", "job.retry"} <= told
    assert (NAME.lower() in daemon.text.lower()) is (identifiers == "plain")
    assert "ZX4711Q" not in daemon.text
    if identifiers == "plain":
        assert f"{NAME} 1970" in {event.get("drop") for event in daemon.events}
        assert f"{NAME} broke it" in {event.get("private") for event in daemon.events}
