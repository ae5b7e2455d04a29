"""Small disks: what has no room is not begun, and goes on as soon as there is."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
from bundle_files import bundled
from daemon_process import FAULTY, held_at, running
from drops import brought_back, dropped, made, put
from judged import Tally, judgement
from mounts import BALLAST, change, mounted

from dicomzarr_watch.intake.bundle import Form

pytestmark = pytest.mark.integration

SETTINGS: Final[dict[str, Any]] = {
    "settle_s": 0.2,
    "retry_max_s": 0.3,
    "min_free_bytes": 1_000_000,
    "identifiers": "plain",
}
PIXELS: Final = np.random.default_rng(5).integers(0, 4096, (512, 512), dtype=np.uint16)
"""Half a megabyte that is compressed little."""


def test_a_job_starts_only_with_room_for_all_it_needs(tmp_path: Path, tally: Tally) -> None:
    with mounted(tmp_path / "output") as output, running(tmp_path, **SETTINGS) as daemon:
        (output / BALLAST).write_bytes(bytes(5_000_000))
        files = dropped(daemon, "a", 3, pixels=PIXELS)
        paused = daemon.wait("output.paused")
        assert (paused["code"], daemon.all("job.started")) == ("no-space", [])
        (output / BALLAST).unlink()
        daemon.wait("output.resumed")
        assert daemon.wait("job.done")["attempt"] == 1
        daemon.wait("drop.finished")
        assert daemon.stop() == 0
        assert brought_back(output / "a") == files
        tally("refusals", 1, judgement(daemon.inbox, output))
    assert [len(daemon.all(f"output.{word}")) for word in ("paused", "resumed")] == [1, 1]


def test_what_is_larger_than_the_disk_lets_smaller_jobs_pass(tmp_path: Path, tally: Tally) -> None:
    with mounted(tmp_path / "output") as output, running(tmp_path, **SETTINGS) as daemon:
        large = dropped(daemon, "large", 14, pixels=PIXELS)
        daemon.wait("output.paused")
        small = [dropped(daemon, drop, series_uid=f"1.2.{n}") for n, drop in enumerate("abc")]
        for drop in "abc":
            daemon.wait("job.done", drop=drop)
        assert daemon.all("job.started", drop="large") == daemon.all("output.resumed") == []
        change(output, "size=20m")
        daemon.wait("output.resumed")
        daemon.wait("drop.finished", drop="large")
        assert daemon.stop() == 0
        assert [brought_back(output / drop) for drop in "abc"] == small
        assert brought_back(output / "large") == large
        tally("refusals", 1, judgement(daemon.inbox, output))
    assert [len(daemon.all(f"output.{word}")) for word in ("paused", "resumed")] == [1, 1]


def test_what_others_under_way_need_is_waited_for_in_turn(tmp_path: Path, tally: Tally) -> None:
    """Each has room by itself: nothing is said, and nothing later passes."""
    (tmp_path / "output").mkdir()
    with (
        mounted(tmp_path / "output") as output,
        running(tmp_path, command=FAULTY, FAULTS=tmp_path, **SETTINGS) as daemon,
    ):
        gate = tmp_path / "gate"
        os.mkfifo(gate)
        files = [dropped(daemon, "a", 6, pixels=PIXELS)]
        with held_at(gate) as let_go:
            files += [dropped(daemon, "b", 6, pixels=PIXELS), dropped(daemon, "c")]
            daemon.wait("job.queued", count=3)
            dropped(daemon, "last")  # what is queued after a round that could have begun them
            daemon.wait("series.arriving", drop="last")
            assert len(daemon.all("job.started")) == 1
            let_go()
        daemon.wait("drop.finished", count=4)
        assert daemon.stop() == 0
        assert [brought_back(output / drop) for drop in "abc"] == files
        tally("refusals", 1, judgement(daemon.inbox, output))
    begun = [event["drop"] for event in daemon.events if event["event"] == "job.started"]
    assert begun[:2] == ["a", "b"]
    assert daemon.all("output.paused") == []


def test_a_bundle_is_unpacked_only_with_room_in_the_state(tmp_path: Path, tally: Tally) -> None:
    files = made(tmp_path / "made", 6, pixels=PIXELS)
    with mounted(tmp_path / "state") as state, running(tmp_path, **SETTINGS) as daemon:
        put(daemon, "a.zip", bundled(Form.ZIP, files))
        paused = daemon.wait("output.paused")
        assert "where state is" in paused["told"]
        change(state, "size=40m")
        daemon.wait("output.resumed")
        daemon.wait("drop.finished")
        assert daemon.stop() == 0
        assert brought_back(daemon.output / "a") == files
    tally("refusals", 1, judgement(daemon.inbox, daemon.output))
