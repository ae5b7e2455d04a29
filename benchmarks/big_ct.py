"""One big CT: a verified, published conversion against the least work that it could be.

    python benchmarks/big_ct.py YARDSTICK SERIES [--runs N] [--work DIR]

YARDSTICK is a program that is called as `python YARDSTICK SERIES OUTPUT`, reads every byte of the
series once, hashes, compresses, writes, fsyncs, reads back, decompresses and compares it, and
prints one JSON line with `total_s`. SERIES is a folder with one series. The two run in turn, A B A
B, and the ratio is taken pair by pair, so that a machine whose speed drifts does not matter.

The conversion runs as the daemon does it: in a child of a warm engine, `verify = "exact"`. Memory
is the largest sum of the proportional set sizes of this process and all below it.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Self

from dicomzarr_watch.archive.work import Level
from dicomzarr_watch.batch import batch
from dicomzarr_watch.engine.local import LocalEngine
from dicomzarr_watch.outcome import Ended, Outcome


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("yardstick", type=Path)
    parser.add_argument("series", type=Path)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--work", type=Path, default=None)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.work) as folder:
        rows = compare(options.yardstick, options.series, Path(folder), options.runs)
    ratios = [row["ours_s"] / row["yardstick_s"] for row in rows]
    print(
        json.dumps(
            {
                "case": "one big series",
                "files": rows[0]["files"],
                "megabytes": round(rows[0]["bytes"] / 1e6, 1),
                "ours_s": round(statistics.median(row["ours_s"] for row in rows), 3),
                "yardstick_s": round(statistics.median(row["yardstick_s"] for row in rows), 3),
                "ratio_median": round(statistics.median(ratios), 2),
                "ratio_min": round(min(ratios), 2),
                "ratio_max": round(max(ratios), 2),
                "peak_megabytes": round(max(row["peak"] for row in rows) / 1e6),
                "stages_s": rows[-1]["stages"],
            },
            indent=1,
        )
    )


def compare(yardstick: Path, series: Path, place: Path, runs: int) -> list[dict]:
    ended: queue.SimpleQueue[None] = queue.SimpleQueue()
    engine = LocalEngine(
        workers=1,
        timeout_s=600,
        lock=place / "lock",
        level=Level.EXACT,
        wake=lambda: ended.put(None),
    )
    try:
        rows = [pair(engine, ended, yardstick, series, place) for _ in range(runs + 1)]
    finally:
        engine.close()
    return rows[1:]  # the first is the warm-up of both


def pair(engine: LocalEngine, ended: queue.SimpleQueue, yardstick: Path, series: Path, place: Path):
    command = [sys.executable, str(yardstick), str(series), str(place / "yardstick")]
    told = subprocess.run(command, capture_output=True, check=True, text=True).stdout
    output = place / "output"
    shutil.rmtree(output, ignore_errors=True)
    with Peak() as peak:
        start = time.perf_counter()
        (work,) = batch([series], output, level=Level.EXACT).works
        engine.submit(0, work)
        ended.get()
        ours_s = time.perf_counter() - start
    ((_, outcome),) = engine.results()
    check(outcome)
    counts = outcome.summary["counts"]
    return {
        "ours_s": ours_s,
        "yardstick_s": json.loads(told.splitlines()[-1])["total_s"],
        "files": counts["files"],
        "bytes": counts["bytes_in"],
        "peak": peak.bytes,
        "stages": outcome.summary["seconds"],
    }


def check(outcome: Outcome) -> None:
    if outcome.ended is not Ended.DONE or outcome.code != "done":
        raise SystemExit(f"not converted: {outcome}")


class Peak:
    """Samples the memory of this process and all its descendants until left."""

    def __init__(self) -> None:
        self.bytes = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._sample)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._over.wait(0.02):
            self.bytes = max(self.bytes, sum(map(pss, family(os.getpid()))))


def family(root: int) -> list[int]:
    parents: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        parents.setdefault(int(fields[1]), []).append(int(path.parent.name))
    found, todo = [], [root]
    while todo:
        process = todo.pop()
        found.append(process)
        todo += parents.get(process, [])
    return found


def pss(process: int) -> int:
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) << 10 for line in lines if line.startswith("Pss:"))


if __name__ == "__main__":
    main()
