from __future__ import annotations

import struct
import warnings
import zlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from dicom_files import (
    JPEG,
    PIXEL_CASES,
    Encapsulated,
    Encoding,
    PixelCase,
    Pixels,
    even,
    file_bytes,
    file_id,
    pydicom_files,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from jpeg_ls import encode_array as jpeg_ls_encode
from openjpeg.utils import encode_array as jpeg_2000_encode
from PIL import Image
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.utils import pixel_array
from pydicom.uid import UID

from dicomzarr_watch.dicom import pixels
from dicomzarr_watch.dicom.fragments import encoded_frames
from dicomzarr_watch.dicom.frames import FrameRun, Samples
from dicomzarr_watch.dicom.instance import read_header
from dicomzarr_watch.dicom.pixels import (
    DEFLATED_FRAMES,
    HTJ2K,
    LOSSY,
    ROUNDED,
    NotDecodedError,
    decode,
    decoders,
    farthest,
)

TWELVE_BIT = {"JPEG-lossy.dcm", "JPGExtended.dcm"}
RLE = Encoding(pixels.RLE)
FLATE = Encoding(DEFLATED_FRAMES)
GRAY = next(c for c in PIXEL_CASES if c.name == "multi-frame")
SHIPPED = {
    "1.2.840.10008.1.2.4.50",
    "1.2.840.10008.1.2.4.51",
    "1.2.840.10008.1.2.4.70",
    "1.2.840.10008.1.2.4.80",
    "1.2.840.10008.1.2.4.81",
    "1.2.840.10008.1.2.4.90",
    "1.2.840.10008.1.2.4.91",
    RLE.uid,
}
WITNESSED = {s for s in SHIPPED if s.rpartition(".")[2] in {"80", "81", "90", "91"}} | {RLE.uid}
"""Two of the decoders that the package asks for can read these, whatever else is installed."""


def run_of(data: bytes) -> FrameRun:
    found = read_header(BytesIO(data)).instance.frames
    assert isinstance(found, FrameRun)
    return found


def encoded_of(data: bytes, run: FrameRun) -> list[bytes]:
    stream = BytesIO(data)
    stream.seek(run.start)
    return list(encoded_frames(stream, run))


def decoded(data: bytes, decoder: str = "") -> Samples:
    run = run_of(data)
    return np.concatenate([decode(frame, run, decoder) for frame in encoded_of(data, run)])


def encoded_files() -> list[Path]:
    found = []
    for path in pydicom_files():
        run = read_header(BytesIO(path.read_bytes())).instance.frames
        if isinstance(run, FrameRun) and run.needs_decoder:
            found.append(path)
    return found


FILES = encoded_files()


def fragments(case: PixelCase, encoding: Encoding, *frames: bytes) -> bytes:
    """Make a file of a case's matrix whose frames are encoded as given."""
    even = [frame + b"\0" * (len(frame) % 2) for frame in frames]
    return file_bytes([*case.elements[:-1], Encapsulated((b"", *even))], encoding)


def deflated(stored: bytes) -> bytes:
    deflate = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return deflate.compress(stored) + deflate.flush()


def one_frame(case: PixelCase, number: int) -> bytes:
    return replace(case, frames=case.frames[number : number + 1]).stored


def test_every_transfer_syntax_that_ships_with_pydicom_is_tried() -> None:
    assert {run_of(path.read_bytes()).encoding for path in FILES} == SHIPPED


def by_pydicom(path: Path) -> Pixels | None:
    """Return the stored values as pydicom decodes them, or None where nothing here can."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return pixel_array(pydicom.dcmread(path), raw=True)
        except RuntimeError:
            return None


@pytest.mark.parametrize("path", FILES, ids=file_id)
def test_decoded_frames_are_those_that_pydicom_decodes(path: Path) -> None:
    data = path.read_bytes()
    run = run_of(data)
    theirs = by_pydicom(path)
    if theirs is None and path.name in TWELVE_BIT:
        assert decoded(data).shape == (run.count, *run.format.shape)
        return
    if theirs is None:
        with pytest.raises(NotDecodedError):
            decoded(data)
        return
    found = decoded(data)
    assert found.shape == (run.count, *run.format.shape)
    np.testing.assert_array_equal(found, theirs.reshape(found.shape), strict=True)


def test_hardly_a_file_that_ships_with_pydicom_is_not_decoded() -> None:
    lost = {path.name for path in FILES if by_pydicom(path) is None}
    # pydicom has no decoder for 12 bits of JPEG; the other is broken on purpose
    assert lost <= {*TWELVE_BIT, "JPEG2000-embedded-sequence-delimiter.dcm"}


@pytest.mark.parametrize("path", FILES, ids=file_id)
def test_all_decoders_that_can_read_a_frame_agree_as_far_as_the_codec_goes(path: Path) -> None:
    data = path.read_bytes()
    run = run_of(data)
    found = []
    for decoder in decoders(run):
        with suppress(NotDecodedError):
            found.append(decoded(data, decoder))
    if by_pydicom(path) is not None:
        assert len(found) > (run.encoding in WITNESSED)
    is_chroma_reduced = run.encoding in LOSSY and run.format.photometric.startswith("YBR_FULL")
    for other in found[1:]:
        # what lies between two chroma samples is each JPEG decoder's own to say
        allowed = 2.0 if run.encoding in ROUNDED else 0.0
        assert farthest(found[0], other) <= allowed or is_chroma_reduced


@pytest.mark.parametrize("path", FILES, ids=file_id)
def test_a_view_is_made_by_the_first_decoder_that_can_so_that_the_next_is_a_witness(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = path.read_bytes()
    run = run_of(data)
    asked: list[str] = []

    class Asked:
        """A decoder of pydicom that tells which plugin it is to use."""

        def __init__(self, syntax: UID) -> None:
            self._decoder = get_decoder(syntax)
            self.available_plugins = self._decoder.available_plugins

        def as_array(self, *given: Any, decoding_plugin: str, **options: Any) -> Any:
            asked.append(decoding_plugin)
            return self._decoder.as_array(*given, decoding_plugin=decoding_plugin, **options)

    monkeypatch.setattr(pixels, "get_decoder", Asked)
    with suppress(NotDecodedError):
        decoded(data)
    first = decoders(run)[: len(set(asked))]
    assert tuple(dict.fromkeys(asked)) == (() if first == ("SimpleITK",) else first)


def test_native_frames_and_unknown_syntaxes_have_no_decoder() -> None:
    run = run_of(FILES[0].read_bytes())
    for syntax in ("", "1.2.3", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.4.102", "1.2/3"):
        assert decoders(replace(run, encoding=syntax)) == ()


def test_twelve_bits_of_jpeg_are_seen_as_they_were_taken() -> None:
    (path,) = (path for path in FILES if path.name == "JPEG-lossy.dcm")
    found = decoded(path.read_bytes())
    assert found.dtype == np.uint16
    # what a decoder of another family makes of the same frame
    assert (found.min(), found.max(), int(found.sum())) == (0, 264, 3767007)


@pytest.mark.parametrize("syntax", sorted(HTJ2K))
def test_decoders_of_jpeg_2000_are_asked_for_high_throughput_frames(syntax: str) -> None:
    run = replace(run_of(FILES[0].read_bytes()), encoding=syntax)
    assert decoders(run) == ("pylibjpeg", "pillow", "gdcm")


@pytest.mark.parametrize("count", [1, 4])
def test_fewer_frames_than_said_are_not_decoded(count: int) -> None:
    frames = [deflated(one_frame(GRAY, n)) for n in range(count)]
    data = fragments(GRAY, FLATE, *frames)
    with pytest.raises(NotDecodedError):
        encoded_of(data, run_of(data))


def test_frames_are_handed_out_one_by_one_until_one_is_missing() -> None:
    names = ("SC_rgb_rle_2frame.dcm", "rtdose_rle.dcm")
    for path in (p for p in FILES if p.name in names):
        data = path.read_bytes()
        run = run_of(data)
        assert len(encoded_of(data, run)) == run.count
        more = replace(run, count=run.count + 1)
        with pytest.raises(NotDecodedError):
            encoded_of(data, more)


@pytest.mark.parametrize(
    "offsets", [(0, 0, 0, 0, 0), (0,), (7,), (8, 20, 32, 44, 56), (1 << 31, 1), range(6)]
)
def test_a_wrong_offset_table_hides_no_frame_where_each_is_one_fragment(
    offsets: Sequence[int],
) -> None:
    frames = [even(deflated(one_frame(GRAY, n)), b"\0") for n in range(5)]
    table = struct.pack(f"<{len(offsets)}I", *offsets)
    data = file_bytes([*GRAY.elements[:-1], Encapsulated((table, *frames))], FLATE)
    np.testing.assert_array_equal(decoded(data), GRAY.frames)


def test_an_offset_table_says_where_frames_of_several_fragments_start() -> None:
    stored = [deflated(one_frame(GRAY, n)) for n in range(5)]
    frames = [frame + b"\0" * (60 - len(frame)) for frame in stored]
    halves = [frame[at : at + 30] for frame in frames for at in (0, 30)]
    table = struct.pack("<5I", *range(0, 5 * 2 * 38, 2 * 38))
    data = file_bytes([*GRAY.elements[:-1], Encapsulated((table, *halves))], FLATE)
    np.testing.assert_array_equal(decoded(data), GRAY.frames)


@pytest.mark.parametrize("syntax", sorted(SHIPPED))
@pytest.mark.parametrize("content", [b"", b"\0" * 200, b"\xff\xd8\xff\xd9", b"not an image"])
def test_bytes_that_are_no_image_are_not_decoded(syntax: str, content: bytes) -> None:
    run = replace(run_of(fragments(GRAY, JPEG, *[b""] * 5)), encoding=syntax)
    for decoder in ("", *decoders(run)):
        with pytest.raises(NotDecodedError):
            decode(content, run, decoder)


def test_frames_that_are_not_what_the_header_says_are_not_decoded() -> None:
    (path,) = (p for p in FILES if p.name == "MR_small_RLE.dcm")
    run = run_of(path.read_bytes())
    (frame,) = encoded_of(path.read_bytes(), run)
    for wrong in (
        replace(run.format, rows=run.format.rows + 1),
        replace(run.format, bits=8, bits_stored=8),
        replace(run.format, samples=3, photometric="RGB"),
    ):
        with pytest.raises(NotDecodedError):
            decode(frame, replace(run, format=wrong))


def _jpeg(frame: Pixels) -> bytes:
    picture = BytesIO()
    Image.fromarray(frame).save(picture, "jpeg")
    return picture.getvalue()


def _jpeg_ls(frame: Pixels) -> bytes:
    return bytes(jpeg_ls_encode(frame))


def _jpeg_2000(frame: Pixels) -> bytes:
    colours = int(frame.ndim == 3)
    bits = 8 * frame.itemsize
    return bytes(jpeg_2000_encode(frame, bits_stored=bits, photometric_interpretation=colours))


CODECS: dict[str, Callable[[Pixels], bytes]] = {
    JPEG.uid: _jpeg,
    "1.2.840.10008.1.2.4.80": _jpeg_ls,
    "1.2.840.10008.1.2.4.90": _jpeg_2000,
}
GREY = np.zeros((32, 48), np.uint8)


@pytest.mark.parametrize("syntax", CODECS)
@pytest.mark.parametrize(
    ("encoded", "said"),
    [
        (GREY.reshape(48, 32), GREY),
        (np.zeros((32, 3 * 48), np.uint8), np.zeros((32, 48, 3), np.uint8)),
        (np.full((32, 48), 4095, np.uint16), GREY),
        (np.zeros((32, 48, 3), np.uint8), GREY),
    ],
    ids=["other rows", "other samples", "more bits", "more samples"],
)
def test_a_frame_that_says_another_matrix_than_the_header_is_not_decoded(
    syntax: str, encoded: Pixels, said: Pixels
) -> None:
    if syntax == JPEG.uid and encoded.dtype != np.uint8:
        return  # nothing here writes one of more bits
    data = fragments(PixelCase("", said[np.newaxis]), Encoding(syntax), CODECS[syntax](encoded))
    run = run_of(data)
    (frame,) = encoded_of(data, run)
    for decoder in ("", *decoders(run)):
        with pytest.raises(NotDecodedError):
            decode(frame, run, decoder)


def test_more_bits_than_are_stored_but_not_more_than_allocated_are_decoded() -> None:
    values = np.arange(32 * 48, dtype=np.uint16).reshape(32, 48) * 2
    case = PixelCase("", values[np.newaxis], bits_stored=10)
    frame = bytes(jpeg_2000_encode(values, bits_stored=12))
    data = fragments(case, Encoding("1.2.840.10008.1.2.4.90"), frame)
    np.testing.assert_array_equal(decoded(data), values[np.newaxis])


@pytest.mark.parametrize("stored", [1, 7, 8])
def test_a_byte_of_jpeg_is_decoded_whole_however_many_bits_are_said_to_be_stored(
    stored: int,
) -> None:
    values = np.arange(0, 256, 8, dtype=np.uint8).repeat(64).reshape(32, 64)
    frame = _jpeg(values)
    run = run_of(fragments(PixelCase("", values[np.newaxis], bits_stored=stored), JPEG, frame))
    for decoder in ("", *decoders(run)):
        assert farthest(decode(frame, run, decoder), values[np.newaxis]) <= 2


@pytest.mark.parametrize("bits", [1, 32, 64])
def test_jpeg_in_samples_that_it_cannot_have_is_not_decoded(bits: int) -> None:
    values = np.zeros((8, 8, 3), np.uint8)
    frame = _jpeg(values)
    wide = values[np.newaxis].astype(f"u{max(bits // 8, 1)}")
    run = run_of(fragments(PixelCase("", wide, bits=bits), JPEG, frame))
    with pytest.raises(NotDecodedError):
        decode(frame, run)


def test_a_decoder_that_is_not_there_decodes_nothing() -> None:
    (path,) = (p for p in FILES if p.name == "MR_small_RLE.dcm")
    with pytest.raises(NotDecodedError):
        decoded(path.read_bytes(), "no such decoder")


DEFLATABLE = [c for c in PIXEL_CASES if c.encoding.uid == PIXEL_CASES[0].encoding.uid]
DEFLATABLE = [c for c in DEFLATABLE if c.tag == 0x7FE00010 and not (c.is_planar or c.photometric)]


@pytest.mark.parametrize("case", DEFLATABLE, ids=str)
def test_deflated_frames_are_the_stored_values(case: PixelCase) -> None:
    frames = [deflated(one_frame(case, n)) for n in range(len(case.frames))]
    np.testing.assert_array_equal(decoded(fragments(case, FLATE, *frames)), case.frames)


def _run_lengths(stored: bytes) -> bytes:
    """Encode bytes as one RLE segment of literal runs (PS3.5 G.3)."""
    runs = (stored[at : at + 128] for at in range(0, len(stored), 128))
    segment = b"".join(bytes([len(run) - 1]) + run for run in runs)
    return struct.pack("<16I", 1, 64, *14 * [0]) + even(segment, b"\0")


@pytest.mark.parametrize("shape", [(3, 4, 8), (5, 3, 5), (4, 1, 3), (2, 40, 51)])
@pytest.mark.parametrize("decoder", ["", "pylibjpeg", "pydicom"])
def test_single_bits_in_run_lengths_are_the_stored_values(
    shape: tuple[int, ...], decoder: str
) -> None:
    frames = np.random.default_rng(0).integers(0, 2, shape, np.uint8)
    case = PixelCase("", frames, bits=1)
    encoded = [_run_lengths(one_frame(case, n)) for n in range(len(frames))]
    np.testing.assert_array_equal(decoded(fragments(case, RLE, *encoded), decoder), frames)


@settings(max_examples=40)
@given(st.binary(max_size=60))
def test_deflated_frames_are_whole_or_not_decoded(stored: bytes) -> None:
    run = run_of(fragments(GRAY, FLATE, *[b""] * 5))
    if len(stored) >= 48:
        (found,) = decode(deflated(stored), run)
        assert found.tobytes() == stored[:48]
    else:
        with pytest.raises(NotDecodedError):
            decode(deflated(stored), run)
    with pytest.raises(NotDecodedError):
        decode(b"\xff" + stored, run)


@pytest.mark.parametrize("dtype", ["u1", "i2", "u8", "f4"])
def test_frames_are_as_far_apart_as_their_farthest_samples(dtype: str) -> None:
    one, other = np.zeros((2, 3, 4), dtype), np.zeros((2, 3, 4), dtype)
    assert farthest(one, other) == 0.0
    other[1, 2, 3], other[0, 0, 0] = 100, 3
    assert farthest(one, other) == farthest(other, one) == 100.0
