from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from dicom_files import AXIAL
from hypothesis import given, settings
from hypothesis import strategies as st

from dicomzarr_watch.dicom.frames import PixelFormat
from dicomzarr_watch.dicom.geometry import along_normal, normal, same_place
from dicomzarr_watch.dicom.grouping import SPLIT_RULES, Frame
from dicomzarr_watch.dicom.pose import MEANINGS, TIME_KEYS, Moment, Point, Pose
from dicomzarr_watch.dicom.stacks import Image, stack
from dicomzarr_watch.dicom.tiles import TileGrid

GRAY = PixelFormat(
    rows=8,
    columns=6,
    samples=1,
    bits=16,
    kind="u",
    bits_stored=16,
    photometric="MONOCHROME2",
    is_planar=False,
    is_big_endian=False,
)
ORIENTATIONS = (
    AXIAL,
    (1.0, 0.0, 0.0, 0.0, 0.0, -1.0),
    (0.0, 1.0, 0.0, 0.0, 0.0, -1.0),
    (0.8, 0.6, 0.0, -0.36, 0.48, 0.8),
    (-1.0, 0.0, 0.0, 0.0, 1.0, 0.0),
)
LOWEST, HIGHEST = -9.0, 9.0
COMMON = {"temporal position", "b-value and direction", "phase", "acquisition number"}
"""Keys that all slices of a moment mostly share."""
Times = tuple[Moment | None, ...]
NO_TIMES: Times = (None,) * len(TIME_KEYS)


def frame(
    file: int,
    z: float | None = 0.0,
    *,
    times: Times | None = None,
    number: int = 0,
    format: PixelFormat = GRAY,  # noqa: A002 - as the field is named
    orientation: tuple[float, ...] | None = AXIAL,
    **facts: Any,
) -> Frame:
    """Make a frame at z mm along its normal; its instance number is that of its file."""
    pose = Pose(
        position=placed(z, orientation) if z is not None else None,
        orientation=orientation,
        spacing=(1.0, 1.0),
        instance_number=file,
        times=times or (*NO_TIMES[1:], (float(file),)),
    )
    return Frame(file, number, format, replace(pose, **facts))


def acquired(number: int) -> Times:
    at = TIME_KEYS.index("acquisition number")
    return (*NO_TIMES[:at], (float(number),), *NO_TIMES[at + 1 :])


def tiled(file: int, z: float | None, tile: int, **facts: Any) -> Frame:
    """Make a frame that is one of six tiles."""
    return replace(frame(file, z, **facts), grid=TileGrid((20, 10), (8, 6)), tile=tile)


def placed(z: float, orientation: tuple[float, ...] | None) -> Point:
    x, y, height = normal(orientation or AXIAL) * z
    return (float(x), float(y), float(height))


def only(images: Sequence[Image]) -> Image:
    (image,) = images
    return image


def files(image: Image) -> list[int]:
    return [f.file for f in image.frames]


@st.composite
def many_frames(draw: st.DrawFn) -> list[Frame]:
    """Draw frames as a messy series has them: mixed, repeated, without place, of several files."""
    heights = st.one_of(
        st.none(), st.integers(0, 6).map(lambda k: k * 1.5), st.floats(LOWEST, HIGHEST)
    )
    moments = st.lists(st.integers(0, 3).map(float), min_size=1, max_size=2).map(tuple)
    times = st.tuples(*[st.one_of(st.none(), moments)] * len(TIME_KEYS))
    formats = st.sampled_from([GRAY, replace(GRAY, rows=4), replace(GRAY, kind="i")])
    found = [
        frame(
            i // draw(st.integers(1, 2)),
            draw(heights),
            number=i,
            times=draw(times),
            format=draw(formats),
            orientation=draw(st.sampled_from([AXIAL, ORIENTATIONS[1], None])),
        )
        for i in range(draw(st.integers(0, 14)))
    ]
    tiles = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 5)), max_size=12)
    return found + [
        tiled(file, None, tile, number=len(found) + n) for n, (file, tile) in enumerate(draw(tiles))
    ]


