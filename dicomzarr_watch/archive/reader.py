"""Read a store: its files as they were, rebuilt from headers, frames and residue.

All arrays are read through zarr-python; with the zarrs pipeline where it can serve the array.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from threading import Lock
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import zarr
from zarr.storage import LocalStore, MemoryStore, StorePath

from dicomzarr_watch.archive import layout, ome
from dicomzarr_watch.archive.threads import pool
from dicomzarr_watch.dicom.frames import (
    PixelFormat,
    Samples,
    Stored,
    verbatim,
)
from dicomzarr_watch.dicom.tiles import cut
from dicomzarr_watch.errors import RejectError

RUN_BYTES: Final = 8 << 20
"""How much of an array is read at once."""
_PIECE_BYTES: Final = 8 << 20
_NODE: Final = "zarr.json"
_ZARR_PYTHON: Final = "zarr.core.codec_pipeline.BatchedCodecPipeline"
"""zarr-python's own codecs; those of zarrs take ten times as long to turn samples around."""


@dataclass(frozen=True, slots=True)
class StoredFile:
    """One row of the index; see INDEX_COLUMNS.

    original_sha256: of the file that came in; another one where its pixels alone are kept.
    """

    name: str
    sha256: bytes
    original_sha256: bytes
    header_offset: int
    head_bytes: int
    tail_bytes: int
    pixel_bytes: int
    residue_offset: int
    first_frame: int
    frame_count: int
    mtime_ns: int

    @property
    def size(self) -> int:
        return self.head_bytes + self.pixel_bytes + self.tail_bytes

    @property
    def is_in_frames(self) -> bool:
        """Whether the pixel bytes come back from the arrays alone."""
        return self.residue_offset < 0 and self.frame_count > 0

    @property
    def is_kept_twice(self) -> bool:
        """Whether the pixel bytes stand beside frames that do not give them back."""
        return self.residue_offset >= 0 and self.frame_count > 0


@dataclass(frozen=True, slots=True)
class StoredImage:
    """One image's array and how its frames stood in the files."""

    array: zarr.Array[Any]
    format: PixelFormat
    attributes: dict[str, Any]

    @property
    def axes(self) -> tuple[str, ...]:
        return tuple(str(name) for name in self.array.metadata.dimension_names or ())  # type: ignore[union-attr]

    def planes(self, run: PlaneRun) -> Samples:
        """Read whole frames; (frames, *format.shape), native byte order."""
        index = {
            self.grid[0]: self._span(self.grid[0], run.t, run.moments),
            self.grid[1]: self._span(self.grid[1], run.z, run.slices),
        }
        with _damage_told():
            found = np.asarray(self.array[tuple(index.get(a, slice(None)) for a in self.axes)])
        if "c" in self.axes:
            found = np.moveaxis(found, self.axes.index("c"), -1)
        if self.is_tiled:
            found = cut(found, (self.format.rows, self.format.columns))
        if "c" in self.axes and self.format.is_planar:
            found = np.moveaxis(found, -1, -3)
        return found.reshape(-1, *self.format.shape)

    @property
    def is_tiled(self) -> bool:
        return "z" not in self.axes

    @property
    def grid(self) -> tuple[str, str]:
        """The axes along which frames stand, the slower one first."""
        return ("y", "x") if self.is_tiled else ("t", "z")

    @property
    def slices(self) -> int:
        """How many planes follow each other along the faster axis of the grid."""
        axis = self.grid[1]
        return int(self.array.shape[self.axes.index(axis)]) // self._step(axis)

    def _step(self, axis: str) -> int:
        """Return how far it is along an axis from one frame to the next."""
        return {"y": self.format.rows, "x": self.format.columns}.get(axis, 1)

    def _span(self, axis: str, start: int, count: int) -> slice:
        step = self._step(axis)
        return slice(start * step, (start + count) * step)


@dataclass(frozen=True, slots=True)
class PlaneRun:
    """Neighbouring planes of one image: slices of one moment, or whole moments.

    Of tiles: some of one row, or whole rows; t and moments count rows, z and slices columns.
    """

    image: int
    t: int
    z: int
    moments: int
    slices: int


