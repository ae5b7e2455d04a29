from __future__ import annotations

import struct

import pytest
from dicom_files import (
    BIG,
    ENCODINGS,
    EXPLICIT,
    IMPLICIT,
    Built,
    Encoding,
    Nested,
    Plain,
    element_bytes,
    even,
    file_bytes,
    us,
    within,
)

from dicomzarr_watch.dicom.frames import FrameRun, PixelFormat
from dicomzarr_watch.dicom.functional import frame_poses
from dicomzarr_watch.dicom.grouping import Frame
from dicomzarr_watch.dicom.part10 import split
from dicomzarr_watch.dicom.pose import TIME_KEYS, Moment, Pose
from dicomzarr_watch.dicom.stacks import stack
from dicomzarr_watch.dicom.values import Values

SHARED, PER_FRAME = 0x52009229, 0x52009230
PLANE_POSITION, POSITION = 0x00209113, 0x00200032
PLANE_ORIENTATION, ORIENTATION = 0x00209116, 0x00200037
MEASURES, SPACING, THICKNESS, BETWEEN = 0x00289110, 0x00280030, 0x00180050, 0x00180088
FRAME_CONTENT, ACQUIRED, TEMPORAL, INDEX = 0x00209111, 0x00189074, 0x00209128, 0x00209157


def ds(tag: int, value: str) -> Plain:
    return Plain(tag, "DS", even(value.encode()))


def group(tag: int, *elements: Built) -> Nested:
    return Nested(tag, (elements,), True, True)


def placed(position: str) -> Nested:
    return group(PLANE_POSITION, ds(POSITION, position))


GRAY = PixelFormat(4, 6, 1, 16, "u", 16, "MONOCHROME2", is_planar=False, is_big_endian=False)


def poses_of(*elements: Built, encoding: Encoding = EXPLICIT, frames: int = 0) -> tuple[Pose, ...]:
    data = file_bytes(sorted(elements, key=lambda e: e.tag), encoding)
    groups = [len(e.items) for e in elements if e.tag == PER_FRAME and isinstance(e, Nested)]
    frames = frames or max([1, *groups])
    values = Values(split(within(data), len(data)), data)
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
            Plain(INDEX, "UL", bytes([1, 0, 0, 0, 3 - n, 0, 0, 0])),
        )
        for n in (1, 2)
    ]
    top = [Plain(0x00080032, "TM", b"010203"), ds(0x00181060, "4"), Plain(0x00200013, "IS", b"7 ")]
    found = poses_of(*top, per_frame(*((c,) for c in contents)))
    moment = (20240102.0, 30405.25)
    assert [p.times for p in found] == [
        ((n,), moment, (4.0,), *[None] * 5, (7.0, 1.0, 3.0 - n), (7.0,)) for n in (1.0, 2.0)
    ]


def test_a_file_without_groups_has_one_pose_for_all_its_frames() -> None:
    found = poses_of(
        ds(POSITION, "1\\2\\3"),
        ds(ORIENTATION, "1\\0\\0\\0\\1\\0"),
        ds(0x00181060, "40.5"),
        Plain(0x00200013, "IS", b"7 "),
        Plain(0x00200012, "IS", b"3 "),
        Plain(0x00200100, "IS", b"2 "),
        Plain(0x00080022, "DA", b"20240102"),
        Plain(0x00080032, "TM", b"03:04:05"),
    )
    assert found == (
        Pose(
            position=(1.0, 2.0, 3.0),
            orientation=(1.0, 0.0, 0.0, 0.0, 1.0, 0.0),
            instance_number=7,
            times=((2.0,), (20240102.0, 30405.0), (40.5,), *[None] * 4, (3.0,), None, (7.0,)),
        ),
    )


