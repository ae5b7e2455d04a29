"""Read a store: its files as they were, rebuilt from headers, frames and residue."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from dicomzarr_watch.archive import arrays, layout
from dicomzarr_watch.archive.arrays import Blob
from dicomzarr_watch.archive.planes import RUN_BYTES, PlaneRun, Slab, images, runs
from dicomzarr_watch.archive.threads import pool
from dicomzarr_watch.dicom.frames import Samples, Stored
from dicomzarr_watch.dicom.views import verbatim
from dicomzarr_watch.errors import RejectError

_HALVINGS: Final = 3
"""How often what is read at once is halved for the first batch."""


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


class Store:
    """An opened store."""

    def __init__(self, path: Path) -> None:
        """Open a store; raises RejectError if it is not one of ours."""
        self.path = path
        try:
            with arrays.read_by(arrays.fastest(path)):
                self.attributes = arrays.attributes(path)
                self.images = images(path, self.attributes)
                self._headers = Blob(path, "headers")
                self._residue = Blob(path, "residue")
                self._frames = _frames(path, len(self.images))
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
        """Cut files into batches of neighbours, each enough for a thread to rebuild at a time.

        The first ones are small, so that what waits for them soon has something to do.
        """
        own: list[StoredFile] = []
        size, enough = 0, RUN_BYTES >> _HALVINGS
        for file in files:
            own.append(file)
            size += max(file.size, self.sample_bytes(file))
            if size >= enough:
                yield own
                own, size, enough = [], 0, min(2 * enough, RUN_BYTES)
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

    def _slabs(self, files: Sequence[StoredFile]) -> Generator[Slab, None, None]:
        """Yield the frames of files in order, reading the next run while one is worked off."""
        places = [self._frames[f.first_frame : f.first_frame + f.frame_count] for f in files]
        if not places:
            return
        first, *others = runs(np.concatenate(places), self.images)
        with pool(1 + bool(others), "read") as ahead:
            coming = ahead.submit(self._slab, first)
            for run in others:
                current, coming = coming, ahead.submit(self._slab, run)
                yield current.result()
            yield coming.result()

    def _slab(self, run: PlaneRun) -> Slab:
        image = self.images[run.image]
        return Slab(image.format, image.planes(run))

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


class _Frames:
    """Frames that come in slabs and go as each file needs them."""

    def __init__(self, slabs: Iterator[Slab]) -> None:
        self._slabs = slabs
        self._rest: Slab | None = None

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

    def _next(self, most: int) -> Slab:
        slab = self._rest or next(self._slabs, None)
        if slab is None:
            raise RejectError("store-damaged", expected="frames", found="the table's end")
        rest = slab.samples[most:]
        self._rest = Slab(slab.format, rest) if len(rest) else None
        return Slab(slab.format, slab.samples[:most])


def _frames(store: Path, images: int) -> npt.NDArray[np.int64]:
    """Read where each frame stands; raises RejectError where that is in no image."""
    found = arrays.values(store, "frames").astype(np.int64)
    if found.size and not (found.min() >= 0 and found[:, 0].max() < images):
        raise RejectError(
            "store-damaged",
            expected="frames of images that are there",
            found="one of another image",
            todo="run verify on the store",
        )
    return found


def _files(store: Path) -> tuple[StoredFile, ...]:
    names = layout.names_from(arrays.values(store, "names").tobytes())
    hashes = arrays.values(store, "sha256")
    has_originals = (store / layout.DICOM_GROUP / layout.ORIGINALS).exists()
    originals = arrays.values(store, layout.ORIGINALS) if has_originals else hashes
    index = arrays.values(store, "index")
    return tuple(
        StoredFile(name, sha256.tobytes(), original.tobytes(), *(int(v) for v in row))
        for name, sha256, original, row in zip(names, hashes, originals, index, strict=True)
    )
