"""Write the store: every source is read once, hashed, and cut into header, frames and residue.

Pieces of files are read, hashed and compressed on several threads; one alone writes what they
hold, in the order of the files, so that the same files make the same bytes. At most a few pieces
for each thread are in memory.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final, Self

from dicomzarr_watch.archive import layout, ome
from dicomzarr_watch.archive.blob import BlobWriter
from dicomzarr_watch.archive.chunk import create_image
from dicomzarr_watch.archive.layout import ImagePlan, Plan
from dicomzarr_watch.archive.node import write_group
from dicomzarr_watch.archive.piece import (
    Parts,
    Piece,
    Turn,
    cut,
    frame_spans,
    pieces,
    pixel_pieces,
    read,
    see,
)
from dicomzarr_watch.archive.shard import Put, ShardFile
from dicomzarr_watch.archive.tables import Written, create_tables
from dicomzarr_watch.archive.threads import pool
from dicomzarr_watch.archive.work import Source, opened
from dicomzarr_watch.dicom.fragments import encoded_frames, holds_more
from dicomzarr_watch.dicom.frames import FrameRun, PixelFormat
from dicomzarr_watch.dicom.instance import Instance, read_frames
from dicomzarr_watch.dicom.pixels import NotDecodedError

Progress = Callable[[int], None]
"""Told how many more bytes have been worked off."""

_AHEAD: Final = 4
"""Pieces for each thread that are under way or wait to be written."""
_OPEN_SHARDS: Final = 64
"""Shards whose files are open at a time; those that wait longest are opened again."""


def write(
    store: Path,
    plan: Plan,
    sources: Sequence[Source],
    instances: Sequence[Instance],
    *,
    threads: int,
    decode_pool: Executor,
    put: Put,
    progress: Progress,
) -> Written:
    """Write the whole store into the new folder `store`; `put` is told of each large file.

    decode_pool: where encoded frames are decoded.

    Raises UndecodedError if frames of some files cannot be decoded; the store is of no use then.
    """
    _create_groups(store, plan.images)
    with _Writing(store, plan, threads, decode_pool, put) as writing:
        for n in plan.files:
            writing.file(n, sources[n], instances[n], plan.planes.get(n, ()))
            progress(instances[n].size)
        writing.drain()
        if writing.undecoded:
            raise UndecodedError(frozenset(writing.undecoded))
        for n in sorted(writing.not_verbatim):
            writing.keep_pixels(n, sources[n], instances[n])
        writing.finish()
    written = Written(
        tuple(writing.sha256[n] for n in plan.files),
        tuple(writing.header_at[n] for n in plan.files),
        tuple(writing.kept_at.get(n, -1) for n in plan.files),
        tuple(sources[n].name for n in sorted(writing.not_verbatim)),
        tuple(sources[n].name for n in sorted(writing.by_others)),
        tuple(sources[n].name for n in sorted(writing.holding_more)),
    )
    create_tables(store / layout.DICOM_GROUP, plan, sources, instances, written)
    return written


def _create_groups(store: Path, images: Sequence[ImagePlan]) -> None:
    """Write what is known before any file is read: all groups, and what the images' arrays are."""
    write_group(store, ome.root_attributes(images))
    write_group(store / layout.DICOM_GROUP)
    if len(images) > 1:
        write_group(store / ome.GROUP, ome.series_attributes(images))
        (store / ome.GROUP / ome.DOCUMENT).write_bytes(ome.document(images))
    for image in images:
        if image.group:
            write_group(store / image.group, ome.image_attributes(image))
        create_image(store, image)


class UndecodedError(Exception):
    """Files whose frames no decoder could read, by number; to be planned without a view."""

    def __init__(self, files: frozenset[int]) -> None:
        super().__init__(f"{len(files)} files")
        self.files = files


@dataclass(frozen=True, slots=True)
class _Coming:
    """A piece of a file that is worked off, and where its frames go."""

    number: int
    parts: Future[Parts]
    places: Sequence[tuple[int, int]]


