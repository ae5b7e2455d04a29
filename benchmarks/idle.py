"""Nothing to do: what the daemon costs beside a full inbox of which all is done.

    python benchmarks/idle.py [--files N] [--slices N] [--seconds S] [--work DIR]

The ledger is told that every series was archived, as converting them is another benchmark. Then the
daemon runs with its own settings for so many seconds, and one more drop is converted and waited
for, so that what conversions leave behind is counted too.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

from inboxes import Daemon, fill, finish, running

GOALS = {"share_of_a_core": 0.005, "rss_mb": 150}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--slices", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--work", type=Path, default=None)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.work) as folder:
        place = Path(folder)
        series = options.files // options.slices
        fill(place / "inbox", series, options.slices)
        finish(place / "state", place / "inbox")
        with running(place, inbox=place / "inbox", settle_s=1) as daemon:
            daemon.wait("daemon.started")
            fill(place / "inbox", 1, options.slices, first=series)
            daemon.wait("drop.finished")
            time.sleep(60)  # in which children are given up
            found = measured(daemon, options.seconds)
            code = daemon.stop()
    told = {"case": "idle", "exit_code": code, "files": options.files, **found, "goals": GOALS}
    print(json.dumps(told, indent=1))


def measured(daemon: Daemon, seconds: float) -> dict[str, Any]:
    cpu_s, start_s = daemon.cpu_s(), time.monotonic()
    time.sleep(seconds)
    took_s = time.monotonic() - start_s
    share = (daemon.cpu_s() - cpu_s) / took_s
    rss, pss = daemon.memory()
    return {
        "seconds": round(took_s),
        "share_of_a_core": round(share, 5),
        "rss_mb": round(rss / 1e6),
        "pss_mb": round(pss / 1e6),
        "peak": daemon.used.as_json(),
    }


if __name__ == "__main__":
    main()
