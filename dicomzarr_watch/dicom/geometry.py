"""Where the voxels of one image lie: SimpleITK's terms, and the whole affine.

Points are (x, y, z) in LPS, mm; those of a whole slide in the slide's own coordinates (PS3.3
C.8.12.2), mm. `direction` is row-major 3 by 3; its columns are the directions of
a row, a column and the slice normal, as in SimpleITK. Nothing is resampled: what a regular grid
cannot say is said beside it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Final

import numpy as np
import numpy.typing as npt

from dicomzarr_watch.dicom.pose import Point, Pose

SPACING_TOLERANCE: Final = 0.01
"""Of the spacing: gaps that differ by less count as equal."""
POSITION_TOLERANCE_MM: Final = 0.01
FINEST_TOLERANCE: Final = 0.05
"""Of a pixel, for what is smaller than patients."""
OFF_LINE_PIXELS: Final = 0.5
SHEAR_TOLERANCE_DEG: Final = 0.05

_IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
Vector = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Geometry:
    """A grid in the patient, or in other coordinates: those of a slide or of a volume.

    spacing: (x, y, z), along the columns, the rows and the normal; the usual one where slices are
    missing, else the mean. unmeasured: the axes along which nobody says how far it is; 1 mm then.
    affine: 4 by 4, row-major, from voxel indices (i, j, k) to LPS; carries a tilt that `direction`
    cannot.
    positions: along the normal, mm, one per slice, where they are known.
    missing: places along the normal, mm, at which a regular series would have had slices.
    tilt_deg: angle between the stacking direction and the normal.
    is_straight: whether the first voxels of all slices lie on one line.
    """

    origin: Point
    spacing: Point
    direction: tuple[float, ...]
    affine: tuple[float, ...]
    positions: tuple[float, ...]
    missing: tuple[float, ...]
    tilt_deg: float
    is_regular: bool
    is_placed: bool
    is_straight: bool = True
    unmeasured: str = ""
    coordinates: str = "patient"


def normal(orientation: Sequence[float]) -> Vector:
    """Return the slice normal, row × column, of length 1 (PS3.3 C.7.6.2.1.1)."""
    return np.array(_normal(orientation))


def _normal(orientation: Sequence[float]) -> Point:
    # in plain numbers: it is asked for every frame, and numpy takes ten times as long for three
    a, b, c, d, e, f = orientation
    x, y, z = b * f - c * e, c * d - a * f, a * e - b * d
    length = math.hypot(x, y, z)
    return (x / length, y / length, z / length) if length > 0 else (0.0, 0.0, 1.0)


def along_normal(pose: Pose, orientation: Sequence[float] | None = None) -> float | None:
    """Return the slice's place along a normal in mm, or None without position.

    orientation: of all slices that are compared; two normals that differ by a rounding differ by
    more and more millimetres the farther from the origin a slice lies. By default the pose's own.
    """
    if pose.position is None or pose.orientation is None:
        return None
    across = _normal(orientation or pose.orientation)
    return sum(n * p for n, p in zip(across, pose.position, strict=True))


def geometry(slices: Sequence[Pose]) -> Geometry:
    """Measure the grid of slices that are sorted along their normal."""
    first = slices[0]
    orientation = first.orientation or _IDENTITY
    row, column = np.asarray(orientation, float).reshape(2, 3)
    found = [along_normal(pose, orientation) for pose in slices]
    positions = tuple(p for p in found if p is not None)
    is_placed = len(positions) == len(slices)
    gaps = np.diff(positions) if is_placed else np.array([])
    finest = finest_mm(first)
    missing = _missing(positions, gaps, finest)
    between_rows, between_columns = first.spacing or (1.0, 1.0)
    known = _step(first, gaps, is_gapped=bool(missing))
    step = known or 1.0
    way = _way(slices, positions, orientation)
    shift = way * step
    affine = np.eye(4)
    affine[:3, 0] = row * between_columns
    affine[:3, 1] = column * between_rows
    affine[:3, 2] = shift
    affine[:3, 3] = first.position or (0.0, 0.0, 0.0)
    axes = np.column_stack([row, column, normal(orientation)])
    tilt = _angle_deg(shift, normal(orientation))
    return Geometry(
        origin=first.position or (0.0, 0.0, 0.0),
        spacing=(between_columns, between_rows, step),
        direction=tuple(float(v) for v in axes.ravel()),
        affine=tuple(float(v) for v in affine.ravel()),
        positions=positions if is_placed else (),
        missing=missing,
        tilt_deg=round(tilt, 4) if tilt > SHEAR_TOLERANCE_DEG else 0.0,
        is_regular=_is_regular(gaps, finest),
        is_placed=is_placed,
        is_straight=not is_placed or _is_straight(slices, positions, way),
        unmeasured=("" if first.spacing else "xy") + ("" if known else "z"),
        coordinates=first.coordinates,
    )


def on_slide(matrix: Pose) -> Geometry:
    """Place a total pixel matrix in the slide's coordinates."""
    found = geometry([matrix])
    is_placed = found.is_placed and matrix.spacing is not None
    return replace(found, is_placed=is_placed, coordinates="slide")


