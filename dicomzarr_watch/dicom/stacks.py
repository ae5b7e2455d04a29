"""How the frames that belong together become images, and in which order they stand.

Where not every place of a line has as many frames, acquisitions, moments or what is there twice
are images of their own. Tiles make one plane, each at its place.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Final

from dicomzarr_watch.dicom.frames import PixelFormat
from dicomzarr_watch.dicom.geometry import Geometry, geometry, on_slide
from dicomzarr_watch.dicom.grouping import Frame, groups
from dicomzarr_watch.dicom.order import Order, Places, by_number, by_position
from dicomzarr_watch.dicom.places import lines, number, places
from dicomzarr_watch.dicom.pose import TIME_KEYS, Moment
from dicomzarr_watch.dicom.tiles import TileGrid

PARTS_MOST: Final = 8
"""Into more images the frames of one line are not divided by what they say of themselves."""


@dataclass(frozen=True, slots=True)
class Image:
    """Frames of one format in order.

    shape: (t, z), or tiles below and beside each other where there is a grid of them.
    frames, planes: plane t * z_count + z stands at (t, z); of tiles, the number of the tile is the
    plane, and some may be missing.
    split_by: the rules that set this image apart from others, with its values.
    moments: what t_by says of each t; of slices that have each its own, that of the first.
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
    moments: tuple[Moment, ...] = ()

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
    by_file: dict[int, list[Frame]] = defaultdict(list)
    for frame in frames:
        by_file[frame.file].append(frame)
    if len(by_file) > 1:
        parts = enumerate((by_file[file] for file in sorted(by_file)), 1)
        return [i for n, part in parts for i in _images(part, split_by | {"file": str(n)})]
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
    by_run: dict[Hashable, list[Frame]] = defaultdict(list)
    for frame in frames:
        by_run[frame.pose.concatenation[0] or frame.file].append(frame)
    singles = [run[0] for run in by_run.values() if len(run) == 1]
    return [run for run in by_run.values() if len(run) > 1] + [singles] * bool(singles)


def _of_line(frames: list[Frame], split_by: dict[str, str]) -> list[Image]:
    """Make one image of a line of slices, or several where its places repeat unevenly."""
    found = places(frames)
    is_even = len({len(place) for place in found}) == 1
    whole = _image(by_position(found), split_by) if is_even else None
    if whole and whole.geometry.is_regular:
        return [whole]
    for name, parts in _divisions(found):
        images = [
            _image(by_position(places(part)), split_by | {name: value})
            for value, part in parts.items()
        ]
        if _is_better(images) if whole else all(map(_is_plain, images)):
            return [_uneven(image) for image in images] if name == "part" else images
    return [whole] if whole else _layers(found, split_by)


def _is_plain(image: Image) -> bool:
    return image.geometry.is_regular or bool(image.geometry.missing)


def _is_better(images: Sequence[Image]) -> bool:
    """Tell whether volumes were shuffled: each is regular, and lies between slices of another."""
    ends = sorted((i.geometry.positions[0], i.geometry.positions[-1]) for i in images)
    are_mixed = all(ahead[1] > start for ahead, (start, _) in pairwise(ends))
    return are_mixed and all(image.geometry.is_regular for image in images)


def _divisions(found: Places) -> Iterator[tuple[str, dict[str, list[Frame]]]]:
    """Yield what frames may be divided by, with parts that each have as many at every place.

    Parts are acquisitions, or the moments that have the same places.
    """
    frames = [frame for place in found for frame in place]
    if all(frame.pose.acquisition is not None for frame in frames):
        yield from _even("acquisition", _gathered(frames, lambda f: str(f.pose.acquisition)))
    at = {id(frame): n for n, place in enumerate(found) for frame in place}
    for i in range(len(TIME_KEYS)):
        moments = _gathered(frames, lambda f, i=i: f.pose.times[i])  # type: ignore[misc]  # i is bound
        if None in moments or 2 * len(moments) > len(frames):
            continue  # not known of all, or it numbers frames and not moments
        alike: dict[Hashable, list[Frame]] = defaultdict(list)
        for moment in moments.values():
            alike[frozenset(at[id(frame)] for frame in moment)] += moment
        yield from _even("part", {str(n): part for n, part in enumerate(alike.values(), 1)})


def _gathered(frames: Iterable[Frame], key: Callable[[Frame], Any]) -> dict[Any, list[Frame]]:
    found: dict[Any, list[Frame]] = defaultdict(list)
    for frame in frames:
        found[key(frame)].append(frame)
    return found


def _even(name: str, parts: dict[str, list[Frame]]) -> Iterator[tuple[str, dict[str, list[Frame]]]]:
    """Yield a division if its parts are few and each has as many frames at every place."""
    if 1 < len(parts) <= PARTS_MOST and all(
        len({len(place) for place in places(part)}) == 1 for part in parts.values()
    ):
        yield name, parts


def _layers(found: Places, split_by: dict[str, str]) -> list[Image]:
    """Make one image of as many frames as every place has, and others of what is left."""
    images: list[Image] = []
    while found:
        count = min(len(place) for place in found)
        ordered = [sorted(place, key=number) for place in found]
        said = split_by | {"part": str(len(images) + 1)}
        images.append(_uneven(_image(by_position([place[:count] for place in ordered]), said)))
        rest = [frame for place in ordered for frame in place[count:]]
        found = places(rest) if rest else []
    return images


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
        findings=_findings(measured),
        moments=order.moments,
    )


def _findings(measured: Geometry) -> tuple[str, ...]:
    found = {
        "slices-missing": bool(measured.missing),
        "spacing-varies": not (measured.is_regular or measured.missing),
        "slices-not-in-line": not measured.is_straight,
        "sheared": measured.is_placed and measured.tilt_deg > 0,
    }
    return tuple(name for name, holds in found.items() if holds)
