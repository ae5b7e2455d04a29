"""Restoring a CT of 600 slices, against copying its files; both are on disk when they are done.

python benchmarks/restore.py [SERIES] [--runs N] [--short]
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from made_series import ct
from measured import Converter, arguments, compared

from dicomzarr_watch.archive.reader import Store
from dicomzarr_watch.archive.restore import restore

GOAL = 1.5


def main() -> None:
    options = arguments(__doc__, "series")
    with tempfile.TemporaryDirectory(dir=options.work) as folder, Converter(Path(folder)) as ours:
        place = Path(folder)
        series = options.series or ct(place / "series", 100 if options.short else 600)
        ours.convert(series)
        compared(
            "restore",
            lambda: restored(ours.store, place / "restored"),
            lambda: copied(series, place / "copied"),
            runs=options.runs,
            goal=GOAL,
            is_short=options.short,
        )


def restored(path: Path, target: Path) -> None:
    shutil.rmtree(target, ignore_errors=True)
    store = Store(path)
    restore(store, target, store.files, is_durable=True)


def copied(series: Path, target: Path) -> None:
    shutil.rmtree(target, ignore_errors=True)
    for source in sorted(series.rglob("*")):
        if source.is_file():
            copy = target / source.relative_to(series)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, copy)
            with copy.open("rb") as stream:
                os.fsync(stream.fileno())


if __name__ == "__main__":
    main()
