"""The daemon is told to end while a job is under way."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from daemon_process import FAULTY, PATIENCE_S, held_at, once, running
from drops import brought_back, dropped, late_slice, made, put, receipts

# minutes in all, and the fast suite is to stay under two
pytestmark = pytest.mark.integration


@pytest.fixture
def gated(tmp_path: Path) -> dict[str, Any]:
    """Settings for a daemon whose first job waits at a gate."""
    (tmp_path / "faults").mkdir()
    os.mkfifo(tmp_path / "faults" / "gate")
    return {"command": FAULTY, "FAULTS": tmp_path / "faults", "workers": 1}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_the_job_under_way_end(
    tmp_path: Path, gated: dict[str, Any], number: signal.Signals
) -> None:
    with running(tmp_path, **gated) as daemon:
        files = dropped(daemon, "a")
        with held_at(tmp_path / "faults" / "gate") as let_go:
            dropped(daemon, "b", series_uid="1.2.3")
            daemon.wait("job.queued", count=2)
            daemon.signal(number)
            assert daemon.wait("daemon.stopping")["running"] == 1
            let_go()
            assert daemon.end() == 0
    told = daemon.events[-1]
    assert (told["given_back"], told["queued"], told["arriving"]) == (0, 1, 0)
    assert len(daemon.all("job.started")) == len(daemon.all("job.done")) == 1
    assert brought_back(daemon.output / "a") == files
    assert not (daemon.output / "b").exists()


def test_a_second_signal_ends_at_once_and_the_job_is_done_after_the_next_start(
    tmp_path: Path, gated: dict[str, Any]
) -> None:
    with running(tmp_path, drain_s=10 * PATIENCE_S, **gated) as daemon:
        files = dropped(daemon, "a")
        with held_at(tmp_path / "faults" / "gate"):
            daemon.signal(signal.SIGTERM)
            daemon.wait("daemon.stopping")
            daemon.signal(signal.SIGTERM)
            assert daemon.end() == 0
    assert daemon.events[-1]["given_back"] == 1
    assert receipts(daemon.output / "a") == []
    code, daemon = once(tmp_path)
    assert code == 0
    assert daemon.wait("job.done")["attempt"] == 1
    assert brought_back(daemon.output / "a") == files


def test_what_is_left_is_counted_and_done_after_the_next_start(
    tmp_path: Path, gated: dict[str, Any]
) -> None:
    with running(tmp_path, drain_s=0.2, **gated) as daemon:
        files = {"a": dropped(daemon, "a")}
        with held_at(tmp_path / "faults" / "gate"):
            files["b"] = dropped(daemon, "b", series_uid="1.2.3")
            daemon.wait("job.queued", count=2)
            assert daemon.stop() == 0
    told = daemon.events[-1]
    assert (told["event"], told["given_back"], told["queued"]) == ("daemon.stopped", 1, 2)
    code, daemon = once(tmp_path)
    assert code == 0
    assert [job["attempt"] for job in daemon.all("job.done")] == [1, 1]
    for drop, expected in files.items():
        assert brought_back(daemon.output / drop) == expected
        assert [r["revision"] for r in receipts(daemon.output / drop)] == [1]


def test_originals_that_were_being_cleared_are_cleared_after_the_next_start(
    tmp_path: Path,
) -> None:
    with running(tmp_path, after_success="delete", drain_s=0.0) as daemon:
        files = dropped(daemon, "a", 40)
        daemon.wait("drop.finished")
        assert daemon.stop() == 0
    code, daemon = once(tmp_path, after_success="delete")
    assert (code, list(daemon.inbox.iterdir())) == (0, [])
    assert brought_back(daemon.output / "a") == files


def test_the_drain_has_an_end(tmp_path: Path, gated: dict[str, Any]) -> None:
    with running(tmp_path, drain_s=0.2, **gated) as daemon:
        dropped(daemon, "a")
        with held_at(tmp_path / "faults" / "gate"):
            assert daemon.stop() == 0
    assert daemon.events[-1]["given_back"] == 1


def test_a_file_that_comes_while_its_series_is_converted_makes_a_revision(
    tmp_path: Path, gated: dict[str, Any]
) -> None:
    late = late_slice(tmp_path / "late")
    with running(tmp_path, **gated) as daemon:
        files = dropped(daemon, "a")
        with held_at(tmp_path / "faults" / "gate") as let_go:
            put(daemon, "a/late.dcm", late)
            daemon.wait("series.arriving", count=2)
            let_go()
        daemon.wait("job.done", revision=2)
    assert brought_back(daemon.output / "a") == files | {"late.dcm": late}


def test_a_job_that_waits_is_withdrawn_when_its_files_change(
    tmp_path: Path, gated: dict[str, Any]
) -> None:
    with running(tmp_path, **gated) as daemon:
        dropped(daemon, "a")
        with held_at(tmp_path / "faults" / "gate") as let_go:
            made(tmp_path / "made" / "b", series_uid="1.2.3")
            (tmp_path / "made" / "b").rename(daemon.inbox / "b")
            daemon.wait("job.queued", count=2)
            (daemon.inbox / "b" / "0001.dcm").unlink()
            daemon.wait("series.arriving", count=3)
            let_go()
        daemon.wait("job.done", count=2)
    (withdrawn,) = daemon.all("job.withdrawn")
    assert (withdrawn["job"], withdrawn["code"]) == (2, "files-changed")
    assert brought_back(daemon.output / "b").keys() == {"0000.dcm", "0002.dcm"}


def test_a_file_that_changes_unnoticed_lets_the_series_settle_anew(
    tmp_path: Path, gated: dict[str, Any]
) -> None:
    """A write to a file that stays open raises no event; only the one who reads it sees it."""
    changing = made(tmp_path / "made" / "b", series_uid="1.2.3")
    changing["0001.dcm"] = changing["0001.dcm"][:-1] + b"\1"
    with (
        running(tmp_path, poll_s=3600, **gated) as daemon,
        (tmp_path / "made" / "b" / "0001.dcm").open("r+b", buffering=0) as stream,
    ):
        dropped(daemon, "a")
        with held_at(tmp_path / "faults" / "gate") as let_go:
            (tmp_path / "made" / "b").rename(daemon.inbox / "b")
            daemon.wait("job.queued", count=2)
            stream.write(changing["0001.dcm"])
            let_go()
        assert daemon.wait("job.withdrawn")["code"] == "source-changed"
        assert daemon.wait("job.done", count=2)["revision"] == 1
    assert brought_back(daemon.output / "b") == changing


def test_a_hangup_is_no_end_where_the_log_is_a_file_as_who_rotates_it_may_send_one(
    tmp_path: Path,
) -> None:
    with running(tmp_path, log_file="/dev/stderr") as daemon:
        daemon.signal(signal.SIGHUP)
        files = dropped(daemon, "a")
        daemon.wait("drop.finished")
        assert daemon.stop() == 0
    assert brought_back(daemon.output / "a") == files


def test_a_drop_that_is_deleted_while_it_is_converted_is_archived_not_in_part(
    tmp_path: Path, gated: dict[str, Any]
) -> None:
    with running(tmp_path, **gated) as daemon:
        files = dropped(daemon, "a", 60, pixels=np.zeros((256, 256), np.uint16))
        with held_at(tmp_path / "faults" / "gate") as let_go:
            shutil.rmtree(daemon.inbox / "a")
            let_go()
        assert daemon.wait("job.withdrawn")["code"] == "source-changed"
        daemon.wait("drop.finished")
        assert receipts(daemon.output / "a") == []
        assert not list((daemon.output / ".staging").glob("a*"))
        made(tmp_path / "made" / "a", 60, pixels=np.zeros((256, 256), np.uint16))
        (tmp_path / "made" / "a").rename(daemon.inbox / "a")
        assert daemon.wait("job.done")["revision"] == 1
    assert brought_back(daemon.output / "a") == files


def test_a_job_over_its_time_is_ended_and_tried_again(
    tmp_path: Path, gated: dict[str, Any]
) -> None:
    patience = {"job_timeout_s": 1.0, "retry_max_s": 0.1, "max_attempts": 50}
    with running(tmp_path, **patience, **gated) as daemon:
        files = dropped(daemon, "a")
        with held_at(tmp_path / "faults" / "gate"):
            retry = daemon.wait("job.retry")
            done = daemon.wait("job.done")
    assert (retry["code"], retry["attempt"]) == ("timed-out", 1)
    assert done["attempt"] >= 2
    assert brought_back(daemon.output / "a") == files


def test_what_could_not_be_removed_from_staging_is_gone_when_the_daemon_ends(
    tmp_path: Path,
) -> None:
    with running(tmp_path) as daemon:
        dropped(daemon, "a")
        daemon.wait("drop.finished")
        (daemon.output / ".staging" / "a" / "CT-1-0").mkdir(parents=True)
        assert daemon.stop() == 0
    assert [path.name for path in daemon.output.iterdir()] == ["a"]