class Store:
    """An opened store."""

    def __init__(self, path: Path) -> None:
        """Open a store; raises RejectError if it is not one of ours."""
        self.path = path
        try:
            with zarr.config.set({"codec_pipeline.path": _pipeline(path)}):
                self.attributes = _attributes(path)
                self.images = _images(path, self.attributes)
                self._headers = _Blob(path, "headers")
                self._residue = _Blob(path, "residue")
                self._frames = _values(path, "frames").astype(np.int64)
                self.files = _files(path)
        except (KeyError, FileNotFoundError, NotADirectoryError, TypeError, ValueError) as error:
            raise RejectError(
                "not-a-store",
                expected="a series.zarr written by dicomzarr-watch",
                found=type(error).__name__,
                todo="name the folder that ends in series.zarr",
                private=str(path),
            ) from error

    def batches(self, files: Sequence[StoredFile]) -> Iterator[list[StoredFile]]:
        """Cut files into batches of neighbours, each enough for a thread to rebuild at a time."""
        own: list[StoredFile] = []
        size = 0
        for file in files:
            own.append(file)
            size += max(file.size, self.sample_bytes(file))
            if size >= RUN_BYTES:
                yield own
                own, size = [], 0
        if own:
            yield own

    def sample_bytes(self, file: StoredFile) -> int:
        """Return how many bytes the frames of a file have as stored values."""
        if not file.frame_count:
            return 0
        image = int(self._frames[file.first_frame, 0])
        return file.frame_count * self.images[image].format.view_bytes

    def rebuilt(self, files: Iterable[StoredFile]) -> Iterator[tuple[StoredFile, Iterator[Stored]]]:
        """Yield files with their bytes in pieces; each file's pieces are to be used up in turn.

        Several threads may each rebuild files of their own.
        """
        wanted = list(files)
        with closing(self._slabs([f for f in wanted if f.is_in_frames])) as slabs:
            frames = _Frames(slabs)
            for file in wanted:
                yield file, self._pieces(file, frames)

    def _pieces(self, file: StoredFile, frames: _Frames) -> Iterator[Stored]:
        tail = file.header_offset + file.head_bytes
        yield from self._headers.pieces(file.header_offset, tail)
        if file.is_in_frames:
            yield from frames.verbatim(file.frame_count)
        else:
            start = file.residue_offset
            yield from self._residue.pieces(start, start + file.pixel_bytes)
        yield from self._headers.pieces(tail, tail + file.tail_bytes)

    def _slabs(self, files: Sequence[StoredFile]) -> Generator[_Slab, None, None]:
        """Yield the frames of files in order, reading the next run while one is worked off."""
        places = [self._frames[f.first_frame : f.first_frame + f.frame_count] for f in files]
        if not places:
            return
        first, *others = _runs(np.concatenate(places), self.images)
        with pool(1 + bool(others), "read") as ahead:
            coming = ahead.submit(self._slab, first)
            for run in others:
                current, coming = coming, ahead.submit(self._slab, run)
                yield current.result()
            yield coming.result()

    def _slab(self, run: PlaneRun) -> _Slab:
        image = self.images[run.image]
        return _Slab(image.format, image.planes(run))

    def pieces_of(self, file: StoredFile) -> Iterator[Stored]:
        """Yield the bytes of one file in pieces."""
        for _, pieces in self.rebuilt([file]):
            yield from pieces

    def blob(self, name: str, start: int, end: int) -> bytes:
        """Return bytes of `headers` or `residue`."""
        blob = {"headers": self._headers, "residue": self._residue}[name]
        return b"".join(blob.pieces(start, end))

    def samples_of(self, *files: StoredFile) -> Generator[Samples, None, None]:
        """Yield the frames of files, in order; shape as the format's, native byte order."""
        with closing(self._slabs(files)) as slabs:
            for slab in slabs:
                yield from slab.samples

    def frames_of(self, file: StoredFile) -> list[tuple[int, int]]:
        """Return where the file's frames stand: (image, plane) of each."""
        rows = self._frames[file.first_frame : file.first_frame + file.frame_count]
        return [(int(image), int(plane)) for image, plane in rows]