@pytest.mark.parametrize(
    ("said", "times"),
    [
        (ds(0x00181063, "40"), [(0.0,), (40.0,), (80.0,)]),
        (ds(0x00181065, "0\\40\\20"), [(0.0,), (40.0,), (60.0,)]),
        (ds(0x00181065, "0\\40"), [None]),
        (ds(0x00181063, ""), [None]),
    ],
)
def test_the_frames_of_a_cine_say_when_they_were_taken(
    said: Plain, times: list[Moment | None]
) -> None:
    found = poses_of(said, frames=3)
    assert [pose.times[TIME_KEYS.index("frame time")] for pose in found] == times
    assert len(poses_of(ds(0x00181063, "40"), frames=1)) == 1


@pytest.mark.parametrize(
    ("tag", "vr", "value", "moment"),
    [
        (0x0008002A, "DT", "20240102030405.000001", (20240102.0, 30405.000001)),
        (0x0008002A, "DT", "20240102030405-0500", (20240102.0, 30405.0)),
        (0x0008002A, "DT", "20240102", (20240102.0, 0.0)),
        (0x00080032, "TM", "030405.125", (0.0, 30405.125)),
        (0x00080032, "TM", "early", None),
        (0x00080031, "TM", "030405", None),
    ],
)
def test_the_acquisition_time_is_a_date_and_a_time_of_day(
    tag: int, vr: str, value: str, moment: Moment | None
) -> None:
    (pose,) = poses_of(Plain(tag, vr, even(value.encode())))
    assert pose.times[1] == moment


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
        (ORIENTATION, "0\\0\\0\\0\\0\\0"),
        (ORIENTATION, "1\\0\\0\\1\\0\\0"),
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
        (placed("here\\there"), Pose()),
        (group(0x00189114, Plain(0x00189082, "FD", bytes(6))), Pose()),
        (group(0x00189314, Plain(0x00181210, "SH")), Pose()),
        (group(PLANE_ORIENTATION, ds(ORIENTATION, "1\\0")), Pose()),
        (group(MEASURES, ds(SPACING, "0\\0")), Pose(spacing=(2.0, 2.0))),
        (group(MEASURES, ds(THICKNESS, "3\\4"), ds(SPACING, "")), Pose(thickness=3.0)),
        (
            group(FRAME_CONTENT, Plain(TEMPORAL, "UL", bytes(8))),
            Pose(times=((0.0,), *[None] * 9)),
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
        per_frame((Plain(PLANE_POSITION, "SQ", b"no items at all."),)),
        Plain(PER_FRAME, "OB", bytes(6)),
    ],
)
def test_a_broken_sequence_costs_the_frames_their_poses_never_the_file(broken: Built) -> None:
    found = poses_of(ds(POSITION, "1\\2\\3"), broken)
    assert found == (Pose(position=(1.0, 2.0, 3.0)),)


def test_groups_of_fewer_frames_than_there_are_say_nothing_of_any() -> None:
    (pose,) = poses_of(shared(MEASURED), FRAMES, frames=3)
    assert (pose.position, pose.thickness) == (None, 2.0)


def test_groups_of_frames_that_are_not_there_are_passed_over() -> None:
    (pose,) = poses_of(FRAMES, frames=1)
    assert pose.position == (1.0, 2.0, 3.0)


@pytest.mark.parametrize(
    ("said", "rescale"),
    [
        ([ds(0x00281053, "2"), ds(0x00281052, "-5")], (2.0, -5.0)),
        ([ds(0x00281053, "2")], (2.0, 0.0)),
        ([ds(0x00281052, "-5")], (1.0, -5.0)),
        ([], None),
    ],
)
def test_a_slope_or_an_intercept_that_is_not_said_changes_nothing(
    said: list[Built], rescale: tuple[float, float] | None
) -> None:
    (pose,) = poses_of(per_frame((group(0x00289145, *said[::-1]),)))
    assert pose.rescale == rescale


def test_a_sequence_of_no_frames_has_no_poses() -> None:
    assert poses_of(per_frame()) == (Pose(),)
    assert poses_of(shared(us(0x00280010, 1, BIG)), FRAMES)[1].position == (1.0, 2.0, 5.5)


