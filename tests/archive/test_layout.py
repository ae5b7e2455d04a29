"""Every frame has one place, and names say nothing of a patient."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from dataclasses import replace
from io import BytesIO
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from archive_cases import noise
from dicom_files import PIXEL_CASES, Plain, even, file_bytes, slice_dataset
from hypothesis import given, settings
from hypothesis import strategies as st

from dicomzarr_watch.archive import layout, lines, ome
from dicomzarr_watch.archive.layout import ImagePlan, Plan
from dicomzarr_watch.dicom.frames import PixelFormat
from dicomzarr_watch.dicom.grouping import Frame
from dicomzarr_watch.dicom.instance import Instance, SeriesFacts, read_header
from dicomzarr_watch.dicom.pose import Pose
from dicomzarr_watch.dicom.stacks import stack
from dicomzarr_watch.dicom.tiles import TileGrid

GREY = PixelFormat(3, 4, 1, 16, "u", 16, "MONOCHROME2", is_planar=False, is_big_endian=False)
RGB = PixelFormat(3, 4, 3, 8, "u", 8, "RGB", is_planar=False, is_big_endian=False)
PLANAR = PixelFormat(3, 4, 3, 8, "u", 8, "RGB", is_planar=True, is_big_endian=False)


OME = "{http://www.openmicroscopy.org/Schemas/OME/2016-06}"


def _image(moments: int, slices: int, pixel_format: PixelFormat = GREY) -> ImagePlan:
    axial = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
    frames = [
        Frame(t * slices + z, 0, pixel_format, Pose((0.0, 0.0, 2.0 * z), axial, (1.0, 1.0)))
        for t in range(moments)
        for z in range(slices)
    ]
    (image,) = stack(frames)
    return ImagePlan("", "0", image)


def _slide(
    shape: tuple[int, int], pixel_format: PixelFormat = GREY, tiles: list[int] | None = None
) -> ImagePlan:
    """Plan a matrix whose last row and column are padding; tiles: those that are there."""
    grid = TileGrid((3 * shape[0] - 1, 4 * shape[1] - 1), (3, 4))
    there = range(grid.tiles) if tiles is None else tiles
    frames = [Frame(0, n, pixel_format, Pose(), 0, grid, tile) for n, tile in enumerate(there)]
    (image,) = stack(frames)
    return ImagePlan("", "0", image)


@pytest.mark.parametrize(
    ("image", "axes", "shape", "chunk", "transpose"),
    [
        (_image(1, 5), "zyx", (5, 3, 4), (1, 3, 4), None),
        (_image(2, 5), "tzyx", (2, 5, 3, 4), (1, 1, 3, 4), None),
        (_image(1, 5, RGB), "czyx", (3, 5, 3, 4), (3, 1, 3, 4), (1, 2, 3, 0)),
        (_image(2, 5, RGB), "tczyx", (2, 3, 5, 3, 4), (1, 3, 1, 3, 4), (0, 2, 3, 4, 1)),
        (_image(2, 5, PLANAR), "tczyx", (2, 3, 5, 3, 4), (1, 3, 1, 3, 4), None),
        (_slide((2, 5)), "yx", (6, 20), (3, 4), None),
        (_slide((1, 1)), "yx", (3, 4), (3, 4), None),
        (_slide((2, 5), RGB), "cyx", (3, 6, 20), (3, 3, 4), (1, 2, 0)),
        (_slide((2, 5), PLANAR), "cyx", (3, 6, 20), (3, 3, 4), None),
    ],
)
def test_an_array_has_the_axes_that_its_frames_need(
    image: ImagePlan,
    axes: str,
    shape: tuple[int, ...],
    chunk: tuple[int, ...],
    transpose: tuple[int, ...] | None,
) -> None:
    assert image.axes == tuple(axes)
    assert image.shape == shape
    assert image.chunk == chunk
    assert image.transpose == transpose


@given(
    moments=st.integers(1, 6),
    slices=st.integers(1, 9),
    shard_bytes=st.integers(1, 1500),
    pixel_format=st.sampled_from([GREY, RGB, PLANAR]),
)
def test_every_plane_has_a_slot_of_its_own_in_a_shard_of_the_grid(
    moments: int, slices: int, shard_bytes: int, pixel_format: PixelFormat
) -> None:
    image = _image(moments, slices, pixel_format)
    with pytest.MonkeyPatch.context() as patch:
        # real shards hold 64 MB; small ones cut a few planes into many of them
        patch.setattr(layout, "SHARD_BYTES", shard_bytes)
        places = [image.shard_of(plane) for plane in range(moments * slices)]
        filled = Counter(name for name, _ in places)
        assert len(set(places)) == len(places)
        assert filled == {name: image.planes_in(name) for name in filled}
        for plane, (name, slot) in enumerate(places):
            assert (name, slot) == _by_the_specification(image, plane)
        held = math.prod(image.shard_planes)
        assert held == 1 or held * pixel_format.view_bytes <= shard_bytes
        assert all(s % c == 0 for s, c in zip(image.shard, image.chunk, strict=True))


@given(
    shape=st.tuples(st.integers(1, 6), st.integers(1, 9)),
    shard_bytes=st.integers(1, 1500),
    shard_planes=st.integers(1, 60),
    pixel_format=st.sampled_from([GREY, RGB, PLANAR]),
    data=st.data(),
)
def test_every_tile_has_the_slot_of_its_place_in_the_picture(
    shape: tuple[int, int],
    shard_bytes: int,
    shard_planes: int,
    pixel_format: PixelFormat,
    data: st.DataObject,
) -> None:
    count = shape[0] * shape[1]
    tiles = data.draw(st.lists(st.integers(0, count - 1), min_size=1, unique=True))
    image = _slide(shape, pixel_format, tiles)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layout, "SHARD_BYTES", shard_bytes)
        patch.setattr(layout, "SHARD_PLANES", shard_planes)
        places = [image.shard_of(plane) for plane in image.image.planes]
        assert Counter(name for name, _ in places) == {
            name: image.planes_in(name) for name, _ in places
        }, "a shard is full when the tiles that there are have come"
        for plane, (name, slot) in zip(sorted(tiles), places, strict=True):
            y, x = plane // shape[1] * 3, plane % shape[1] * 4
            at = [{"y": y, "x": x}.get(a, 0) for a in image.axes]
            assert (name, slot) == _of_voxel(image, at)
        held = math.prod(image.shard_planes)
        assert held <= shard_planes
        assert held == 1 or held * pixel_format.view_bytes <= shard_bytes


def _of_voxel(image: ImagePlan, at: list[int]) -> tuple[str, int]:
    """Find the shard and the slot of the chunk that a voxel is in, as any reader of Zarr does."""
    name, slot = "c", 0
    for place, shard, chunk in zip(at, image.shard, image.chunk, strict=True):
        name += f".{place // shard}"
        slot = slot * (shard // chunk) + place % shard // chunk
    return name, slot


def _by_the_specification(image: ImagePlan, plane: int) -> tuple[str, int]:
    """Find a chunk's place as the sharding codec does: by its coordinates, in C order."""
    t, z = divmod(plane, image.image.shape[1])
    at = dict.fromkeys(image.axes, 0) | {"z": z} | ({"t": t} if "t" in image.axes else {})
    name, slot = "c", 0
    for axis, shard, chunk in zip(image.axes, image.shard, image.chunk, strict=True):
        per_shard = shard // chunk
        name += f".{at[axis] // per_shard}"
        slot = slot * per_shard + at[axis] % per_shard
    return name, slot


