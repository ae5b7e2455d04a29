"""Big headers: a series whose private elements take as many bytes as much of its pixels.

    python benchmarks/big_headers.py [YARDSTICK [SERIES]] [--runs N] [--goal RATIO] [--short]

YARDSTICK and the way of the conversion are those of `big_ct.py`. SERIES is a folder with one
series; without one it is made, of 192 files (24 if --short) with 100 KB of private header each, a
tenth of it their own. Besides the figures it prints the seconds of each stage, and those of
headers, plan and metadata together.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
import pydicom
from big_ct import LEAST, yardstick
from made_series import ct
from measured import Converter, compared

GOAL = 1.25
SHARED_BYTES, OWN_BYTES = 90_000, 11_000
OUR_STAGES = ("headers", "plan", "metadata")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("yardstick", type=Path, nargs="?", default=LEAST)
    parser.add_argument("series", type=Path, nargs="?")
    parser.add_argument("--goal", type=float, default=GOAL)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--work", type=Path, help="a folder on the disk to measure")
    parser.add_argument("--short", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.work) as folder:
        place = Path(folder)
        count = 24 if options.short else 192
        series = options.series or with_private_headers(ct(place / "series", count, size=256))
        converter = Converter(place)
        try:
            compared(
                "big headers",
                lambda: converter.convert(series),
                lambda: yardstick(options.yardstick, series, place / "yardstick"),
                runs=options.runs,
                goal=options.goal,
                is_short=options.short,
            )
        finally:
            converter.close()
        stages = converter.stages
        told = {
            "counts": converter.counts,
            "stages_s": stages,
            "headers_plan_metadata_s": round(sum(stages.get(name, 0) for name in OUR_STAGES), 3),
        }
        print(json.dumps(told, indent=1))


def with_private_headers(folder: Path) -> Path:
    """Give every file of a folder what some scanners write: much, and mostly the same."""
    dice = np.random.default_rng(0)
    shared = dice.bytes(SHARED_BYTES)
    for path in folder.iterdir():
        dataset = pydicom.dcmread(path)
        block = dataset.private_block(0x0029, "BENCHMARK", create=True)
        block.add_new(0x10, "OB", dice.bytes(OWN_BYTES))
        block.add_new(0x20, "OB", shared)
        dataset.save_as(path)
    return folder


if __name__ == "__main__":
    main()
