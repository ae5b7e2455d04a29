"""`keep_encoded`: a site may have the space instead of the bytes, and is told which files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from archive_cases import Archived, archived, contents, made, noise, uid
from dicom_files import even, slice_dataset
from jpeg_ls import encode_array as jpeg_ls_encode
from openjpeg.utils import encode_array
from PIL import Image
from pydicom.encaps import encapsulate, generate_frames
from pydicom.pixels.utils import pixel_array
from pydicom.uid import (
    UID,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    RLELossless,
)

from dicomzarr_watch.archive.restore import restore
from dicomzarr_watch.archive.work import Finding, KeepEncoded

LOSSLESS = ["rle.dcm", "jpeg-ls.dcm"]
LOSSY = "lossy.dcm"
NATIVE = "native.dcm"
BROKEN = "broken.dcm"


def _series(folder: Path) -> None:
    """Write the same matrix five ways: native, twice without loss, with loss, and broken."""
    names = dict(zip([NATIVE, *LOSSLESS, LOSSY, BROKEN], range(5), strict=True))
    for name, number in names.items():
        pixels = (noise(32, 32, seed=number) >> 4).astype(np.uint8)
        made = slice_dataset(
            pixels=pixels, position=(0.0, 0.0, number), instance_number=number, sop_uid=uid(number)
        )
        if name == "rle.dcm":
            made.compress(RLELossless)
        elif name == "jpeg-ls.dcm":
            made.compress(JPEGLSLossless)
        elif name == LOSSY:
            made.PixelData = encapsulate([JPEG])
            made["PixelData"].is_undefined_length = True
            made.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
        elif name == BROKEN:
            made.compress(RLELossless)
            made.PixelData = encapsulate([b"\0" * 64])
        pydicom.dcmwrite(folder / name, made, enforce_file_format=True)


def _small_jpeg() -> bytes:
    picture = BytesIO()
    Image.fromarray((noise(32, 32, seed=9) >> 4).astype(np.uint8)).save(picture, "jpeg", quality=80)
    return picture.getvalue()


JPEG = _small_jpeg()


def _back(done: Archived, folder: Path) -> dict[str, bytes]:
    restore(done.store, folder, done.store.files)
    return contents(folder)


@pytest.mark.parametrize(
    ("keep", "given_up"),
    [
        (KeepEncoded.ALWAYS, []),
        (KeepEncoded.LOSSY, LOSSLESS),
        (KeepEncoded.NEVER, [*LOSSLESS, LOSSY]),
    ],
)
def test_the_bytes_that_a_site_gives_up_are_told_and_no_others_are_lost(
    tmp_path: Path, keep: KeepEncoded, given_up: list[str]
) -> None:
    done = made(tmp_path, _series, keep_encoded=keep)
    before, after = contents(done.files), _back(done, tmp_path / "back")
    assert {n for n in before if before[n] != after[n]} == set(given_up)
    assert done.receipt.counts["files_pixel_exact"] == len(given_up)
    told = [f for f in done.receipt.findings if f.code == "pixel-exact-only"]
    assert [set(f.files) for f in told] == ([set(given_up)] if given_up else [])
    for name in given_up:
        old, new = (pydicom.dcmread(f / name) for f in (done.files, tmp_path / "back"))
        assert new.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
        assert np.array_equal(pixel_array(new, raw=True), pixel_array(old, raw=True))
        times = [(f / name).stat().st_mtime_ns for f in (done.files, tmp_path / "back")]
        assert times[0] == times[1]


def test_the_frames_are_the_same_whatever_is_kept(tmp_path: Path) -> None:
    found = []
    for keep in KeepEncoded:
        done = made(tmp_path / keep, _series, keep_encoded=keep)
        document = json.loads((done.final / "series.json").read_bytes())
        found.append([document["images"], done.receipt.verified["second_look"]["agrees"]])
    assert found[0] == found[1] == found[2]


def test_series_json_names_the_original_of_every_file(tmp_path: Path) -> None:
    done = made(tmp_path, _series, keep_encoded=KeepEncoded.NEVER)
    files: list[Any] = json.loads((done.final / "series.json").read_bytes())["files"]
    before, after = contents(done.files), _back(done, tmp_path / "back")
    for file in files:
        hashes = [hashlib.sha256(d[file["name"]]).hexdigest() for d in (before, after)]
        assert [file["original_sha256"], file["sha256"]] == hashes
    by_name = {file.name: file.original_sha256.hex() for file in done.store.files}
    assert by_name == {file["name"]: file["original_sha256"] for file in files}


def test_what_cannot_be_decoded_is_kept_as_it_stands(tmp_path: Path) -> None:
    done = made(tmp_path, _series, keep_encoded=KeepEncoded.NEVER)
    assert Finding("not-decodable", (BROKEN,)) in done.receipt.findings
    assert _back(done, tmp_path / "back")[BROKEN] == (done.files / BROKEN).read_bytes()


def test_the_same_originals_again_make_no_revision(tmp_path: Path) -> None:
    done = made(tmp_path, _series, keep_encoded=KeepEncoded.NEVER)
    again = archived(done.files, tmp_path / "output", keep_encoded=KeepEncoded.NEVER)
    assert again.receipt.is_unchanged


def test_a_revision_still_knows_the_originals_that_are_gone(tmp_path: Path) -> None:
    first = made(tmp_path, _series, keep_encoded=KeepEncoded.NEVER)
    before = {file.name: file.original_sha256 for file in first.store.files}
    for name in [*LOSSLESS, LOSSY]:
        (first.files / name).unlink()
    late = slice_dataset(pixels=np.zeros((32, 32), np.uint8), sop_uid=uid(9), instance_number=9)
    pydicom.dcmwrite(first.files / "late.dcm", late, enforce_file_format=True)
    second = archived(first.files, tmp_path / "output", keep_encoded=KeepEncoded.NEVER)
    assert second.receipt.revision == 2
    after = {file.name: file.original_sha256 for file in second.store.files}
    assert before.items() <= after.items()
    assert second.receipt.counts["files_pixel_exact"] == 3


def test_a_broken_frame_among_good_ones_keeps_the_file(tmp_path: Path) -> None:
    def write(folder: Path) -> None:
        made = slice_dataset(pixels=np.zeros((32, 32), np.uint8), NumberOfFrames=2)
        made.compress(RLELossless, np.zeros((2, 32, 32), np.uint8))
        good = next(generate_frames(made.PixelData, number_of_frames=2))
        made.PixelData = encapsulate([good, b"\0" * 64])
        pydicom.dcmwrite(folder / "a.dcm", made, enforce_file_format=True)

    done = made(tmp_path, write, keep_encoded=KeepEncoded.NEVER)
    assert done.receipt.counts["files_pixel_exact"] == 0
    assert _back(done, tmp_path / "back") == contents(done.files)


def test_frames_of_single_bits_that_end_within_a_byte_follow_each_other(tmp_path: Path) -> None:
    frames = (noise(17, 33, 35, seed=3) & 1).astype(np.uint8)

    def write(folder: Path) -> None:
        made = slice_dataset(pixels=frames[0], BitsAllocated=1, BitsStored=1, HighBit=0)
        made.NumberOfFrames = len(frames)
        made.PixelData = encapsulate([_jpeg_2000(frame) for frame in frames])
        made["PixelData"].is_undefined_length = True
        made.file_meta.TransferSyntaxUID = JPEG2000Lossless
        pydicom.dcmwrite(folder / "a.dcm", made, enforce_file_format=True)

    done = made(tmp_path, write, keep_encoded=KeepEncoded.NEVER)
    assert done.receipt.counts["files_pixel_exact"] == 1
    _back(done, tmp_path / "back")
    back = pydicom.dcmread(tmp_path / "back" / "a.dcm")
    assert np.array_equal(pixel_array(back, raw=True), frames)


GREY = (noise(32, 32, seed=5) >> 4).astype(np.uint8)
DEEP = noise(32, 32, seed=6)
_SIGNED = DEEP.astype(np.int16) - 2048
_OVERLAID = DEEP | np.uint16(0x1000)


def _jpeg_ls(frame: Any) -> bytes:
    return even(bytes(jpeg_ls_encode(frame)), b"\0")


def _run_lengths(frame: Any) -> bytes:
    made = slice_dataset(pixels=frame, BitsStored=16, HighBit=15)
    made.compress(RLELossless)
    return next(generate_frames(made.PixelData, number_of_frames=1))


def _of(said: Any, syntax: UID, *fragments: bytes, **facts: Any) -> Callable[[Path], object]:
    """Make what writes a file with the header of some pixels and fragments of one's own."""

    def write(folder: Path) -> None:
        made = slice_dataset(pixels=said, **facts)
        made.PixelData = encapsulate(list(fragments), has_bot=False)
        made["PixelData"].is_undefined_length = True
        made.file_meta.TransferSyntaxUID = syntax
        pydicom.dcmwrite(folder / "a.dcm", made, enforce_file_format=True)

    return write


