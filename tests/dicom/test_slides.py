"""Where the tiles of a slide stand, as its header says it; PS3.3 C.7.6.17.3."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from dicom_files import BIG, EXPLICIT, IMPLICIT
from pydicom.dataset import Dataset
from slide_files import (
    MATRIX,
    SEGMENTATION,
    TILE,
    Place,
    content,
    places,
    segmentation,
    slide,
    tiles,
)

from dicomzarr_watch.dicom.frames import FrameRun, PixelFormat
from dicomzarr_watch.dicom.geometry import on_slide
from dicomzarr_watch.dicom.grouping import Frame
from dicomzarr_watch.dicom.instance import Instance, read_header
from dicomzarr_watch.dicom.pose import TIME_KEYS, Pose
from dicomzarr_watch.dicom.stacks import Image, stack
from dicomzarr_watch.dicom.tiles import NoTiling, TileGrid, Tiling


def instance(made: Dataset, syntax: str = EXPLICIT.uid) -> Instance:
    return read_header(BytesIO(content(made, syntax))).instance


def tiling(made: Dataset, syntax: str = EXPLICIT.uid) -> Tiling:
    found = instance(made, syntax).tiling
    assert isinstance(found, Tiling)
    return found


def reason(made: Dataset) -> str:
    found = instance(made)
    assert isinstance(found.tiling, NoTiling)
    assert all(pose.position is None for pose in found.poses)
    return found.tiling.reason


def said(found: Tiling, name: str) -> list[str]:
    return [dict(pose.meaning).get(name, "") for pose in found.poses]


@pytest.mark.parametrize("encoding", [EXPLICIT, IMPLICIT, BIG], ids=lambda e: e.uid)
@pytest.mark.parametrize("at", [None, places()[::-1]], ids=["full", "sparse"])
def test_every_frame_has_its_tile(encoding: Any, at: list[Place] | None) -> None:
    found = tiling(slide(tiles(dtype="u2"), at), encoding.uid)
    assert found.grid == TileGrid(MATRIX, TILE)
    assert list(found.tiles) == (list(range(9)) if at is None else list(range(9))[::-1])
    assert len(found.poses) == 9
    assert len({id(pose) for pose in found.poses}) == 1, "not a pose for every tile"


def test_a_matrix_larger_than_16_bits_is_read_in_any_encoding() -> None:
    made = slide(tiles(1), [Place(40_001, 90_001)], matrix=(70_000, 100_000))
    for encoding in (EXPLICIT, IMPLICIT):
        assert list(tiling(made, encoding.uid).tiles) == [10_000 * 16_667 + 15_000]


def test_tiles_come_first_then_focal_planes_then_paths() -> None:
    made = slide(tiles(9 * 4), paths=("A", "B"), TotalPixelMatrixFocalPlanes=2)
    found = tiling(made)
    assert list(found.tiles) == list(range(9)) * 4
    assert said(found, "optical path") == ["A"] * 18 + ["B"] * 18
    assert said(found, "focal plane") == (["1"] * 9 + ["2"] * 9) * 2


def test_segments_come_last_in_the_order_of_their_numbers() -> None:
    found = tiling(segmentation(tiles(9 * 2) % 2, [7, 3]))
    assert said(found, "segment") == ["3"] * 9 + ["7"] * 9
    assert said(found, "optical path") == [""] * 18


def test_a_label_map_has_all_its_segments_in_one_matrix() -> None:
    made = slide(tiles(), SOPClassUID=SEGMENTATION, SegmentationType="LABELMAP")
    made.SegmentSequence = [Dataset(), Dataset()]
    assert said(tiling(made), "segment") == [""] * 9


def test_paths_that_have_one_name_are_told_apart_by_their_order() -> None:
    found = tiling(slide(tiles(18), paths=("A", "A")))
    assert said(found, "optical path") == ["1"] * 9 + ["2"] * 9


@pytest.mark.parametrize("count", [8, 10, 18])
def test_a_number_of_frames_that_does_not_fit_is_no_tiling(count: int) -> None:
    assert reason(slide(tiles(count))) == "tile-count"


def test_a_part_of_a_concatenation_goes_on_where_the_one_before_ended() -> None:
    facts: dict[str, Any] = {"ConcatenationUID": "1.2.9", "paths": ("A", "B")}
    found = tiling(slide(tiles(7), ConcatenationFrameOffsetNumber=6, **facts))
    assert list(found.tiles) == [6, 7, 8, 0, 1, 2, 3]
    assert said(found, "optical path") == ["A"] * 3 + ["B"] * 4
    assert reason(slide(tiles(7), ConcatenationFrameOffsetNumber=12, **facts)) == "tile-count"
    assert reason(slide(tiles(7), **facts)) == "tile-count"


def test_what_stands_nowhere_or_beside_the_grid_is_no_tiling() -> None:
    for wrong, why in [
        (Place(2, 1), "tiles-off-grid"),
        (Place(1, 4), "tiles-off-grid"),
        (Place(13, 1), "tiles-off-grid"),
        (Place(1, 19), "tiles-off-grid"),
        (Place(-3, 1), "tiles-off-grid"),
        (Place(1, None), "tiles-off-grid"),
        (Place(None, None), "tile-positions-missing"),
    ]:
        assert reason(slide(tiles(2), [Place(1, 1), wrong])) == why


def test_a_frame_that_no_group_tells_of_is_no_tiling() -> None:
    assert reason(slide(tiles(3), places()[:2])) == "tile-positions-missing"


def test_groups_that_cannot_be_read_are_no_tiling() -> None:
    made = content(slide(tiles(2), places()[:2]))
    at = made.index(b"\x48\x00\x1a\x02SQ")  # the first plane position's length
    broken = made[: at + 8] + b"\xff\x00\x00\x00" + made[at + 12 :]
    found = read_header(BytesIO(broken)).instance
    assert found.tiling == NoTiling("tile-positions-unreadable")
    assert len(found.poses) == 1


def test_without_an_organization_the_places_of_the_frames_are_what_counts() -> None:
    made = slide(tiles(), places()[::-1], DimensionOrganizationType=None)
    assert list(tiling(made).tiles) == list(range(9))[::-1]
    del made.PerFrameFunctionalGroupsSequence
    assert reason(made) == "tile-positions-missing"


def test_a_place_that_all_frames_share_is_read() -> None:
    position = Dataset()
    position.RowPositionInTotalImagePixelMatrix = 5
    position.ColumnPositionInTotalImagePixelMatrix = 7
    shared = Dataset()
    shared.PlanePositionSlideSequence = [position]
    assert list(tiling(slide(tiles(1), [Place(None, None)], shared=shared)).tiles) == [4]


def test_other_files_are_no_tiles_and_nothing_is_said_of_that() -> None:
    for facts in (
        {"DimensionOrganizationType": "3D"},
        {"TotalPixelMatrixRows": None},
        {"TotalPixelMatrixColumns": 0},
    ):
        assert reason(slide(tiles(), **facts)) == ""
    mosaic = slide(tiles(), ImageType=["ORIGINAL", "PRIMARY", "M", "MOSAIC"])
    mosaic.add_new(0x0019100A, "US", 4)
    assert reason(mosaic) == ""


def test_a_label_is_one_tile_only_if_it_is_the_whole_matrix() -> None:
    label: dict[str, Any] = {"DimensionOrganizationType": None}
    assert list(tiling(slide(tiles(1), matrix=TILE, **label)).tiles) == [0]
    assert reason(slide(tiles(1), matrix=(3, 6), **label)) == ""
    assert reason(slide(tiles(1), matrix=(400, 600), **label)) == ""


def test_a_matrix_of_more_tiles_than_can_be_counted_is_no_tiling() -> None:
    made = slide(tiles(1)[:, :1, :1], [Place(1, 1)], matrix=(2**32 - 1, 2**32 - 1))
    assert reason(made) == "tile-count"


def test_the_matrix_lies_in_the_coordinates_of_the_slide() -> None:
    (pose,) = set(tiling(slide(tiles(), origin_mm=("20", "40", "0.5"))).poses)
    assert pose.position == (20.0, 40.0, 0.5)
    found = on_slide(pose)
    assert (found.is_placed, found.coordinates) == (True, "slide")
    assert found.origin == (20.0, 40.0, 0.5)
    assert found.spacing == (0.00025, 0.0005, 0.001)
    # rows run along -y, columns along -x
    assert found.direction == (0, -1, 0, -1, 0, 0, 0, 0, -1)


@pytest.mark.parametrize(
    "unknown", [{"origin_mm": None}, {"ImageOrientationSlide": None}, {"measures": {}}]
)
def test_what_is_not_known_of_the_place_is_not_made_up(unknown: dict[str, Any]) -> None:
    found = on_slide(tiling(slide(tiles(), **unknown)).poses[0])
    assert not found.is_placed


def depths(found: Tiling) -> list[float | None]:
    return [pose.position[2] if pose.position else None for pose in found.poses]


def test_focal_planes_lie_above_each_other_as_far_as_their_distance_is_known() -> None:
    measures = {"PixelSpacing": ["0.5", "0.5"], "SpacingBetweenSlices": "0.25"}
    facts: dict[str, Any] = {"TotalPixelMatrixFocalPlanes": 2, "origin_mm": ("1", "2", "3")}
    found = tiling(slide(tiles(18), measures=measures, **facts))
    assert depths(found) == [3.0] * 9 + [3.25] * 9
    del measures["SpacingBetweenSlices"]
    assert depths(tiling(slide(tiles(18), measures=measures, **facts))) == [3.0] * 9 + [None] * 9


def test_tiles_at_one_place_and_other_depths_are_focal_planes() -> None:
    at = [*places(z_mm="0.002"), *places(z_mm="0.001")[:8]]
    found = tiling(slide(tiles(17), at))
    assert said(found, "focal plane") == ["2"] * 9 + ["1"] * 8
    assert depths(found) == [0.002] * 9 + [0.001] * 8


def test_every_path_has_focal_planes_of_its_own() -> None:
    at = [p for path, z in zip("AABB", ["1", "2", "3", "4"], strict=True)
          for p in places(z_mm=z, path=path)]  # fmt: skip
    found = tiling(slide(tiles(36), at))
    assert said(found, "focal plane") == (["1"] * 9 + ["2"] * 9) * 2
    assert depths(found) == [1.0] * 9 + [2.0] * 9 + [3.0] * 9 + [4.0] * 9


def test_depths_that_follow_the_specimen_are_one_plane() -> None:
    at = [replace(place, z_mm=f"0.00{n}") for n, place in enumerate(places())]
    found = tiling(slide(tiles(), at, origin_mm=("1", "2", "3")))
    assert said(found, "focal plane") == [""] * 9
    assert depths(found) == [3.0] * 9
    assert depths(tiling(slide(tiles(), places(z_mm="0.7")))) == [0.7] * 9


def frames(*instances: Instance) -> list[Frame]:
    found = []
    for file, one in enumerate(instances):
        assert isinstance(one.tiling, Tiling)
        for number, (tile, pose) in enumerate(zip(one.tiling.tiles, one.poses, strict=True)):
            made = Frame(file, number, _format(one), pose, grid=one.tiling.grid, tile=tile)
            found.append(made)
    return found


def _format(one: Instance) -> PixelFormat:
    assert isinstance(one.frames, FrameRun)
    return one.frames.format


def images(*made: Dataset) -> tuple[Image, ...]:
    return stack(frames(*map(instance, made)))


def test_tiles_make_one_image_in_the_order_of_their_numbers() -> None:
    (image,) = images(slide(tiles(), places()[::-1]))
    assert (image.shape, list(image.planes), image.findings) == ((3, 3), list(range(9)), ())
    assert [f.number for f in image.frames] == list(range(9))[::-1]


def test_missing_tiles_leave_their_places_empty() -> None:
    (image,) = images(slide(tiles(4), [places()[n] for n in (8, 1, 0, 5)]))
    assert (image.shape, list(image.planes)) == ((3, 3), [0, 1, 5, 8])
    assert (image.missing_tiles, image.findings) == (5, ("tiles-missing",))


def test_paths_and_focal_planes_are_images_of_their_own() -> None:
    made = slide(tiles(36), paths=("A", "B"), TotalPixelMatrixFocalPlanes=2, measures={})
    assert [{k: i.split_by[k] for k in ("optical path", "focal plane")} for i in images(made)] == [
        {"optical path": path, "focal plane": plane} for path in "AB" for plane in "12"
    ]


def test_levels_are_images_of_their_own() -> None:
    found = images(slide(tiles(4), matrix=(8, 12)), slide(tiles()))
    assert [image.split_by for image in found] == [
        {"total pixel matrix": "10 15"},
        {"total pixel matrix": "8 12"},
    ]


def test_one_matrix_over_several_files_is_one_image() -> None:
    part: dict[str, Any] = {"ConcatenationUID": "1.2.9"}
    found = images(
        slide(tiles(3), ConcatenationFrameOffsetNumber=6, **part),
        slide(tiles(6), ConcatenationFrameOffsetNumber=0, **part),
    )
    (image,) = found
    assert [(f.file, f.number) for f in image.frames] == [
        *((1, n) for n in range(6)),
        *((0, n) for n in range(3)),
    ]


def test_matrices_at_other_places_are_images_of_their_own() -> None:
    found = images(slide(tiles()), slide(tiles(), origin_mm=("21", "40")))
    assert [i.split_by for i in found] == [
        {"matrix origin": "20.0 40.0 0.0"},
        {"matrix origin": "21.0 40.0 0.0"},
    ]


def test_files_that_have_the_same_tiles_are_images_of_their_own() -> None:
    made = slide(tiles())
    found = images(made, made, made)
    assert [i.split_by for i in found] == [{"file": n} for n in "123"]
    assert [{f.file for f in i.frames} for i in found] == [{0}, {1}, {2}]


def test_tiles_that_overlap_are_a_stack_of_frames() -> None:
    at = [*places(), Place(1, 1)]
    (image,) = images(slide(tiles(10), at))
    assert (image.shape, image.grid, image.t_by) == ((10, 1), None, "frame number")
    assert [f.number for f in image.frames] == list(range(10))
    assert image.findings == ("tiles-overlap",)
    assert not image.geometry.is_placed


def test_only_the_path_whose_tiles_overlap_is_a_stack() -> None:
    at = [*places(path="A"), *places(path="B"), Place(1, 1, path="B")]
    found = images(slide(tiles(19), at))
    assert [(i.split_by, i.shape) for i in found] == [
        ({"optical path": "B"}, (10, 1)),
        ({"optical path": "A"}, (3, 3)),
    ]


def test_a_pose_of_its_own_does_not_set_a_tile_apart() -> None:
    made = slide(tiles(), places())
    voi = Dataset()
    voi.WindowCenter, voi.WindowWidth = "30", "40"
    made.PerFrameFunctionalGroupsSequence[4].FrameVOILUTSequence = [voi]
    (image,) = images(made)
    assert [f.pose.window for f in image.frames] == [*[None] * 4, (30.0, 40.0), *[None] * 4]
    assert len({id(f.pose) for f in image.frames}) == 2


def test_a_pose_is_not_told_by_times() -> None:
    found: set[Pose] = set(tiling(slide(tiles(), places(), AcquisitionTime="101112")).poses)
    assert [pose.times for pose in found] == [(None,) * len(TIME_KEYS)]


def test_frames_of_one_bit_are_tiles_as_well() -> None:
    made = segmentation(tiles(18) % 2, [1, 2])
    assert [i.shape for i in images(made)] == [(3, 3), (3, 3)]
    assert np.prod(TILE) % 8 == 0
