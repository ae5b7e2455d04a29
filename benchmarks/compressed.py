"""Compressed series: a verified, published conversion against the two decoders alone.

    python benchmarks/compressed.py [SERIES] [--runs N] [--short]

The series (a CT that is made, unless SERIES names a folder) is encoded in each transfer syntax
through pydicom; HTJ2K needs imagecodecs, or is left out. The yardstick decodes every frame with
the decoder that makes the view and with its witness (with the first once more where there is but
one), in one process a core, and does nothing else: no hash, no compression, no file. The last line
is of the series together.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

from made_series import ct, encoded
from measured import Converter, arguments, compared
from pydicom.uid import HTJ2KLossless, JPEG2000Lossless, JPEGLSLossless, RLELossless

from dicomzarr_watch.dicom.fragments import encoded_frames
from dicomzarr_watch.dicom.frames import FrameRun
from dicomzarr_watch.dicom.instance import read_header
from dicomzarr_watch.dicom.pixels import decode, decoders

GOAL = 1.2
NOT_JUDGED = {"RLE"}
"""A fifth of what its decoders take is less than compressing what they find, as any archive must,
takes: it is only told."""
SYNTAXES = {
    "JPEG 2000": JPEG2000Lossless,
    "JPEG-LS": JPEGLSLossless,
    "HTJ2K": HTJ2KLossless,
    "RLE": RLELossless,
}


def main() -> None:
    options = arguments(__doc__, "series", runs=3)
    with tempfile.TemporaryDirectory(dir=options.work) as folder, Converter(Path(folder)) as ours:
        place = Path(folder)
        source = options.series or ct(place / "native", 64 if options.short else 200)
        found = []
        for name, syntax in SYNTAXES.items():
            series = encoded(source, place / syntax, syntax)
            if series is None:
                print(f"{name}: nothing here encodes it")
                continue
            case = compared(
                name,
                partial(ours.convert, series),
                partial(decoded, series),
                runs=options.runs,
                goal=GOAL,
                is_short=options.short and name not in NOT_JUDGED,
                decoders=decoders(first_run(next(series.iterdir())))[:2],
                slices=len(list(series.iterdir())),
            )
            found.append(case)
            print(ours.stages)
    took = [sum(case[who]["seconds"] for case in found) for who in ("ours", "yardstick")]
    print(json.dumps({"case": "together", "ratio": round(took[0] / took[1], 2), "goal": GOAL}))


def decoded(series: Path) -> float:
    """Decode a series twice; returns the seconds, without those that processes need to start."""
    paths = sorted(series.iterdir())
    with ProcessPoolExecutor(os.cpu_count(), get_context("spawn")) as pool:
        list(pool.map(twice, paths[:8]))
        start = time.perf_counter()
        list(pool.map(twice, paths, chunksize=8))
        return time.perf_counter() - start


def twice(path: Path) -> None:
    run = first_run(path)
    with path.open("rb") as stream:
        stream.seek(run.start)
        frames = list(encoded_frames(stream, run))
    _, *others = decoders(run)
    for frame in frames:
        decode(frame, run)
        decode(frame, run, *others[:1])


def first_run(path: Path) -> FrameRun:
    with path.open("rb") as stream:
        run = read_header(stream).instance.frames
    assert isinstance(run, FrameRun)
    return run


if __name__ == "__main__":
    main()
