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
SHEAR_TOLERANCE_DEG: Final = 0.05

_IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
Vector = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Geometry:
    """A grid in the patient, or on a slide.

    spacing: (x, y, z), along the columns, the rows and the normal.
    affine: 4 by 4, row-major, from voxel indices (i, j, k) to LPS; carries a tilt that `direction`
    cannot.
    positions: along the normal, mm, one per slice, where they are known.
    missing: places along the normal, mm, at which a regular series would have had slices.
    tilt_deg: angle between the stacking direction and the normal.
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
    is_on_slide: bool = False


def normal(orientation: Sequence[float]) -> Vector:
    """Return the slice normal, row × column, of length 1 (PS3.3 C.7.6.2.1.1)."""
    return np.array(_normal(orientation))


def _normal(orientation: Sequence[float]) -> Point:
    # in plain numbers: it is asked for every frame, and numpy takes ten times as long for three
    a, b, c, d, e, f = orientation
    x, y, z = b * f - c * e, c * d - a * f, a * e - b * d
    length = math.hypot(x, y, z)
    return (x / length, y / length, z / length) if length > 0 else (0.0, 0.0, 1.0)


def along_normal(pose: Pose) -> float | None:
    """Return the slice's place along its normal in mm, or None without position."""
    if pose.position is None or pose.orientation is None:
        return None
    return sum(n * p for n, p in zip(_normal(pose.orientation), pose.position, strict=True))


def geometry(slices: Sequence[Pose]) -> Geometry:
    """Measure the grid of slices that are sorted along their normal."""
    first, last = slices[0], slices[-1]
    orientation = first.orientation or _IDENTITY
    row, column = np.asarray(orientation, float).reshape(2, 3)
    found = [along_normal(pose) for pose in slices]
    positions = tuple(p for p in found if p is not None)
    is_placed = len(positions) == len(slices)
    gaps = np.diff(positions) if is_placed else np.array([])
    between_rows, between_columns = first.spacing or (1.0, 1.0)
    step = _step(slices, gaps)
    shift = _shift(first, last, len(slices), step, orientation)
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
        missing=_missing(positions, gaps),
        tilt_deg=round(tilt, 4) if tilt > SHEAR_TOLERANCE_DEG else 0.0,
        is_regular=_is_regular(gaps),
        is_placed=is_placed,
    )


def on_slide(matrix: Pose) -> Geometry:
    """Place a total pixel matrix in the slide's coordinates."""
    found = geometry([matrix])
    is_placed = found.is_placed and matrix.spacing is not None
    return replace(found, is_placed=is_placed, is_on_slide=True)


def same_place(spacing: float) -> float:
    """Return how far apart, in mm, two positions may be and still count as one."""
    return max(POSITION_TOLERANCE_MM, SPACING_TOLERANCE * spacing)


def _step(slices: Sequence[Pose], gaps: Vector) -> float:
    if len(gaps) and abs(float(gaps.mean())) > 0:
        return float(gaps.mean())
    said = (slices[0].spacing_between, slices[0].thickness)
    return next((float(s) for s in said if s is not None and s > 0), 1.0)


def _shift(
    first: Pose, last: Pose, count: int, step: float, orientation: Sequence[float]
) -> Vector:
    """Return the way from one slice to the next, mm; along the normal where it is not known."""
    if count > 1 and first.position and last.position:
        found: Vector = np.subtract(last.position, first.position) / (count - 1)
        if np.linalg.norm(found) > 0:
            return found
    return normal(orientation) * step


def _angle_deg(a: Vector, b: Vector) -> float:
    crossed, dotted = float(np.linalg.norm(np.cross(a, b))), float(np.dot(a, b))
    return float(np.degrees(np.arctan2(crossed, dotted)))


def _is_regular(gaps: Vector) -> bool:
    if len(gaps) < 2:
        return True
    return bool(gaps.min() > 0 and gaps.max() - gaps.min() <= same_place(float(gaps.mean())))


def _missing(positions: tuple[float, ...], gaps: Vector) -> tuple[float, ...]:
    """Name the places that whole multiples of the usual gap leave empty."""
    usual = median(gaps.tolist()) if len(gaps) > 1 else 0.0
    if usual <= 0:
        return ()
    empty: list[float] = []
    for start, gap in zip(positions, gaps, strict=False):
        steps = round(float(gap) / usual)
        if steps > 1 and abs(float(gap) - steps * usual) <= steps * same_place(usual):
            empty += [round(start + k * usual, 4) for k in range(1, min(steps, 1000))]
    return tuple(empty)
