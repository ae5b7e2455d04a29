"""How the command starts, refuses to start, and what it answers at its end."""

from __future__ import annotations

import json
import os
import subprocess
from collections import Counter
from pathlib import Path
from shutil import copy

import pytest
from daemon_process import (
    COMMAND,
    FAULTY,
    HAMPERED,
    PATIENCE_S,
    begun,
    clean_environment,
    held_at,
    once,
    running,
)
from dicom_files import pydicom_files
from drops import brought_back, dropped, fates, made

from dicomzarr_watch.archive.claim import LOCK, claimed
from dicomzarr_watch.ledger.jobs import MOST_LOSSES
from dicomzarr_watch.ledger.store import Ledger


def _refused(place: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, "run", *arguments],
        env=clean_environment() | environment,
        cwd=place,
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )


def test_wrong_settings_are_all_told_at_once_with_their_keys(tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_text('settle = 3\nverify = "maybe"\nworkers = 0\noutput = "archive"\n')
    found = _refused(tmp_path, "--config", str(file), DICOMZARR_POLL_S="soon")
    assert found.returncode == 78
    assert "settings-wrong: found 5 problem(s)" in found.stderr
    for key, word in {
        "inbox": "--inbox",
        "settle": "settle_s",
        "verify": "maybe",
        "workers": "0",
        "poll_s": "soon",
    }.items():
        (line,) = (line for line in found.stderr.splitlines() if line.startswith(f"  {key}:"))
        assert word in line
    assert "Traceback" not in found.stderr
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("taken", ["state/identifiers.key", "log"])
def test_a_state_or_a_log_that_is_not_to_be_had_ends_with_a_line_in_the_log(
    tmp_path: Path, taken: str
) -> None:
    (tmp_path / taken).mkdir(parents=True)
    folders = {"DICOMZARR_INBOX": "inbox", "DICOMZARR_OUTPUT": "out", "DICOMZARR_STATE": "state"}
    found = _refused(tmp_path, DICOMZARR_LOG_FILE="log", **folders)
    assert found.returncode == 1
    line = json.loads(found.stderr)
    assert (line["event"], line["code"]) == ("daemon.failed", "state-or-log-failed")
    assert line["told"].startswith("Is a directory; ")


def test_an_unknown_option_is_a_matter_of_usage(tmp_path: Path) -> None:
    assert _refused(tmp_path, "--inbux", "in").returncode == 2


def test_once_ends_with_0_when_all_is_archived(tmp_path: Path) -> None:
    files = made(tmp_path / "inbox" / "a")
    code, daemon = once(tmp_path)
    assert code == 0
    assert brought_back(daemon.output / "a") == files
    assert daemon.events[-1]["event"] == "daemon.stopped"


def test_once_takes_what_is_there_as_all_there_is(tmp_path: Path) -> None:
    files = made(tmp_path / "inbox" / "a", 2)
    files["0001.dcm"] = files["0001.dcm"][:-20]
    (tmp_path / "inbox" / "a" / "0001.dcm").write_bytes(files["0001.dcm"])
    code, daemon = once(tmp_path, truncated_hold_s=3600)
    assert code == 0
    assert brought_back(daemon.output / "a") == files


def test_once_ends_with_1_when_a_file_cannot_be_read(tmp_path: Path) -> None:
    made(tmp_path / "inbox" / "a")
    (tmp_path / "inbox" / "a" / "0001.dcm").chmod(0)
    code, daemon = once(tmp_path, command=HAMPERED, HAMPER="permissions")
    assert code == 1
    assert fates(daemon.output / "a")["a/0001.dcm"] == "rejected"


def test_once_ends_with_1_when_attempts_are_used_up(tmp_path: Path) -> None:
    made(tmp_path / "inbox" / "a")
    (tmp_path / "crash").write_text("a decoder gave up")
    settings = {"command": FAULTY, "FAULTS": tmp_path, "max_attempts": 2, "retry_max_s": 0.1}
    code, daemon = once(tmp_path, **settings)
    assert code == 1
    assert [job["attempt"] for job in daemon.all("job.started")] == [1, 2]
    (rejected,) = daemon.all("job.rejected")
    assert (rejected["code"], rejected["cause"]) == ("attempts-used-up", "internal-error")
    assert rejected["told"].startswith("ValueError at faulty.py:")
    assert set(fates(daemon.output / "a").values()) == {"rejected"}


@pytest.mark.integration
@pytest.mark.parametrize(("fault", "least"), [("unreadable", 2), ("full", 1)])
def test_once_does_not_wait_for_ever_for_what_may_never_be_mended(
    tmp_path: Path, fault: str, least: int
) -> None:
    """Sources are each tried so often, or oftener while others are; a full disk is for all."""
    for drop in "ab":
        made(tmp_path / "inbox" / drop)
    (tmp_path / fault).touch()
    settings = {"command": FAULTY, "FAULTS": tmp_path, "max_attempts": 2, "retry_max_s": 0.1}
    code, daemon = once(tmp_path, workers=1, **settings)
    assert code == 1
    tries = Counter(job["job"] for job in daemon.all("job.started"))
    assert (sorted(tries), min(tries.values()) >= least) == ([1, 2], True)
    assert sum(tries.values()) == 2 or fault != "full"
    (tmp_path / fault).unlink()
    code, daemon = once(tmp_path, **settings)
    assert (code, len(daemon.all("job.done"))) == (0, 2)


@pytest.mark.integration
def test_a_job_that_daemons_are_lost_over_is_given_up_and_told(tmp_path: Path) -> None:
    made(tmp_path / "inbox" / "a")
    (tmp_path / "unreadable").touch()
    once(tmp_path, command=FAULTY, FAULTS=tmp_path, max_attempts=1)
    for _ in range(MOST_LOSSES):
        ledger = Ledger.own(tmp_path / "state")
        ledger.jobs.claim(ledger.jobs.select()[0])
        ledger.close()  # as if killed: it has not been given back
    code, daemon = once(tmp_path)
    (rejected,) = daemon.all("job.rejected")
    assert (code, rejected["code"]) == (1, "daemon-lost")
    assert set(fates(daemon.output / "a").values()) == {"rejected"}


@pytest.mark.parametrize(("attempts", "why"), [(2, "not-decoded"), (3, "not-decodable")])
def test_a_decoder_that_ends_its_process_costs_the_view_and_not_the_series(
    attempts: int, why: str, tmp_path: Path
) -> None:
    """It is asked once more in a process of its own, and in the last attempt not at all."""
    (tmp_path / "inbox" / "a").mkdir(parents=True)
    source = next(p for p in pydicom_files() if p.name == "SC_rgb_jpeg_dcmtk.dcm")
    copy(source, tmp_path / "inbox" / "a")
    (tmp_path / "abort").touch()
    settings = {"command": FAULTY, "FAULTS": tmp_path, "max_attempts": attempts, "retry_max_s": 0.1}
    code, daemon = once(tmp_path, **settings)
    assert code == 0
    (retry,) = daemon.all("job.retry")
    assert (retry["code"], retry["told"]) == ("worker-died", "signal SIGABRT")
    (done,) = daemon.all("job.done")
    assert (done["attempt"], done["findings"]) == (2, [why])
    assert done["counts"]["frames"] == 0
    assert brought_back(daemon.output / "a") == {source.name: source.read_bytes()}


@pytest.mark.integration
def test_a_state_folder_has_one_daemon_at_a_time(tmp_path: Path) -> None:
    with running(tmp_path) as daemon:
        found = _refused(
            tmp_path, "--inbox", "inbox2", "--output", "output2", "--state", str(daemon.state)
        )
        assert found.returncode == 1
        assert '"code": "state-in-use"' in found.stderr
        files = dropped(daemon, "a")
        daemon.wait("job.done")
        assert daemon.stop() == 0
    assert brought_back(daemon.output / "a") == files


@pytest.mark.integration
def test_an_output_has_one_daemon_at_a_time_and_no_conversion_beside_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "gate")
    with running(tmp_path, command=FAULTY, FAULTS=tmp_path) as daemon:
        files = dropped(daemon, "a")
        with held_at(tmp_path / "gate") as let_go:  # a job is under way
            output = ("--output", str(daemon.output))
            found = _refused(tmp_path, "--inbox", "inbox2", *output, "--state", "state2")
            assert found.returncode == 1
            assert '"code": "output-in-use"' in found.stderr
            by_hand = subprocess.run(
                [*COMMAND, "convert", str(daemon.inbox / "a"), *output],
                capture_output=True,
                text=True,
                check=False,
                timeout=30,
            )
            assert by_hand.returncode == 1
            assert "output-in-use" in by_hand.stderr
            let_go()
        daemon.wait("drop.finished")
        assert daemon.stop() == 0
    assert [done["attempt"] for done in daemon.all("job.done")] == [1]
    assert brought_back(daemon.output / "a") == files
    assert [path.name for path in daemon.output.iterdir()] == ["a"]


