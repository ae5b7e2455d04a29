"""Files that are not ready: truncated, or not to be read."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pytest
from daemon_process import HAMPERED, Daemon, Fields, running
from drops import brought_back, dropped, fates, made, put, receipts

# minutes in all, and the fast suite is to stay under two
pytestmark = pytest.mark.integration

CUT = 20


def _time(event: Fields) -> float:
    return datetime.fromisoformat(event["timestamp"]).timestamp()


def _dropped_truncated(daemon: Daemon) -> dict[str, bytes]:
    """Drop a series whose last file lacks its last bytes; return it as it should be."""
    folder = daemon.place / "made" / "cut"
    files = made(folder)
    (folder / "0002.dcm").write_bytes(files["0002.dcm"][:-CUT])
    folder.rename(daemon.inbox / "cut")
    return files


def test_a_truncated_file_is_kept_whole_when_its_hold_runs_out(tmp_path: Path) -> None:
    with running(tmp_path, truncated_hold_s=1.5) as daemon:
        files = _dropped_truncated(daemon)
        files["0002.dcm"] = files["0002.dcm"][:-CUT]
        done = daemon.wait("job.done")
        daemon.wait("drop.finished")
    (held,) = daemon.all("series.held")
    assert (held["files"], held["truncated"]) == (3, 1)
    (arriving,) = daemon.all("series.arriving")
    assert _time(daemon.all("job.started")[0]) - _time(arriving) >= 1.5
    assert done["findings"] == ["held-while-truncated", "truncated"]
    (receipt,) = receipts(daemon.output / "cut")
    assert [f["files"] for f in receipt["findings"]] == [["0002.dcm"], ["0002.dcm"]]
    assert receipt["counts"]["files_as_whole"] == 1
    assert brought_back(daemon.output / "cut") == files


def test_the_rest_of_a_truncated_file_ends_its_hold(tmp_path: Path) -> None:
    with running(tmp_path, truncated_hold_s=3600) as daemon:
        files = _dropped_truncated(daemon)
        daemon.wait("series.held")
        assert daemon.all("job.queued") == []
        with (daemon.inbox / "cut" / "0002.dcm").open("ab") as stream:
            stream.write(files["0002.dcm"][-CUT:])
        done = daemon.wait("job.done")
    assert done["findings"] == []
    assert done["revision"] == 1
    assert brought_back(daemon.output / "cut") == files


def test_one_held_series_does_not_hold_another(tmp_path: Path) -> None:
    with running(tmp_path, truncated_hold_s=3600, identifiers="plain") as daemon:
        _dropped_truncated(daemon)
        daemon.wait("series.held", drop="cut")
        dropped(daemon, "whole")
        daemon.wait("job.done", drop="whole")
        assert daemon.all("job.queued", drop="cut") == []


def test_an_unreadable_file_is_tried_again(tmp_path: Path) -> None:
    with running(tmp_path, command=HAMPERED, HAMPER="permissions", poll_s=0.5) as daemon:
        folder = tmp_path / "made" / "closed"
        files = made(folder)
        (folder / "0001.dcm").chmod(0)
        folder.rename(daemon.inbox / "closed")
        daemon.wait("file.unreadable")
        daemon.wait("drop.finished", rejected=1, archived=2)
        assert fates(daemon.output / "closed")["closed/0001.dcm"] == "rejected"
        (daemon.inbox / "closed" / "0001.dcm").chmod(0o600)
        daemon.wait("drop.finished", archived=3)
        assert daemon.stop() == 0
    assert [told["cause"] for told in daemon.all("file.unreadable")] == ["EACCES"]
    assert brought_back(daemon.output / "closed") == files


def test_nothing_is_concluded_below_a_folder_that_cannot_be_listed(tmp_path: Path) -> None:
    with running(tmp_path, command=HAMPERED, HAMPER="permissions", poll_s=0.5) as daemon:
        files = dropped(daemon, "a")
        daemon.wait("drop.finished")
        (daemon.inbox / "a").chmod(0)
        assert daemon.wait("inbox.unreadable")["folders"] == 1
        more = made(tmp_path / "more", 1, series_uid="1.2.3")
        put(daemon, "loose.dcm", more["0000.dcm"])
        daemon.wait("drop.finished", count=2)
        (daemon.inbox / "a").chmod(0o700)
        assert set(fates(daemon.output / "a").values()) == {"archived"}
        assert daemon.stop() == 0
    assert len(daemon.all("inbox.unreadable")) == 1
    assert len(daemon.all("job.done")) == 2
    assert brought_back(daemon.output / "a") == files
