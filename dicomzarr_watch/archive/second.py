"""A second look at frames that their file's bytes do not come back from.

Decoded frames have no inverse: that the file is exact does not prove that its view is right. So
the file is rebuilt, its header read anew, and its pixels decoded by another decoder than the one
that made the view. They must agree to the bit, or within a few steps where the codec has them
round; where they disagree, the first one is asked once more to tell which is at fault.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from contextlib import closing
from enum import StrEnum
from itertools import islice
from tempfile import SpooledTemporaryFile
from typing import IO, Final

import numpy as np

from dicomzarr_watch.archive.reader import Store, StoredFile
from dicomzarr_watch.dicom.frames import FrameRun, Samples, stored_bytes, view
from dicomzarr_watch.dicom.instance import read_header
from dicomzarr_watch.dicom.part10 import DEFLATED
from dicomzarr_watch.dicom.pixels import (
    ROUNDED,
    NotDecodedError,
    decode,
    decoders,
    encoded_frames,
    farthest,
)

LOSSY_STEPS: Final = 2.0
"""How far two right decoders of a lossy codec may be apart, in stored values."""
_IN_MEMORY_BYTES: Final = 64 << 20


class Look(StrEnum):
    """What a second look found. WRONG alone says that the store is not what it should be."""

    AGREES = "agrees"
    ALONE = "no-second-decoder"
    DISAGREES = "decoders-disagree"
    WRONG = "view-differs"


def second_look(store: Store, file: StoredFile) -> Look:
    """Compare the stored frames of one file with its pixels, seen anew."""
    with SpooledTemporaryFile(_IN_MEMORY_BYTES) as spool:
        for piece in store.pieces_of(file):
            spool.write(piece)
        header = read_header(spool)
        run = header.instance.frames
        if not isinstance(run, FrameRun) or run.count != file.frame_count:
            return Look.WRONG
        with closing(store.samples_of(file)) as stored:
            if not run.encoding or run.encoding == DEFLATED:
                source = io.BytesIO(header.data) if run.encoding else spool
                return Look.AGREES if _is_same(stored, _seen(source, run)) else Look.WRONG
            spool.seek(run.start)
            encoded = encoded_frames(spool, run)
            step = run.format.frames_together
            return worst(compared(_block(stored, step), e, run) for e in encoded)


def _is_same(stored: Iterator[Samples], seen: Iterator[Samples]) -> bool:
    return all(a.tobytes() == b.tobytes() for a, b in zip(stored, seen, strict=True))


def _seen(source: IO[bytes], run: FrameRun) -> Iterator[Samples]:
    """Yield the frames that stand in a stream as they are."""
    source.seek(run.start)
    step = run.format.block_frames
    for first in range(0, run.count, step):
        count = min(step, run.count - first)
        yield from islice(view(source.read(stored_bytes(run.format, count)), run.format), count)


def _block(frames: Iterator[Samples], count: int) -> Samples:
    return np.stack(list(islice(frames, count)))


def compared(stored: Samples, encoded: bytes, run: FrameRun) -> Look:
    """Compare decoded frames with what another decoder makes of their encoded bytes."""
    others = decoders(run.encoding)[1:]
    allowed = LOSSY_STEPS if run.encoding in ROUNDED else 0.0
    for decoder in others:
        try:
            apart = farthest(stored, decode(encoded, run, decoder))
        except NotDecodedError:
            continue
        if apart <= allowed:
            return Look.AGREES
        return Look.DISAGREES if _is_of_first(stored, encoded, run) else Look.WRONG
    return Look.ALONE if _is_of_first(stored, encoded, run) else Look.WRONG


def _is_of_first(stored: Samples, encoded: bytes, run: FrameRun) -> bool:
    """Ask the decoders once more in the order in which they made the view."""
    try:
        return np.array_equal(stored, decode(encoded, run))
    except NotDecodedError:
        return False


def worst(looks: Iterable[Look]) -> Look:
    """Return the look that says most against what was looked at."""
    order = list(Look)
    return max(looks, key=order.index, default=Look.AGREES)