CREATORS = {
    0x0019: Plain(0x00190010, "LO", b"SIEMENS MR HEADER "),
    0x0043: Plain(0x00430010, "LO", b"GEMS_PARM_01"),
    0x2001: Plain(0x20010010, "LO", b"Philips Imaging DD 001"),
    0x0065: Plain(0x00650010, "LO", b"Image Private Header"),
}


def fd(tag: int, *numbers: float, order: str = "<") -> Plain:
    return Plain(tag, "FD", struct.pack(f"{order}{len(numbers)}d", *numbers))


@pytest.mark.parametrize(
    "said",
    [
        Plain(0x00209241, "FL", struct.pack("<f", 40.0)),
        Plain(0x00209245, "FL", struct.pack("<f", 40.0)),
        per_frame((group(0x00189118, Plain(0x00209241, "FL", struct.pack("<f", 40.0))),)),
        per_frame((group(0x00209253, Plain(0x00209245, "FL", struct.pack("<f", 40.0))),)),
    ],
)
def test_the_phase_of_a_heart_or_a_breath_is_found(said: Built) -> None:
    (pose,) = poses_of(said)
    assert pose.times == tuple((40.0,) if name == "phase" else None for name in TIME_KEYS)


@pytest.mark.parametrize(
    ("said", "moment"),
    [
        ([fd(0x00189087, 1000.0)], (1000.0,)),
        ([fd(0x00189087, 0.0)], (0.0,)),
        ([fd(0x00189087, 1000.0), fd(0x00189089, 0.0, 0.6, 0.8)], (1000.0, 0.0, 0.6, 0.8)),
        ([Plain(0x0019100C, "IS", b"1000")], (1000.0,)),
        (
            [Plain(0x0019100C, "IS", b"50"), fd(0x0019100E, 1.0, 0.0, 0.0)],
            (50.0, 1.0, 0.0, 0.0),
        ),
        ([Plain(0x0019100C, "UN", b"750 ")], (750.0,)),
        ([Plain(0x00431039, "IS", b"800\\8\\0\\0 ")], (800.0,)),
        ([Plain(0x00431039, "IS", b"1000000800\\8\\0\\0")], (800.0,)),
        ([Plain(0x20011003, "FL", struct.pack("<f", 600.0))], (600.0,)),
        ([Plain(0x20011003, "UN", struct.pack("<f", 600.0))], (600.0,)),
        ([fd(0x00651009, 400.0), fd(0x00651037, 0.0, 1.0, 0.0)], (400.0, 0.0, 1.0, 0.0)),
        ([fd(0x00189087, 5.0), Plain(0x0019100C, "IS", b"1000")], (5.0,)),
        ([fd(0x00189087, float("nan"))], None),
        ([fd(0x00189089, 0.0, 0.6, 0.8)], None),
        ([Plain(0x0019100C, "IS", b"many")], None),
    ],
)
def test_b_value_and_direction_are_found_where_each_maker_puts_them(
    said: list[Plain], moment: Moment | None
) -> None:
    creators = [CREATORS[e.tag >> 16] for e in said if e.tag >> 16 in CREATORS]
    (pose,) = poses_of(*dict.fromkeys(creators), *said)
    assert pose.times == (None, None, None, moment, *[None] * 6)


@pytest.mark.parametrize("tag", [0x0019100C, 0x00431039, 0x20011003, 0x00651009])
@pytest.mark.parametrize("creator", ["", "ANOTHER MAKER"])
def test_a_private_element_of_another_maker_is_no_b_value(tag: int, creator: str) -> None:
    block = Plain(tag & 0xFFFF0000 | 0x10, "LO", creator.encode())
    (pose,) = poses_of(block, Plain(tag, "IS", b"1000"))
    assert pose.times == (None,) * 10


