"""Jobs that were given up are tried again because somebody asks for it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from daemon_process import FAULTY, HAMPERED, held_at, running
from drops import brought_back, dropped, late_slice, put

from dicomzarr_watch.ledger.requests import wish_retries

# minutes in all, and the fast suite is to stay under two
pytestmark = pytest.mark.integration


def test_a_job_that_is_tried_again_waits_for_another_of_its_series(tmp_path: Path) -> None:
    settings = {"command": FAULTY, "FAULTS": tmp_path, "max_attempts": 1, "workers": 2}
    (tmp_path / "crash").touch()
    with running(tmp_path, **settings) as daemon:
        files = dropped(daemon, "a")
        first = daemon.wait("job.rejected")["job"]
        (tmp_path / "crash").unlink()
        os.mkfifo(tmp_path / "gate")
        put(daemon, "a/late.dcm", late_slice(tmp_path))
        with held_at(tmp_path / "gate") as let_go:
            second = daemon.wait("job.started", count=2)["job"]
            (daemon.inbox / "a" / "late.dcm").unlink()
            daemon.wait("series.arriving", count=3)
            dropped(daemon, "b", series_uid="1.2.3")
            daemon.wait("job.done")  # so the first set of files has settled again, too
            wish_retries(daemon.state, [first])
            daemon.wait("job.queued", job=first, count=2)
            let_go()
        daemon.wait("job.done", job=first)
        assert daemon.stop() == 0
    course = [(e["event"], e["job"]) for e in daemon.events if "job" in e]
    again = len(course) - course[::-1].index(("job.started", first))
    assert {("job.done", second), ("job.withdrawn", second)} & set(course[:again])
    assert brought_back(daemon.output / "a").items() >= files.items()


@pytest.mark.parametrize("mode", [0, 0o500])
def test_wishes_that_cannot_be_read_or_taken_are_said_once_and_heard_later(
    tmp_path: Path, mode: int
) -> None:
    settings = {"command": (*HAMPERED, *FAULTY[1:]), "HAMPER": "permissions", "FAULTS": tmp_path}
    (tmp_path / "crash").touch()
    with running(tmp_path, max_attempts=1, **settings) as daemon:
        files = dropped(daemon, "a")
        first = daemon.wait("job.rejected")["job"]
        (tmp_path / "crash").unlink()
        wish_retries(daemon.state, [first])
        (daemon.state / "requests").chmod(mode)
        assert daemon.wait("check.failed", code="requests")["found"] == "Permission denied"
        dropped(daemon, "b", series_uid="1.2.3")
        daemon.wait("job.done")
        assert daemon.all("job.queued", job=first) == daemon.all("job.queued")[:1]
        (daemon.state / "requests").chmod(0o700)
        daemon.wait("job.done", job=first)
        assert daemon.stop() == 0
    assert len(daemon.all("check.failed", code="requests")) == 1
    assert brought_back(daemon.output / "a") == files
