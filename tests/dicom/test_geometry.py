from __future__ import annotations

import math
from dataclasses import replace
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import SimpleITK
from dicom_files import AXIAL, write_series
from hypothesis import given, settings
from hypothesis import strategies as st

from dicomzarr_watch.dicom.geometry import Geometry, along_normal, geometry, normal
from dicomzarr_watch.dicom.instance import read_header
from dicomzarr_watch.dicom.pose import Pose

Vector = npt.NDArray[np.float64]
OBLIQUE = (0.8, 0.6, 0.0, -0.36, 0.48, 0.8)
CORONAL = (1.0, 0.0, 0.0, 0.0, 0.0, -1.0)
SAGITTAL = (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)


@st.composite
def rotations(draw: st.DrawFn) -> Vector:
    """Draw a rotation as its matrix, from a quaternion of length 1."""
    parts = st.floats(-1, 1).map(lambda v: round(v, 3))
    found = np.array([draw(parts) for _ in range(4)])
    w, x, y, z = found / np.linalg.norm(found) if found.any() else (1.0, 0.0, 0.0, 0.0)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


mm = st.floats(0.1, 20).map(lambda v: round(v, 3))
origins = st.tuples(*[st.floats(-500, 500).map(lambda v: round(v, 3))] * 3).map(np.array)


def poses(rotation: Vector, origin: Vector, spacing: Vector, count: int) -> list[Pose]:
    """Lay slices on a grid; spacing: (x, y, z)."""
    orientation = tuple(map(float, rotation[:, :2].T.ravel()))
    places = [origin + k * spacing[2] * rotation[:, 2] for k in range(count)]
    return [
        Pose(
            position=(float(p[0]), float(p[1]), float(p[2])),
            orientation=orientation,
            spacing=(float(spacing[1]), float(spacing[0])),
        )
        for p in places
    ]


def at(*positions: tuple[float, float, float], **facts: Any) -> Geometry:
    """Measure axial slices at these positions."""
    base = Pose(orientation=AXIAL, spacing=(1.0, 1.0))
    return geometry([replace(base, position=p, **facts) for p in positions])


def at_heights(*heights: float) -> Geometry:
    return at(*((0.0, 0.0, z) for z in heights))


def point(measured: Geometry, *index: int) -> Vector:
    """Map a voxel index (i, j, k) to LPS."""
    found: Vector = np.reshape(measured.affine, (4, 4)) @ [*index, 1.0]
    return found[:3]


def point_of_header(pose: Pose, column: float, row: float) -> Vector:
    """Map a pixel to LPS by equation C.7.6.2.1-1 of PS3.3."""
    assert pose.position is not None
    assert pose.orientation is not None
    assert pose.spacing is not None
    x, y = np.array(pose.orientation[:3]), np.array(pose.orientation[3:])
    between_rows, between_columns = pose.spacing
    found: Vector = x * between_columns * column + y * between_rows * row + pose.position
    return found


@settings(max_examples=80)
@given(rotations(), origins, st.tuples(mm, mm, mm).map(np.array), st.integers(2, 12))
def test_a_grid_is_given_back_as_it_was_laid(
    rotation: Vector, origin: Vector, spacing: Vector, count: int
) -> None:
    slices = poses(rotation, origin, spacing, count)
    found = geometry(slices)
    assert (found.is_regular, found.is_placed, found.missing) == (True, True, ())
    assert found.tilt_deg == 0.0
    np.testing.assert_allclose(found.origin, origin, atol=1e-9)
    np.testing.assert_allclose(found.spacing, spacing, rtol=1e-6)
    np.testing.assert_allclose(np.reshape(found.direction, (3, 3)), rotation, atol=1e-9)
    assert len(found.positions) == count
    assert all(a < b for a, b in pairwise(found.positions))
    for k, pose in enumerate(slices):
        for i, j in ((0, 0), (7, 0), (0, 5), (7, 5)):
            expected = point_of_header(pose, i, j)
            np.testing.assert_allclose(point(found, i, j, k), expected, atol=1e-6)