def test_b_values_are_read_in_the_order_of_the_files_bytes() -> None:
    said = fd(0x00189087, 1000.0, order=">"), fd(0x00189089, 0.0, 0.6, 0.8, order=">")
    (pose,) = poses_of(*said, encoding=BIG)
    assert pose.times[3] == (1000.0, 0.0, 0.6, 0.8)


def test_what_a_frame_says_of_diffusion_wins() -> None:
    def diffusion(b_value: float, *direction: float) -> Nested:
        inner = [group(0x00189076, fd(0x00189089, *direction))] if direction else []
        return group(0x00189117, *inner, fd(0x00189087, b_value))

    found = poses_of(
        fd(0x00189087, 7.0),
        per_frame((diffusion(0.0),), (diffusion(900.0, 0.0, 0.0, 1.0),), (placed("1\\2\\3"),)),
    )
    assert [pose.times[3] for pose in found] == [(0.0,), (900.0, 0.0, 0.0, 1.0), (7.0,)]


@pytest.mark.parametrize(
    ("element", "meaning"),
    [
        (Plain(0x00200011, "IS", b"7 "), ("series number", "7")),
        (Plain(0x00080008, "CS", b"ORIGINAL\\PRIMARY\\M "), ("image type", "ORIGINAL\\PRIMARY\\M")),
        (Plain(0x00080008, "CS", b"DERIVED "), ("image type", "DERIVED")),
        (Plain(0x00089208, "CS", b"PHASE "), ("complex component", "PHASE")),
        (Plain(0x00180086, "IS", b"2 "), ("echo", "2")),
        (Plain(0x00181210, "SH", b"B30f"), ("reconstruction kernel", "B30f")),
        (Plain(0x00180060, "DS", b"120 "), ("tube voltage", "120")),
        (Plain(0x00180060, "DS", b"120.0 "), ("tube voltage", "120")),
        (Plain(0x00180081, "DS", b"104.00"), ("echo time", "104")),
        (Plain(0x00185101, "CS", b"MLO "), ("view", "MLO")),
        (Plain(0x00200062, "CS", b"L "), ("view", "L")),
    ],
)
def test_what_sets_values_apart_is_read(element: Plain, meaning: tuple[str, str]) -> None:
    (pose,) = poses_of(element)
    assert pose.meaning == (meaning,)


def test_what_is_not_said_or_empty_sets_nothing_apart() -> None:
    (pose,) = poses_of(Plain(0x00180086, "IS"), Plain(0x00080008, "CS", b"  "))
    assert pose.meaning == ()


@pytest.mark.parametrize(
    ("frame_group", "meaning"),
    [
        (
            group(0x00189226, Plain(0x00089007, "CS", b"ORIGINAL\\PRIMARY\\DIFFUSION\\NONE ")),
            ("image type", "ORIGINAL\\PRIMARY\\DIFFUSION\\NONE"),
        ),
        (
            group(0x00189226, Plain(0x00089007, "CS", b"DERIVED\\PRIMARY\\DIXON\\NONE\\X\\FAT ")),
            ("image type", "DERIVED\\PRIMARY\\DIXON\\NONE\\FAT"),
        ),
        (group(0x00189197, fd(0x00189090, 0, 0, 1)), ("velocity direction", "0.0\\0.0\\1.0")),
        (
            group(0x00189226, Plain(0x00089208, "CS", b"MAGNITUDE ")),
            ("complex component", "MAGNITUDE"),
        ),
        (
            group(0x00189329, Plain(0x00089007, "CS", b"ORIGINAL\\PRIMARY\\AXIAL ")),
            ("image type", "ORIGINAL\\PRIMARY\\AXIAL"),
        ),
        (group(0x00189114, fd(0x00189082, 4.6)), ("echo time", "4.6")),
        (group(0x00189314, Plain(0x00181210, "SH", b"B30f")), ("reconstruction kernel", "B30f")),
        (group(0x00189325, Plain(0x00180060, "DS", b"80")), ("tube voltage", "80")),
        (group(0x0062000A, us(0x0062000B, 3)), ("segment", "3")),
    ],
)
def test_what_sets_a_frame_apart_is_read_from_its_groups(
    frame_group: Nested, meaning: tuple[str, str]
) -> None:
    top = Plain(0x00200011, "IS", b"7 ")
    found = poses_of(top, per_frame((frame_group,), (placed("1\\2\\3"),)))
    series = ("series number", "7")
    assert [pose.meaning for pose in found] == [tuple(sorted([meaning, series])), (series,)]


