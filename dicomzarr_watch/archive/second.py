"""A second look at frames that their file's bytes do not come back from.

Decoded frames have no inverse: that the file is exact does not prove that its view is right. So
the file is rebuilt, its header read anew, and its pixels decoded by another decoder than the one
that made the view. They must agree to the bit, or within a few steps where the codec has them
round; where they disagree, the first one is asked once more to tell which is at fault.
"""

from __future__ import annotations

import io
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor
from enum import StrEnum
from itertools import islice
from typing import IO, Final

import numpy as np

from dicomzarr_watch.archive.reader import StoredFile
from dicomzarr_watch.dicom.alike import Templates
from dicomzarr_watch.dicom.fragments import encoded_frames
from dicomzarr_watch.dicom.frames import FrameRun, Samples, stored_bytes
from dicomzarr_watch.dicom.instance import read_frames
from dicomzarr_watch.dicom.pixels import (
    ROUNDED,
    NotDecodedError,
    decode,
    decoders,
    farthest,
)
from dicomzarr_watch.dicom.views import view

LOSSY_STEPS: Final = 2.0
"""How far two right decoders of a lossy codec may be apart, in stored values."""
_AHEAD: Final = 16
"""Frames of one file that wait to be compared."""


class Look(StrEnum):
    """What a second look found. WRONG alone says that the store is not what it should be."""

    AGREES = "agrees"
    ALONE = "no-second-decoder"
    DISAGREES = "decoders-disagree"
    WRONG = "view-differs"


Asked = Callable[[], Look]
"""Waits for a look that another process may be taking."""


def second_look(
    stored: Iterator[Samples],
    file: StoredFile,
    content: IO[bytes],
    decode_pool: Executor,
    templates: Templates,
) -> list[Asked]:
    """Compare the stored frames of one file with its pixels, seen anew; the worst look counts.

    content: the file, rebuilt. At most a few frames wait to be compared in `decode_pool`.
    templates: what is known of the headers of files before this one.
    """
    run, data = read_frames(content, templates)
    if not isinstance(run, FrameRun) or run.count != file.frame_count:
        return [lambda: Look.WRONG]
    if not run.needs_decoder:
        source = io.BytesIO(data) if run.encoding else content
        look = Look.AGREES if _is_same(stored, _seen(source, run)) else Look.WRONG
        return [lambda: look]
    content.seek(run.start)
    asked: deque[Asked] = deque()
    known = Look.AGREES
    for encoded in encoded_frames(content, run):
        asked.append(_ask(_block(stored, run.format.frames_together), encoded, run, decode_pool))
        if len(asked) > _AHEAD:
            known = worst([known, asked.popleft()()])
    return [lambda: known, *asked]


def _ask(stored: Samples, encoded: bytes, run: FrameRun, decode_pool: Executor) -> Asked:
    future = decode_pool.submit(compared, stored, encoded, run)

    def look() -> Look:
        try:
            return future.result()
        except NotDecodedError:  # the other decoder ended its process
            again = decode_pool.submit(_unopposed, stored, encoded, run)
        try:
            return again.result()
        except NotDecodedError:
            return Look.WRONG

    return look


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
    found = list(islice(frames, count))
    return found[0][np.newaxis] if count == 1 else np.stack(found)


def compared(stored: Samples, encoded: bytes, run: FrameRun) -> Look:
    """Compare decoded frames with what another decoder makes of their encoded bytes."""
    others = decoders(run)[1:]
    allowed = LOSSY_STEPS if run.encoding in ROUNDED else 0.0
    for decoder in others:
        try:
            apart = farthest(stored, decode(encoded, run, decoder))
        except NotDecodedError:
            continue
        if apart <= allowed:
            return Look.AGREES
        return Look.DISAGREES if _is_of_first(stored, encoded, run) else Look.WRONG
    return _unopposed(stored, encoded, run)


def _unopposed(stored: Samples, encoded: bytes, run: FrameRun) -> Look:
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
