"""One big CT: a verified, published conversion against the least work that it could be.

    python benchmarks/big_ct.py [YARDSTICK [SERIES]] [--runs N] [--short]

YARDSTICK is a program that is called as `python YARDSTICK SERIES OUTPUT` and prints one JSON line
with `total_s`; without one it is `least.py`, which reads every byte of the series once, hashes,
compresses, writes, fsyncs, reads back, decompresses and compares it on all cores. SERIES is a
folder with one series; without one it is made, of 600 slices (100 if --short).

The conversion runs as the daemon does it: in a child of a warm engine, `verify = "exact"`.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from made_series import ct
from measured import Converter, arguments, compared

GOAL = 1.25
LEAST = Path(__file__).with_name("least.py")


def main() -> None:
    options = arguments(__doc__, "yardstick", "series")
    with tempfile.TemporaryDirectory(dir=options.work) as folder, Converter(Path(folder)) as ours:
        place = Path(folder)
        series = options.series or ct(place / "series", 100 if options.short else 600)
        compared(
            "one big CT",
            lambda: ours.convert(series),
            lambda: yardstick(options.yardstick or LEAST, series, place / "yardstick"),
            runs=options.runs,
            goal=GOAL,
            is_short=options.short,
        )
        print(json.dumps({"counts": ours.counts, "stages_s": ours.stages}))


def yardstick(program: Path, series: Path, output: Path) -> float:
    command = [sys.executable, str(program), str(series), str(output)]
    told = subprocess.run(command, capture_output=True, check=True, text=True).stdout
    seconds: float = json.loads(told.splitlines()[-1])["total_s"]
    return seconds


if __name__ == "__main__":
    main()