def _read(content: bytes) -> Instance:
    return read_header(BytesIO(content)).instance


def _written(**keywords: Any) -> Instance:
    stream = BytesIO()
    slice_dataset(**keywords).save_as(stream, enforce_file_format=True)
    return _read(stream.getvalue())


def _planned() -> tuple[list[Instance], Plan]:
    """Plan two images, one of them with frames in a single file, and a file without any."""
    frames = next(case for case in PIXEL_CASES if case.name == "multi-frame")
    found = [_written(pixels=noise(9, 8), position=(0, 0, -n)) for n in range(3)]
    instances = [_read(bytes(200)), *found, _read(frames.content)]
    return instances, layout.plan(instances)


def test_files_stand_in_the_order_of_their_planes_and_the_others_behind() -> None:
    _, plan = _planned()
    assert plan.files == (3, 2, 1, 4, 0)
    assert [image.path for image in plan.images] == ["0/0", "1/0"]
    assert plan.planes == {
        3: ((0, 0),),
        2: ((0, 1),),
        1: ((0, 2),),
        4: tuple((1, n) for n in range(5)),
    }


def test_a_series_of_one_image_opens_directly() -> None:
    plan = layout.plan([_written()])
    assert [(image.group, image.path) for image in plan.images] == [("", "0")]
    assert ome.root_attributes(plan.images) == ome.image_attributes(plan.images[0])


