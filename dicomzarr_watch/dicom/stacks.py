"""How the frames that belong together become images, and in which order they stand.

A line of slices is one image, unless its places have unlike numbers of frames or lie irregularly:
then it is divided, if its frames say by what. Tiles make one plane, each at its place.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Final

import numpy as np

from dicomzarr_watch.dicom.divisions import divisions, is_even, layers
from dicomzarr_watch.dicom.frames import PixelFormat
from dicomzarr_watch.dicom.gathering import gathered
from dicomzarr_watch.dicom.geometry import Geometry, beside_mm, geometry, on_slide
from dicomzarr_watch.dicom.grouping import Frame, groups
from dicomzarr_watch.dicom.order import Moments, Order, Places, by_number, by_position
from dicomzarr_watch.dicom.places import lines, places
from dicomzarr_watch.dicom.tiles import TileGrid

NEARLY_REGULAR: Final = 0.15
"""Of the widest gap: if gaps differ by less, somebody rounded; volumes were not shuffled."""


@dataclass(frozen=True, slots=True)
class Image:
    """Frames of one format in order.

    shape: (t, z), or tiles below and beside each other where there is a grid of them.
    frames, planes: plane t * z_count + z stands at (t, z); of tiles, the number of the tile is the
    plane, and some may be missing.
    split_by: the rules that set this image apart from others, with its values.
    moments: by TIME_KEYS what is said of each t, where all its slices share it.
    """

    format: PixelFormat
    shape: tuple[int, int]
    frames: tuple[Frame, ...]
    planes: Sequence[int]
    geometry: Geometry
    split_by: dict[str, str]
    z_by: str
    t_by: str
    findings: tuple[str, ...]
    grid: TileGrid | None = None
    moments: Moments = field(default_factory=dict)

    @property
    def missing_tiles(self) -> int:
        """How many places of the grid no frame has taken."""
        return self.grid.tiles - len(self.frames) if self.grid else 0


def stack(frames: Sequence[Frame]) -> tuple[Image, ...]:
    """Make images of frames, the one with most voxels first; every frame is in exactly one."""
    ordered = sorted(frames, key=lambda f: (f.file, f.number))
    images = [image for members, said in groups(ordered) for image in _images(members, said)]
    return tuple(sorted(images, key=_largest_first))


def _images(frames: list[Frame], split_by: dict[str, str]) -> list[Image]:
    """Make the images of frames that are alike; tiles make one, if no two of them are the same."""
    grid = frames[0].grid
    if grid is None:
        return _stacked(frames, split_by)
    if len({f.tile for f in frames}) == len(frames):
        return [_tiled(frames, grid, split_by)]
    by_file = gathered((f.file, f) for f in frames)
    if len(by_file) > 1:
        parts = _told("file", [*by_file.values()])
        return [image for part, said in parts for image in _images(part, split_by | said)]
    return [_overlapping(frames, split_by)]


def _tiled(frames: list[Frame], grid: TileGrid, split_by: dict[str, str]) -> Image:
    ordered = sorted(frames, key=lambda f: f.tile)
    is_whole = len(ordered) == grid.tiles
    return Image(
        format=frames[0].format,
        shape=grid.shape,
        frames=tuple(ordered),
        planes=range(grid.tiles) if is_whole else tuple(f.tile for f in ordered),
        geometry=on_slide(ordered[0].pose),
        split_by=split_by,
        z_by="",
        t_by="",
        findings=() if is_whole else ("tiles-missing",),
        grid=grid,
    )


def _overlapping(frames: list[Frame], split_by: dict[str, str]) -> Image:
    """Stack tiles that no grid can hold; where the matrix lies is not where each of them does."""
    nowhere = {id(f.pose): replace(f.pose, position=None, orientation=None) for f in frames}
    loose = [replace(f, pose=nowhere[id(f.pose)], grid=None) for f in frames]
    image = _image(by_number(loose), split_by)
    return replace(image, findings=("tiles-overlap", *image.findings))


def _largest_first(image: Image) -> tuple[int, int, int]:
    first = min((f.file, f.number) for f in image.frames)
    return (-image.format.pixels * len(image.frames), *first)


def _stacked(frames: list[Frame], split_by: dict[str, str]) -> list[Image]:
    """Make the images of frames that no grid holds."""
    found = lines(frames)
    if found is None:
        return [
            _image(by_number(part), split_by | said)
            for part, said in _told("file", _without_place(frames))
        ]
    return [
        image for line, said in _told("line", found) for image in _of_line(line, split_by | said)
    ]


def _told(name: str, parts: Sequence[list[Frame]]) -> Iterator[tuple[list[Frame], dict[str, str]]]:
    """Yield parts with their numbers, if there are several."""
    for n, part in enumerate(parts, 1):
        yield part, {name: str(n)} if len(parts) > 1 else {}


def _without_place(frames: list[Frame]) -> list[list[Frame]]:
    """Gather frames that nobody says the place of: each cine by itself, single frames together.

    The parts of a concatenation are one.
    """
    by_run = gathered((f.pose.concatenation[0] or f.file, f) for f in frames)
    singles = [run[0] for run in by_run.values() if len(run) == 1]
    return [run for run in by_run.values() if len(run) > 1] + [singles] * bool(singles)


def _of_line(frames: list[Frame], split_by: dict[str, str]) -> list[Image]:
    """Make one image of a line of slices, or several where that makes no grid."""
    found = places(frames)
    if not is_even(found):
        return _of_uneven(found, split_by)
    whole = _image(by_position(found), split_by)
    if whole.geometry.is_regular or _is_nearly_regular(whole.geometry):
        return [whole]
    return next((i for i in _divided(found, split_by) if _were_shuffled(i)), [whole])


def _of_uneven(found: Places, split_by: dict[str, str]) -> list[Image]:
    """Make the images of places that have unlike numbers of frames."""
    for images in _divided(found, split_by):
        if all(image.geometry.is_regular or image.geometry.missing for image in images):
            return images
    parts = enumerate(layers(found), 1)
    return [_uneven(_image(by_position(part), split_by | {"part": str(n)})) for n, part in parts]


def _divided(found: Places, split_by: dict[str, str]) -> Iterator[list[Image]]:
    for name, parts in divisions(found):
        images = [
            _image(by_position(part), split_by | {name: value}) for value, part in parts.items()
        ]
        yield [_uneven(image) for image in images] if name == "part" else images


def _is_nearly_regular(measured: Geometry) -> bool:
    gaps = [b - a for a, b in pairwise(measured.positions)]
    return max(gaps) - min(gaps) <= NEARLY_REGULAR * max(gaps)


def _were_shuffled(images: Sequence[Image]) -> bool:
    """Tell whether each image is regular, and lies between slices of another."""
    ends = sorted((i.geometry.positions[0], i.geometry.positions[-1]) for i in images)
    are_mixed = all(ahead[1] > start for ahead, (start, _) in pairwise(ends))
    return are_mixed and all(image.geometry.is_regular for image in images)


def _uneven(image: Image) -> Image:
    name = "positions-repeat-unevenly"
    return image if name in image.findings else replace(image, findings=(name, *image.findings))


def _image(order: Order, split_by: dict[str, str]) -> Image:
    measured = geometry([f.pose for f in order.frames[: order.shape[1]]])
    return Image(
        format=max((f.format for f in order.frames), key=lambda f: f.bits_stored),
        shape=order.shape,
        frames=tuple(order.frames),
        planes=range(len(order.frames)),
        geometry=measured,
        split_by=split_by,
        z_by=order.z_by,
        t_by=order.t_by,
        findings=_findings(measured, order),
        moments=order.moments,
    )


def _findings(measured: Geometry, order: Order) -> tuple[str, ...]:
    found = {
        "slices-missing": bool(measured.missing),
        "spacing-varies": not (measured.is_regular or measured.missing),
        "slices-not-in-line": not measured.is_straight,
        "moments-not-aligned": not _are_aligned(order),
        "moments-uncertain": not order.is_certain,
        "sheared": measured.is_placed and measured.tilt_deg > 0,
    }
    return tuple(name for name, holds in found.items() if holds)


def _are_aligned(order: Order) -> bool:
    """Tell whether the slices of all moments lie where those of the first one do."""
    if order.shape[0] == 1 or order.z_by != "position":
        return True
    points = np.array([f.pose.position for f in order.frames], float).reshape(*order.shape, 3)
    apart = np.linalg.norm(points - points[0], axis=-1).max()
    return bool(apart <= beside_mm(order.frames[0].pose))
