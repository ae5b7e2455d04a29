"""Write the store: every source is read once, hashed, and cut into header, frames and residue.

One thread reads, hashes and writes in order, so that the same files make the same bytes; others
compress. At most a few frames for each of them are in memory.
"""

from __future__ import annotations

import hashlib
import io
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import BinaryIO, Final

import zarr

from dicomzarr_watch.archive import layout
from dicomzarr_watch.archive.blob import BlobWriter, create_blob
from dicomzarr_watch.archive.chunk import Chunks, create_image, decoded, encoded
from dicomzarr_watch.archive.layout import Plan
from dicomzarr_watch.archive.shard import ShardFile
from dicomzarr_watch.archive.tables import Row, create_tables
from dicomzarr_watch.archive.work import Source, opened
from dicomzarr_watch.dicom.frames import FrameRun, stored_bytes
from dicomzarr_watch.dicom.instance import Instance, read_header
from dicomzarr_watch.dicom.part10 import DEFLATED
from dicomzarr_watch.dicom.pixels import NotDecodedError, encoded_frames
from dicomzarr_watch.errors import SourceChangedError

Progress = Callable[[int], None]
"""Told how many more bytes have been worked off."""

_READ_BYTES: Final = 8 << 20
_OPEN_SHARDS: Final = 64
"""Shards whose files are open at a time; those that wait longest are opened again."""


@dataclass(frozen=True, slots=True)
class Written:
    """What was read and where it went; both in the order of the rows.

    header_offsets: where each file's header starts in the headers.
    residue_offsets: where its pixels, or all of it, start in the residue; -1 if they do not.
    unlike: names of the files whose frames could not be seen without loss, kept in residue too.
    """

    sha256: tuple[bytes, ...]
    header_offsets: tuple[int, ...]
    residue_offsets: tuple[int, ...]
    unlike: tuple[str, ...]


def write(
    store: Path,
    plan: Plan,
    sources: Sequence[Source],
    instances: Sequence[Instance],
    *,
    threads: int,
    progress: Progress,
) -> Written:
    """Write the whole store into the new folder `store`; files are on disk, folders not yet.

    Raises UndecodedError if frames of some files cannot be decoded; the store is of no use then.
    """
    root = zarr.open_group(store, mode="w-", attributes=layout.root_attributes(plan.images))
    dicom = root.create_group(layout.DICOM_GROUP)
    if len(plan.images) > 1:
        root.create_group("OME", attributes=layout.series_attributes(plan.images))
        (store / "OME" / layout.OME_XML).write_bytes(layout.ome_xml(plan.images))
    for image in plan.images:
        if image.group:
            root.create_group(image.group, attributes=layout.image_attributes(image))
        create_image(root, image)
    with ExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor(threads, "compress"))
        writing = _Writing(store, plan, pool, limit=2 * threads)
        stack.callback(writing.close)
        for n in plan.files:
            writing.file(n, sources[n], instances[n], plan.planes.get(n, ()))
            progress(instances[n].size)
        writing.settle()
        if writing.undecoded:
            raise UndecodedError(frozenset(writing.undecoded))
        for n in sorted(writing.unlike):
            writing.keep_pixels(n, sources[n], instances[n])
        writing.finish()
    create_blob(dicom, writing.headers)
    create_blob(dicom, writing.residue)
    create_tables(dicom, plan, sources, instances, rows=writing.rows, kept_at=writing.kept_at)
    return Written(
        tuple(writing.rows[n].sha256 for n in plan.files),
        tuple(writing.rows[n].header_offset for n in plan.files),
        tuple(writing.kept_at.get(n, -1) for n in plan.files),
        tuple(sources[n].name for n in sorted(writing.unlike)),
    )


class UndecodedError(Exception):
    """Files whose frames no decoder could read, by number; to be planned without a view."""

    def __init__(self, files: frozenset[int]) -> None:
        super().__init__(f"{len(files)} files")
        self.files = files


