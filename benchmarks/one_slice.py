"""One slice out of 600 from an array that was just opened, against decompressing its chunk alone.

    python benchmarks/one_slice.py [SERIES] [--runs N] [--short]

The goal is 5 ms, from any reader of Zarr: `ours` is zarr-python with its own codecs, as people
open it. What is opened is opened anew for every run.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path

import zarr
from made_series import ct
from measured import Converter, arguments

GOAL_S = 0.005


def main() -> None:
    options = arguments(__doc__, "series", runs=50)
    with tempfile.TemporaryDirectory(dir=options.work) as folder, Converter(Path(folder)) as ours:
        place = Path(folder)
        series = options.series or ct(place / "series", 100 if options.short else 600)
        ours.convert(series)
        for pipeline in (
            "zarr.core.codec_pipeline.BatchedCodecPipeline",
            "zarrs.ZarrsCodecPipeline",
        ):
            with zarr.config.set({"codec_pipeline.path": pipeline}):
                seconds = [one(ours.store) for _ in range(options.runs)]
            median = statistics.median(seconds)
            print(f"{pipeline}: {median * 1000:.2f} ms (goal {GOAL_S * 1000:.0f} ms)")
            if options.short and median > 2 * GOAL_S:
                sys.exit("one slice takes too long")


def one(store: Path) -> float:
    array = zarr.open_array(store / "0", mode="r")
    start = time.perf_counter()
    array[array.shape[0] // 2]
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