TWELVE: dict[str, Any] = {"BitsStored": 12, "HighBit": 11}
MORE_THAN_SAID: dict[str, Callable[[Path], object]] = {
    "a frame too many": _of(GREY, JPEGLSLossless, *2 * [_jpeg_ls(GREY)]),
    "an RLE frame too many": _of(DEEP, RLELossless, *2 * [_run_lengths(DEEP)], **TWELVE),
    "frames too many": _of(GREY, JPEGLSLossless, *4 * [_jpeg_ls(GREY)], NumberOfFrames=2),
    "two frames in a fragment": _of(GREY, JPEGLSLossless, 2 * _jpeg_ls(GREY)),
    "bits beyond those stored": _of(DEEP, JPEGLSLossless, _jpeg_ls(DEEP), BitsStored=10, HighBit=9),
    "an overlay in unused bits": _of(DEEP, RLELossless, _run_lengths(_OVERLAID), **TWELVE),
    "bits beyond those allocated": _of(GREY, JPEGLSLossless, _jpeg_ls(DEEP)),
}


@pytest.mark.parametrize("name", MORE_THAN_SAID)
def test_a_file_with_more_encoded_than_its_header_says_is_kept(name: str, tmp_path: Path) -> None:
    done = made(tmp_path, MORE_THAN_SAID[name], keep_encoded=KeepEncoded.NEVER)
    assert done.receipt.counts["files_pixel_exact"] == 0
    assert _back(done, tmp_path / "back") == contents(done.files)


