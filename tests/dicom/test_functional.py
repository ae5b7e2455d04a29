from __future__ import annotations

import pytest
from dicom_files import (
    BIG,
    ENCODINGS,
    EXPLICIT,
    Built,
    Encoding,
    Nested,
    Plain,
    even,
    file_bytes,
    us,
)

from dicomzarr_watch.dicom.frames import FrameRun, PixelFormat
from dicomzarr_watch.dicom.functional import frame_poses
from dicomzarr_watch.dicom.part10 import split
from dicomzarr_watch.dicom.pose import Pose
from dicomzarr_watch.dicom.values import Values

SHARED, PER_FRAME = 0x52009229, 0x52009230
PLANE_POSITION, POSITION = 0x00209113, 0x00200032
PLANE_ORIENTATION, ORIENTATION = 0x00209116, 0x00200037
MEASURES, SPACING, THICKNESS, BETWEEN = 0x00289110, 0x00280030, 0x00180050, 0x00180088
FRAME_CONTENT, ACQUIRED, TEMPORAL = 0x00209111, 0x00189074, 0x00209128


def ds(tag: int, value: str) -> Plain:
    return Plain(tag, "DS", even(value.encode()))


def group(tag: int, *elements: Built) -> Nested:
    return Nested(tag, (elements,), True, True)


def placed(position: str) -> Nested:
    return group(PLANE_POSITION, ds(POSITION, position))


GRAY = PixelFormat(4, 6, 1, 16, "u", 16, "MONOCHROME2", is_planar=False, is_big_endian=False)


def poses_of(
    *elements: Built, encoding: Encoding = EXPLICIT, frames: int = 1
) -> tuple[Pose, ...]:
    data = file_bytes(sorted(elements, key=lambda e: e.tag), encoding)
    values = Values(split(lambda at, count: data[at : at + count], len(data)), data)
    return frame_poses(values, FrameRun(GRAY, frames, 0, 48 * frames))


def shared(*groups: Built) -> Nested:
    return Nested(SHARED, (groups,))


def per_frame(*frames: tuple[Built, ...]) -> Nested:
    return Nested(PER_FRAME, frames, True)


MEASURED = group(MEASURES, ds(THICKNESS, "2"), ds(BETWEEN, "2.5"), ds(SPACING, "0.7\\0.5"))
TURNED = group(PLANE_ORIENTATION, ds(ORIENTATION, "0\\1\\0\\0\\0\\-1"))
FRAMES = per_frame((placed("1\\2\\3"),), (placed("1\\2\\5.5"),))


@pytest.mark.parametrize("encoding", ENCODINGS, ids=["explicit", "implicit", "big endian"])
def test_every_frame_has_its_place_and_what_all_share(encoding: Encoding) -> None:
    found = poses_of(shared(MEASURED, TURNED), FRAMES, encoding=encoding)
    assert [p.position for p in found] == [(1.0, 2.0, 3.0), (1.0, 2.0, 5.5)]
    assert {p.orientation for p in found} == {(0.0, 1.0, 0.0, 0.0, 0.0, -1.0)}
    assert {p.spacing for p in found} == {(0.7, 0.5)}
    assert {(p.thickness, p.spacing_between) for p in found} == {(2.0, 2.5)}


def test_what_a_frame_says_wins_over_what_all_share_and_that_over_the_top_level() -> None:
    own = group(MEASURES, ds(SPACING, "3\\4"))
    found = poses_of(
        ds(THICKNESS, "9"),
        ds(POSITION, "0\\0\\0"),
        Plain(0x00200052, "UI", b"1.2\0"),
        shared(MEASURED),
        per_frame((own,), (placed("1\\2\\3"),)),
    )
    assert [p.spacing for p in found] == [(3.0, 4.0), (0.7, 0.5)]
    assert [p.thickness for p in found] == [2.0, 2.0]
    assert [p.position for p in found] == [(0.0, 0.0, 0.0), (1.0, 2.0, 3.0)]
    assert {p.frame_of_reference for p in found} == {"1.2"}


def test_frames_are_told_apart_by_their_moment() -> None:
    contents = [
        group(
            FRAME_CONTENT,
            Plain(ACQUIRED, "DT", even(b"20240102030405.25+0100")),
            Plain(TEMPORAL, "UL", bytes([n, 0, 0, 0])),
        )
        for n in (1, 2)
    ]
    top = [Plain(0x00080032, "TM", b"010203"), ds(0x00181060, "4"), Plain(0x00200013, "IS", b"7 ")]
    found = poses_of(*top, per_frame(*((c,) for c in contents)))
    moment = 20240102030405.25
    assert [p.times for p in found] == [
        ((n,), (moment,), (4.0,), None, (7.0,)) for n in (1.0, 2.0)
    ]