@pytest.mark.parametrize(
    ("element", "name", "value"),
    [
        (Plain(0x00189082, "UN", struct.pack("<d", 4.6)), "echo time", "4.6"),
        (Plain(0x00189082, "FL", struct.pack("<f", 0.5)), "echo time", "0.5"),
        (Plain(0x00189082, "DS", b"4.60"), "echo time", "4.60"),
    ],
)
def test_a_group_is_read_in_the_vr_that_stands_there(element: Plain, name: str, value: str) -> None:
    (pose,) = poses_of(per_frame((group(0x00189114, element),)))
    assert pose.meaning == ((name, value),)


@pytest.mark.parametrize("encoding", [IMPLICIT, BIG], ids=["implicit", "big endian"])
def test_groups_are_read_in_the_encoding_of_the_file(encoding: Encoding) -> None:
    order = encoding.order
    said = (
        group(0x00189114, fd(0x00189082, 4.5, order=order)),
        group(0x0062000A, us(0x0062000B, 3, encoding)),
        group(0x00189118, fd(0x00209153, 40.0, order=order)),
        group(FRAME_CONTENT, Plain(TEMPORAL, "UL", struct.pack(order + "I", 2))),
    )
    (pose,) = poses_of(per_frame(said), encoding=encoding)
    assert pose.meaning == (("echo time", "4.5"), ("segment", "3"))
    assert pose.times == ((2.0,), None, (40.0,), *[None] * 7)


def test_an_element_without_a_vr_costs_the_others_nothing() -> None:
    private = Plain(0x00211001, "", b"ab")
    beside = per_frame((placed("1\\2\\3"), private), (placed("1\\2\\5"), private))
    for more in ((), (private,)):
        first = Plain(0x00080060, "CS", b"MR")
        found = poses_of(first, *more, shared(MEASURED), beside)
        assert [p.position for p in found] == [(1.0, 2.0, 3.0), (1.0, 2.0, 5.0)]
        assert {p.spacing for p in found} == {(0.7, 0.5)}


@pytest.mark.parametrize("inner", [EXPLICIT, IMPLICIT], ids=["explicit", "implicit"])
def test_a_sequence_whose_vr_was_not_known_is_read_as_it_stands(inner: Encoding) -> None:
    group_of = Nested(PLANE_POSITION, ((ds(POSITION, "1\\2\\3"),),))
    items = element_bytes(Nested(PER_FRAME, ((group_of,),)), inner)[
        8 if inner.is_implicit else 12 :
    ]
    (pose,) = poses_of(Plain(PER_FRAME, "UN", items))
    assert pose.position == (1.0, 2.0, 3.0)


def test_a_number_whose_vr_was_not_known_is_no_text() -> None:
    content = group(FRAME_CONTENT, Plain(TEMPORAL, "UN", b"1\0\0\0"))
    (pose,) = poses_of(per_frame((content,)))
    assert pose.times[0] == (49.0,)


def test_decimals_that_stand_in_a_binary_vr_are_numbers() -> None:
    own = group(MEASURES, fd(SPACING, 0.5, 0.25), Plain(THICKNESS, "FL", struct.pack("<f", 2)))
    (pose,) = poses_of(per_frame((own,)))
    assert (pose.spacing, pose.thickness) == ((0.5, 0.25), 2.0)