def test_a_daemon_leaves_an_output_alone_that_somebody_has(tmp_path: Path) -> None:
    staged = tmp_path / "output" / ".staging" / "a" / "CT-1-0"
    staged.mkdir(parents=True)
    command = ("--inbox", "inbox", "--output", "output", "--state", "state")
    with claimed(tmp_path / "output", is_shared=True):
        found = _refused(tmp_path, *command)
    assert found.returncode == 1
    assert '"code": "output-in-use"' in found.stderr
    assert staged.exists()


def test_an_output_that_cannot_be_locked_is_said_and_used_all_the_same(tmp_path: Path) -> None:
    files = made(tmp_path / "inbox" / "a")
    (tmp_path / "output" / LOCK).mkdir(parents=True)  # as good as no locks
    code, daemon = once(tmp_path)
    assert code == 0
    (said,) = daemon.all("check.failed", code="output-lock")
    assert said["found"] == "Is a directory"
    assert brought_back(daemon.output / "a") == files


def test_a_folder_that_cannot_be_listed_is_a_reason_for_exit_code_1(tmp_path: Path) -> None:
    made(tmp_path / "inbox" / "a", 2)
    locked = tmp_path / "inbox" / "a" / "locked"
    made(locked, 2, series_uid="1.2.3")
    locked.chmod(0)
    settings = {"command": HAMPERED, "HAMPER": "permissions"}
    assert once(tmp_path, **settings)[0] == 1
    locked.chmod(0o700)
    assert once(tmp_path, **settings)[0] == 0


def test_a_daemon_whose_standard_streams_are_closed_does_its_work(tmp_path: Path) -> None:
    """As `ssh host 'dicomzarr-watch run … <&- >&- 2>&- &'` starts it."""
    files = made(tmp_path / "inbox" / "a")
    closed = ("sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *COMMAND)
    with begun(tmp_path, "--once", command=closed) as daemon:
        assert daemon.process.wait(PATIENCE_S) == 0
    assert brought_back(daemon.output / "a") == files