@settings(max_examples=50)
@given(rotations(), origins, st.floats(1, 45), st.integers(2, 8))
def test_a_tilt_is_measured_and_stands_in_the_affine(
    rotation: Vector, origin: Vector, degrees: float, count: int
) -> None:
    straight = poses(rotation, origin, np.array([1.0, 1.0, 2.0]), count)
    shear = rotation[:, 1] * 2.0 * math.tan(math.radians(degrees))
    tilted = [
        replace(pose, position=tuple(np.add(pose.position or 0.0, k * shear)))
        for k, pose in enumerate(straight)
    ]
    found = geometry(tilted)
    assert found.tilt_deg == pytest.approx(degrees, abs=1e-3)
    assert found.spacing[2] == pytest.approx(2.0), "along the normal, not along the tilt"
    for k, pose in enumerate(tilted):
        expected = point_of_header(pose, 3, 4)
        np.testing.assert_allclose(point(found, 3, 4, k), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("heights", "is_regular", "missing"),
    [
        ((0, 2, 4, 6), True, ()),
        ((0, 2, 6, 8), False, (4,)),
        ((0, 2, 4, 12, 14), False, (6, 8, 10)),
        ((0, 2, 4, 12.05, 14.05), False, (6, 8, 10)),
        ((0, 1, 4, 5, 6), False, (2, 3)),
        ((0, 2, 5, 7, 9), False, ()),
        ((0, 2.009, 4, 6), True, ()),
        ((0, 2.05, 4, 6), False, ()),
        ((0, 0.005, 0.01), True, ()),
        ((0, 3), True, ()),
        ((5,), True, ()),
    ],
)
def test_slices_that_are_missing_are_named_by_their_places(
    heights: tuple[float, ...], is_regular: bool, missing: tuple[float, ...]
) -> None:
    found = at_heights(*heights)
    assert (found.is_regular, found.missing) == (is_regular, missing)
    assert found.positions == pytest.approx(heights)


@settings(max_examples=50)
@given(st.integers(5, 20), st.floats(0.5, 9).map(lambda v: round(v, 2)), st.data())
def test_a_slice_taken_out_of_a_regular_series_is_the_one_that_is_missing(
    count: int, spacing: float, data: st.DataObject
) -> None:
    gone = data.draw(st.integers(1, count - 2))
    found = at_heights(*(k * spacing for k in range(count) if k != gone))
    assert found.missing == pytest.approx((gone * spacing,), abs=1e-3)


@pytest.mark.parametrize(
    ("facts", "step"),
    [
        ({"spacing_between": 3.0, "thickness": 5.0}, 3.0),
        ({"thickness": 5.0}, 5.0),
        ({"spacing_between": -3.0, "thickness": 0.0}, 1.0),
        ({}, 1.0),
    ],
)
def test_a_single_slice_is_as_thick_as_its_header_says(
    facts: dict[str, float], step: float
) -> None:
    found = at((1.0, 2.0, 3.0), **facts)
    assert found.spacing == (1.0, 1.0, step)
    np.testing.assert_allclose(point(found, 0, 0, 1), (1.0, 2.0, 3.0 + step))


def test_without_position_nothing_is_placed_and_the_grid_is_plain() -> None:
    found = geometry([Pose(spacing=(0.5, 0.25), thickness=2.0)] * 3)
    assert not found.is_placed
    assert (found.origin, found.spacing) == ((0.0, 0.0, 0.0), (0.25, 0.5, 2.0))
    assert found.direction == (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
    assert (found.positions, found.missing, found.tilt_deg) == ((), (), 0.0)


def test_a_position_is_a_place_only_with_an_orientation() -> None:
    assert along_normal(Pose(position=(1.0, 2.0, 3.0))) is None
    assert along_normal(Pose(orientation=AXIAL)) is None
    assert along_normal(Pose(position=(1.0, 2.0, 3.0), orientation=AXIAL)) == 3.0


@pytest.mark.parametrize(
    ("orientation", "expected"),
    [
        (AXIAL, (0, 0, 1)),
        (CORONAL, (0, 1, 0)),
        (SAGITTAL, (-1, 0, 0)),
        (OBLIQUE, (0.48, -0.64, 0.6)),
        ((2.0, 0.0, 0.0, 0.0, 2.0, 0.0), (0, 0, 1)),
        ((0.0,) * 6, (0, 0, 1)),
    ],
)
def test_the_normal_is_row_cross_column_of_length_1(
    orientation: tuple[float, ...], expected: tuple[float, ...]
) -> None:
    np.testing.assert_allclose(normal(orientation), expected, atol=1e-12)


@pytest.mark.parametrize("orientation", [AXIAL, CORONAL, SAGITTAL, OBLIQUE])
def test_simpleitk_measures_the_same_grid(tmp_path: Path, orientation: tuple[float, ...]) -> None:
    position = (-12.5, 30.25, 100.125)
    paths = write_series(tmp_path, 5, orientation=orientation, position=position, gap_mm=2.5)
    slices = [
        pose for path in paths for pose in read_header(BytesIO(path.read_bytes())).instance.poses
    ]
    itk: Any = SimpleITK  # ships no types
    image = itk.ReadImage(itk.ImageSeriesReader.GetGDCMSeriesFileNames(str(tmp_path)))
    found = geometry(slices)
    np.testing.assert_allclose(found.origin, image.GetOrigin(), atol=1e-9)
    np.testing.assert_allclose(found.spacing, image.GetSpacing(), rtol=1e-9)
    np.testing.assert_allclose(found.direction, image.GetDirection(), atol=1e-6)
    for index in ((0, 0, 0), (5, 7, 4), (2, 3, 1)):
        theirs = image.TransformIndexToPhysicalPoint(index)
        np.testing.assert_allclose(point(found, *index), theirs, atol=1e-5)
