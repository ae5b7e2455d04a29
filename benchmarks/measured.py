"""What the benchmarks share: two things done in turn, with time, CPU and memory of each.

The ratio is taken pair by pair, A B A B, so that a machine whose speed drifts does not matter. The
first pair warms up and is where memory is sampled, as sampling takes time; it is not timed.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import resource
import shutil
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import processes

from dicomzarr_watch.archive.work import Level
from dicomzarr_watch.batch import batch
from dicomzarr_watch.engine.local import LocalEngine
from dicomzarr_watch.engine.task import Task
from dicomzarr_watch.outcome import Ended


def arguments(case: str, *more: str, runs: int = 5) -> argparse.Namespace:
    """Read the command line; `more` are folders or files that may be named."""
    parser = argparse.ArgumentParser(
        description=case, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name in more:
        parser.add_argument(name, type=Path, nargs="?")
    parser.add_argument("--runs", type=int, default=runs, help="pairs that are timed")
    parser.add_argument("--work", type=Path, help="a folder on the disk to measure")
    parser.add_argument("--short", action="store_true", help="less of it; fails at twice the goal")
    return parser.parse_args()


@dataclass(frozen=True, slots=True)
class Run:
    """One run. peak_bytes: the largest sum of the proportional set sizes; 0 where not sampled."""

    seconds: float
    cpu_seconds: float = 0.0
    peak_bytes: int = 0


def measured(work: Callable[[], float | None], *, is_sampled: bool) -> Run:
    """Run something; what it says that it took counts more than what the clock says."""
    before = cpu_seconds()
    with peak() if is_sampled else _no_peak() as found:
        start = time.perf_counter()
        told = work()
        seconds = time.perf_counter() - start
    return Run(seconds if told is None else told, cpu_seconds() - before, max(found))


def compared(
    case: str,
    ours: Callable[[], float | None],
    yardstick: Callable[[], float | None],
    *,
    runs: int,
    goal: float,
    is_short: bool = False,
    **more: Any,
) -> dict[str, Any]:
    """Run both in turn, print the figures and return them; a short run fails at twice the goal."""
    pairs = [
        (measured(yardstick, is_sampled=n == 0), measured(ours, is_sampled=n == 0))
        for n in range(runs + 1)
    ]
    (_, warm), *timed = pairs
    ratios = [b.seconds / a.seconds for a, b in timed]
    found = {
        "case": case,
        "ratio": round(statistics.median(ratios), 2),
        "ratio_range": [round(min(ratios), 2), round(max(ratios), 2)],
        "goal": goal,
        "ours": _medians([b for _, b in timed]),
        "yardstick": _medians([a for a, _ in timed]),
        "peak_megabytes": round(warm.peak_bytes / 1e6),
        **more,
    }
    print(json.dumps(found, indent=1))
    if is_short and found["ratio"] > 2 * goal:
        sys.exit(f"{case}: {found['ratio']} times the yardstick; the goal is {goal}")
    return found


def _medians(runs: list[Run]) -> dict[str, float]:
    return {
        name: round(statistics.median(asdict(run)[name] for run in runs), 3)
        for name in ("seconds", "cpu_seconds")
    }


class Converter:
    """A warm engine, as the daemon has one, that converts one folder at a time."""

    def __init__(self, place: Path) -> None:
        self.output = place / "output"
        self.stages: dict[str, float] = {}
        self.counts: dict[str, int] = {}
        self.store = place
        self._ended: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._engine = LocalEngine(
            workers=1,
            timeout_s=3600,
            lock=place / "lock",
            level=Level.EXACT,
            wake=lambda: self._ended.put(None),
        )

    def convert(self, series: Path) -> float:
        """Convert the one series in a folder; returns the seconds from the job's start to its end.

        The files are found before, as they are for the yardsticks and by the daemon's intake.
        """
        shutil.rmtree(self.output, ignore_errors=True)
        (work,) = batch([series], self.output, level=Level.EXACT).works
        start = time.perf_counter()
        self._engine.submit(0, Task(work=work))
        self._ended.get()
        seconds = time.perf_counter() - start
        ((_, outcome),) = self._engine.results()
        if outcome.ended is not Ended.DONE or outcome.code != "done":
            sys.exit(f"not converted: {outcome}")
        self.stages, self.counts = outcome.summary["seconds"], outcome.summary["counts"]
        self.store = self.output / work.drop / outcome.summary["folder"] / "series.zarr"
        return seconds

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._engine.close()


def size_of(folder: Path) -> int:
    """Return the bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def cpu_seconds() -> float:
    """Return what this process, all below it and all that they waited for have used."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    own = resource.getrusage(resource.RUSAGE_SELF)
    below = sum(
        processes.cpu_seconds(p, with_ended=True) for p in processes.family(os.getpid())[1:]
    )
    used = (own.ru_utime, own.ru_stime, ended.ru_utime, ended.ru_stime)
    return sum(used) + below


@contextmanager
def peak() -> Iterator[list[int]]:
    """Sample the memory of this process and all its descendants until left."""
    found, over = [0], threading.Event()

    def sample() -> None:
        while not over.wait(0.02):
            found.append(sum(processes.memory(p)[1] for p in processes.family(os.getpid())))

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield found
    finally:
        over.set()
        thread.join()


@contextmanager
def _no_peak() -> Iterator[list[int]]:
    yield [0]
