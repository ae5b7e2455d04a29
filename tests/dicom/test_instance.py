from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import pytest
from dicom_files import (
    DEFLATED,
    JPEG,
    PIXEL_CASES,
    VIDEO,
    Built,
    Encapsulated,
    Encoding,
    Nested,
    PixelCase,
    Plain,
    file_bytes,
    file_id,
    pydicom_files,
    write_series,
    write_slice,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from dicomzarr_watch.dicom.frames import FrameRun, NoFrames
from dicomzarr_watch.dicom.grouping import Frame
from dicomzarr_watch.dicom.instance import Header, SeriesFacts, read_header
from dicomzarr_watch.dicom.model import Elements
from dicomzarr_watch.dicom.pose import Pose
from dicomzarr_watch.dicom.stacks import stack
from dicomzarr_watch.dicom.tiles import NoTiling

CASE = PIXEL_CASES[0]
MATRIX: list[Built] = [*CASE.elements[:-1]]


def header_of(data: bytes) -> Header:
    return read_header(BytesIO(data))


def test_a_slice_says_what_it_is_and_where(tmp_path: Path) -> None:
    path = write_slice(
        tmp_path / "a.dcm",
        position=(1.5, -2.0, 3.25),
        sop_uid="1.2.3.4",
        instance_number=12,
        Modality="MR",
        SeriesNumber=7,
        SeriesDescription="t1",
        RescaleSlope=2,
        RescaleIntercept=-1024,
        WindowCenter=[40, 80],
        WindowWidth=[400, 200],
    )
    found = header_of(path.read_bytes()).instance
    assert found.sop_instance_uid == "1.2.3.4"
    assert found.sop_class_uid == "1.2.840.10008.5.1.4.1.1.2"
    assert found.series == SeriesFacts(
        "1.2.826.0.1.3680043.8.498.1", "1.2.826.0.1.3680043.8.498.2", "MR", "7", "t1"
    )
    assert (found.rescale, found.window) == ((2.0, -1024.0), (40.0, 400.0))
    (pose,) = found.poses
    assert (pose.position, pose.instance_number) == ((1.5, -2.0, 3.25), 12)
    assert (pose.spacing, pose.thickness) == ((0.7, 0.5), 1.0)


@pytest.mark.parametrize("keyword", ["WindowCenter", "WindowWidth"])
def test_half_of_a_window_is_none(tmp_path: Path, keyword: str) -> None:
    found = header_of(write_slice(tmp_path / "a", **{keyword: 2}).read_bytes()).instance
    assert found.window is None


@pytest.mark.parametrize("kind", ["MOSAIC", "VFRAME", "ND"])
def test_a_mosaic_of_which_nobody_says_the_slices_is_named(tmp_path: Path, kind: str) -> None:
    """Who takes names off often takes private elements off, which say how many there are."""
    types = ["ORIGINAL", "PRIMARY", "M", kind]
    found = header_of(write_slice(tmp_path / "a", ImageType=types).read_bytes()).instance
    assert found.tiling == NoTiling("" if kind == "ND" else "mosaic-not-unfolded")


def test_a_series_stacks_as_it_was_written(tmp_path: Path) -> None:
    paths = write_series(tmp_path, 4, gap_mm=3.0)
    headers = [header_of(p.read_bytes()).instance for p in reversed(paths)]
    frames = [
        Frame(n, 0, h.frames.format, h.poses[0])
        for n, h in enumerate(headers)
        if isinstance(h.frames, FrameRun)
    ]
    (image,) = stack(frames)
    assert [f.file for f in image.frames] == [3, 2, 1, 0]
    assert image.geometry.spacing == (0.5, 0.7, 3.0)


@pytest.mark.parametrize("case", PIXEL_CASES, ids=str)
@pytest.mark.parametrize("tail", [b"", b"behind"])
def test_head_pixels_and_tail_are_the_file(case: PixelCase, tail: bytes) -> None:
    data = case.content + tail
    found = header_of(data).instance
    assert isinstance(found.frames, FrameRun)
    head, end = found.head_bytes, found.head_bytes + found.pixel_bytes
    assert data[head:end] == case.stored
    assert found.tail_bytes == len(data) - end
    assert data[end:].endswith(tail)


@pytest.mark.parametrize("path", pydicom_files(), ids=file_id)
def test_the_parts_of_real_files_are_the_files(path: Path) -> None:
    header = read_header(BytesIO(path.read_bytes()))
    found = header.instance
    assert min(found.head_bytes, found.pixel_bytes, found.tail_bytes) >= 0
    assert found.head_bytes + found.pixel_bytes + found.tail_bytes == path.stat().st_size
    assert bool(found.poses) == isinstance(found.frames, FrameRun)


@pytest.mark.parametrize(
    ("elements", "encoding", "reason", "is_whole"),
    [
        ([*MATRIX, Encapsulated((b"", b"\0\0\1\xb3"))], VIDEO, "video", False),
        ([*MATRIX, CASE.elements[-1]], JPEG, "not-encapsulated", False),
        ([*MATRIX[1:4], CASE.elements[-1]], DEFLATED, "no-matrix-size", True),
        (MATRIX, CASE.encoding, "no-pixel-data", True),
        ([*MATRIX[1:4], CASE.elements[-1]], CASE.encoding, "no-matrix-size", False),
    ],
)
def test_without_frames_the_pixel_data_or_the_whole_file_is_kept(
    elements: Sequence[Built], encoding: Encoding, reason: str, is_whole: bool
) -> None:
    header = header_of(file_bytes(elements, encoding))
    found = header.instance
    assert isinstance(found.frames, NoFrames)
    assert found.frames.reason == reason
    assert found.poses == ()
    pixel = header.part10.pixel
    if is_whole:
        assert (found.head_bytes, found.pixel_bytes) == (0, found.size)
    else:
        assert pixel is not None
        assert (found.head_bytes, found.pixel_bytes) == (pixel.value, pixel.end - pixel.value)


def test_encoded_frames_are_seen_and_their_bytes_kept() -> None:
    header = header_of(file_bytes([*MATRIX, Encapsulated((b"", b"\xff\xd8\xff\xd9"))], JPEG))
    found, pixel = header.instance, header.part10.pixel
    assert isinstance(found.frames, FrameRun)
    assert pixel is not None
    assert (found.frames.count, found.frames.encoding) == (1, JPEG.uid)
    assert (found.head_bytes, found.pixel_bytes) == (pixel.value, pixel.end - pixel.value)
    assert found.head_bytes == found.frames.start


def test_the_frames_of_a_deflated_file_are_seen_and_the_file_kept_whole() -> None:
    header = header_of(file_bytes(CASE.elements, DEFLATED))
    found = header.instance
    assert isinstance(found.frames, FrameRun)
    assert found.frames.encoding == DEFLATED.uid
    start = found.frames.start
    assert header.data[start : start + found.frames.stored_bytes] == CASE.stored
    assert (found.head_bytes, found.pixel_bytes) == (0, found.size)


def test_an_instance_that_is_not_viewed_is_still_cut_as_it_was() -> None:
    found = header_of(CASE.content).instance
    other = found.not_viewed("not-decodable")
    assert other.frames == NoFrames("not-decodable", is_odd=True)
    assert (other.head_bytes, other.pixel_bytes) == (found.head_bytes, found.pixel_bytes)


@pytest.mark.parametrize(
    "data",
    [CASE.content[:-1], file_bytes([*CASE.elements, Plain(0xFFFCFFFC, "OB", bytes(8))])[:-1]],
)
def test_a_truncated_file_is_kept_whole(data: bytes) -> None:
    found = header_of(data).instance
    assert found.frames == NoFrames("truncated", is_odd=True)
    assert (found.head_bytes, found.pixel_bytes, found.tail_bytes) == (0, found.size, 0)


def test_an_instance_can_be_kept_whole_for_a_reason() -> None:
    found = header_of(CASE.content).instance.kept_whole("verification-failed")
    assert found.frames == NoFrames("verification-failed", is_odd=True)
    assert (found.head_bytes, found.pixel_bytes, found.tail_bytes) == (0, found.size, 0)


def test_the_header_holds_the_bytes_before_the_pixel_data_and_no_more() -> None:
    header = header_of(CASE.content)
    assert header.data == CASE.content[: header.instance.head_bytes]
    deflated = header_of(file_bytes(CASE.elements, DEFLATED))
    assert deflated.data == deflated.part10.inflated


def test_every_frame_of_functional_groups_has_a_pose() -> None:
    position = Nested(0x00209113, ((Plain(0x00200032, "DS", b"1\\2\\3 "),),))
    (case,) = (c for c in PIXEL_CASES if c.name == "multi-frame")
    elements: list[Built] = [*case.elements, Nested(0x52009230, ((position,),) * 5)]
    found = header_of(file_bytes(sorted(elements, key=lambda e: e.tag))).instance
    assert found.poses == (Pose(position=(1.0, 2.0, 3.0)),) * 5


SMALL_FILES = [p.read_bytes() for p in pydicom_files() if p.stat().st_size < 4000]


@settings(max_examples=120)
@given(
    st.sampled_from([*SMALL_FILES, *(c.content for c in PIXEL_CASES)]),
    st.lists(
        st.tuples(st.integers(132, 1200), st.integers(0, 1), st.binary(max_size=2)), max_size=5
    ),
)
def test_a_file_with_any_bytes_changed_is_still_read_and_accounted_for(
    data: bytes, changes: list[tuple[int, int, bytes]]
) -> None:
    for at, gone, instead in changes:
        data = data[:at] + instead + data[at + gone :]
    header = header_of(data)
    found = header.instance
    assert min(found.head_bytes, found.pixel_bytes, found.tail_bytes) >= 0
    assert found.head_bytes + found.pixel_bytes + found.tail_bytes == len(data)
    if isinstance(found.frames, FrameRun):
        frames = [Frame(0, k, found.frames.format, pose) for k, pose in enumerate(found.poses)]
        assert sum(len(image.frames) for image in stack(frames)) == len(found.poses)
    elements = Elements()
    elements.add(header)
    known = elements.document([0], lambda place: f"{place.start}")["shared"]
    at_hand = [e for e in header.part10.elements if e.end <= len(header.data)]
    pixels = {0x7FE00008, 0x7FE00009, 0x7FE00010}
    assert set(known) == {f"{e.tag:08X}" for e in at_hand if e.tag not in pixels}
