"""An enhanced MR of 2 GB in one file: its time per megabyte against that of a CT of 320 MB.

    python benchmarks/multi_frame.py [LARGE [SMALL]] [--runs N] [--short]

LARGE and SMALL are folders with one series each; without them they are made. The figure that must
stay below 400 MB is the peak memory of all processes.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from made_series import ct, enhanced_mr
from measured import Converter, arguments, compared, size_of

GOAL = 1.15


def main() -> None:
    options = arguments(__doc__, "large", "small", runs=2)
    with tempfile.TemporaryDirectory(dir=options.work) as folder, Converter(Path(folder)) as ours:
        place = Path(folder)
        large = options.large or enhanced_mr(place / "large", 400 if options.short else 3900)
        small = options.small or ct(place / "small", 100 if options.short else 600)
        compared(
            "multi frame, seconds per GB",
            lambda: ours.convert(large) / size_of(large) * 1e9,
            lambda: ours.convert(small) / size_of(small) * 1e9,
            runs=options.runs,
            goal=GOAL,
            is_short=options.short,
            megabytes=round(size_of(large) / 1e6),
        )


if __name__ == "__main__":
    main()