@settings(max_examples=80)
@given(many_frames())
def test_every_frame_is_in_exactly_one_image(frames: list[Frame]) -> None:
    images = stack(frames)
    found = [f for image in images for f in image.frames]
    assert sorted(f.number for f in found) == [f.number for f in frames]
    for image in images:
        assert len(set(image.planes)) == len(image.planes) == len(image.frames)
        assert set(image.planes) <= set(range(image.shape[0] * image.shape[1]))
        assert image.grid or len(image.planes) == image.shape[0] * image.shape[1]
        assert not image.grid or [f.tile for f in image.frames] == list(image.planes)
        assert {replace(f.format, bits_stored=16) for f in image.frames} == {
            replace(image.format, bits_stored=16)
        }


@settings(max_examples=80)
@given(st.lists(st.tuples(st.integers(1, 3), st.integers(0, 6)), max_size=20))
def test_every_frame_of_acquisitions_is_in_exactly_one_image(taken: list[tuple[int, int]]) -> None:
    found = [frame(n, 1.5 * z, times=acquired(a)) for n, (a, z) in enumerate(taken)]
    assert sorted(n for image in stack(found) for n in files(image)) == list(range(len(taken)))


@settings(max_examples=80)
@given(many_frames(), st.data())
def test_the_order_in_which_frames_come_makes_no_difference(
    frames: list[Frame], data: st.DataObject
) -> None:
    shuffled = data.draw(st.permutations(frames))
    assert stack(shuffled) == stack(frames)


@settings(max_examples=80)
@given(many_frames())
def test_z_rises_along_the_normal_wherever_frames_have_a_place(frames: list[Frame]) -> None:
    for image in stack(frames):
        if image.z_by != "position":
            continue
        times, slices = image.shape
        for t in range(times):
            moment = image.frames[t * slices : (t + 1) * slices]
            places = [along_normal(f.pose) for f in moment]
            steps = np.diff(np.array(places, float))
            assert (steps >= -same_place(HIGHEST - LOWEST)).all(), "but for what counts as one"


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_slices_follow_the_normal_not_the_instance_number(orientation: tuple[float, ...]) -> None:
    rng = np.random.default_rng(7)
    order = rng.permutation(9)
    frames = [frame(int(n), float(z) * 2.5, orientation=orientation) for z, n in enumerate(order)]
    image = only(stack(frames[::-1]))
    assert files(image) == order.tolist()
    assert (image.shape, image.z_by, image.t_by) == ((1, 9), "position", "")
    assert image.geometry.spacing[2] == pytest.approx(2.5)
    assert image.findings == ()


@pytest.mark.parametrize("key", range(len(TIME_KEYS)))
def test_frames_at_one_place_are_moments_by_the_first_key_that_tells_them_apart(key: int) -> None:
    def times(t: int, z: int) -> Times:
        told = [5.0] * len(TIME_KEYS)  # what is the same for all tells nothing apart
        own, z_own = 10.0 * t, 0 if TIME_KEYS[key] in COMMON else z
        told[key:] = [own + z_own] + [100.0 - own - z_own] * (len(TIME_KEYS) - 1 - key)
        return tuple((number,) for number in told)

    # b-values are in the order in which they were scanned
    is_scanned = TIME_KEYS[key] == "b-value and direction"
    numbers = [
        (t, z, (10 * t if is_scanned else 90 - 10 * t) + z) for t in range(3) for z in range(4)
    ]
    image = only(stack([frame(n, z * 2.0, times=times(t, z)) for t, z, n in numbers]))
    assert (image.shape, image.t_by) == ((3, 4), TIME_KEYS[key])
    assert files(image) == [n for _, _, n in numbers]
    assert image.geometry.spacing[2] == pytest.approx(2.0)
    is_shared = TIME_KEYS[key] in COMMON
    assert image.moments.get(TIME_KEYS[key]) == (((0.0,), (10.0,), (20.0,)) if is_shared else None)


def test_a_key_that_one_frame_lacks_is_passed_over() -> None:
    frames = [
        frame(n, z, times=(None if n == 3 else (float(-n),), *NO_TIMES[2:], (float(n),)))
        for n, z in enumerate([0.0, 2.0, 0.0, 2.0])
    ]
    image = only(stack(frames))
    assert (image.t_by, files(image)) == ("instance number", [0, 1, 2, 3])


def test_moments_that_no_key_tells_apart_stand_in_the_order_of_the_files() -> None:
    same: Times = (*NO_TIMES[1:], (1.0,))
    image = only(stack([frame(n, z, times=same) for n, z in enumerate([0.0, 0.0, 2.0, 2.0])]))
    assert (image.shape, image.t_by) == ((2, 2), "file order")
    assert files(image) == [0, 2, 1, 3]
    assert image.findings == ("moments-uncertain",)


