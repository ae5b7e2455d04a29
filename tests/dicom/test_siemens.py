from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from dicom_files import (
    EXPLICIT,
    PIXEL_CASES,
    Encapsulated,
    Encoding,
    Pixels,
    Plain,
    file_bytes,
    us,
    within,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from dicomzarr_watch.dicom import tags
from dicomzarr_watch.dicom.frames import (
    FrameRun,
    PixelFormat,
    frame_run,
    stored_bytes,
)
from dicomzarr_watch.dicom.functional import frame_poses
from dicomzarr_watch.dicom.part10 import split
from dicomzarr_watch.dicom.pose import Pose
from dicomzarr_watch.dicom.siemens import csa_values
from dicomzarr_watch.dicom.values import Values
from dicomzarr_watch.dicom.views import is_verbatim, verbatim, view

MOSAIC = Plain(tags.IMAGE_TYPE, "CS", b"ORIGINAL\\PRIMARY\\M\\MOSAIC ")
SPACING = (2.0, 3.0)
BETWEEN_MM = 4.0


def tiled(slices: int, rows: int, columns: int, **more: Any) -> PixelFormat:
    plain = PixelFormat(
        rows, columns, 1, 16, "u", 16, "MONOCHROME2", is_planar=False, is_big_endian=False
    )
    return replace(plain, mosaic_slices=slices, **more)


def csa(values: Mapping[str, Sequence[str]]) -> bytes:
    """Write a CSA header: SV10, the number of values, a mark; each value 84 bytes, then items."""
    found = b"SV10\4\3\2\1" + struct.pack("<II", len(values), 77)
    for name, items in values.items():
        found += name.encode().ljust(64, b"\0") + struct.pack("<I4sII", 1, b"FD", 0, len(items))
        found += struct.pack("<I", 77)
        for item in items:
            text = item.encode() + b"\0" if item else b""
            found += struct.pack("<IIII", len(text), len(text), 77, len(text))
            found += text + b"\0" * (-len(text) % 4)
    return found


@st.composite
def mosaics(draw: st.DrawFn) -> tuple[PixelFormat, int, bytes]:
    """Draw a format, a number of mosaics, and what their tiles hold, the unused ones zero."""
    made = tiled(
        draw(st.integers(1, 11)),
        draw(st.integers(1, 4)),
        draw(st.integers(1, 4)),
        bits=draw(st.sampled_from([8, 16, 32])),
        kind=draw(st.sampled_from("ui")),
        is_big_endian=draw(st.booleans()),
    )
    made = replace(made, bits_stored=made.bits, is_big_endian=made.is_big_endian and made.bits > 8)
    count = draw(st.integers(1, 3))
    size = count * made.mosaic_slices * made.view_bytes
    return made, count, draw(st.binary(min_size=size, max_size=size))


def tiled_by_hand(slices: Pixels, made: PixelFormat) -> Pixels:
    """Lay slices of (mosaic, slice, row, column) into mosaics, from left to right and down."""
    width = made.tiles
    mosaic = np.zeros((len(slices), made.rows * width, made.columns * width), slices.dtype)
    for n in range(made.mosaic_slices):
        y, x = n // width * made.rows, n % width * made.columns
        mosaic[:, y : y + made.rows, x : x + made.columns] = slices[:, n]
    return mosaic


@settings(max_examples=80)
@given(mosaics())
def test_slices_come_out_of_a_mosaic_and_back_into_the_same_bytes(
    drawn: tuple[PixelFormat, int, bytes],
) -> None:
    made, count, content = drawn
    shape = count, made.mosaic_slices, made.rows, made.columns
    slices = np.frombuffer(content, made.stored_dtype).reshape(shape)
    stored = tiled_by_hand(slices, made).tobytes()
    frames = count * made.mosaic_slices
    assert stored_bytes(made, frames) == len(stored)
    assert stored_bytes(made, frames - made.mosaic_slices + 1) == len(stored)
    assert (made.tiles - 1) ** 2 < made.mosaic_slices <= made.tiles**2
    seen = view(stored, made)
    assert seen.shape == (frames, made.rows, made.columns)
    np.testing.assert_array_equal(seen, slices.reshape(seen.shape))
    assert verbatim(seen, made) == stored
    assert is_verbatim(seen, stored, made)


@settings(max_examples=40)
@given(st.integers(1, 11), st.data())
def test_an_unused_tile_that_carries_data_does_not_come_back_from_the_slices(
    slices: int, data: st.DataObject
) -> None:
    made = tiled(slices, 2, 3)
    mosaic = np.zeros((made.tiles * 2, made.tiles * 3), "<u2")
    y = data.draw(st.integers(0, mosaic.shape[0] - 1))
    x = data.draw(st.integers(0, mosaic.shape[1] - 1))
    mosaic[y, x] = 7
    is_used = y // 2 * made.tiles + x // 3 < slices
    seen = view(mosaic.tobytes(), made)
    assert seen.any() == is_used
    assert is_verbatim(seen, mosaic.tobytes(), made) == is_used


def test_a_mosaic_of_one_slice_still_tells_whether_it_is_verbatim() -> None:
    made = tiled(1, 2, 2)
    stored = bytes(range(8))
    assert is_verbatim(view(stored, made), stored, made)
    assert not is_verbatim(view(stored, made), stored[::-1], made)


@pytest.mark.parametrize("items", [[], ["1"], ["0.5", "-1", "2e-3"], ["", "7", "", "8"]])
def test_values_of_a_csa_header_are_found_by_name(items: list[str]) -> None:
    header = csa({"First": ["9"], "Wanted": items, "Last": ["a", "b"]})
    assert csa_values(header, "Wanted") == [item for item in items if item]
    assert csa_values(header, "Last") == ["a", "b"]
    assert csa_values(header, "Want") == []


@settings(max_examples=60)
@given(st.integers(0, 400), st.binary(max_size=20))
def test_a_broken_csa_header_has_what_can_be_read(cut: int, instead: bytes) -> None:
    header = csa({"First": ["9"], "Wanted": ["1", "2", "3"]})
    found = csa_values(header[:cut] + instead, "Wanted")
    assert isinstance(found, list)
    if cut >= len(header):
        assert found == ["1", "2", "3"]


def mosaic_file(
    *more: Plain, size: tuple[int, int] = (6, 8), encoding: Encoding = EXPLICIT
) -> tuple[FrameRun, tuple[Pose, ...]]:
    """Make a mosaic and return its frames and their poses."""
    case = replace(PIXEL_CASES[0], frames=np.zeros((1, *size), "u2"), encoding=encoding)
    elements = {e.tag: e for e in (*case.elements, MOSAIC, *more)}
    data = file_bytes([elements[tag] for tag in sorted(elements)], encoding)
    part10 = split(within(data), len(data))
    values = Values(part10, data)
    run = frame_run(values)
    assert isinstance(run, FrameRun)
    return run, frame_poses(values, run)


def slices_of(run: FrameRun) -> tuple[int, int, int, int]:
    return run.count, run.format.mosaic_slices, run.format.rows, run.format.columns


COUNT = us(0x0019100A, 3)
CSA = Plain(0x00291010, "OB", csa({"NumberOfImagesInMosaic": ["3"]}))


@pytest.mark.parametrize("said", [(COUNT,), (CSA,), (COUNT, CSA)])
def test_a_mosaic_is_as_many_frames_as_it_says(said: tuple[Plain, ...]) -> None:
    run, _ = mosaic_file(*said)
    assert slices_of(run) == (3, 3, 3, 4)
    assert run.stored_bytes == 2 * 6 * 8


@pytest.mark.parametrize(
    "more",
    [
        (),
        (us(0x0019100A, 0),),
        (COUNT, Plain(tags.IMAGE_TYPE, "CS", b"ORIGINAL\\PRIMARY\\M ")),
        (us(0x0019100A, 30),),
        (Plain(0x00291010, "OB", csa({"NumberOfImagesInMosaic": ["many"]})),),
    ],
)
def test_what_is_no_mosaic_or_does_not_fit_is_one_frame(more: tuple[Plain, ...]) -> None:
    run, poses = mosaic_file(*more)
    assert slices_of(run) == (1, 0, 6, 8)
    assert len(poses) == 1


def test_an_encapsulated_mosaic_is_as_many_frames_too() -> None:
    case = PIXEL_CASES[0]
    elements = {e.tag: e for e in (*case.elements[:-1], MOSAIC, COUNT)}
    pixels = Encapsulated((b"", b"\xff\xd8"))
    jpeg = Encoding("1.2.840.10008.1.2.4.90")
    data = file_bytes([*(elements[tag] for tag in sorted(elements)), pixels], jpeg)
    part10 = split(within(data), len(data))
    run = frame_run(Values(part10, data))
    assert isinstance(run, FrameRun)
    assert slices_of(run) == (3, 3, 2, 3)


OBLIQUE = (0.8, 0.6, 0.0, -0.36, 0.48, 0.8)


def placed(*more: Plain, orientation: Sequence[float] = OBLIQUE, slices: int = 3) -> list[Pose]:
    """Make a mosaic of slices of 6 by 8 voxels with a place, and return the poses."""
    tiles = int(np.ceil(np.sqrt(slices)))
    _, poses = mosaic_file(
        us(0x0019100A, slices),
        Plain(tags.IMAGE_POSITION_PATIENT, "DS", b"10\\-20\\30 "),
        Plain(tags.IMAGE_ORIENTATION_PATIENT, "DS", "\\".join(map(str, orientation)).encode()),
        Plain(tags.PIXEL_SPACING, "DS", b"2\\3 "),
        Plain(tags.SPACING_BETWEEN_SLICES, "DS", b"4 "),
        *more,
        size=(6 * tiles, 8 * tiles),
    )
    return list(poses)


@pytest.mark.parametrize("slices", [1, 3, 4, 5, 9])
@pytest.mark.parametrize("orientation", [(1, 0, 0, 0, 1, 0), OBLIQUE])
def test_the_slices_lie_around_the_centre_that_the_header_gives_as_one_slice(
    slices: int, orientation: tuple[float, ...]
) -> None:
    poses = placed(orientation=orientation, slices=slices)
    assert len(poses) == slices
    tiles = int(np.ceil(np.sqrt(slices)))
    row, column = np.array(orientation, float).reshape(2, 3)
    in_plane = row * SPACING[1], column * SPACING[0]
    # PS3.3 C.7.6.2: positions are those of centres of voxels, so a slice of n ends n / 2 away
    # from its middle; the header takes the whole mosaic for one slice
    whole = np.array([10.0, -20.0, 30.0]) + sum(
        step * n * tiles / 2 for step, n in zip(in_plane, (8, 6), strict=True)
    )
    first = poses[0].position
    assert first is not None
    own = np.array(first) + sum(step * n / 2 for step, n in zip(in_plane, (8, 6), strict=True))
    np.testing.assert_allclose(own, whole, atol=1e-9)


def steps_of(poses: Sequence[Pose]) -> Pixels:
    return np.diff(np.array([pose.position for pose in poses]), axis=0)


@pytest.mark.parametrize("direction", [1, -1])
def test_slices_follow_each_other_in_the_direction_that_the_csa_header_says(direction: int) -> None:
    normal = np.cross(OBLIQUE[:3], OBLIQUE[3:]) * direction
    header = csa({"SliceNormalVector": [f"{v:.8f}" for v in normal]})
    steps = steps_of(placed(Plain(0x00291010, "OB", header)))
    np.testing.assert_allclose(steps, [normal * BETWEEN_MM] * 2, atol=1e-6)


@pytest.mark.parametrize("said", [["x", "y", "z"], ["1", "0"], []])
def test_without_a_direction_slices_follow_the_normal(said: list[str]) -> None:
    header = csa({"SliceNormalVector": said})
    normal = np.cross(OBLIQUE[:3], OBLIQUE[3:])
    steps = steps_of(placed(Plain(0x00291010, "OB", header)))
    np.testing.assert_allclose(steps, [normal * BETWEEN_MM] * 2, atol=1e-9)


def test_a_mosaic_without_a_place_has_slices_without_one() -> None:
    _, poses = mosaic_file(COUNT)
    assert len(poses) == 3
    assert {pose.position for pose in poses} == {None}


def test_slices_of_a_mosaic_share_all_but_their_place() -> None:
    poses = placed(Plain(tags.INSTANCE_NUMBER, "IS", b"7 "))
    assert len({pose.position for pose in poses}) == 3
    assert len({replace(pose, position=None) for pose in poses}) == 1
    assert poses[0].instance_number == 7
