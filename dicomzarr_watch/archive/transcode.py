"""Files whose encoded pixel data a site gives up: native ones take their place.

What is archived then is a file of its own, in Explicit VR Little Endian, with the same pixels; its
bytes are verified like those of any other. That the pixels are those of the original was seen by
two decoders before, where there are two; where they disagree, or more is encoded than the header
says, the original is kept.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from io import FileIO
from itertools import islice
from pathlib import Path
from typing import Final

import numpy as np

from dicomzarr_watch.archive.second import Look, compared, worst
from dicomzarr_watch.archive.work import Finding, KeepEncoded, Source, opened, sha256
from dicomzarr_watch.dicom.fragments import encoded_frames, holds_more
from dicomzarr_watch.dicom.frames import FrameRun, Samples
from dicomzarr_watch.dicom.instance import Header, read_header
from dicomzarr_watch.dicom.native import native_head
from dicomzarr_watch.dicom.pixels import LOSSY, NotDecodedError, decode, has_other_bits
from dicomzarr_watch.dicom.views import verbatim
from dicomzarr_watch.identity import Identity

_PIECE_BYTES: Final = 8 << 20


@dataclass(frozen=True, slots=True)
class Transcoded:
    """The sources as they are to be archived, and what a second look at the pixels found."""

    sources: tuple[Source, ...]
    looks: Counter[Look] = field(default_factory=Counter)

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Name the files that come back with their pixels, and not with their bytes."""
        names = tuple(s.name for s in self.sources if s.original_sha256)
        return (Finding("pixel-exact-only", names),) if names else ()


def transcoded(sources: Sequence[Source], keep: KeepEncoded, folder: Path) -> Transcoded:
    """Replace the sources whose encoded pixel data is not to be kept by files in `folder`.

    Raises what `opened` raises, and OSError of the folder's file system.
    """
    found: list[Source] = []
    looks: Counter[Look] = Counter()
    for number, source in enumerate(sources):
        made = None if keep is KeepEncoded.ALWAYS else _native(source, keep, folder / str(number))
        if made:
            looks[made[1]] += 1
        found.append(made[0] if made else source)
    return Transcoded(tuple(found), looks)


def _native(source: Source, keep: KeepEncoded, path: Path) -> tuple[Source, Look] | None:
    """Write a native file; None where the source is to stay as it is."""
    with opened(source) as stream:
        header = read_header(stream)
        run = header.instance.frames
        if not isinstance(run, FrameRun) or not run.needs_decoder:
            return None
        if keep is KeepEncoded.LOSSY and run.encoding in LOSSY:
            return None
        head = native_head(header, run)
        if head is None:
            return None
        path.parent.mkdir(parents=True, exist_ok=True)
        look = _write(path, head, header, run, stream)
        original = source.original_sha256 or sha256(source)
    if look is None:
        path.unlink()
        return None
    os.utime(path, ns=(source.identity.mtime_ns, source.identity.mtime_ns))
    identity = Identity.of(path.stat())
    return replace(source, path=path, identity=identity, original_sha256=original), look


def _write(path: Path, head: bytes, header: Header, run: FrameRun, stream: FileIO) -> Look | None:
    """Write head, decoded frames and tail; None if they cannot be told for sure."""
    looks: list[Look] = []
    size = 0
    with path.open("wb") as target:
        target.write(head)
        try:
            stream.seek(run.start)
            if holds_more(stream, run):
                return None
            stream.seek(run.start)
            for block in _blocks(_decoded(stream, run, looks), run):
                size += target.write(verbatim(block, run.format))
        except NotDecodedError:
            return None
        target.write(b"\0" * (size % 2))
        stream.seek(header.instance.size - header.instance.tail_bytes)
        shutil.copyfileobj(stream, target, _PIECE_BYTES)
    look = worst(looks)
    return look if look in (Look.AGREES, Look.ALONE) else None


def _decoded(stream: FileIO, run: FrameRun, looks: list[Look]) -> Iterator[Samples]:
    for frame in encoded_frames(stream, run):
        samples = decode(frame, run)
        if has_other_bits(samples, frame, run):
            raise NotDecodedError("more bits than are stored")
        looks.append(compared(samples, frame, run))
        yield samples


def _blocks(frames: Iterator[Samples], run: FrameRun) -> Iterator[Samples]:
    """Gather frames until they end at a whole byte."""
    step = run.format.block_frames // run.format.frames_together
    while block := list(islice(frames, step)):
        yield np.concatenate(block)