def finest_mm(pose: Pose) -> float:
    """Return what is no distance, in mm: below it positions are the same but for rounding."""
    said = pose.spacing or (pose.spacing_between, pose.thickness)  # which are often made up
    lengths = [abs(length) for length in said if length]
    return min(POSITION_TOLERANCE_MM, FINEST_TOLERANCE * min(lengths, default=math.inf))


def same_place(spacing: float, finest: float = POSITION_TOLERANCE_MM) -> float:
    """Return how far apart, in mm, two positions may be and still count as one."""
    return max(finest, SPACING_TOLERANCE * spacing)


def _step(first: Pose, gaps: Vector, *, is_gapped: bool) -> float:
    """Return how far it is from slice to slice, or 0 if nothing says it."""
    if len(gaps) and abs(float(gaps.mean())) > 0:
        return median(gaps.tolist()) if is_gapped else float(gaps.mean())
    said = (first.spacing_between, first.thickness)
    return next((float(s) for s in said if s is not None and s > 0), 0.0)


def beside_mm(pose: Pose) -> float:
    """Return how far aside, in mm, a frame may lie and still count as where it should be."""
    return max(OFF_LINE_PIXELS * min(pose.spacing or (math.inf,)), POSITION_TOLERANCE_MM)


def _way(
    slices: Sequence[Pose], positions: tuple[float, ...], orientation: Sequence[float]
) -> Vector:
    """Return the way for each mm along the normal; the normal where it is not known."""
    first, last = slices[0].position, slices[-1].position
    if first and last and len(positions) == len(slices) and positions[-1] > positions[0]:
        found: Vector = np.subtract(last, first) / (positions[-1] - positions[0])
        return found
    return normal(orientation)


def _is_straight(slices: Sequence[Pose], positions: tuple[float, ...], way: Vector) -> bool:
    """Tell whether the line from the first slice to the last one meets those between."""
    first = np.asarray(slices[0].position, float)
    points = np.array([pose.position for pose in slices], float)
    found = points - first - np.outer(np.subtract(positions, positions[0]), way)
    return bool(np.linalg.norm(found, axis=1).max() <= beside_mm(slices[0]))


def _angle_deg(a: Vector, b: Vector) -> float:
    crossed, dotted = float(np.linalg.norm(np.cross(a, b))), float(np.dot(a, b))
    return float(np.degrees(np.arctan2(crossed, dotted)))


def _is_regular(gaps: Vector, finest: float) -> bool:
    if len(gaps) < 2:
        return True
    allowed = same_place(float(gaps.mean()), finest)
    return bool(gaps.min() > 0 and gaps.max() - gaps.min() <= allowed)


def _missing(positions: tuple[float, ...], gaps: Vector, finest: float) -> tuple[float, ...]:
    """Name the places that whole multiples of the usual gap leave empty."""
    usual = median(gaps.tolist()) if len(gaps) > 1 else 0.0
    if usual <= 0:
        return ()
    empty: list[float] = []
    for start, gap in zip(positions, gaps, strict=False):
        steps = round(float(gap) / usual)
        if steps > 1 and abs(float(gap) - steps * usual) <= steps * same_place(usual, finest):
            empty += [round(start + k * usual, 6) for k in range(1, min(steps, 1000))]
    return tuple(empty)