class _Writing:
    """The store while its files go in, one after the other."""

    def __init__(self, store: Path, plan: Plan, pool: ThreadPoolExecutor, limit: int) -> None:
        self.headers = BlobWriter(store / layout.DICOM_GROUP / "headers")
        self.residue = BlobWriter(store / layout.DICOM_GROUP / "residue")
        self.rows: dict[int, Row] = {}
        self.kept_at: dict[int, int] = {}
        self.unlike: set[int] = set()
        self.undecoded: set[int] = set()
        self._store = store
        self._images = plan.images
        self._pool = pool
        self._limit = limit
        self._pending: deque[tuple[int, Future[Chunks], Sequence[tuple[int, int]]]] = deque()
        self._finishing: list[Future[None]] = []
        self._shards: dict[tuple[int, str], ShardFile] = {}
        self._frames = 0

    def file(
        self, number: int, source: Source, instance: Instance, planes: Sequence[tuple[int, int]]
    ) -> None:
        """Take one file in, whole."""
        digest = hashlib.sha256()
        header_offset = self.headers.size
        with opened(source) as stream:
            self.headers.append(_read(stream, instance.head_bytes, digest))
            run = instance.frames if isinstance(instance.frames, FrameRun) else None
            if run is not None and not run.encoding:
                self._take_frames(number, _reader(stream, digest), run, planes)
            else:
                self._keep(number, _pieces(stream, instance.pixel_bytes, digest))
            self.headers.append(_read(stream, instance.tail_bytes, digest))
            if run is not None and run.encoding:
                self._take_encoded(number, stream, run, planes)
        self.rows[number] = Row(digest.digest(), header_offset, self._frames, len(planes))
        self._frames += len(planes)

    def keep_pixels(self, number: int, source: Source, instance: Instance) -> None:
        """Keep a file's pixel bytes beside its frames, which do not give them back."""
        with opened(source) as stream:
            stream.seek(instance.head_bytes)
            self._keep(number, _pieces(stream, instance.pixel_bytes, hashlib.sha256()))

    def settle(self, most: int = 0) -> None:
        """Write what has been compressed, in order, until at most so much is under way."""
        while len(self._pending) > most:
            number, future, places = self._pending.popleft()
            try:
                seen = future.result()
            except NotDecodedError:
                self.undecoded.add(number)
                continue
            if not seen.is_like and number not in self.kept_at:
                self.unlike.add(number)
            for (image, plane), chunk in zip(places, seen.chunks, strict=True):
                self._put(image, plane, chunk)

    def finish(self) -> None:
        """Put the last pieces on disk; every shard is full then."""
        self.headers.finish()
        self.residue.finish()
        for future in self._finishing:
            future.result()
        if self._shards:
            raise RuntimeError("a shard lacks planes")

    def close(self) -> None:
        """Let files go that an error left open."""
        for shard in self._shards.values():
            shard.close()

    def _keep(self, number: int, pieces: Iterable[bytes]) -> None:
        self.kept_at[number] = self.residue.size
        for data in pieces:
            self.residue.append(data)

    def _take_encoded(
        self, number: int, stream: BinaryIO, run: FrameRun, planes: Sequence[tuple[int, int]]
    ) -> None:
        """See what is kept encoded; what cannot be decoded is told at the end, for all files."""
        if run.encoding == DEFLATED:
            inflated = io.BytesIO(read_header(stream).data)
            inflated.seek(run.start)
            self._take_frames(number, inflated.read, run, planes)
            return
        stream.seek(run.start)
        try:
            step = run.format.frames_together
            for n, frame in enumerate(encoded_frames(stream, run)):
                self._submit(number, planes[n * step : (n + 1) * step], decoded, frame, run)
        except NotDecodedError:
            self.undecoded.add(number)

    def _take_frames(
        self,
        number: int,
        read: Callable[[int], bytes],
        run: FrameRun,
        planes: Sequence[tuple[int, int]],
    ) -> None:
        step = run.format.block_frames
        for start in range(0, run.count, step):
            places = planes[start : start + step]
            data = read(stored_bytes(run.format, len(places)))
            self._submit(number, places, encoded, data, run.format, len(places))

    def _submit(
        self,
        number: int,
        places: Sequence[tuple[int, int]],
        encode: Callable[..., Chunks],
        *data: object,
    ) -> None:
        self._pending.append((number, self._pool.submit(encode, *data), places))
        self.settle(self._limit)

    def _put(self, number: int, plane: int, chunk: bytes) -> None:
        image = self._images[number]
        name, slot = image.shard_of(plane)
        shard = self._shards.pop((number, name), None)
        if shard is None:
            moments, slices = image.shard_planes
            shard = ShardFile(
                self._store / image.path / name, moments * slices, image.planes_in(name)
            )
        self._shards[number, name] = shard  # behind those that wait longer
        shard.append(slot, chunk)
        if shard.is_full:
            del self._shards[number, name]
            self._finishing.append(self._pool.submit(shard.finish))
        # tiles may come in any order, and a process may have only so many files open
        if resting := next(islice(reversed(self._shards.values()), _OPEN_SHARDS, None), None):
            resting.close()


def _reader(stream: BinaryIO, digest: hashlib._Hash) -> Callable[[int], bytes]:
    return lambda count: _read(stream, count, digest)


def _read(stream: BinaryIO, count: int, digest: hashlib._Hash) -> bytes:
    return b"".join(_pieces(stream, count, digest))


def _pieces(stream: BinaryIO, count: int, digest: hashlib._Hash) -> Iterator[bytes]:
    """Yield the next `count` bytes of the stream, hashed."""
    while count > 0:
        data = stream.read(min(count, _READ_BYTES))
        if not data:
            raise SourceChangedError("source-changed", found="a shorter file")
        digest.update(data)
        count -= len(data)
        yield data
