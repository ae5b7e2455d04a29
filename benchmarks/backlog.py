"""A backlog: what is in the inbox at the start, listed, read and remembered; and a restart.

    python benchmarks/backlog.py [--files N] [--slices N] [--work DIR]

First the daemon starts beside files that it has never seen: seconds until all headers are read and
stand in the ledger, and the largest memory. Nothing is converted, as series settle for an hour.
Then the ledger is told that all was archived, and the daemon starts again: seconds until it says
that it is ready, which is after its first look.
"""

from __future__ import annotations

import argparse
import json
import socket
import tempfile
import time
from pathlib import Path
from typing import Any

from inboxes import fill, finish, running

GOALS = {"read_s": 120, "peak_pss_mb": 600, "restart_s": 20}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--files", type=int, default=1_000_000)
    parser.add_argument("--slices", type=int, default=100)
    parser.add_argument("--work", type=Path, default=None)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.work) as folder:
        place = Path(folder)
        series = options.files // options.slices
        fill(place / "inbox", series, options.slices)
        first = started(place, settle_s=3600, arriving=series)
        finish(place / "done", place / "inbox")
        (place / "state").rename(place / "state-of-the-first")
        (place / "done").rename(place / "state")
        again = started(place, settle_s=3600, arriving=0)
    told = {"case": "backlog", "files": options.files, "series": series}
    told |= {"first": first, "restart": again, "goals": GOALS}
    print(json.dumps(told, indent=1))


def started(place: Path, *, settle_s: float, arriving: int) -> dict[str, Any]:
    """Start the daemon and wait until it is ready and so many series are known to arrive."""
    address = str(place / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(address)
        inbox = place / "inbox"
        with running(
            place, inbox=inbox, settle_s=settle_s, environment={"NOTIFY_SOCKET": address}
        ) as daemon:
            ready_s = None
            while True:
                told = manager.recv(4096).decode()
                now_s = time.time() - daemon.started_s
                if "READY=1" in told:
                    ready_s = now_s
                if ready_s is not None and f"STATUS={arriving} arriving" in told:
                    break
            daemon.cpu_s()
            used = daemon.used.as_json()
            rss, pss = daemon.memory()
            daemon.stop()
    Path(address).unlink()
    return {
        "ready_s": round(ready_s, 1),
        "read_s": round(now_s, 1),
        **used,
        "rss_mb_after": round(rss / 1e6),
        "pss_mb_after": round(pss / 1e6),
    }


if __name__ == "__main__":
    main()
