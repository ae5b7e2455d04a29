"""Many small series: how many a second, ledger and publishing included.

    python benchmarks/many_series.py [--inbox DIR] [--series N] [--slices N] [--side N] [--work DIR]

Without --inbox the series are made: N series of so many slices of side by side pixels, each in a
drop of its own. `run --once` works them off. Two figures: series a second from the first job to
the last, and over all, with the listing, the headers and the two looks that settling takes.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from inboxes import Daemon, fill, running


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--inbox", type=Path, default=None)
    parser.add_argument("--series", type=int, default=1000)
    parser.add_argument("--slices", type=int, default=10)
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--work", type=Path, default=None)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.work) as folder:
        place = Path(folder)
        inbox = options.inbox or place / "inbox"
        if options.inbox is None:
            fill(inbox, options.series, options.slices, side=options.side)
        settings = {"settle_s": 0.5, "workers": options.workers}
        with running(place, "--once", inbox=inbox, **settings) as daemon:
            code = daemon.end()
        print(json.dumps({"case": "many small series", **figures(daemon, code)}, indent=1))


def figures(daemon: Daemon, code: int) -> dict[str, Any]:
    done = [event for event in daemon.events if event["event"] == "job.done"]
    started = next(event for event in daemon.events if event["event"] == "job.started")
    first_s, last_s = started["at_s"], done[-1]["at_s"]
    stages: Counter[str] = Counter()
    for event in done:
        stages.update(event["seconds"])
    return {
        "exit_code": code,
        "series": len(done),
        "files": sum(event["counts"]["files"] for event in done),
        "until_first_job_s": round(first_s, 2),
        "jobs_s": round(last_s - first_s, 2),
        "series_per_s": round(len(done) / (last_s - first_s), 1),
        "series_per_s_over_all": round(len(done) / daemon.events[-1]["at_s"], 1),
        "cpu_ms_per_series": round(1000 * daemon.used.cpu_s / len(done), 1),
        "stages_ms_per_series": {k: round(1000 * v / len(done), 2) for k, v in stages.items()},
        **daemon.used.as_json(),
    }


if __name__ == "__main__":
    main()