class _Writing:
    """The store while its files go in, one after the other."""

    def __init__(
        self, store: Path, plan: Plan, threads: int, decode_pool: Executor, put: Put
    ) -> None:
        self._pool = pool(threads, "pieces")
        self.headers = BlobWriter(store / layout.DICOM_GROUP / "headers", self._pool, put)
        self.residue = BlobWriter(store / layout.DICOM_GROUP / "residue", self._pool, put)
        self.sha256: dict[int, bytes] = {}
        self.header_at: dict[int, int] = {}
        self.kept_at: dict[int, int] = {}
        self.not_verbatim: set[int] = set()
        self.by_others: set[int] = set()
        self.holding_more: set[int] = set()
        self.undecoded: set[int] = set()
        self._store = store
        self._images = plan.images
        self._decode_pool = decode_pool
        self._put = put
        self._limit = _AHEAD * threads
        self._coming: deque[_Coming] = deque()
        self._shards: dict[tuple[int, str], ShardFile] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Let go of what an error left open."""
        self._pool.shutdown(cancel_futures=True)
        for shard in self._shards.values():
            shard.close()

    def file(
        self, number: int, source: Source, instance: Instance, planes: Sequence[tuple[int, int]]
    ) -> None:
        """Take one file in, whole."""
        run = instance.frames if isinstance(instance.frames, FrameRun) else None
        places = iter(planes)
        self._read(number, source, pieces(instance), run.format if run else None, places)
        if run is not None and run.encoding:
            self._see(number, source, run, places)

    def keep_pixels(self, number: int, source: Source, instance: Instance) -> None:
        """Keep a file's pixel bytes beside its frames, which do not give them back."""
        self._read(number, source, pixel_pieces(instance))

    def drain(self, most: int = 0) -> None:
        """Write what has been read, in order, until at most so many pieces are under way."""
        while len(self._coming) > most:
            coming = self._coming.popleft()
            try:
                self._write(coming.number, coming.parts.result(), coming.places)
            except NotDecodedError:
                self.undecoded.add(coming.number)

    def finish(self) -> None:
        """Write the last pieces; every shard is full then."""
        self.drain()
        self.headers.finish()
        self.residue.finish()
        if self._shards:
            raise RuntimeError("a shard lacks planes")

    def _read(
        self,
        number: int,
        source: Source,
        found: Iterable[Piece],
        seen_as: PixelFormat | None = None,
        places: Iterable[tuple[int, int]] = (),
    ) -> None:
        turn = Turn.first()
        for piece in found:
            future = self._pool.submit(read, source, piece, seen_as, turn)
            self._await(number, future, places, piece.frames)
            turn = turn.next()

    def _see(
        self, number: int, source: Source, run: FrameRun, places: Iterator[tuple[int, int]]
    ) -> None:
        """See what is kept encoded; what cannot be decoded is told at the end, for all files."""
        with opened(source) as stream:
            if not run.needs_decoder:
                self._see_inflated(number, read_frames(stream)[1], run, places)
                return
            stream.seek(run.start)
            try:
                for frame in encoded_frames(stream, run):
                    future = self._decode_pool.submit(see, frame, run)
                    self._await(number, future, places, run.format.frames_together)
                stream.seek(run.start)
                if holds_more(stream, run):
                    self.holding_more.add(number)
            except NotDecodedError:
                self.undecoded.add(number)

    def _see_inflated(
        self, number: int, data: bytes, run: FrameRun, places: Iterator[tuple[int, int]]
    ) -> None:
        at = run.start
        for span in frame_spans(run):
            piece = Piece(at, (span,))
            own = memoryview(data)[at : at + span.size]
            self._await(number, self._pool.submit(cut, own, piece, run.format), places, span.frames)
            at += span.size

    def _await(
        self,
        number: int,
        parts: Future[Parts],
        places: Iterable[tuple[int, int]],
        frames: int,
    ) -> None:
        self._coming.append(_Coming(number, parts, tuple(islice(places, frames))))
        self.drain(self._limit)

    def _write(self, number: int, parts: Parts, places: Sequence[tuple[int, int]]) -> None:
        self.header_at.setdefault(number, self.headers.size)
        self.headers.append(parts.header)
        if parts.residue is not None:
            self.kept_at.setdefault(number, self.residue.size)
            self.residue.append(parts.residue)
        if parts.sha256:
            self.sha256[number] = parts.sha256
        if not parts.is_verbatim and number not in self.kept_at:
            self.not_verbatim.add(number)
        if not parts.is_by_first:
            self.by_others.add(number)
        for (image, plane), chunk in zip(places, parts.chunks, strict=True):
            self._put_plane(image, plane, chunk)

    def _put_plane(self, number: int, plane: int, chunk: bytes) -> None:
        image = self._images[number]
        name, slot = image.shard_of(plane)
        shard = self._shards.pop((number, name), None)
        if shard is None:
            moments, slices = image.shard_planes
            path = self._store / image.path / name
            shard = ShardFile(path, moments * slices, image.planes_in(name))
        self._shards[number, name] = shard  # behind those that wait longer
        shard.append(slot, chunk)
        if shard.is_full:
            shard.finish()
            del self._shards[number, name]
            self._put(shard.path)
        # tiles may come in any order, and a process may have only so many files open
        if resting := next(islice(reversed(self._shards.values()), _OPEN_SHARDS, None), None):
            resting.close()
