"""Compressed series: a verified, published conversion against the two decoders alone.

    python benchmarks/compressed.py [--slices N] [--runs N] [--short]

A CT is made and encoded in each transfer syntax through pydicom (HTJ2K needs imagecodecs, or is
left out). The yardstick decodes every frame with the decoder that makes the view and with the one
that is its witness (once more with the first where there is but one), in one process a core, and
does nothing else: no hash, no compression, no file.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

from made_series import ct, encoded
from measured import Converter, compared
from pydicom.uid import HTJ2KLossless, JPEG2000Lossless, JPEGLSLossless, RLELossless

from dicomzarr_watch.dicom.frames import FrameRun
from dicomzarr_watch.dicom.instance import read_header
from dicomzarr_watch.dicom.pixels import decode, decoders, encoded_frames

GOAL = 1.2
SYNTAXES = {
    "JPEG 2000": JPEG2000Lossless,
    "JPEG-LS": JPEGLSLossless,
    "HTJ2K": HTJ2KLossless,
    "RLE": RLELossless,
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--slices", type=int, default=0)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--work", type=Path, help="a folder on the disk to measure")
    parser.add_argument("--short", action="store_true")
    options = parser.parse_args()
    slices = options.slices or (64 if options.short else 200)
    with tempfile.TemporaryDirectory(dir=options.work) as folder:
        place = Path(folder)
        source = ct(place / "native", slices)
        converter = Converter(place)
        with ProcessPoolExecutor(os.cpu_count(), get_context("spawn")) as pool:
            for name, syntax in SYNTAXES.items():
                series = encoded(source, place / syntax, syntax)
                if series is None:
                    print(f"{name}: nothing here encodes it")
                    continue
                compared(
                    f"{name}, {slices} slices",
                    partial(converter.convert, series),
                    partial(decoded, pool, series),
                    runs=options.runs,
                    goal=GOAL,
                    is_short=options.short,
                    decoders=decoders(syntax)[:2],
                )
                print(converter.stages)
        converter.close()


def decoded(pool: ProcessPoolExecutor, series: Path) -> float:
    """Decode a series twice; returns the seconds."""
    paths = sorted(series.iterdir())
    list(pool.map(twice, paths[: os.cpu_count()]))  # every process has its imports
    start = time.perf_counter()
    list(pool.map(twice, paths, chunksize=8))
    return time.perf_counter() - start


def twice(path: Path) -> None:
    with path.open("rb") as stream:
        run = read_header(stream).instance.frames
        assert isinstance(run, FrameRun)
        stream.seek(run.start)
        frames = list(encoded_frames(stream, run))
    _, *others = decoders(run.encoding)
    for frame in frames:
        decode(frame, run)
        decode(frame, run, *others[:1])


if __name__ == "__main__":
    main()