def test_what_all_places_say_alike_goes_before_what_each_says_by_itself() -> None:
    """A heart in turns: slices are taken one after the other, each at some moment of the cycle."""
    taken = [4.0, 5.0, 3.0, 7.0, 5.5, 6.0]
    told: list[Times] = [(None, (t,), (n // 3 * 20.0,), *NO_TIMES[3:]) for n, t in enumerate(taken)]
    image = only(stack([frame(n, 2.0 * (n % 3), times=told[n]) for n in range(6)]))
    assert (image.t_by, files(image), image.findings) == ("trigger time", [0, 1, 2, 3, 4, 5], ())


@pytest.mark.parametrize(
    ("taken", "is_certain"),
    [
        ([1.0, 3.0, 2.0, 4.0, 6.0, 5.0], True),
        ([1.0, 3.0, 5.0, 2.0, 4.0, 6.0], True),
        ([1.0, 2.0, 4.0, 3.0, 6.0, 5.0], False),
    ],
    ids=["moment by moment", "place by place", "in no turns"],
)
def test_times_that_nothing_else_confirms_are_certain_where_slices_are_taken_in_turns(
    taken: list[float], *, is_certain: bool
) -> None:
    told: list[Times] = [(None, (t,), *NO_TIMES[2:]) for t in taken]
    image = only(stack([frame(n, 2.0 * (n % 3), times=told[n]) for n in range(6)]))
    assert image.t_by == "acquisition time"
    assert image.findings == (() if is_certain else ("moments-uncertain",))


@pytest.mark.parametrize(("taken", "is_certain"), [([3, 2, 1], True), ([1, 3, 2], False)])
def test_one_slice_whose_times_and_numbers_go_other_ways_is_a_finding(
    taken: list[float], *, is_certain: bool
) -> None:
    told: list[Times] = [(None, (t,), *NO_TIMES[3:], (float(n),)) for n, t in enumerate(taken)]
    image = only(stack([frame(n, 0.0, times=told[n]) for n in range(3)]))
    assert image.t_by == "acquisition time"
    assert image.findings == (() if is_certain else ("moments-uncertain",))


@pytest.mark.parametrize("numbers", ["instance number", "dimension index"])
def test_times_that_say_another_order_than_the_numbers_of_the_frames_make_no_moments(
    numbers: str,
) -> None:
    taken = [4.0, 5.0, 6.0, 7.0, 5.5, 5.0]  # the last slice was taken the other way round
    at = TIME_KEYS.index(numbers)
    told: list[Times] = [
        (None, (t,), *NO_TIMES[2:at], (float(n),), *NO_TIMES[at + 1 :]) for n, t in enumerate(taken)
    ]
    image = only(stack([frame(n, 2.0 * (n % 3), times=told[n]) for n in range(6)]))
    assert (image.t_by, files(image)) == (numbers, [0, 1, 2, 3, 4, 5])
    assert image.findings == ("moments-uncertain",)


UNEVEN = ("positions-repeat-unevenly",)


def test_a_slice_that_is_there_twice_stands_apart_from_its_volume() -> None:
    images = stack([frame(n, z) for n, z in enumerate([0.0, 2.0, 0.0, 4.0])])
    assert [(image.shape, files(image)) for image in images] == [((1, 3), [0, 1, 3]), ((1, 1), [2])]
    assert [image.findings for image in images] == [UNEVEN, UNEVEN]
    assert [image.split_by for image in images] == [{"part": "1"}, {"part": "2"}]
    assert images[0].geometry.spacing[2] == 2.0


def moment(t: float) -> Times:
    return ((t,), *NO_TIMES[1:])


def test_the_last_volume_of_a_scan_that_was_stopped_stands_apart() -> None:
    places = [(t, z) for t in range(3) for z in range(4 if t < 2 else 2)]
    images = stack([frame(n, 3.0 * z, times=moment(t)) for n, (t, z) in enumerate(places)])
    assert [image.shape for image in images] == [(2, 4), (1, 2)]
    assert [image.geometry.spacing[2] for image in images] == [3.0, 3.0]
    assert [image.findings for image in images] == [UNEVEN, UNEVEN]


def test_volumes_that_lie_between_each_other_are_images_of_their_own() -> None:
    """dcm2niix#888: the first volume of a diffusion scan lies 3.5 mm off."""
    places = [(t, z) for t in range(3) for z in range(4)]
    images = stack(
        [frame(n, 4.0 * z + (0 if t else 3.5), times=moment(t)) for n, (t, z) in enumerate(places)]
    )
    assert [image.shape for image in images] == [(2, 4), (1, 4)]
    assert all(image.geometry.is_regular for image in images)
    alone = stack([frame(n, 4.0 * (n % 4) + n // 4, times=moment(n // 4)) for n in range(8)])
    assert [image.shape for image in alone] == [(1, 4), (1, 4)]


def test_a_slice_twice_in_one_moment_stands_apart_from_all_moments() -> None:
    places = [(t, z) for t in range(4) for z in range(3)] + [(1, 2)]
    images = stack([frame(n, 3.0 * z, times=moment(t)) for n, (t, z) in enumerate(places)])
    assert [(image.shape, files(image)) for image in images] == [
        ((4, 3), list(range(12))),
        ((1, 1), [12]),
    ]


def test_a_slice_missing_of_one_moment_shifts_no_other_moment() -> None:
    """Nothing but the numbers of the instances tells moments apart."""
    places = [(t, z) for t in range(4) for z in range(3) if (t, z) != (1, 2)]
    images = stack([frame(3 * t + z, 3.0 * z) for t, z in places])
    assert [(image.shape, files(image)) for image in images] == [
        ((4, 2), [0, 1, 3, 4, 6, 7, 9, 10]),
        ((3, 1), [2, 8, 11]),
    ]


def test_moments_that_are_counted_as_acquisitions_stay_one_image() -> None:
    places = [(t, z) for t in range(4) for z in range(3) if (t, z) != (1, 2)]
    images = stack([frame(n, 3.0 * z, times=acquired(t)) for n, (t, z) in enumerate(places)])
    assert [(image.shape, image.split_by) for image in images] == [
        ((3, 3), {"acquisition": "0 to 3"}),
        ((1, 2), {"acquisition": "1"}),
    ]


@pytest.mark.parametrize("name", ["of each frame", "of each package", "of each moment"])
def test_the_names_of_stacks_divide_no_grid(name: str) -> None:
    def named(n: int) -> str:
        return str({"of each frame": n, "of each package": n % 3, "of each moment": n // 9}[name])

    found = [frame(n, 3.0 * (n % 9), stack=named(n)) for n in range(18)]
    assert only(stack(found)).shape == (2, 9)


def test_stacks_that_overlap_are_images_of_their_own() -> None:
    found = [frame(10 * s + n, 5.0 * n + 15.0 * s, stack=str(s)) for s in (1, 2) for n in range(5)]
    assert [image.split_by for image in stack(found)] == [{"stack": "1"}, {"stack": "2"}]


def test_packages_whose_places_are_rounded_are_one_volume() -> None:
    heights = [round(10.0 / 3.0 * n, 1) for n in range(21)]
    found = [frame(n, z, times=moment(n % 3)) for n, z in enumerate(heights)]
    assert only(stack(found)).findings == ("spacing-varies",)


def test_a_moment_that_lies_elsewhere_is_a_finding() -> None:
    places = [(t, z) for t in range(2) for z in range(3)]
    found = [frame(n, position=(0.59 * t, 0.0, 2.0 * z)) for n, (t, z) in enumerate(places)]
    assert only(stack(found)).findings == ("moments-not-aligned",)


def test_more_lines_than_can_be_are_none() -> None:
    rng = np.random.default_rng(1)
    found = [frame(n, position=(*rng.uniform(-1e4, 1e4, 2), 0.0)) for n in range(200)]
    assert only(stack(found)).shape == (200, 1)


def test_acquisitions_that_overlap_are_images_of_their_own() -> None:
    images = stack(
        [frame(10 * a + n, 5.0 * n + 15.0 * a, times=acquired(a)) for a in (0, 1) for n in range(5)]
    )
    assert [image.split_by for image in images] == [{"acquisition": "0"}, {"acquisition": "1"}]
    assert [image.shape for image in images] == [(1, 5), (1, 5)]


def test_a_slice_that_an_acquisition_has_twice_takes_none_of_its_others_away() -> None:
    """What is apart of an acquisition has its number as well, and took its place."""
    places = [(a, 4.0 * n + 2.0 * a) for a in (0, 1) for n in range(5)] + [(0, 8.0)]
    images = stack([frame(n, z, times=acquired(a)) for n, (a, z) in enumerate(places)])
    assert [(image.split_by, files(image)) for image in images] == [
        ({"acquisition": "0, part 1"}, [0, 1, 2, 3, 4]),
        ({"acquisition": "1"}, [5, 6, 7, 8, 9]),
        ({"acquisition": "0, part 2"}, [10]),
    ]


def test_acquisitions_beside_each_other_are_one_image() -> None:
    """A head is often scanned with thin slices below and thick ones above."""
    heights = [0.0, 2.0, 4.0, 6.0, 11.0, 16.0]
    found = [frame(n, z, times=acquired(n // 4)) for n, z in enumerate(heights)]
    assert only(stack(found)).findings == ("spacing-varies",)


def test_what_lies_beside_a_line_of_slices_is_not_on_it() -> None:
    sides = [(x, 2.0 * n) for x in (-80.0, 90.0) for n in range(4)]
    images = stack([frame(n, position=(x, 0.0, z)) for n, (x, z) in enumerate(sides)])
    assert [(image.shape, image.split_by) for image in images] == [
        ((1, 4), {"line": "1"}),
        ((1, 4), {"line": "2"}),
    ]
    assert [image.geometry.origin[0] for image in images] == [-80.0, 90.0]


def test_a_steep_tilt_is_one_line() -> None:
    """Eight pixels of 1 mm are passed by with every fourth slice."""
    image = only(stack([frame(n, position=(0.0, 2.0 * n, 3.0 * n)) for n in range(40)]))
    assert image.shape == (1, 40)


def test_a_slice_that_is_a_little_beside_the_others_is_a_finding() -> None:
    places = [(0.0 if n != 2 else 0.59, 2.0 * n) for n in range(5)]
    image = only(stack([frame(n, position=(x, 0.0, z)) for n, (x, z) in enumerate(places)]))
    assert image.findings == ("slices-not-in-line",)


def test_slices_a_few_micrometres_apart_are_slices() -> None:
    fine: dict[str, Any] = {"spacing": (0.004, 0.004), "thickness": 0.004}
    image = only(stack([frame(n, 0.004 * n, **fine) for n in range(12)]))
    assert (image.shape, image.findings) == ((1, 12), ())
    assert image.geometry.spacing[2] == pytest.approx(0.004)


def test_noise_in_the_orientation_moves_no_slice_however_far_from_the_origin() -> None:
    rng = np.random.default_rng(3)

    def noisy(n: int) -> Frame:
        found = tuple(float(v) for v in np.array(AXIAL) + rng.normal(0, 3e-5, 6))
        place = (-200.0, -200.0, 2.0 * (n % 6))
        return frame(n, position=place, orientation=found, times=moment(n // 6))

    image = only(stack([noisy(n) for n in range(24)]))
    assert (image.shape, image.findings) == ((4, 6), ())


def test_no_edge_of_a_rounding_splits_a_volume() -> None:
    edge = 0.1235
    tilted = [(float(np.cos(a)), float(np.sin(a)), 0.0, *AXIAL[3:]) for a in (edge, edge + 1e-6)]
    frames = [frame(n, 2.0 * n, orientation=tilted[n % 2]) for n in range(6)]
    spacing = [frame(n, 2.0 * n, spacing=(0.78125 + n * 1e-10,) * 2) for n in range(6)]
    assert len(stack(frames)) == len(stack(spacing)) == 1


def test_stored_bits_that_vary_from_slice_to_slice_split_nothing() -> None:
    formats = [replace(GRAY, bits_stored=bits) for bits in (12, 13, 12)]
    image = only(stack([frame(n, 2.0 * n, format=f) for n, f in enumerate(formats)]))
    assert image.format.bits_stored == 13


@pytest.mark.parametrize(
    ("shift", "last", "shape"),
    [(0.009, 6.0, (2, 4)), (0.019, 6.0, (2, 4)), (0.5, 6.0, (1, 5)), (0.5, 99.0, (1, 5))],
)
def test_places_count_as_one_within_a_hundredth_of_the_spacing(
    shift: float, last: float, shape: tuple[int, int]
) -> None:
    frames = [frame(n, z) for n, z in enumerate([0.0, 2.0, 4.0, last, shift, 2.0, 4.0, last])]
    assert stack(frames)[0].shape == shape


SPLITS = {
    "matrix size": frame(1, format=replace(GRAY, rows=2)),
    "sample type": frame(1, format=replace(GRAY, kind="i")),
    "samples per pixel": frame(1, format=replace(GRAY, samples=3)),
    "photometric interpretation": frame(1, format=replace(GRAY, photometric="MONOCHROME1")),
    "storage": frame(1, format=replace(GRAY, is_big_endian=True)),
    "orientation": frame(1, orientation=ORIENTATIONS[1]),
    "frame of reference": frame(1, frame_of_reference="1.2"),
    "pixel spacing": frame(1, spacing=(2.0, 2.0)),
    "place": frame(1, position=None),
    "copy": replace(frame(1), copy=1),
    "total pixel matrix": replace(frame(1, None), grid=TileGrid((8, 6), (8, 6))),
    "matrix origin": tiled(1, 1.0, 1),
    **{name: frame(1, meaning=((name, "2"),)) for name in MEANINGS},
}


def test_every_rule_that_splits_a_series_is_tried() -> None:
    assert set(SPLITS) == set(SPLIT_RULES)


@pytest.mark.parametrize("rule", SPLITS)
def test_what_means_another_voxel_is_another_image_and_says_by_which_rule(rule: str) -> None:
    others = [frame(0, 0.0), frame(2, 2.0)]
    if rule == "matrix origin":
        others = [tiled(0, 0.0, 0), tiled(2, 0.0, 2)]
    images = stack([others[0], SPLITS[rule], others[1]])
    assert sorted(len(i.frames) for i in images) == [1, 2]
    assert all(set(i.split_by) == {rule} for i in images)
    assert images[0].split_by != images[1].split_by
    is_optional = rule in {"frame of reference", "place", "total pixel matrix", *MEANINGS}
    assert all(i.split_by[rule] for i in images) or is_optional


def test_a_series_of_one_kind_says_nothing_of_splitting() -> None:
    assert only(stack([frame(0), frame(1, 2.0)])).split_by == {}


def test_orientations_that_differ_by_rounding_are_one() -> None:
    almost = (1.0, -0.0, 0.0001, 0.0, 1.0, -0.0001)
    frames = [frame(0, 0.0, orientation=almost), frame(1, 2.0)]
    assert len(stack(frames)) == 1
    images = stack([*frames, frame(2, orientation=ORIENTATIONS[1])])
    assert images[0].split_by == {"orientation": "1.0 0.0 0.0001 0.0 1.0 -0.0001"}


def test_the_largest_image_comes_first_and_of_equals_that_of_the_first_file() -> None:
    small = replace(GRAY, rows=2)
    many = [frame(n, n * 2.0, format=small) for n in range(3)]
    assert [files(i) for i in stack([*many, frame(3, 1.0)])] == [[3], [0, 1, 2]]
    images = stack([frame(1, format=replace(GRAY, kind="i")), frame(0)])
    assert [files(i) for i in images] == [[0], [1]]


def test_the_frames_of_a_cine_are_moments() -> None:
    taken: list[Times] = [(None, (0.0, 40.0 * n), *NO_TIMES[2:]) for n in range(3)]
    image = only(stack([frame(0, None, number=n, times=taken[n]) for n in (2, 0, 1)]))
    assert (image.shape, image.z_by, image.t_by) == ((3, 1), "", "frame number")
    assert [f.number for f in image.frames] == [0, 1, 2]
    assert image.moments == {"acquisition time": ((0.0, 0.0), (0.0, 40.0), (0.0, 80.0))}


def test_cines_and_stills_of_one_series_are_images_of_their_own() -> None:
    cines = [frame(file, None, number=n) for file in (0, 2) for n in range(3)]
    images = stack([*cines, frame(1, None), frame(3, None)])
    assert [(image.shape, set(files(image))) for image in images] == [
        ((3, 1), {0}),
        ((3, 1), {2}),
        ((1, 2), {1, 3}),
    ]


def test_the_parts_of_a_concatenation_are_one_cine_in_their_own_order() -> None:
    parts = [
        frame(file, None, number=n, instance_number=1, concatenation=("1.2", 4 - 2 * file))
        for file in range(3)
        for n in range(2)
    ]
    image = only(stack(parts))
    assert (image.shape, files(image)) == ((6, 1), [2, 2, 1, 1, 0, 0])


def test_single_files_without_a_place_are_slices_by_instance_number() -> None:
    frames = [frame(n, None, instance_number=9 - n) for n in range(3)]
    image = only(stack(frames))
    assert (image.shape, image.z_by, files(image)) == ((1, 3), "instance number", [2, 1, 0])
    assert not image.geometry.is_placed


def test_one_frame_without_place_costs_the_others_none_of_theirs() -> None:
    images = stack([frame(0, 9.0), frame(1, None), frame(2, 3.0)])
    assert [(i.z_by, files(i)) for i in images] == [("position", [2, 0]), ("instance number", [1])]
    assert [i.split_by for i in images] == [{"place": ""}, {"place": "unknown"}]


@pytest.mark.parametrize(
    ("heights", "finding"),
    [
        ([0.0, 2.0, 4.0], ()),
        ([0.0, 2.0, 6.0, 8.0], ("slices-missing",)),
        ([0.0, 2.0, 5.0, 9.0], ("spacing-varies",)),
    ],
)
def test_what_is_not_regular_is_a_finding(heights: list[float], finding: tuple[str, ...]) -> None:
    image = only(stack([frame(n, z) for n, z in enumerate(heights)]))
    assert image.findings == finding


def test_a_gantry_tilt_is_a_finding() -> None:
    frames = [frame(n, position=(0.0, 0.5 * n, 2.0 * n)) for n in range(4)]
    image = only(stack(frames))
    assert image.findings == ("sheared",)
    assert image.geometry.tilt_deg == pytest.approx(14.0362, abs=1e-3)


def test_b_values_and_directions_are_moments_in_the_order_of_the_scan() -> None:
    told = [(1000.0, 0.0, 1.0, 0.0), (0.0,), (1000.0, 1.0, 0.0, 0.0)]
    frames = [
        frame(3 * z + n, 2.0 * z, times=(*NO_TIMES[:3], moment, *NO_TIMES[4:]))
        for z in range(2)
        for n, moment in enumerate(told)
    ]
    image = only(stack(frames))
    assert (image.shape, image.t_by) == ((3, 2), "b-value and direction")
    assert files(image) == [0, 3, 1, 4, 2, 5]
    assert image.moments == {"b-value and direction": tuple(told)}


def test_b_values_are_told_whatever_moments_are_told_apart_by() -> None:
    """Two volumes without diffusion weighting have the same b-value."""
    told = [(0.0,), (1000.0, 0.0, 1.0, 0.0), (0.0,)]
    frames = [
        frame(3 * z + n, 2.0 * z, times=(None, (float(n),), None, told[n], *NO_TIMES[4:]))
        for z in range(2)
        for n in range(3)
    ]
    image = only(stack(frames))
    assert image.t_by == "acquisition time"
    assert image.moments["b-value and direction"] == tuple(told)


@pytest.mark.parametrize(
    ("days", "t_by"),
    [
        ((0.0, 0.0), "instance number"),
        ((20240101.0, 20240101.0), "instance number"),
        ((20240101.0, 20240102.0), "acquisition time"),
    ],
)
def test_a_scan_over_midnight_goes_on_behind_it(days: tuple[float, float], t_by: str) -> None:
    times = [(days[0], 235950.0), (days[1], 10.0)]
    frames = [
        frame(n, 0.0, times=(None, t, *NO_TIMES[3:], (float(n),))) for n, t in enumerate(times)
    ]
    image = only(stack(frames))
    assert (files(image), image.t_by) == ([0, 1], t_by)


def test_what_is_said_of_some_frames_only_sets_them_apart() -> None:
    phase = (("complex component", "PHASE"), ("echo", "1"))
    frames = [frame(n, 2.0 * (n % 3), meaning=phase if n > 2 else phase[1:]) for n in range(6)]
    images = stack(frames)
    assert [files(i) for i in images] == [[0, 1, 2], [3, 4, 5]]
    assert [i.split_by for i in images] == [
        {"complex component": ""},
        {"complex component": "PHASE"},
    ]


def test_no_frames_make_no_image() -> None:
    assert stack([]) == ()
