"""What the header of a whole slide, or of a segmentation of one, says of its tiles.

TILED_FULL leaves the places to the order of the frames, TILED_SPARSE says them frame by frame
(PS3.3 C.7.6.17.3). Optical paths, segments and focal planes are matrices of their own. That two
frames may stand at one place is not known here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from dicomzarr_watch.dicom import tags
from dicomzarr_watch.dicom.frames import FrameRun
from dicomzarr_watch.dicom.functional import shared_pose, with_groups
from dicomzarr_watch.dicom.gathering import gathered
from dicomzarr_watch.dicom.pose import TIME_KEYS, Pose, plausible
from dicomzarr_watch.dicom.tiles import NoTiling, TileGrid, Tiling
from dicomzarr_watch.dicom.top_level import cosines
from dicomzarr_watch.dicom.values import Values

TILES_LIMIT: Final = 1 << 40
"""Places that one matrix may have, taken or not: their numbers are far from overflow then."""
DEPTH_DIGITS: Final = 6
"""Of a depth in mm: a nanometre."""

_FULL: Final = "TILED_FULL"
_ORGANIZATIONS: Final = frozenset({"", _FULL, "TILED_SPARSE"})
_GROUPS: Final = frozenset(
    {
        tags.FRAME_VOI_LUT_SEQUENCE,
        tags.OPTICAL_PATH_IDENTIFICATION_SEQUENCE,
        tags.PIXEL_MEASURES_SEQUENCE,
        tags.PIXEL_VALUE_TRANSFORMATION_SEQUENCE,
        tags.SEGMENT_IDENTIFICATION_SEQUENCE,
    }
)
"""The functional groups that a tile may have of its own; they are the same in most of them."""


def tiling(values: Values, run: FrameRun) -> Tiling | NoTiling:
    """Find the tile that each frame of a file is, or say why the frames are none."""
    rows = values.number(tags.TOTAL_PIXEL_MATRIX_ROWS, b"UL") or 0
    columns = values.number(tags.TOTAL_PIXEL_MATRIX_COLUMNS, b"UL") or 0
    organization = values.text(tags.DIMENSION_ORGANIZATION_TYPE)
    is_other = organization not in _ORGANIZATIONS or run.format.mosaic_slices > 0
    if min(rows, columns) < 1 or is_other:
        return NoTiling()
    grid = TileGrid((rows, columns), (run.format.rows, run.format.columns))
    if not organization and run.count == 1:
        # a label or an overview may show something else than the matrix that it names
        if grid.matrix != grid.tile:
            return NoTiling()
        organization = _FULL
    if grid.tiles > TILES_LIMIT:
        return NoTiling("tile-count")
    try:
        return (_full if organization == _FULL else _sparse)(values, run.count, grid)
    except Exception:  # noqa: BLE001 - a broken sequence costs the tiling, never the file
        return NoTiling("tile-positions-unreadable")


@dataclass(frozen=True, slots=True)
class _Slide:
    """Where a matrix lies in the slide's coordinates: x and y of its first pixel, and z; mm."""

    origin: tuple[float, float] | None
    depth: float
    orientation: tuple[float, ...] | None

    @classmethod
    def of(cls, values: Values) -> _Slide:
        orientation = cosines(values.decimals(tags.IMAGE_ORIENTATION_SLIDE))
        origin, depth = None, 0.0
        for item in values.items(tags.TOTAL_PIXEL_MATRIX_ORIGIN_SEQUENCE):
            x = item.decimal(tags.X_OFFSET_IN_SLIDE_COORDINATE_SYSTEM)
            y = item.decimal(tags.Y_OFFSET_IN_SLIDE_COORDINATE_SYSTEM)
            origin = (x, y) if x is not None and y is not None else None
            depth = _depth(item) or 0.0
        return cls(origin, depth, orientation)

    def pose(self, said: Pose, depth: float | None, names: Iterable[tuple[str, str]]) -> Pose:
        """Place the matrix of some frames; a depth that is not known places it nowhere."""
        meaning = dict(said.meaning) | {name: value for name, value in names if value}
        found = replace(
            said,
            position=(*self.origin, depth) if self.origin and depth is not None else None,
            orientation=self.orientation,
            meaning=tuple(sorted(meaning.items())),
            times=(None,) * len(TIME_KEYS),
        )
        return plausible(found)


