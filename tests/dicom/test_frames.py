from __future__ import annotations

import warnings
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Literal

import numpy as np
import pydicom
import pytest
from dicom_files import (
    BIG,
    DEFLATED,
    EXPLICIT,
    IMPLICIT,
    JPEG,
    PIXEL_CASES,
    VIDEO,
    Built,
    Encapsulated,
    PixelCase,
    Plain,
    file_bytes,
    file_id,
    pydicom_files,
    swapped,
    us,
    within,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.pixels.utils import pixel_array

from dicomzarr_watch.dicom import tags
from dicomzarr_watch.dicom.frames import (
    ALIGNED_FRAMES,
    FrameRun,
    NoFrames,
    PixelFormat,
    Samples,
    frame_run,
    stored_bytes,
)
from dicomzarr_watch.dicom.part10 import split
from dicomzarr_watch.dicom.values import Values
from dicomzarr_watch.dicom.views import is_verbatim, verbatim, view

NATIVE_FILES = {"1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"}


def run_of(data: bytes) -> FrameRun | NoFrames:
    part10 = split(within(data), len(data))
    return frame_run(Values(part10, part10.inflated or data))


def seen(data: bytes, run: FrameRun) -> Samples:
    """See all frames of a file, colours last whatever their order in the file."""
    frames = view(data[run.start : run.start + run.stored_bytes], run.format)[: run.count]
    return np.moveaxis(frames, 1, -1) if run.format.is_planar else frames


@pytest.mark.parametrize("case", PIXEL_CASES, ids=str)
def test_the_view_is_the_stored_values_and_its_inverse_the_bytes(case: PixelCase) -> None:
    run = run_of(case.content)
    assert isinstance(run, FrameRun)
    assert run.count == len(case.frames)
    assert run.stored_bytes == len(case.stored)
    samples = seen(case.content, run)
    assert samples.dtype.newbyteorder("=") == case.frames.dtype
    np.testing.assert_array_equal(samples, case.frames)
    frames = view(case.stored, run.format)[: run.count]
    assert verbatim(frames, run.format) == case.stored
    assert is_verbatim(frames, case.stored, run.format)


@pytest.mark.parametrize("case", PIXEL_CASES, ids=str)
def test_pydicom_sees_the_same_values(case: PixelCase) -> None:
    if case.bits == 1 and case.encoding is BIG:
        # pydicom leaves these words unswapped, against PS3.5 8.2
        theirs = pixel_array(read(swapped_words(case)), raw=True)
    else:
        theirs = pixel_array(read(case.content), raw=True)
    run = run_of(case.content)
    assert isinstance(run, FrameRun)
    np.testing.assert_array_equal(seen(case.content, run), theirs.reshape(case.frames.shape))


def read(data: bytes) -> pydicom.FileDataset:
    return pydicom.dcmread(BytesIO(data))


def swapped_words(case: PixelCase) -> bytes:
    pixel = case.elements[-1]
    return file_bytes([*case.elements[:-1], replace(pixel, value=swapped(pixel.value))], BIG)


def native_files() -> list[Path]:
    found = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for path in pydicom_files():
            dataset = pydicom.dcmread(path, stop_before_pixels=True)
            syntax = dataset.file_meta.get("TransferSyntaxUID", "")
            if syntax in NATIVE_FILES and "Rows" in dataset:
                found.append(path)
    return found


@pytest.mark.parametrize("path", native_files(), ids=file_id)
def test_real_native_files_show_the_values_that_pydicom_decodes(path: Path) -> None:
    data = path.read_bytes()
    run = run_of(data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset = pydicom.dcmread(path)
        if not isinstance(run, FrameRun):
            is_known = {
                "truncated": path.name == "MR_truncated.dcm",
                "no-pixel-data": "PixelData" not in dataset,
                "number-of-frames": path.name == "badVR.dcm",
            }
            assert is_known[run.reason], run
            return
        theirs = pixel_array(dataset, raw=True)
    ours = seen(data, run)
    np.testing.assert_array_equal(ours.reshape(theirs.shape), theirs)


@st.composite
def formats(draw: st.DrawFn) -> PixelFormat:
    bits = draw(st.sampled_from([1, 8, 16, 32, 64]))
    kind = draw(st.sampled_from("uif" if bits >= 32 else "ui" if bits > 1 else "u"))
    is_big_endian = draw(st.booleans())
    samples = draw(st.sampled_from([1, 3]))
    return PixelFormat(
        rows=draw(st.integers(1, 5)),
        columns=draw(st.integers(1, 5)),
        samples=samples,
        bits=bits,
        kind=kind,
        bits_stored=bits if kind == "f" or bits == 1 else draw(st.integers(1, bits)),
        photometric="RGB" if samples == 3 else "MONOCHROME2",
        is_planar=samples > 1 and draw(st.booleans()),
        is_big_endian=is_big_endian and bits > 8,
        is_word_swapped=is_big_endian and bits <= 8,
    )


@st.composite
def stored_frames(draw: st.DrawFn) -> tuple[PixelFormat, int, bytes]:
    pixel_format = draw(formats())
    count = draw(st.integers(1, 4))
    size = stored_bytes(pixel_format, count)
    return pixel_format, count, draw(st.binary(min_size=size, max_size=size))


def sample_by_hand(stored: bytes, pixel_format: PixelFormat, index: int) -> int:
    """Read one integer sample without numpy, as PS3.5 section 8 has it."""
    if pixel_format.is_word_swapped:
        stored = swapped(stored)
    if pixel_format.bits == 1:
        return stored[index // 8] >> (index % 8) & 1
    width = pixel_format.bits // 8
    order: Literal["big", "little"] = "big" if pixel_format.is_big_endian else "little"
    raw = int.from_bytes(stored[index * width : (index + 1) * width], order)
    value = raw & ((1 << pixel_format.bits_stored) - 1)
    is_negative = pixel_format.kind == "i" and value >> (pixel_format.bits_stored - 1)
    return value - (1 << pixel_format.bits_stored) if is_negative else value


@settings(max_examples=100)
@given(stored_frames())
def test_samples_are_those_of_the_bytes_whatever_the_format(
    made: tuple[PixelFormat, int, bytes],
) -> None:
    pixel_format, count, stored = made
    samples = view(stored, pixel_format)[:count]
    assert samples.shape == (count, *pixel_format.shape)
    assert samples.nbytes == count * pixel_format.view_bytes
    assert samples.dtype.newbyteorder("=") == pixel_format.dtype
    if pixel_format.kind != "f":
        expected = [sample_by_hand(stored, pixel_format, i) for i in range(samples.size)]
        assert samples.reshape(-1).tolist() == expected


@settings(max_examples=100)
@given(stored_frames())
def test_the_inverse_gives_the_bytes_or_the_view_says_that_it_cannot(
    made: tuple[PixelFormat, int, bytes],
) -> None:
    pixel_format, count, stored = made
    samples = view(stored, pixel_format)[:count]
    back = verbatim(samples, pixel_format)
    assert is_verbatim(samples, stored, pixel_format) == (back == stored)
    if pixel_format.bits == pixel_format.bits_stored and pixel_format.bits > 1:
        end = count * pixel_format.view_bytes
        kept = swapped(stored) if pixel_format.is_word_swapped else stored
        assert (swapped(back) if pixel_format.is_word_swapped else back)[:end] == kept[:end]
        assert (back == stored) == (kept[end:] in {b"", b"\0"}), "words may end in a byte too many"
    again = view(back, pixel_format)[:count]
    assert again.tobytes() == samples.astype(again.dtype).tobytes()
    assert is_verbatim(again, back, pixel_format), "what a view gives back it sees the same again"


@settings(max_examples=50)
@given(formats().filter(lambda f: f.bits == 1), st.data())
def test_frames_that_end_within_bytes_are_whole_in_aligned_runs(
    pixel_format: PixelFormat, data: st.DataObject
) -> None:
    size = stored_bytes(pixel_format, 2 * ALIGNED_FRAMES)
    stored = data.draw(st.binary(min_size=size, max_size=size))
    whole = view(stored, pixel_format)
    halves = [view(part, pixel_format) for part in (stored[: size // 2], stored[size // 2 :])]
    np.testing.assert_array_equal(np.concatenate(halves), whole)
    assert verbatim(whole, pixel_format) == stored


def test_bits_above_the_stored_ones_are_not_part_of_the_value() -> None:
    overlay = PixelCase("12 of 16 bit", np.array([[[0xF001, 0x0FFF]]], "u2"), bits_stored=12)
    run = run_of(overlay.content)
    assert isinstance(run, FrameRun)
    assert seen(overlay.content, run).tolist() == [[[1, 0xFFF]]]
    assert not is_verbatim(view(overlay.stored, run.format), overlay.stored, run.format)
    signed = replace(overlay, frames=np.array([[[0x0801, 0x07FF]]], "i2"))
    run = run_of(signed.content)
    assert isinstance(run, FrameRun)
    assert seen(signed.content, run).tolist() == [[[-2047, 2047]]]


def test_a_view_of_whole_samples_copies_nothing() -> None:
    case = PIXEL_CASES[0]
    run = run_of(case.content)
    assert isinstance(run, FrameRun)
    stored = case.stored
    assert np.may_share_memory(view(stored, run.format), np.frombuffer(stored, np.uint8))


FULL = next(case for case in PIXEL_CASES if case.name == "RGB, interleaved")
CALLED_HALF = Plain(0x00280004, "CS", b"YBR_FULL_422")


@pytest.mark.parametrize("is_planar", [False, True])
@pytest.mark.parametrize("shape", [(2, 3, 4, 3), (1, 4, 6, 3), (1, 3, 5, 3)])
def test_pixels_that_have_all_their_chroma_are_seen_so_whatever_they_are_called(
    shape: tuple[int, ...], is_planar: bool
) -> None:
    frames = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
    case = replace(FULL, frames=frames, is_planar=is_planar)
    elements = [CALLED_HALF if e.tag == CALLED_HALF.tag else e for e in case.elements]
    data = file_bytes(elements)
    run = run_of(data)
    assert isinstance(run, FrameRun)
    assert run.stored_bytes == len(case.stored)
    np.testing.assert_array_equal(seen(data, run), frames)


def test_half_the_chroma_of_an_odd_row_is_not_seen() -> None:
    case = replace(FULL, frames=np.zeros((2, 3, 5, 3), np.uint8))
    *matrix, pixels = case.elements
    matrix = [CALLED_HALF if e.tag == CALLED_HALF.tag else e for e in matrix]
    shorter = replace(pixels, value=pixels.value[:60])
    assert run_of(file_bytes([*matrix, shorter])) == NoFrames("chroma-subsampled", is_odd=True)


GE_PRIVATE = replace(IMPLICIT, uid="1.2.840.113619.5.2")  # its pixels are big endian
FRAGMENTABLE_VIDEO = replace(VIDEO, uid=VIDEO.uid + ".1")
PIXELS = PIXEL_CASES[0].elements[-1]
MATRIX = PIXEL_CASES[0].elements[:-1]


def without(tag: int, *instead: Plain) -> bytes:
    """Make the first case with elements left out or otherwise."""
    gone = {tag, *(e.tag for e in instead)}
    kept = [e for e in PIXEL_CASES[0].elements if e.tag not in gone]
    return file_bytes(sorted([*kept, *instead], key=lambda e: e.tag))


def having(*elements: Plain) -> bytes:
    return without(0, *elements)


@pytest.mark.parametrize(
    "said",
    [
        Plain(tags.NUMBER_OF_FRAMES, "IS"),
        Plain(tags.NUMBER_OF_FRAMES, "IS", b"  "),
        Plain(tags.NUMBER_OF_FRAMES, "IS", b"\0\0"),
        Plain(tags.NUMBER_OF_FRAMES, "IS", b"0 "),
        us(tags.NUMBER_OF_FRAMES, 0),
    ],
)
def test_a_file_that_says_no_number_of_frames_has_one(said: Plain) -> None:
    run = run_of(having(said))
    assert isinstance(run, FrameRun)
    assert run.count == 1


SIGNED = next(case for case in PIXEL_CASES if case.name == "12 of 16 bit, signed")


@pytest.mark.parametrize("element", SIGNED.elements[:-1], ids=lambda e: tags.json_name(e.tag))
def test_pixels_are_not_seen_by_half_of_what_is_said_of_them(element: Plain) -> None:
    late = [*(e for e in SIGNED.elements if e.tag != element.tag), element]
    run = run_of(file_bytes(late))
    if element.tag == tags.HIGH_BIT:
        assert isinstance(run, FrameRun)
    else:
        assert run == NoFrames("out-of-order", is_odd=True)


def test_of_what_is_said_twice_the_first_counts() -> None:
    again = us(tags.PIXEL_REPRESENTATION, 0)
    assert run_of(file_bytes([*SIGNED.elements, again])) == run_of(SIGNED.content)


def test_in_a_deflated_file_all_is_read_in_any_order() -> None:
    first, *others = SIGNED.elements
    run = run_of(file_bytes([*others, first], DEFLATED))
    assert isinstance(run, FrameRun)


MANY = Plain(0x00280008, "IS", b"99")
MANY_ENCODED: list[Built] = [
    *sorted([MANY, *(e for e in MATRIX if e.tag != MANY.tag)], key=lambda e: e.tag),
    Encapsulated((b"", bytes(8))),
]


@pytest.mark.parametrize(
    ("data", "reason", "is_odd"),
    [
        (PIXEL_CASES[0].content[:-1], "truncated", True),
        (file_bytes(MATRIX) + b"\x10\x00\x10\x00??\x00\x00", "malformed", True),
        (file_bytes(MATRIX), "no-pixel-data", False),
        (file_bytes([*MATRIX, Encapsulated((b"", b"\0\0\1"))], VIDEO), "video", False),
        (file_bytes([*MATRIX, Encapsulated((b"",))], FRAGMENTABLE_VIDEO), "video", False),
        (file_bytes([*MATRIX, PIXELS], JPEG), "not-encapsulated", True),
        (file_bytes([*MATRIX, PIXELS], GE_PRIVATE), "not-encapsulated", True),
        (file_bytes([*MATRIX, Encapsulated((b"", bytes(8)))]), "encapsulated", True),
        (having(Plain(0x00280008, "IS", b"2000000 ")), "too-many-frames", True),
        (file_bytes(MANY_ENCODED, JPEG), "pixel-data-too-short", True),
        (without(tags.ROWS), "no-matrix-size", True),
        (having(us(tags.COLUMNS, 0)), "no-matrix-size", True),
        (without(tags.BITS_ALLOCATED), "bits-allocated", True),
        (having(us(tags.BITS_ALLOCATED, 12)), "bits-allocated", True),
        (without(PIXELS.tag, Plain(0x7FE00008, "OF", bytes(96))), "bits-allocated", True),
        (having(Plain(0x00280004, "CS", b"YBR_FULL_422")), "chroma-subsampled", True),
        (having(Plain(0x00280008, "IS", b"-1")), "number-of-frames", True),
        (having(Plain(0x00280008, "IS", b"x ")), "number-of-frames", True),
        (having(us(tags.ROWS, 5)), "pixel-data-too-short", True),
        (having(us(tags.ROWS, 65535), us(tags.COLUMNS, 65535)), "frame-too-large", True),
    ],
)
def test_a_file_without_frames_says_why(data: bytes, reason: str, is_odd: bool) -> None:
    assert run_of(data) == NoFrames(reason, is_odd)


def test_encapsulated_frames_are_the_decoders_not_the_headers_to_arrange() -> None:
    matrix = [*MATRIX, us(tags.PLANAR_CONFIGURATION, 1), us(tags.SAMPLES_PER_PIXEL, 3)]
    kept = {e.tag: e for e in [*matrix, Plain(0x00280004, "CS", b"YBR_FULL_422")]}
    elements = [kept[tag] for tag in sorted(kept)]
    pixels = Encapsulated((b"", b"\xff\xd8"))
    run = run_of(file_bytes([*elements, pixels], JPEG))
    assert isinstance(run, FrameRun)
    assert (run.format.is_planar, run.format.is_subsampled) == (False, False)
    assert (run.format.shape, run.encoding) == ((4, 6, 3), JPEG.uid)
    data = file_bytes([*elements, pixels], JPEG)
    assert data[run.start : run.start + run.stored_bytes].startswith(b"\xfe\xff\x00\xe0")


def test_the_frames_of_a_deflated_file_lie_in_its_inflated_data_set() -> None:
    data = file_bytes([*MATRIX, PIXELS], DEFLATED)
    run = run_of(data)
    assert isinstance(run, FrameRun)
    inflated = split(within(data), len(data)).inflated
    assert inflated is not None
    np.testing.assert_array_equal(seen(inflated, run), PIXEL_CASES[0].frames)
    assert run.encoding == DEFLATED.uid


@pytest.mark.parametrize(
    ("tag", "bits"), [(tags.FLOAT_PIXEL_DATA, 64), (tags.DOUBLE_FLOAT_PIXEL_DATA, 32)]
)
def test_floats_of_the_wrong_width_are_not_guessed_at(tag: int, bits: int) -> None:
    vr = "OF" if tag == tags.FLOAT_PIXEL_DATA else "OD"
    case = PixelCase("float", np.zeros((1, 2, 2), f"f{bits // 8}"), vr=vr, tag=tag)
    assert run_of(case.content) == NoFrames("bits-allocated", is_odd=True)


def test_bytes_have_no_order_so_those_of_both_endians_make_one_image() -> None:
    big = next(c for c in PIXEL_CASES if c.name == "8 bit, big endian bytes")
    runs = [run_of(replace(big, encoding=encoding).content) for encoding in (BIG, EXPLICIT)]
    formats = {run.format for run in runs if isinstance(run, FrameRun)}
    assert len(formats) == 1


def test_padding_behind_the_frames_is_not_theirs() -> None:
    case = PixelCase("8 bit", np.arange(9, dtype="u1").reshape(1, 3, 3), EXPLICIT, vr="OB")
    run = run_of(case.content)
    assert isinstance(run, FrameRun)
    assert run.stored_bytes == 9
    assert run.start + run.stored_bytes == len(case.content) - 1


@pytest.mark.parametrize(("bytes_more", "is_told"), [(0, False), (7, False), (8, True), (80, True)])
def test_pixel_data_for_more_frames_than_are_said_is_told(bytes_more: int, is_told: bool) -> None:
    case = PixelCase("8 bit", np.arange(9, dtype="u1").reshape(1, 3, 3), EXPLICIT, vr="OB")
    *others, pixels = case.elements
    longer = replace(pixels, value=pixels.value + bytes(bytes_more))
    run = run_of(file_bytes([*others, longer]))
    assert isinstance(run, FrameRun)
    assert (run.count, run.stored_bytes) == (1, 9)
    assert run.findings == (("more-pixel-data",) if is_told else ())


def test_a_frame_of_few_bits_is_not_followed_by_one_in_its_last_word() -> None:
    case = PixelCase("1 bit", np.ones((1, 1, 3), "u1"), EXPLICIT, bits=1, vr="OB")
    run = run_of(case.content)
    assert isinstance(run, FrameRun)
    assert run.findings == ()


@pytest.mark.parametrize(("high", "found"), [(15, ()), (11, ("high-bit",)), (16, ("high-bit",))])
def test_a_high_bit_that_is_not_the_last_of_those_stored_is_told(
    high: int, found: tuple[str, ...]
) -> None:
    run = run_of(having(us(tags.HIGH_BIT, high)))
    assert isinstance(run, FrameRun)
    assert run.format.bits_stored == 16
    assert run.findings == found
