"""How long after its last file a drop has its done marker, beyond the time that it settles.

    python benchmarks/latency.py [--slices N] [--side N] [--settle S] [--runs N] [--work DIR]

A drop is written file by file, as a scanner's export is. The clock starts when the last file is
closed, and stops when done.json can be seen. What is told is the time beyond `settle_s`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

from inboxes import running, slice_bytes

GOAL_S = 1.0


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--slices", type=int, default=200)
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--settle", type=float, default=2.0)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--work", type=Path, default=None)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.work) as folder:
        place = Path(folder)
        (place / "inbox").mkdir()
        with running(place, inbox=place / "inbox", settle_s=options.settle) as daemon:
            daemon.wait("daemon.started")
            delays = [
                dropped(place / "inbox" / f"drop-{n}", daemon.output, options, n) - options.settle
                for n in range(options.runs)
            ]
            code = daemon.stop()
    told = {
        "case": "from the last file to the done marker, beyond settle_s",
        "exit_code": code,
        "slices": options.slices,
        "settle_s": options.settle,
        "median_s": round(statistics.median(delays), 2),
        "range_s": [round(min(delays), 2), round(max(delays), 2)],
        "goal_s": GOAL_S,
        **daemon.used.as_json(),
    }
    print(json.dumps(told, indent=1))


def dropped(folder: Path, output: Path, options: argparse.Namespace, series: int) -> float:
    """Write a drop and wait for its marker; returns the seconds between."""
    files = [slice_bytes(series, n, options.side) for n in range(options.slices)]
    folder.mkdir()
    for n, content in enumerate(files):
        (folder / f"{n:05d}.dcm").write_bytes(content)
        time.sleep(0.005)
    last_s = time.monotonic()
    while not list((output / folder.name).glob("*/done.json")):
        time.sleep(0.005)
    return time.monotonic() - last_s


if __name__ == "__main__":
    main()
