"""An output that cannot be written: wait, say so once, and go on by itself."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from daemon_process import FAULTY, HAMPERED, held_at, running
from drops import brought_back, dropped

# minutes in all, and the fast suite is to stay under two
pytestmark = pytest.mark.integration


def test_a_full_disk_is_said_once_and_gone_on_from_without_an_attempt_used(tmp_path: Path) -> None:
    settings = {"command": FAULTY, "FAULTS": tmp_path, "max_attempts": 1, "retry_max_s": 0.2}
    (tmp_path / "full").touch()
    with running(tmp_path, **settings) as daemon:
        files = [dropped(daemon, drop) for drop in "abc"]
        paused = daemon.wait("output.paused")
        daemon.wait("job.started", count=8)
        assert daemon.all("job.done") == []
        (tmp_path / "full").unlink()
        daemon.wait("output.resumed")
        daemon.wait("drop.finished", count=3)
        assert daemon.stop() == 0
    assert (paused["code"], paused["told"][:9]) == ("no-space", "no-space:")
    assert [len(daemon.all(f"output.{word}")) for word in ("paused", "resumed")] == [1, 1]
    assert daemon.all("job.retry") == daemon.all("job.rejected") == []
    assert [job["attempt"] for job in daemon.all("job.done")] == [1, 1, 1]
    assert not (daemon.output / ".staging").exists()
    assert [brought_back(daemon.output / drop) for drop in "abc"] == files


def test_an_output_that_may_not_be_written_for_a_while_is_gone_on_with(tmp_path: Path) -> None:
    with running(tmp_path, command=HAMPERED, HAMPER="permissions", retry_max_s=0.2) as daemon:
        daemon.output.chmod(0o500)
        files = dropped(daemon, "a")
        paused = daemon.wait("output.paused")
        daemon.output.chmod(0o700)
        daemon.wait("output.resumed")
        daemon.wait("drop.finished")
    assert paused["code"] == "output-error"
    assert brought_back(daemon.output / "a") == files


def test_jobs_wait_for_the_disk_across_a_restart(tmp_path: Path) -> None:
    settings = {"command": FAULTY, "FAULTS": tmp_path, "retry_max_s": 0.2}
    (tmp_path / "full").touch()
    with running(tmp_path, **settings) as daemon:
        files = dropped(daemon, "a")
        daemon.wait("output.paused")
        daemon.kill()
    with running(tmp_path, **settings) as daemon:
        daemon.wait("output.paused")
        (tmp_path / "full").unlink()
        assert daemon.wait("job.done")["attempt"] == 1
    assert brought_back(daemon.output / "a") == files


def test_an_error_that_only_one_series_has_keeps_no_other_from_being_done(tmp_path: Path) -> None:
    settings = {"command": FAULTY, "FAULTS": tmp_path, "retry_max_s": 0.2, "identifiers": "plain"}
    (tmp_path / "broken").write_text("b")
    with running(tmp_path, **settings) as daemon:
        files = [dropped(daemon, drop) for drop in "abc"]
        retry = daemon.wait("job.retry", count=2)
        for drop in "ac":
            daemon.wait("job.done", drop=drop)
        (tmp_path / "broken").unlink()
        assert daemon.wait("job.done", drop="b")["attempt"] == 1
    assert (retry["drop"], retry["code"]) == ("b", "output-error")
    assert daemon.all("output.paused") == daemon.all("output.resumed") == []
    assert [brought_back(daemon.output / drop) for drop in "abc"] == files


def test_what_was_made_in_the_place_of_an_output_that_is_away_is_made_again(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "gate")
    with running(tmp_path, command=FAULTY, FAULTS=tmp_path, retry_max_s=0.2) as daemon:
        files = dropped(daemon, "a")
        with held_at(tmp_path / "gate") as let_go:
            daemon.output.rename(tmp_path / "away")
            (daemon.output / ".staging").mkdir(parents=True)  # as if the job had begun just then
            (tmp_path / "away" / ".staging" / "a").rename(daemon.output / ".staging" / "a")
            let_go()
            assert daemon.wait("job.retry")["code"] == "output-gone"
        assert brought_back(daemon.output / "a") == files
        shutil.rmtree(daemon.output)
        (tmp_path / "away").rename(daemon.output)
        daemon.wait("job.done")
        assert daemon.stop() == 0
    assert brought_back(daemon.output / "a") == files
