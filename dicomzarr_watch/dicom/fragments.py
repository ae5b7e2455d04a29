"""Encapsulated pixel data as encoded frames: which fragments make a frame (PS3.5 A.4)."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import IO

from pydicom.encaps import generate_frames

from dicomzarr_watch.dicom.frames import FrameRun
from dicomzarr_watch.dicom.pixels import NotDecodedError


def encoded_frames(stream: IO[bytes], run: FrameRun) -> Iterator[bytes]:
    """Yield the encoded frames of a file whose stream stands at its encapsulated pixel data.

    Raises NotDecodedError if there are fewer than the header says.
    """
    count, found = run.count // run.format.frames_together, 0
    try:
        for frame in islice(generate_frames(stream, number_of_frames=count), count):
            found += 1
            yield frame
    except MemoryError:
        raise  # that the machine has not enough says nothing of the frame
    except Exception as error:  # whatever broken fragments lead to
        raise NotDecodedError(type(error).__name__) from error
    if found < count:
        raise NotDecodedError("fewer frames than said")