def test_a_series_of_several_images_says_how_many() -> None:
    _, plan = _planned()
    own = ome.root_attributes(plan.images)
    assert own["ome"] == {"version": "0.5", "bioformats2raw.layout": 3}
    assert own["dicomzarr"]["images"] == 2


def test_a_series_without_images_pretends_nothing_to_viewers() -> None:
    own = ome.root_attributes(layout.plan([_read(bytes(200))]).images)
    assert own == {"dicomzarr": {"version": layout.STORE_VERSION, "images": 0}}


@pytest.mark.parametrize("pixel_format", [GREY, RGB, PLANAR])
def test_the_format_of_frames_is_read_back_from_the_attributes(pixel_format: PixelFormat) -> None:
    attributes = ome.image_attributes(_image(2, 3, pixel_format))
    assert ome.pixel_format(json.loads(lines.as_json(attributes))) == pixel_format


@settings(max_examples=30)
@given(st.lists(st.text(st.characters(exclude_characters="\0", codec="utf-8"), min_size=1)))
def test_names_are_read_back(names: list[str]) -> None:
    names.append(b"\xff\xfe not UTF-8".decode("utf-8", "surrogateescape"))
    assert layout.names_from(layout.names_blob(names)) == names


facts = st.builds(SeriesFacts, st.text(min_size=1), st.text(), st.text(), st.text(), st.text())


@given(facts)
def test_a_folder_is_named_by_letters_digits_and_dashes(found: SeriesFacts) -> None:
    assert re.fullmatch(r"[A-Za-z0-9]{1,16}-[A-Za-z0-9]{1,16}-[0-9a-f]{8}", _folder(found))


@given(facts, st.text(), st.text())
def test_a_folder_says_nothing_of_the_study_or_its_description(
    found: SeriesFacts, study: str, description: str
) -> None:
    other = SeriesFacts(
        found.series_instance_uid, study, found.modality, found.series_number, description
    )
    assert _folder(other) == _folder(found)


def test_series_of_one_number_have_folders_of_their_own() -> None:
    names = {_folder(SeriesFacts(f"1.2.{n}", "", "CT", "3", "")) for n in range(100)}
    assert len(names) == 100
    assert _folder(SeriesFacts("1.2.3", "", "CT", "3", "")).startswith("CT-3-")


def test_files_without_a_series_are_unassigned() -> None:
    stray = file_bytes([Plain(0x00080060, "CS", even(b"CT"))])
    assert _folder(_read(stray).series) == "unassigned"


def _folder(found: SeriesFacts) -> str:
    return layout.series_folder(found)


def test_viewers_find_every_image_by_the_ome_document() -> None:
    images = [
        replace(_image(5, 2), group="0"),
        replace(_image(1, 3, RGB), group="1"),
        replace(_image(1, 1, replace(GREY, kind="f", bits=64)), group="2"),
    ]
    found = ET.fromstring(ome.document(images))  # noqa: S314 - our own
    assert [image.attrib["ID"] for image in found] == ["Image:0", "Image:1", "Image:2"]
    pixels = [image[0].attrib for image in found]
    assert [[p[f"Size{a}"] for a in "TCZYX"] for p in pixels] == [
        ["5", "1", "2", "3", "4"],
        ["1", "3", "3", "3", "4"],
        ["1", "1", "1", "3", "4"],
    ]
    assert [p["Type"] for p in pixels] == ["uint16", "uint8", "double"]
    assert [[child.tag for child in image[0]] for image in found] == [
        [f"{OME}Channel", f"{OME}MetadataOnly"]
    ] * 3


def test_what_the_ome_document_has_no_type_for_is_left_out_of_it() -> None:
    images = [replace(_image(1, 1, replace(GREY, bits=64)), group="0")]
    assert b"Image" not in ome.document(images)
