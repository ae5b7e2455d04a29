"""Encapsulated pixel data as encoded frames: which fragments make a frame (PS3.5 A.4)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from typing import IO, Final

from pydicom.encaps import generate_fragments, generate_frames, parse_fragments

from dicomzarr_watch.dicom.frames import FrameRun
from dicomzarr_watch.dicom.pixels import DEFLATED_FRAMES, RLE, NotDecodedError

_ONE_EACH: Final = frozenset({RLE, DEFLATED_FRAMES})
"""Their frames are one fragment each (PS3.5 A.4.2, A.4.13)."""

_NEXT_CODESTREAM: Final = re.compile(rb"\xff\xd9[\0\xff]*(?:\xff\xd8\xff|\xff\x4f\xff\x51)")
"""Where one codestream of JPEG or JPEG 2000 ends and another starts; within one, none can."""


def encoded_frames(stream: IO[bytes], run: FrameRun) -> Iterator[bytes]:
    """Yield the encoded frames of a file whose stream stands at its encapsulated pixel data.

    Raises NotDecodedError if there are fewer than the header says.
    """
    count, found = run.count // run.format.frames_together, 0
    with _told():
        for frame in islice(_frames(stream, count), count):
            found += 1
            yield frame
    if found < count:
        raise NotDecodedError("fewer frames than said")


def _frames(stream: IO[bytes], count: int) -> Iterator[bytes]:
    """Yield encoded frames; where there are as many fragments, whatever the offset table says.

    Tables count from the wrong place, in the wrong byte order, or have a single offset.
    """
    start = stream.tell()
    fragments, _ = parse_fragments(stream)
    stream.seek(start)
    if fragments - 1 == count:
        return islice(generate_fragments(stream), 1, None)
    return generate_frames(stream, number_of_frames=count)


def holds_more(stream: IO[bytes], run: FrameRun) -> bool:
    """Tell whether more is encoded than the frames that `encoded_frames` yields, from there on.

    Fragments stand behind the last frame, or a frame is joined of several codestreams, of which
    decoders see the first. Raises what `encoded_frames` raises.
    """
    start, count, size = stream.tell(), 0, 0
    for frame in encoded_frames(stream, run):
        count, size = count + 1, size + len(frame)
        if _NEXT_CODESTREAM.search(frame):
            return True
    stream.seek(start)
    with _told():
        _, *fragments = map(len, generate_fragments(stream))
    is_joined = run.encoding in _ONE_EACH and len(fragments) > count
    return is_joined or sum(fragments) > size


@contextmanager
def _told() -> Iterator[None]:
    """Have whatever broken fragments lead to raised as NotDecodedError."""
    try:
        yield
    except MemoryError:
        raise  # that the machine has not enough says nothing of the frame
    except Exception as error:
        raise NotDecodedError(type(error).__name__) from error
