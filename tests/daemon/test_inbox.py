"""An inbox that is not there, comes back, is another one, or never says a word."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pytest
from daemon_process import HAMPERED, Daemon, once, running
from drops import brought_back, document, dropped, fates, made, put

# minutes in all, and the fast suite is to stay under two
pytestmark = pytest.mark.integration


def test_folders_that_are_missing_at_the_start_are_made(tmp_path: Path) -> None:
    with running(tmp_path, inbox=tmp_path / "deep" / "inbox") as daemon:
        files = dropped(daemon, "a")
        daemon.wait("job.done")
    assert daemon.all("inbox.missing") == []
    assert brought_back(daemon.output / "a") == files


def test_an_inbox_that_goes_and_comes_back_is_said_once_and_nothing_is_lost(
    tmp_path: Path,
) -> None:
    with running(tmp_path, poll_s=0.3) as daemon:
        files = dropped(daemon, "a")
        daemon.wait("drop.finished")
        daemon.inbox.rename(tmp_path / "away")
        daemon.wait("inbox.missing")
        account = document(daemon.output / "a" / "drop.json")
        (tmp_path / "away").rename(daemon.inbox)
        daemon.wait("inbox.back")
        more = dropped(daemon, "b")
        daemon.wait("drop.finished", count=2)
        assert daemon.stop() == 0
    assert len(daemon.all("inbox.missing")) == len(daemon.all("inbox.back")) == 1
    assert daemon.all("inbox.replaced") == []
    assert len(daemon.all("job.done")) == 2
    assert document(daemon.output / "a" / "drop.json") == account
    assert brought_back(daemon.output / "a") == files
    assert brought_back(daemon.output / "b") == more


def test_another_inbox_in_its_place_is_said_once_and_worked_on(tmp_path: Path) -> None:
    with running(tmp_path) as daemon:
        files = dropped(daemon, "a")
        daemon.wait("drop.finished")
        daemon.inbox.rename(tmp_path / "old")
        daemon.inbox.mkdir()
        more = dropped(daemon, "b")
        daemon.wait("inbox.replaced")
        daemon.wait("job.done", count=2)
        dropped(daemon, "c")  # it is the new one that is watched now
        daemon.wait("job.done", count=3)
        assert daemon.stop() == 0
    assert len(daemon.all("inbox.replaced")) == 1
    assert brought_back(daemon.output / "a") == files
    assert brought_back(daemon.output / "b") == more
    assert set(fates(daemon.output / "a").values()) == {"archived"}


def test_of_a_series_another_inbox_has_what_it_has(tmp_path: Path) -> None:
    files = made(tmp_path / "made" / "a", 3)
    with running(tmp_path) as daemon:
        (daemon.inbox / "a").mkdir()
        for name in ("0000.dcm", "0001.dcm"):
            put(daemon, f"a/{name}", files[name])
        daemon.wait("drop.finished")
        (tmp_path / "made" / "a" / "0000.dcm").unlink()  # a disk that was elsewhere meanwhile
        daemon.inbox.rename(tmp_path / "old")
        (tmp_path / "made").rename(daemon.inbox)
        daemon.wait("inbox.replaced")
        daemon.wait("drop.finished", count=2)
        assert daemon.stop() == 0
    assert daemon.all("job.withdrawn") == []
    assert [done["revision"] for done in daemon.all("job.done")] == [1, 2]
    assert brought_back(daemon.output / "a") == files
    account = document(daemon.output / "a" / "drop.json")["files"]
    assert [file["path"] for file in account if not file.get("present", True)] == ["a/0000.dcm"]


def test_without_events_the_listing_finds_files_every_poll_s_and_not_more_often(
    tmp_path: Path,
) -> None:
    with running(
        tmp_path, command=HAMPERED, HAMPER="inotify", poll_s=3.0, identifiers="plain"
    ) as daemon:
        files = dropped(daemon, "a")
        complete = daemon.wait("job.queued")  # said in a look, the last before the pause
        more = dropped(daemon, "b")
        arriving = daemon.wait("series.arriving", drop="b")
        daemon.wait("job.done", count=2)
        daemon.until(lambda: unannounced(daemon) >= len(more), "all files that only it found")
        assert daemon.stop() == 0
    times = [datetime.fromisoformat(e["timestamp"]).timestamp() for e in (complete, arriving)]
    assert times[1] - times[0] >= 2.0  # and not the moments that an event would take
    assert len(daemon.all("watch.lost")) == 1
    assert daemon.all("watch.started") == []
    assert brought_back(daemon.output / "a") == files
    assert brought_back(daemon.output / "b") == more


def test_files_that_events_tell_of_are_not_counted_as_found_by_the_listing(tmp_path: Path) -> None:
    with running(tmp_path, settle_s=6.0) as daemon:  # longer than an event may take
        for number, drop in enumerate("abc", start=1):
            dropped(daemon, drop)
            daemon.wait("series.arriving", count=number)
        daemon.wait("job.done", count=3)
        assert daemon.stop() == 0
    assert unannounced(daemon) == 0


def unannounced(daemon: Daemon) -> int:
    """Return how many files the daemon says that only its listing found."""
    return max((said["total"] for said in daemon.all("files.unannounced")), default=0)


def test_what_was_dropped_while_no_daemon_ran_is_found_at_the_start(tmp_path: Path) -> None:
    with running(tmp_path) as daemon:
        dropped(daemon, "a")
        daemon.wait("drop.finished")
        assert daemon.stop() == 0
    files = dropped(daemon, "b")
    code, daemon = once(tmp_path)
    assert code == 0
    assert len(daemon.all("job.done")) == 1
    assert brought_back(daemon.output / "b") == files