def test_only_of_an_image_type_are_further_values_left_out() -> None:
    echoes = [group(0x00189114, fd(0x00189082, 1, 2, 3, last)) for last in (4, 5)]
    one, other = poses_of(per_frame(*((e,) for e in echoes)))
    assert one.meaning != other.meaning


AXIAL = [ds(POSITION, "1\\2\\3"), ds(ORIENTATION, "1\\0\\0\\0\\1\\0")]
OFFSETS = 0x3004000C


@pytest.mark.parametrize(
    ("orientation", "offsets", "places"),
    [
        ("1\\0\\0\\0\\1\\0", "0\\2.5\\5", [(1, 2, 3), (1, 2, 5.5), (1, 2, 8)]),
        ("1\\0\\0\\0\\1\\0", "0\\-2\\-4", [(1, 2, 3), (1, 2, 1), (1, 2, -1)]),
        ("1\\0\\0\\0\\1\\0", "3\\5\\7", [(1, 2, 3), (1, 2, 5), (1, 2, 7)]),
        ("0\\1\\0\\0\\0\\1", "0\\2\\4", [(1, 2, 3), (3, 2, 3), (5, 2, 3)]),
        ("1\\0\\0\\0\\-1\\0", "0\\2\\4", [(1, 2, 3), (1, 2, 1), (1, 2, -1)]),
        ("1\\0\\0\\0\\-1\\0", "3\\5\\7", [(1, 2, 3), (1, 2, 5), (1, 2, 7)]),
    ],
)
def test_the_frames_of_a_dose_lie_at_their_offsets_along_the_normal_or_at_their_heights(
    orientation: str, offsets: str, places: list[tuple[float, float, float]]
) -> None:
    found = poses_of(AXIAL[0], ds(ORIENTATION, orientation), ds(OFFSETS, offsets), frames=3)
    assert [pose.position for pose in found] == places


@pytest.mark.parametrize(
    ("top", "frames"),
    [
        ([*AXIAL, ds(OFFSETS, "0\\2")], 3),
        ([*AXIAL, ds(OFFSETS, "0\\2\\x")], 3),
        ([*AXIAL, ds(OFFSETS, "4")], 1),
        ([AXIAL[0], ds(OFFSETS, "0\\2\\4")], 3),
        ([AXIAL[1], ds(OFFSETS, "0\\2\\4")], 3),
    ],
)
def test_offsets_that_do_not_fit_the_frames_place_none_of_them(
    top: list[Plain], frames: int
) -> None:
    (pose,) = poses_of(*top, frames=frames)
    assert pose.position in {(1.0, 2.0, 3.0), None}


def images_of(*facts: tuple[Plain, ...]) -> list[dict[str, str]]:
    """Stack one slice per tuple of elements, two millimetres apart, and tell what split them."""
    poses = [
        poses_of(ds(POSITION, f"0\\0\\{n // 2 * 2}"), AXIAL[1], *said)[0]
        for n, said in enumerate(facts)
    ]
    frames = [Frame(n, 0, GRAY, pose) for n, pose in enumerate(poses)]
    return [image.split_by for image in stack(frames)]


def kind(value: bytes) -> tuple[Plain, ...]:
    return (Plain(0x00080008, "CS", even(value)),)


@pytest.mark.parametrize(
    ("facts", "rule"),
    [
        ([(Plain(0x00180086, "IS", n),) for n in (b"1 ", b"2 ")], "echo"),
        ([(ds(0x00180081, n), Plain(0x00180086, "IS", b"1 ")) for n in ("5", "9")], "echo time"),
        ([kind(b"ORIGINAL\\PRIMARY\\" + k) for k in (b"M", b"P")], "image type"),
        ([(Plain(0x00089208, "CS", k),) for k in (b"REAL", b"PHASE ")], "complex component"),
    ],
)
def test_dual_echoes_and_magnitude_and_phase_are_images_of_their_own(
    facts: list[tuple[Plain, ...]], rule: str
) -> None:
    found = images_of(*facts * 3)
    assert len(found) == 2
    assert all(set(split_by) == {rule} for split_by in found)


