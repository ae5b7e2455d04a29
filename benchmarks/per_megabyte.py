"""Large series: their time per megabyte against that of a CT of 600 slices, 320 MB.

    python benchmarks/per_megabyte.py [--runs N] [--short]

One is a CT of 10,000 slices, 5 GB in as many files; the other an enhanced MR of 2 GB in one file.
The figure that must stay below 400 MB is the peak memory of all processes.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from functools import partial
from pathlib import Path

from made_series import ct, enhanced_mr
from measured import Converter, arguments, compared, size_of

GOAL = 1.15
CASES = {
    "multi frame": (enhanced_mr, 3900, 400),
    "long series": (ct, 10_000, 1200),
}


def main() -> None:
    options = arguments(__doc__, runs=2)
    with tempfile.TemporaryDirectory(dir=options.work) as folder, Converter(Path(folder)) as ours:
        small = ct(Path(folder) / "small", 100 if options.short else 600)
        for name, (make, count, short) in CASES.items():
            large = make(Path(folder) / "large", short if options.short else count)
            os.sync()  # or the kernel writes what was made while it is converted
            compared(
                f"{name}, seconds per GB",
                partial(seconds_per_gb, ours, large),
                partial(seconds_per_gb, ours, small),
                runs=options.runs,
                goal=GOAL,
                is_short=options.short,
                megabytes=round(size_of(large) / 1e6),
            )
            shutil.rmtree(large)


def seconds_per_gb(ours: Converter, series: Path) -> float:
    return ours.convert(series) / size_of(series) * 1e9


if __name__ == "__main__":
    main()