def _pipeline(path: Path) -> str:
    """Return the codec pipeline that reads fastest; zarrs takes paths in UTF-8 only."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return _ZARR_PYTHON
    return "zarrs.ZarrsCodecPipeline"


@dataclass(frozen=True, slots=True)
class _Slab:
    """Neighbouring frames; samples: (frames, *format.shape)."""

    format: PixelFormat
    samples: Samples


class _Frames:
    """Frames that come in slabs and go as each file needs them."""

    def __init__(self, slabs: Iterator[_Slab]) -> None:
        self._slabs = slabs
        self._rest: _Slab | None = None

    def verbatim(self, count: int) -> Iterator[Stored]:
        """Yield the bytes of the next `count` frames, which are those of one file."""
        while count:
            slab = self._next(count)
            step = slab.format.block_frames
            samples = [slab.samples]
            taken = len(slab.samples)
            while taken % step and taken < count:  # frames that share bytes come together
                more = self._next(min(step - taken % step, count - taken)).samples
                samples.append(more)
                taken += len(more)
            whole = np.concatenate(samples) if len(samples) > 1 else samples[0]
            yield verbatim(whole, slab.format)
            count -= taken

    def _next(self, most: int) -> _Slab:
        slab = self._rest or next(self._slabs, None)
        if slab is None:
            raise RejectError("store-damaged", expected="frames", found="the table's end")
        rest = slab.samples[most:]
        self._rest = _Slab(slab.format, rest) if len(rest) else None
        return _Slab(slab.format, slab.samples[:most])


def _runs(places: npt.NDArray[np.int64], images: Sequence[StoredImage]) -> Iterator[PlaneRun]:
    """Cut frames in order into runs that one read each brings."""
    is_next = (np.diff(places[:, 0]) == 0) & (np.diff(places[:, 1]) == 1)
    starts = [0, *(np.flatnonzero(~is_next) + 1).tolist(), len(places)]
    for start, end in pairwise(starts):
        number, plane = (int(v) for v in places[start])
        yield from _grid_runs(number, images[number], plane, plane + end - start)


def _grid_runs(number: int, image: StoredImage, plane: int, end: int) -> Iterator[PlaneRun]:
    slices = image.slices
    most = max(1, RUN_BYTES // image.format.view_bytes)
    while plane < end:
        t, z = divmod(plane, slices)
        whole = min(end - plane, most) // slices
        if z == 0 and whole > 0:
            yield PlaneRun(number, t, 0, whole, slices)
            plane += whole * slices
        else:
            count = min(slices - z, end - plane, most)
            yield PlaneRun(number, t, z, 1, count)
            plane += count


class _Blob:
    """A uint8 array that is read front to back; the two chunks read last are kept."""

    def __init__(self, store: Path, name: str) -> None:
        self._array = _array(store, f"{layout.DICOM_GROUP}/{name}")
        self._chunk_bytes = int(self._array.chunks[0])
        self._kept: dict[int, memoryview] = {}
        self._lock = Lock()

    def pieces(self, start: int, end: int) -> Iterator[memoryview]:
        """Yield the bytes from start to end."""
        while start < end:
            number, at = divmod(start, self._chunk_bytes)
            piece = self._chunk(number)[at : min(at + end - start, at + _PIECE_BYTES)]
            if not piece:
                raise RejectError("store-damaged", expected="bytes", found="the array's end")
            start += len(piece)
            yield piece

    def _chunk(self, number: int) -> memoryview:
        with self._lock:  # one thread reads, the others that need the same chunk wait for it
            if number not in self._kept:
                first = number * self._chunk_bytes
                with _damage_told():
                    chunk = np.asarray(self._array[first : first + self._chunk_bytes])
                last = list(self._kept.items())[-1:]
                self._kept = {**dict(last), number: chunk.data}
            return self._kept[number]


def _images(store: Path, attributes: dict[str, Any]) -> tuple[StoredImage, ...]:
    own = attributes["dicomzarr"]
    if not isinstance(own, dict) or own.get("version") != layout.STORE_VERSION:
        raise ValueError("unknown version")
    if "format" in own:
        groups = [("", attributes)]
    else:
        groups = [(f"{n}/", _attributes(store / str(n))) for n in range(own["images"])]
    found = []
    for prefix, of_image in groups:
        pixel_format = ome.pixel_format(of_image)
        is_transposed = pixel_format.samples > 1 and not pixel_format.is_planar
        with zarr.config.set({"codec_pipeline.path": _ZARR_PYTHON} if is_transposed else {}):
            array = _array(store, f"{prefix}0")
        found.append(StoredImage(array, pixel_format, of_image))
    return tuple(found)


def _files(store: Path) -> tuple[StoredFile, ...]:
    names = layout.names_from(_values(store, "names").tobytes())
    hashes = _values(store, "sha256")
    has_originals = (store / layout.DICOM_GROUP / layout.ORIGINALS).exists()
    originals = _values(store, layout.ORIGINALS) if has_originals else hashes
    index = _values(store, "index")
    return tuple(
        StoredFile(name, sha256.tobytes(), original.tobytes(), *(int(v) for v in row))
        for name, sha256, original, row in zip(names, hashes, originals, index, strict=True)
    )


def _attributes(group: Path) -> dict[str, Any]:
    found = _node((group / _NODE).read_bytes(), "group")["attributes"]
    if not isinstance(found, dict):
        raise TypeError("attributes")
    return found


def _array(store: Path, name: str) -> zarr.Array[Any]:
    """Have zarr-python make an array of its document.

    To look for the document itself takes it twice as long, and there are eight in each store.
    """
    place = StorePath(LocalStore(store, read_only=True), name)
    metadata = _metadata((store / name / _NODE).read_bytes())
    return zarr.Array(zarr.AsyncArray(metadata, place))


@lru_cache(maxsize=64)
def _metadata(document: bytes) -> Any:
    """Return what zarr-python makes of an array's document; many are the same in many stores."""
    return zarr.Array.from_dict(StorePath(MemoryStore()), _node(document, "array")).metadata


def _node(document: bytes, kind: str) -> dict[str, Any]:
    node: dict[str, Any] = json.loads(document)
    if (node["zarr_format"], node["node_type"]) != (3, kind):
        raise TypeError(kind)
    return node


def _values(store: Path, name: str) -> npt.NDArray[Any]:
    array = _array(store, f"{layout.DICOM_GROUP}/{name}")
    with _damage_told():
        return np.asarray(array[...])


@contextmanager
def _damage_told() -> Iterator[None]:
    """Raise RejectError for what the codecs raise when bytes are not what they wrote."""
    try:
        yield
    except (IndexError, OSError, RuntimeError, ValueError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the system's own, not zarrs' for data that it cannot decompress
        raise RejectError(
            "store-damaged",
            expected="chunks that can be decoded",
            found=type(error).__name__,
            todo="bring the store back from a copy",
        ) from error