def _full(values: Values, count: int, grid: TileGrid) -> Tiling | NoTiling:
    """Follow the order of the frames: tiles fastest, then focal planes, paths, segments."""
    paths, segments = _optical_paths(values), _segments(values)
    planes = values.number(tags.TOTAL_PIXEL_MATRIX_FOCAL_PLANES) or 1
    is_part = tags.CONCATENATION_UID in values
    offset = values.number(tags.CONCATENATION_FRAME_OFFSET_NUMBER, b"UL") if is_part else 0
    end = (offset or 0) + count
    whole = grid.tiles * planes * len(paths) * len(segments)
    if offset is None or end > whole or (end < whole and not is_part):
        return NoTiling("tile-count")
    base, slide = shared_pose(values), _Slide.of(values)
    poses = {}
    for layer in range(offset // grid.tiles, (end - 1) // grid.tiles + 1):
        above, plane = divmod(layer, planes)
        segment, path = divmod(above, len(paths))
        depth = _depth_of_plane(plane, slide.depth, base.spacing_between)
        names = {
            "optical path": paths[path],
            "segment": segments[segment],
            "focal plane": str(plane + 1) if planes > 1 else "",
        }
        poses[layer] = slide.pose(base, depth, names.items())
    frames = range(offset, end)
    tiles = tuple(n % grid.tiles for n in frames)
    return Tiling(grid, tiles, tuple(poses[n // grid.tiles] for n in frames))


def _depth_of_plane(plane: int, first: float, between: float | None) -> float | None:
    """Return the depth of a focal plane; they follow each other towards the coverslip."""
    if plane and not between:
        return None
    return first + plane * (between or 0.0)


def _optical_paths(values: Values) -> list[str]:
    items = values.items(tags.OPTICAL_PATH_SEQUENCE)
    return _told_apart([item.text(tags.OPTICAL_PATH_IDENTIFIER) for item in items])


def _segments(values: Values) -> list[str]:
    """Return the segments that have frames of their own; a label map has all in one."""
    if values.text(tags.SEGMENTATION_TYPE) == "LABELMAP":
        return [""]
    items = values.items(tags.SEGMENT_SEQUENCE)
    return _told_apart([str(n) for n in sorted(i.number(tags.SEGMENT_NUMBER) or 0 for i in items)])


def _told_apart(names: list[str]) -> list[str]:
    """Return names that differ: their places where what is said does not tell them apart."""
    if len(set(names)) < len(names):
        return [str(n + 1) for n in range(len(names))]
    return names or [""]


@dataclass(frozen=True, slots=True)
class _Placed:
    """One frame: its tile, what its functional groups say, its depth in mm if that is said."""

    tile: int
    said: Pose
    depth: float | None


def _sparse(values: Values, count: int, grid: TileGrid) -> Tiling | NoTiling:
    """Read the place of every frame."""
    base = shared_pose(values)
    known: dict[bytes, Pose] = {}
    frames: list[_Placed] = []
    for item, place in _places(values):
        if place is None:
            return NoTiling("tile-positions-missing")
        tile = _tile(place, grid)
        if tile is None:
            return NoTiling("tiles-off-grid")
        own = item.encoded(_GROUPS)
        if own not in known:
            known[own] = with_groups(base, item.only(_GROUPS))
        frames.append(_Placed(tile, known[own], _depth(place)))
    if len(frames) != count:
        return NoTiling("tile-positions-missing")
    return Tiling(grid, tuple(f.tile for f in frames), _told_by_depth(frames, _Slide.of(values)))


def _places(values: Values) -> Iterator[tuple[Values, Values | None]]:
    """Yield the functional groups of every frame, and those that say where it stands."""
    shared = next(values.items(tags.SHARED_FUNCTIONAL_GROUPS_SEQUENCE), None)
    place = next(shared.items(tags.PLANE_POSITION_SLIDE_SEQUENCE), None) if shared else None
    for item in values.items(tags.PER_FRAME_FUNCTIONAL_GROUPS_SEQUENCE):
        yield item, next(item.items(tags.PLANE_POSITION_SLIDE_SEQUENCE), place)


def _tile(place: Values, grid: TileGrid) -> int | None:
    row = place.number(tags.ROW_POSITION_IN_TOTAL_IMAGE_PIXEL_MATRIX, b"SL")
    column = place.number(tags.COLUMN_POSITION_IN_TOTAL_IMAGE_PIXEL_MATRIX, b"SL")
    return grid.tile_at(row or 0, column or 0)


def _depth(place: Values) -> float | None:
    found = place.decimal(tags.Z_OFFSET_IN_SLIDE_COORDINATE_SYSTEM)
    return None if found is None else round(found, DEPTH_DIGITS)


def _told_by_depth(frames: Sequence[_Placed], slide: _Slide) -> tuple[Pose, ...]:
    """Return the pose of every frame, which names its focal plane where there are several."""
    alike = gathered((frame.said.meaning, frame) for frame in frames)
    planes = {meaning: _focal_planes(members) for meaning, members in alike.items()}
    known: dict[tuple[int, float | None], Pose] = {}
    for frame in frames:
        key = id(frame.said), frame.depth
        if key not in known:
            number, depth = planes[frame.said.meaning].get(frame.depth, ("", slide.depth))
            known[key] = slide.pose(frame.said, depth, [("focal plane", number)])
    return tuple(known[id(frame.said), frame.depth] for frame in frames)


def _focal_planes(frames: Sequence[_Placed]) -> dict[float | None, tuple[str, float]]:
    """Return the number and depth of each focal plane by the depth that its frames say.

    Where depths only follow the specimen there are none: planes are as many as the tiles at the
    fullest place.
    """
    depths = sorted({frame.depth for frame in frames if frame.depth is not None})
    most = max(Counter(frame.tile for frame in frames).values())
    if len(depths) != most:
        return {}
    return {depth: (str(n + 1) if most > 1 else "", depth) for n, depth in enumerate(depths)}
