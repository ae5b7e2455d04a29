"""A daemon that is killed at random instants, and what an output is beyond its times."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from daemon_process import Daemon, once, running
from dicom_files import write_series
from drops import brought_back, contents, document, made, receipts
from judged import half_visible
from pydicom import dcmread
from pydicom.uid import RLELossless

LARGE = np.arange(256 * 192, dtype=np.uint16).reshape(256, 192)


def filled(inbox: Path, count: int) -> Path:
    """Fill an inbox with small series, two a drop: some larger, some encoded, some kept whole."""
    for n in range(count):
        folder = inbox / f"{n // 2}" / f"{n}"
        facts: dict[str, Any] = {"series_uid": f"1.2.{n}", "SeriesNumber": n}
        match n % 4:
            case 0:
                made(folder, 3, **facts)
            case 1:
                made(folder, 20, pixels=LARGE, **facts)
            case 2:
                encoded(folder, 3, **facts)
            case 3:
                made(folder, 2, Rows=None, **facts)
                (folder / "notes.txt").write_text("not an image")
    return inbox


def encoded(folder: Path, count: int, **keywords: Any) -> None:
    """Write a small series whose pixel data is compressed."""
    for path in write_series(folder, count, **keywords):
        dataset = dcmread(path)
        dataset.compress(RLELossless, generate_instance_uid=False)
        dataset.save_as(path)


def killed(
    place: Path,
    inbox: Path,
    moments: Random,
    *,
    times: int,
    series: int,
    look: Callable[[], object] = lambda: None,
    **settings: object,
) -> tuple[Daemon, list[str]]:
    """Kill a daemon or one of its processes over and over at random instants, then let it finish.

    look: is called after each kill; a daemon of which only a child was killed goes on meanwhile.
    Returns the daemon that finished, and what was ever visible and not whole.
    """
    odd: list[str] = []
    whole: set[tuple[Path, int]] = set()
    patience = {"max_attempts": times + 1, "retry_max_s": 0.2, "settle_s": 0.2} | settings
    left = times
    while left:
        with running(place, inbox=inbox, **patience) as daemon:
            victim = 0
            while left and victim != daemon.process.pid:
                undone = series - len(list(daemon.output.glob("[!.]*/[!.]*/done.json")))
                more = min(undone, moments.randrange(3))
                if more:
                    daemon.wait("job.started", count=len(daemon.all("job.started")) + more)
                time.sleep(moments.random() * 0.1)  # nothing is waited for: the instant is random
                victim = moments.choice([daemon.process.pid, *descendants(daemon.process.pid)])
                with suppress(ProcessLookupError):  # it ended by itself meanwhile
                    os.kill(victim, signal.SIGKILL)
                    left -= 1
                odd += half_visible(daemon.output, whole)
                look()
            daemon.kill()
    code, daemon = once(place, inbox=inbox, **patience)
    assert code == 0
    return daemon, odd


def descendants(process: int) -> list[int]:
    """Return the processes that a process started, and those that they did, to work for it.

    The standard library's resource tracker does not, and what starts it again lets it complain.
    """
    parents = {}
    for place in Path("/proc").glob("[0-9]*"):
        with suppress(FileNotFoundError, ProcessLookupError):
            if b"resource_tracker" not in (place / "cmdline").read_bytes():
                stat = (place / "stat").read_text().rpartition(")")[2]
                parents[int(place.name)] = int(stat.split()[1])
    found = [process]
    for one in found:
        found += [child for child, parent in parents.items() if parent == one]
    return found[1:]


def end_state(output: Path) -> dict[str, Any]:
    """Return all of an output that is the same whenever and however often it was begun."""
    drops = sorted(output.iterdir())
    stable = ("content", "counts", "findings", "revision", "series", "verified")
    return {
        "names": sorted(contents(output)),
        "files": {drop.name: brought_back(drop) for drop in drops},
        "receipts": [{k: r[k] for k in stable} for drop in drops for r in receipts(drop)],
        "accounts": [_stable(document(drop / "drop.json")) for drop in drops],
    }


def _stable(account: dict[str, Any]) -> list[dict[str, Any]]:
    """Leave out the code, which tells a first try from one that found its result published.

    And the number of the job, which depends on the order in which series were complete, and when
    it was seen that a file is gone.
    """
    out = ("code", "job", "gone_at")
    return [{k: v for k, v in file.items() if k not in out} for file in account["files"]]
