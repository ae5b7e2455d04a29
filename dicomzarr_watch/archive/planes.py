"""The planes of images: where each stands in its array, and how many are read at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import zarr

from dicomzarr_watch.archive import arrays, layout, ome
from dicomzarr_watch.dicom.frames import PixelFormat, Samples
from dicomzarr_watch.dicom.tiles import cut

RUN_BYTES: Final = 8 << 20
"""How much of an array is read at once."""


@dataclass(frozen=True, slots=True)
class StoredImage:
    """One image's array and how its frames stood in the files."""

    array: zarr.AsyncArray[Any]
    format: PixelFormat
    attributes: dict[str, Any]

    @property
    def axes(self) -> tuple[str, ...]:
        return tuple(str(name) for name in self.array.metadata.dimension_names or ())

    def planes(self, run: PlaneRun) -> Samples:
        """Read whole frames; (frames, *format.shape), native byte order."""
        index = {
            self._grid[0]: self._span(self._grid[0], run.t, run.moments),
            self._grid[1]: self._span(self._grid[1], run.z, run.slices),
        }
        found = arrays.read(self.array, tuple(index.get(a, slice(None)) for a in self.axes))
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
    def _grid(self) -> tuple[str, str]:
        """The axes along which frames stand, the slower one first."""
        return ("y", "x") if self.is_tiled else ("t", "z")

    @property
    def slices(self) -> int:
        """How many planes follow each other along the faster axis of the grid."""
        axis = self._grid[1]
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


@dataclass(frozen=True, slots=True)
class Slab:
    """Neighbouring frames; samples: (frames, *format.shape)."""

    format: PixelFormat
    samples: Samples


def images(store: Path, attributes: dict[str, Any]) -> tuple[StoredImage, ...]:
    """Open the images of a store; raises ValueError if it is of another version."""
    own = attributes["dicomzarr"]
    if not isinstance(own, dict) or own.get("version") != layout.STORE_VERSION:
        raise ValueError("unknown version")
    if "format" in own:
        groups = [("", attributes)]
    else:
        groups = [(f"{n}/", arrays.attributes(store / str(n))) for n in range(own["images"])]
    found = []
    for prefix, of_image in groups:
        pixel_format = ome.pixel_format(of_image)
        is_transposed = pixel_format.samples > 1 and not pixel_format.is_planar
        with arrays.read_by(arrays.ZARR_PYTHON) if is_transposed else nullcontext():
            array = arrays.opened(store, f"{prefix}0")
        found.append(StoredImage(array, pixel_format, of_image))
    return tuple(found)


def runs(places: npt.NDArray[np.int64], images: Sequence[StoredImage]) -> Iterator[PlaneRun]:
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
