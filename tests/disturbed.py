"""A daemon that is killed at random instants, and what an output is beyond its times."""

from __future__ import annotations

import time
from pathlib import Path
from random import Random
from typing import Any

from daemon_process import Daemon, once, running
from drops import brought_back, contents, document, made, receipts


def filled(inbox: Path, count: int) -> Path:
    """Fill an inbox with small series, two a drop."""
    for n in range(count):
        made(inbox / f"{n // 2}" / f"{n}", 3, series_uid=f"1.2.{n}", SeriesNumber=n)
    return inbox


def killed(place: Path, inbox: Path, moments: Random, *, times: int, series: int) -> Daemon:
    """Kill a daemon over and over at random instants of its work, then let one finish."""
    for _ in range(times):
        with running(place, inbox=inbox, settle_s=0.2) as daemon:
            left = series - len(list(daemon.output.glob("*/[!.]*/done.json")))
            begun = min(left, moments.randrange(5))
            if begun:
                daemon.wait("job.started", count=begun)
            time.sleep(moments.random() * 0.1)  # nothing is waited for: the instant is random
            daemon.kill()
    code, daemon = once(place, inbox=inbox)
    assert code == 0
    return daemon


def end_state(output: Path) -> dict[str, Any]:
    """Return all of an output that is the same whenever and however often it was begun."""
    drops = sorted(output.iterdir())
    stable = ("content", "counts", "findings", "revision", "series", "verified")
    return {
        "names": sorted(contents(output)),
        "files": {drop.name: brought_back(drop) for drop in drops},
        "receipts": [{k: r[k] for k in stable} for drop in drops for r in receipts(drop)],
        "accounts": [_without_code(document(drop / "drop.json")) for drop in drops],
    }


def _without_code(account: dict[str, Any]) -> list[dict[str, Any]]:
    """Leave out the code, which tells a first try from one that found its result published."""
    return [{k: v for k, v in file.items() if k != "code"} for file in account["files"]]
