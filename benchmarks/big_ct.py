"""One big CT: a verified, published conversion against the least work that it could be.

    python benchmarks/big_ct.py [YARDSTICK [SERIES]] [--runs N] [--goal RATIO] [--short]

YARDSTICK is a program that is called as `python YARDSTICK SERIES OUTPUT` and prints one JSON line
with `total_s`; without one it is `least.py`, which reads every byte of the series once, hashes,
compresses, writes, fsyncs, reads back, decompresses and compares it on all cores. SERIES is a
folder with one series; without one it is made, of 600 slices (60 if --short).

The conversion runs as the daemon does it: in a child of a warm engine, `verify = "exact"`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from made_series import ct
from measured import Converter, compared

LEAST = Path(__file__).with_name("least.py")
GOAL = 1.25


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
        series = options.series or ct(place / "series", 60 if options.short else 600)
        converter = Converter(place)
        try:
            compared(
                "one big CT",
                lambda: converter.convert(series),
                lambda: yardstick(options.yardstick, series, place / "yardstick"),
                runs=options.runs,
                goal=options.goal,
                is_short=options.short,
            )
        finally:
            converter.close()
        print(json.dumps({"counts": converter.counts, "stages_s": converter.stages}, indent=1))


def yardstick(program: Path, series: Path, output: Path) -> float:
    command = [sys.executable, str(program), str(series), str(output)]
    told = subprocess.run(command, capture_output=True, check=True, text=True).stdout
    seconds: float = json.loads(told.splitlines()[-1])["total_s"]
    return seconds


if __name__ == "__main__":
    main()