def test_a_file_without_groups_has_one_pose_for_all_its_frames() -> None:
    found = poses_of(
        ds(POSITION, "1\\2\\3"),
        ds(ORIENTATION, "1\\0\\0\\0\\1\\0"),
        ds(0x00181060, "40.5"),
        Plain(0x00200013, "IS", b"7 "),
        Plain(0x00200100, "IS", b"2 "),
        Plain(0x00080022, "DA", b"20240102"),
        Plain(0x00080032, "TM", b"03:04:05"),
    )
    assert found == (
        Pose(
            position=(1.0, 2.0, 3.0),
            orientation=(1.0, 0.0, 0.0, 0.0, 1.0, 0.0),
            instance_number=7,
            times=((2.0,), (20240102030405.0,), (40.5,), None, (7.0,)),
        ),
    )


@pytest.mark.parametrize(
    ("tag", "vr", "value", "moment"),
    [
        (0x0008002A, "DT", "20240102030405.5", 20240102030405.5),
        (0x0008002A, "DT", "20240102030405-0500", 20240102030405.0),
        (0x00080032, "TM", "030405.125", 30405.125),
        (0x00080032, "TM", "early", None),
        (0x00080031, "TM", "030405", None),
    ],
)
def test_the_acquisition_time_is_a_number_that_orders(
    tag: int, vr: str, value: str, moment: float | None
) -> None:
    (pose,) = poses_of(Plain(tag, vr, even(value.encode())))
    assert pose.times[1] == (None if moment is None else (moment,))


@pytest.mark.parametrize("tag", [SPACING, 0x00181164, 0x00182010])
def test_the_spacing_is_that_of_the_patient_or_else_of_the_imager(tag: int) -> None:
    (pose,) = poses_of(ds(tag, "0.2\\0.1"))
    assert pose.spacing == (0.2, 0.1)


@pytest.mark.parametrize(
    ("tag", "value"),
    [
        (POSITION, "1\\2"),
        (POSITION, "1\\2\\x"),
        (ORIENTATION, "1\\0\\0"),
        (SPACING, "0\\1"),
        (SPACING, "-1\\1"),
        (SPACING, "1"),
    ],
)
def test_a_value_that_makes_no_sense_is_no_value(tag: int, value: str) -> None:
    assert poses_of(ds(tag, value)) == (Pose(),)


@pytest.mark.parametrize(
    ("broken", "expected"),
    [
        (placed("1\\2\\nan"), Pose()),
        (placed("1\\2"), Pose()),
        (group(PLANE_ORIENTATION, ds(ORIENTATION, "1\\0")), Pose()),
        (group(MEASURES, ds(SPACING, "0\\0")), Pose(spacing=(2.0, 2.0))),
        (group(MEASURES, ds(THICKNESS, "3\\4"), ds(SPACING, "")), Pose(thickness=3.0)),
        (
            group(FRAME_CONTENT, Plain(TEMPORAL, "UL", bytes(8))),
            Pose(times=((0.0,), None, None, None, None)),
        ),
    ],
)
def test_a_group_that_makes_no_sense_costs_only_what_it_says(
    broken: Nested, expected: Pose
) -> None:
    top = [ds(SPACING, "2\\2")] if expected.spacing else []
    assert poses_of(*top, per_frame((broken,))) == (expected,)


@pytest.mark.parametrize(
    "broken",
    [
        Plain(PER_FRAME, "SQ", b"no items at all."),
        per_frame((placed("here\\there"),)),
        Plain(PER_FRAME, "OB", bytes(6)),
    ],
)
def test_a_broken_sequence_costs_the_frames_their_poses_never_the_file(broken: Built) -> None:
    found = poses_of(ds(POSITION, "1\\2\\3"), broken)
    assert found == (Pose(position=(1.0, 2.0, 3.0)),)


def test_a_sequence_of_no_frames_has_no_poses() -> None:
    assert poses_of(per_frame()) == ()
    assert poses_of(shared(us(0x00280010, 1, BIG)), FRAMES)[1].position == (1.0, 2.0, 5.5)
