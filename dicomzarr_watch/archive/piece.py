"""A file falls into pieces, each of which is read once, hashed, and cut into what goes where.

Pieces of one file are worked off at the same time, on any threads; only their hashing goes from
one to the next. What of a piece becomes header, residue and frames is decided before it is read.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from typing import Final

from dicomzarr_watch.archive.chunk import chunks_of_encoded, chunks_of_native
from dicomzarr_watch.archive.work import Source, opened
from dicomzarr_watch.dicom.frames import FrameRun, PixelFormat, stored_bytes
from dicomzarr_watch.dicom.instance import Instance
from dicomzarr_watch.errors import SourceChangedError

PIECE_BYTES: Final = 8 << 20
"""A piece ends behind the first span with which it has so much; a frame is never cut."""


class Part(Enum):
    """Where bytes of a file go."""

    HEADER = auto()
    RESIDUE = auto()
    FRAMES = auto()


@dataclass(frozen=True, slots=True)
class Span:
    """Neighbouring bytes that go to one place, and as how many frames they are seen there."""

    part: Part
    size: int
    frames: int = 0


@dataclass(frozen=True, slots=True)
class Piece:
    """Neighbouring spans of a file from offset `start`."""

    start: int
    spans: tuple[Span, ...]
    is_last: bool = False

    @property
    def size(self) -> int:
        return sum(span.size for span in self.spans)

    @property
    def frames(self) -> int:
        return sum(span.frames for span in self.spans)


@dataclass(frozen=True, slots=True)
class Parts:
    """What a piece holds, as it is to be written.

    residue: None where nothing of the piece is residue, not even no bytes. chunks: the compressed
    frames. is_verbatim: whether they give the bytes of the file back. is_by_first: whether the
    first decoder could read them. sha256: of the whole file, with its last piece.
    """

    header: bytes = b""
    residue: bytes | None = None
    chunks: tuple[bytes, ...] = ()
    is_verbatim: bool = True
    is_by_first: bool = True
    sha256: bytes = b""


def pieces(instance: Instance) -> list[Piece]:
    """Cut a file into pieces; laid end to end they are the file."""
    return list(_pieces(0, _spans(instance)))


def pixel_pieces(instance: Instance) -> list[Piece]:
    """Cut a file's pixel bytes into pieces of residue; none is the last of the file."""
    found = _pieces(instance.head_bytes, _cut(Part.RESIDUE, instance.pixel_bytes))
    return [replace(piece, is_last=False) for piece in found]


def _pieces(start: int, spans: list[Span]) -> Iterator[Piece]:
    own: list[Span] = []
    size = 0
    for left, span in zip(reversed(range(len(spans))), spans, strict=True):
        own.append(span)
        size += span.size
        if size >= PIECE_BYTES or not left:
            yield Piece(start, tuple(own), is_last=not left)
            start, own, size = start + size, [], 0


def _spans(instance: Instance) -> list[Span]:
    run = instance.frames
    if isinstance(run, FrameRun) and not run.encoding:
        pixels = frame_spans(run)
    else:
        pixels = _cut(Part.RESIDUE, instance.pixel_bytes)
    return [
        *_cut(Part.HEADER, instance.head_bytes),
        *pixels,
        *_cut(Part.HEADER, instance.tail_bytes),
    ]


def _cut(part: Part, size: int) -> list[Span]:
    """Cut bytes that may be cut anywhere; no bytes are one span."""
    starts = range(0, max(size, 1), PIECE_BYTES)
    return [Span(part, min(size - start, PIECE_BYTES)) for start in starts]


def frame_spans(run: FrameRun) -> list[Span]:
    """Cut frames where their bytes are whole; each span holds as many as a piece may have."""
    block = run.format.block_frames
    step = block * max(1, PIECE_BYTES // (block * run.format.view_bytes))
    counts = [min(step, run.count - first) for first in range(0, run.count, step)]
    return [Span(Part.FRAMES, stored_bytes(run.format, count), count) for count in counts]


@dataclass(frozen=True, slots=True)
class Turn:
    """A piece's turn in the hashing of its file, which goes from one piece to the next.

    A thread waits only for a piece that was begun before its own, so the wait has an end.
    """

    before: Future[hashlib._Hash]
    after: Future[hashlib._Hash] = field(default_factory=Future)

    @classmethod
    def first(cls) -> Turn:
        """Return the turn of a file's first piece."""
        begun: Future[hashlib._Hash] = Future()
        begun.set_result(hashlib.sha256())
        return cls(begun)

    def next(self) -> Turn:
        """Return the turn of the piece behind this one's."""
        return Turn(self.after)


def read(source: Source, piece: Piece, seen_as: PixelFormat | None, turn: Turn) -> Parts:
    """Read a piece, hash it in its turn, and compress its frames; raises what `opened` raises."""
    try:
        data = _content(source, piece)
        digest = turn.before.result()
        digest.update(data)
    except BaseException as error:
        turn.after.set_exception(error)  # the pieces behind it do not wait for ever
        raise
    turn.after.set_result(digest)
    return replace(cut(data, piece, seen_as), sha256=digest.digest() if piece.is_last else b"")


def cut(data: memoryview, piece: Piece, seen_as: PixelFormat | None) -> Parts:
    """Cut the bytes of a piece into what goes where."""
    found: dict[Part, list[memoryview]] = {part: [] for part in Part}
    chunks: list[bytes] = []
    are_verbatim = True
    at = 0
    for span in piece.spans:
        own = data[at : at + span.size]
        at += span.size
        if seen_as is not None and span.part is Part.FRAMES:
            frames, is_verbatim = chunks_of_native(own, seen_as, span.frames)
            chunks += frames
            are_verbatim = are_verbatim and is_verbatim
        else:
            found[span.part].append(own)
    residue = found[Part.RESIDUE]
    return Parts(
        header=b"".join(found[Part.HEADER]),
        residue=b"".join(residue) if residue else None,
        chunks=tuple(chunks),
        is_verbatim=are_verbatim,
    )


def see(frame: bytes, run: FrameRun) -> Parts:
    """Decode one stored frame and compress what it shows; raises NotDecodedError."""
    chunks, is_by_first = chunks_of_encoded(frame, run)
    return Parts(chunks=chunks, is_by_first=is_by_first)


def _content(source: Source, piece: Piece) -> memoryview:
    """Read a piece into this thread's buffer, which holds it until the thread reads the next."""
    data = _BUFFERS.of(piece.size)
    with opened(source) as stream:
        stream.seek(piece.start)
        left = data
        while left:
            count = stream.readinto(left)
            if not count:
                raise SourceChangedError("source-changed", found="a shorter file")
            left = left[count:]
    return data


class _Buffers(threading.local):
    """A buffer a thread: memory that is used again costs no page faults."""

    def __init__(self) -> None:
        self._bytes = bytearray()

    def of(self, size: int) -> memoryview:
        if len(self._bytes) < size:
            self._bytes = bytearray(size)
        return memoryview(self._bytes)[:size]


_BUFFERS: Final = _Buffers()