_CUT = _SIGNED.astype(np.uint16) & 0x0FFF
AS_SAID: dict[str, tuple[Callable[[Path], object], Any]] = {
    "a frame in two fragments": (
        _of(GREY, JPEGLSLossless, _jpeg_ls(GREY)[:100], _jpeg_ls(GREY)[100:]),
        GREY,
    ),
    "twelve bits": (_of(DEEP, RLELossless, _run_lengths(DEEP), **TWELVE), DEEP),
    "signed": (_of(_SIGNED, RLELossless, _run_lengths(_SIGNED), **TWELVE), _SIGNED),
    "signed, cut": (_of(_SIGNED, RLELossless, _run_lengths(_CUT), **TWELVE), _SIGNED),
}


@pytest.mark.parametrize("name", AS_SAID)
def test_a_file_with_no_more_encoded_than_its_header_says_is_given_up(
    name: str, tmp_path: Path
) -> None:
    write, pixels = AS_SAID[name]
    done = made(tmp_path, write, keep_encoded=KeepEncoded.NEVER)
    assert done.receipt.counts["files_pixel_exact"] == 1
    _back(done, tmp_path / "back")
    back = pydicom.dcmread(tmp_path / "back" / "a.dcm")
    assert np.array_equal(pixel_array(back, raw=True), pixels)


def _jpeg_2000(frame: Any) -> bytes:
    return bytes(encode_array(frame, bits_stored=1))
