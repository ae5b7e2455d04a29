"""Verifying a CT of 600 slices again, against decompressing and hashing it without any store.

    python benchmarks/verify.py [SERIES] [--runs N] [--short]

The goal is 1 GB/s; `gigabytes_per_s` says it, the ratio what the store costs.
"""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numcodecs.blosc
import numpy as np
from made_series import ct
from measured import Converter, arguments, compared, size_of

from dicomzarr_watch.archive.reader import Store
from dicomzarr_watch.archive.verify import verdict

GOAL = 1.25
FRAME_BYTES = 512 << 10


def main() -> None:
    options = arguments(__doc__, "series")
    with tempfile.TemporaryDirectory(dir=options.work) as folder, Converter(Path(folder)) as ours:
        place = Path(folder)
        series = options.series or ct(place / "series", 100 if options.short else 600)
        ours.convert(series)
        chunks = compressed(series)
        found = compared(
            "verify",
            partial(verified, ours.store),
            partial(decompressed, chunks),
            runs=options.runs,
            goal=GOAL,
            is_short=options.short,
        )
        speed = size_of(series) / found["ours"]["seconds"] / 1e9
        print(f"{speed:.2f} GB/s")


def verified(path: Path) -> None:
    if verdict(Store(path)).differ:
        sys.exit("the store differs")


def compressed(series: Path) -> list[bytes]:
    numcodecs.blosc.set_nthreads(1)
    codec = numcodecs.Blosc(
        cname="zstd", clevel=1, shuffle=numcodecs.Blosc.BITSHUFFLE, blocksize=FRAME_BYTES
    )
    return [
        codec.encode(np.frombuffer(data[start : start + FRAME_BYTES], np.uint8).view(np.uint16))
        for path in sorted(series.rglob("*"))
        if path.is_file()
        for data in [path.read_bytes()[: path.stat().st_size & ~1]]
        for start in range(0, len(data), FRAME_BYTES)
    ]


def decompressed(chunks: Sequence[bytes]) -> None:
    codec = numcodecs.Blosc()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(lambda chunk: hashlib.sha256(codec.decode(chunk)).digest(), chunks))


if __name__ == "__main__":
    main()
