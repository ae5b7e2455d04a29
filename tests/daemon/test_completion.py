"""What completes a drop at once, and what holds a series a little longer."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pytest
from daemon_process import Fields, running
from drops import brought_back, dropped, fates, made, put, receipts

# minutes in all, and the fast suite is to stay under two
pytestmark = pytest.mark.integration

NEVER_S = 3600.0


def _time(event: Fields) -> float:
    return datetime.fromisoformat(event["timestamp"]).timestamp()


def test_a_marker_completes_a_drop_at_once(tmp_path: Path) -> None:
    with running(tmp_path, settle_s=NEVER_S, ready_marker=".ready", poll_s=0.5) as daemon:
        files = made(tmp_path / "made")
        (daemon.inbox / "a").mkdir()
        for name, content in files.items():
            put(daemon, f"a/{name}", content)
        daemon.wait("series.arriving")
        put(daemon, "a/.ready", b"")
        daemon.wait("drop.finished", archived=3, ignored=1)
        assert daemon.stop() == 0
    assert fates(daemon.output / "a")["a/.ready"] == "ignored"
    assert brought_back(daemon.output / "a") == files
    assert len(daemon.all("job.done")) == 1


def test_a_folder_that_is_moved_in_is_complete_at_once_and_one_that_is_copied_is_not(
    tmp_path: Path,
) -> None:
    settings = {"settle_s": NEVER_S, "drop_is_complete_on_move": True, "identifiers": "plain"}
    with running(tmp_path, **settings) as daemon:
        made(daemon.inbox / "copied")
        daemon.wait("series.arriving", drop="copied")
        files = dropped(daemon, "moved")
        daemon.wait("drop.finished", drop="moved", archived=3)
        assert daemon.all("job.queued", drop="copied") == []
        assert daemon.stop() == 0
    assert brought_back(daemon.output / "moved") == files


def test_a_gap_in_the_numbers_holds_a_series_and_is_told(tmp_path: Path) -> None:
    with running(tmp_path, gap_hold_s=1.5) as daemon:
        folder = tmp_path / "made" / "gap"
        files = made(folder, 5)
        for name in ("0001.dcm", "0002.dcm"):
            (folder / name).unlink()
            del files[name]
        folder.rename(daemon.inbox / "gap")
        assert daemon.wait("series.held")["waits_for"] == "gap"
        done = daemon.wait("job.done")
        assert daemon.stop() == 0
    (arriving,), (queued,) = daemon.all("series.arriving"), daemon.all("job.queued")
    assert _time(queued) - _time(arriving) >= 1.5
    assert "gap-in-instance-numbers" in done["findings"]
    (receipt,) = receipts(daemon.output / "gap")
    details = {finding["code"]: finding["detail"] for finding in receipt["findings"]}
    assert details["gap-in-instance-numbers"] == "2 to 3"
    assert brought_back(daemon.output / "gap") == files


def test_what_fills_the_gap_ends_the_hold(tmp_path: Path) -> None:
    with running(tmp_path, gap_hold_s=NEVER_S) as daemon:
        folder = tmp_path / "made" / "gap"
        files = made(folder, 3)
        (folder / "0001.dcm").rename(tmp_path / "late.dcm")
        folder.rename(daemon.inbox / "gap")
        daemon.wait("series.held")
        put(daemon, "gap/0001.dcm", files["0001.dcm"])
        assert "gap-in-instance-numbers" not in daemon.wait("job.done")["findings"]
    assert brought_back(daemon.output / "gap") == files
