"""Which frames make one image, and in which order.

Frames belong together where a voxel means the same and is stored the same: SPLIT_RULES is the
list, and a series with several values of one of them becomes several images. Within an image z
follows the position along the normal and t the first of TIME_KEYS that tells frames at one
position apart. Tiles make one plane, each at its place.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Final

from dicomzarr_watch.dicom.frames import PixelFormat
from dicomzarr_watch.dicom.geometry import (
    Geometry,
    along_normal,
    geometry,
    on_slide,
    same_place,
)
from dicomzarr_watch.dicom.pose import MEANINGS, TIME_KEYS, Moment, Pose
from dicomzarr_watch.dicom.tiles import TileGrid

ORIENTATION_DIGITS: Final = 3


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame: the number of its file, its own number in it, and what is known of it.

    copy: which copy of the same file it is from, 0 being the first.
    grid, tile: the matrix that it is a tile of, and which one.
    """

    file: int
    number: int
    format: PixelFormat
    pose: Pose
    copy: int = 0
    grid: TileGrid | None = None
    tile: int = 0


@dataclass(frozen=True, slots=True)
class Image:
    """Frames of one format in order.

    shape: (t, z), or tiles below and beside each other where there is a grid of them.
    frames, planes: plane t * z_count + z stands at (t, z); of tiles, the number of the tile is the
    plane, and some may be missing.
    split_by: the rules that set this image apart from others, with its values.
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

    @property
    def missing_tiles(self) -> int:
        """How many places of the grid no frame has taken."""
        return self.grid.tiles - len(self.frames) if self.grid else 0


def _orientation(frame: Frame) -> Hashable:
    found = frame.pose.orientation
    return tuple(round(v, ORIENTATION_DIGITS) + 0.0 for v in found) if found else None


def _meaning(name: str) -> Callable[[Frame], Hashable]:
    return lambda frame: dict(frame.pose.meaning).get(name, "")


SPLIT_RULES: Final[dict[str, Callable[[Frame], Hashable]]] = {
    "matrix size": lambda f: (f.format.rows, f.format.columns),
    "sample type": lambda f: (f.format.kind, f.format.bits, f.format.bits_stored),
    "samples per pixel": lambda f: f.format.samples,
    "photometric interpretation": lambda f: f.format.photometric,
    "storage": lambda f: (
        f.format.is_planar,
        f.format.is_big_endian,
        f.format.is_word_swapped,
        f.format.is_subsampled,
        f.format.mosaic_slices,
    ),
    "total pixel matrix": lambda f: f.grid.matrix if f.grid else "",
    "matrix origin": lambda f: (f.grid and f.pose.position) or "",
    "copy": lambda f: f.copy,
    "orientation": _orientation,
    "frame of reference": lambda f: f.pose.frame_of_reference,
    "pixel spacing": lambda f: f.pose.spacing and tuple(round(v, 4) for v in f.pose.spacing),
} | {name: _meaning(name) for name in MEANINGS}


def stack(frames: Sequence[Frame]) -> tuple[Image, ...]:
    """Make images of frames, the one with most voxels first; every frame is in exactly one."""
    groups: dict[tuple[Hashable, ...], list[Frame]] = defaultdict(list)
    for frame in frames:
        groups[tuple(rule(frame) for rule in SPLIT_RULES.values())].append(frame)
    told = [name for i, name in enumerate(SPLIT_RULES) if len({key[i] for key in groups}) > 1]
    images = [
        image
        for members in groups.values()
        for image in _images(members, _split_values(members[0], told))
    ]
    return tuple(sorted(images, key=_largest_first))


def _images(frames: list[Frame], split_by: dict[str, str]) -> list[Image]:
    """Make the images of frames that are alike: one, if no two of them are one tile."""
    grid = frames[0].grid
    if grid is None:
        return [_image(frames, split_by)]
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
    image = _image(loose, split_by)
    return replace(image, findings=("tiles-overlap", *image.findings))


def _split_values(frame: Frame, names: list[str]) -> dict[str, str]:
    return {name: _said(SPLIT_RULES[name](frame)) for name in names}


def _said(value: Hashable) -> str:
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _largest_first(image: Image) -> tuple[int, int, int]:
    first = min((f.file, f.number) for f in image.frames)
    return (-image.format.pixels * len(image.frames), *first)


@dataclass(frozen=True, slots=True)
class _Order:
    """Frames put in order: t-major, (t, z) of them, and by what."""

    frames: list[Frame]
    shape: tuple[int, int]
    z_by: str = ""
    t_by: str = ""
    is_uneven: bool = False


def _image(frames: list[Frame], split_by: dict[str, str]) -> Image:
    clusters = _positions(frames)
    order = _by_position(clusters) if clusters else _by_number(frames)
    measured = geometry([f.pose for f in order.frames[: order.shape[1]]])
    return Image(
        format=frames[0].format,
        shape=order.shape,
        frames=tuple(order.frames),
        planes=range(len(order.frames)),
        geometry=measured,
        split_by=split_by,
        z_by=order.z_by,
        t_by=order.t_by,
        findings=_findings(order, measured),
    )


def _by_position(clusters: list[list[Frame]]) -> _Order:
    counts = {len(c) for c in clusters}
    if len(counts) > 1:
        frames = [f for c in clusters for f in sorted(c, key=_number)]
        return _Order(frames, (1, len(frames)), z_by="position", is_uneven=True)
    (times,) = counts
    t_by, key = _time_key(clusters)
    ordered = [sorted(c, key=key) for c in clusters]
    frames = [cluster[t] for t in range(times) for cluster in ordered]
    return _Order(frames, (times, len(clusters)), "position", t_by if times > 1 else "")


def _by_number(frames: list[Frame]) -> _Order:
    """Order what has no place: the frames of one file are moments, single files are slices."""
    ordered = sorted(frames, key=_number)
    if len(ordered) > 1 and len({f.file for f in ordered}) == 1:
        return _Order(ordered, (len(ordered), 1), t_by="frame number")
    return _Order(ordered, (1, len(ordered)), z_by="instance number")


def _findings(order: _Order, measured: Geometry) -> tuple[str, ...]:
    found = {
        "positions-repeat-unevenly": order.is_uneven,
        "slices-missing": bool(measured.missing),
        "spacing-varies": not (measured.is_regular or measured.missing or order.is_uneven),
        "sheared": measured.is_placed and measured.tilt_deg > 0,
    }
    return tuple(name for name, holds in found.items() if holds)


def _positions(frames: list[Frame]) -> list[list[Frame]] | None:
    """Gather frames at one place along the normal; None where a frame has no place."""
    placed = [(along_normal(f.pose), f) for f in frames]
    known = sorted(
        ((p, f) for p, f in placed if p is not None), key=lambda v: (v[0], _number(v[1]))
    )
    if len(known) < len(placed):
        return None
    tolerance = same_place(_usual_gap([p for p, _ in known]))
    clusters: list[list[Frame]] = []
    start = 0.0
    for position, frame in known:
        if not clusters or position - start > tolerance:
            clusters.append([])
            start = position
        clusters[-1].append(frame)
    return clusters


def _usual_gap(positions: list[float]) -> float:
    gaps = sorted(b - a for a, b in pairwise(positions) if b - a > same_place(0.0))
    return gaps[len(gaps) // 2] if gaps else 0.0


def _number(frame: Frame) -> tuple[int, int, int]:
    number = frame.pose.instance_number
    return (number if number is not None else 0, frame.file, frame.number)


def _time_key(clusters: list[list[Frame]]) -> tuple[str, Callable[[Frame], tuple[Any, ...]]]:
    """Choose the first key that is known for all frames and differs at every position."""
    for i, name in enumerate(TIME_KEYS):
        if all(_tells_apart([f.pose.times[i] for f in c]) for c in clusters):
            return name, lambda f, i=i: (f.pose.times[i] or (), f.file, f.number)
    return "file order", lambda f: (f.file, f.number)


def _tells_apart(times: list[Moment | None]) -> bool:
    return None not in times and len(set(times)) == len(times)