def test_image_types_that_differ_only_behind_the_third_value_stay_together() -> None:
    facts = [kind(b"ORIGINAL\\PRIMARY\\M\\" + k) for k in (b"ND", b"ND\\NORM", b"DIS2D", b"ND")]
    assert images_of(*facts) == [{}]


def test_what_makers_call_their_contrasts_behind_the_third_value_sets_them_apart() -> None:
    facts = [kind(b"DERIVED\\PRIMARY\\DIXON\\ND\\" + k) for k in (b"WATER", b"FAT")]
    assert [split["image type"].split("\\")[-1] for split in images_of(*facts * 2)] == [
        "WATER",
        "FAT",
    ]


@pytest.mark.parametrize(
    ("creator", "numeral", "component"),
    [
        (b"GEMS_PARM_01", 0, "MAGNITUDE"),
        (b"GEMS_PARM_01", 1, "PHASE"),
        (b"GEMS_PARM_01", 3, "IMAGINARY"),
        (b"GEMS_PARM_01", 9, None),
        (b"ANOTHER MAKER ", 1, None),
    ],
)
def test_complex_components_are_those_that_ge_numbers(
    creator: bytes, numeral: int, component: str | None
) -> None:
    private = Plain(0x0043102F, "SS", numeral.to_bytes(2, "little"))
    (pose,) = poses_of(Plain(0x00430010, "LO", creator), private)
    assert dict(pose.meaning).get("complex component") == component


def test_the_frames_of_an_ultrasound_volume_lie_in_its_own_coordinates() -> None:
    def frame_group(z: float) -> tuple[Built, ...]:
        return (group(0x0020930E, fd(0x00209301, 1, 2, z)),)

    orientation = group(0x0020930F, fd(0x00209302, 1, 0, 0, 0, 1, 0))
    found = poses_of(shared(orientation), per_frame(frame_group(0), frame_group(0.5)))
    assert [pose.position for pose in found] == [(1, 2, 0), (1, 2, 0.5)]
    assert {(pose.coordinates, pose.orientation) for pose in found} == {
        ("volume", (1, 0, 0, 0, 1, 0))
    }


@pytest.mark.parametrize("sop_class", ["481.2", "30", "66.4"])
def test_an_instance_that_is_a_volume_is_one_by_itself(sop_class: str) -> None:
    said = Plain(0x00080016, "UI", even(f"1.2.840.10008.5.1.4.1.1.{sop_class}".encode()))
    name = Plain(0x00080018, "UI", b"1.2.3\0")
    (pose,) = poses_of(said, name, frames=2)
    assert pose.meaning == (("instance", "1.2.3"),)
    (single,) = poses_of(said, name, frames=1)
    assert single.meaning == (), "planes that stand in files of their own stack"


def test_a_frame_knows_the_stack_that_it_is_of() -> None:
    stacks = (group(FRAME_CONTENT, Plain(0x00209056, "SH", name)) for name in (b"1 ", b"2 "))
    assert [pose.stack for pose in poses_of(per_frame(*((s,) for s in stacks)))] == ["1", "2"]


def test_only_what_has_no_place_is_told_apart_by_its_view() -> None:
    (pose,) = poses_of(ds(POSITION, "0\\0\\0"), Plain(0x00200062, "CS", b"L "))
    assert pose.meaning == ()


def test_the_parts_of_a_concatenation_know_their_order() -> None:
    number = Plain(0x00209228, "UL", (40).to_bytes(4, "little"))
    (pose,) = poses_of(Plain(0x00209161, "UI", b"1.2.3\0"), number)
    assert pose.concatenation == ("1.2.3", 40)
