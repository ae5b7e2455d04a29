"""Mixed drops for hours, four fifths of the time at work: nothing grows, nothing odd is said."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Final

import pytest
from daemon_process import Daemon, running
from disturbed import descendants, filled
from drops import late_slice
from judged import Judgement, Tally, judgement

SERIES: Final = 12
"""In a round, two a drop, and a late file for one of them."""
REST: Final = 0.25
"""As long as a round took so many times: then four fifths of the time are work."""
KEPT_ROUNDS: Final = 2
FLAT: Final = 0.1
EXPECTED: Final = frozenset(
    {
        "daemon.started",
        "watch.started",
        "series.arriving",
        "job.queued",
        "job.started",
        "job.done",
        "drop.finished",
        "daemon.stopping",
        "daemon.stopped",
    }
)


@dataclass(frozen=True)
class Use:
    """What the daemon and its children use when nothing is under way."""

    kilobytes: int
    descriptors: int


@pytest.mark.soak
def test_nothing_grows_and_nothing_odd_is_said(
    tmp_path: Path, tally: Tally, request: pytest.FixtureRequest
) -> None:
    lasts_s: float = request.config.getoption("--soak-s")
    until_s = time.monotonic() + lasts_s
    uses: list[Use] = []
    files = 0
    with running(tmp_path, settle_s=0.5, identifiers="plain") as daemon:
        while time.monotonic() < until_s:
            start_s = time.monotonic()
            drop_round(daemon, len(uses))
            found = judgement(daemon.inbox, daemon.output)
            assert found.is_clean, found
            assert not odd(daemon)
            files += found.files
            uses.append(used(daemon.process.pid))
            take_away_round(daemon, len(uses) - KEPT_ROUNDS)
            time.sleep(REST * (time.monotonic() - start_s))
        assert daemon.stop() == 0
        assert not odd(daemon)
    early, late = uses[len(uses) // 4 : len(uses) // 2], uses[-len(uses) // 4 :]
    before, after = (median(use.kilobytes for use in some) for some in (early, late))
    assert abs(after / before - 1) <= FLAT, uses
    assert median(u.descriptors for u in late) <= median(u.descriptors for u in early), uses
    tally("soak", round(lasts_s / 60), Judgement(files))


def drop_round(daemon: Daemon, number: int) -> None:
    """Drop series of all kinds, then a late file, and wait until all is accounted for."""
    staged = filled(daemon.place / "made", SERIES)
    drops = sorted(path.name for path in staged.iterdir())
    for drop in drops:
        (staged / drop).rename(daemon.inbox / f"{number}-{drop}")
    for drop in drops:
        daemon.wait("drop.finished", drop=f"{number}-{drop}")
    late_slice(daemon.inbox / f"{number}-0" / "0", series_uid="1.2.0", SeriesNumber=0)
    daemon.wait("drop.finished", drop=f"{number}-0", count=2)


def take_away_round(daemon: Daemon, number: int) -> None:
    """Take originals and results of a round away, as those do whom they belong to."""
    drops = sorted(daemon.inbox.glob(f"{number}-*"))
    for drop in drops:
        said = len(daemon.all("drop.finished", drop=drop.name))
        shutil.rmtree(drop)
        daemon.wait("drop.finished", drop=drop.name, count=said + 1)
        shutil.rmtree(daemon.output / drop.name)


def odd(daemon: Daemon) -> list[dict[str, Any]]:
    """Return what the daemon said that nobody expected, whole, as its cause is asked for next."""
    return [event for event in daemon.events if event["event"] not in EXPECTED]


def used(process: int) -> Use:
    places = [Path(f"/proc/{number}") for number in (process, *descendants(process))]
    status = [(place / "status").read_text() for place in places]
    return Use(
        sum(int(text.partition("VmRSS:")[2].split()[0]) for text in status),
        sum(len(list((place / "fd").iterdir())) for place in places),
    )
