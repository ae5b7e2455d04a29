"""A file whose frames were decoded has the header of a native one, and else stays as it was."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicom_files import file_id, pydicom_files
from pydicom.dataset import Dataset
from pydicom.pixels.utils import pixel_array
from pydicom.uid import ExplicitVRLittleEndian

from dicomzarr_watch.dicom.fragments import encoded_frames
from dicomzarr_watch.dicom.frames import FrameRun
from dicomzarr_watch.dicom.instance import Header, read_header
from dicomzarr_watch.dicom.native import native_head
from dicomzarr_watch.dicom.pixels import NotDecodedError, decode
from dicomzarr_watch.dicom.views import verbatim

OF_THE_ENCODING = {
    "PixelData",
    "PhotometricInterpretation",
    "PlanarConfiguration",
    "ExtendedOffsetTable",
    "ExtendedOffsetTableLengths",
}
OF_THE_META_INFORMATION = {"TransferSyntaxUID", "FileMetaInformationGroupLength"}


def _header(path: Path) -> Header:
    with path.open("rb") as stream:
        return read_header(stream)


def _is_encoded(path: Path) -> bool:
    """Tell whether there are encoded frames that can be decoded."""
    run = _header(path).instance.frames
    if not isinstance(run, FrameRun) or not run.needs_decoder:
        return False
    try:
        _decoded(path, run)
    except NotDecodedError:
        return False
    return True


def _decoded(path: Path, run: FrameRun) -> bytes:
    with path.open("rb") as stream:
        stream.seek(run.start)
        frames = (decode(frame, run) for frame in encoded_frames(stream, run))
        return b"".join(verbatim(samples, run.format) for samples in frames)


def _as_native(path: Path) -> Dataset:
    header = _header(path)
    run = header.instance.frames
    assert isinstance(run, FrameRun)
    head = native_head(header, run)
    assert head is not None
    pixels = _decoded(path, run)
    tail = path.read_bytes()[header.instance.size - header.instance.tail_bytes :]
    whole = head + pixels + b"\0" * (len(pixels) % 2) + tail
    return pydicom.dcmread(BytesIO(whole))


IMPLICIT = "SC_rgb_jpeg.dcm"  # against its transfer syntax
TWELVE_BIT = {"JPEG-lossy.dcm", "JPGExtended.dcm"}  # pydicom cannot say what is in them
ENCODED = [p for p in pydicom_files() if _is_encoded(p) and p.name not in {IMPLICIT, *TWELVE_BIT}]


@pytest.mark.filterwarnings("ignore:Invalid value for VR UI")
@pytest.mark.parametrize("path", ENCODED, ids=file_id)
def test_a_native_file_has_the_pixels_and_elements_of_the_encoded_one(path: Path) -> None:
    native, encoded = _as_native(path), pydicom.dcmread(path)
    assert native.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    assert np.array_equal(pixel_array(native, raw=True), pixel_array(encoded, raw=True))
    assert native.PhotometricInterpretation in ("MONOCHROME2", "RGB", "YBR_FULL")
    kept = [
        {e.tag: e for e in dataset if e.keyword not in OF_THE_ENCODING and e.tag != 0x7FE00000}
        for dataset in (native, encoded)
    ]
    assert kept[0] == kept[1]
    meta = [
        {e.tag: e for e in dataset.file_meta if e.keyword not in OF_THE_META_INFORMATION}
        for dataset in (native, encoded)
    ]
    assert meta[0] == meta[1]


def test_the_group_length_of_the_meta_information_is_that_of_its_elements() -> None:
    header = _header(ENCODED[0])
    run = header.instance.frames
    assert isinstance(run, FrameRun)
    head = native_head(header, run)
    assert head is not None
    said = int.from_bytes(head[140:144], "little")
    first = head[144 + said : 146 + said]
    assert head[132:136] == b"\x02\0\0\0"
    assert first == b"\x08\0"


def test_a_data_set_in_implicit_vr_stays_as_it_is() -> None:
    (path,) = (p for p in pydicom_files() if p.name == IMPLICIT)
    header = _header(path)
    run = header.instance.frames
    assert isinstance(run, FrameRun)
    assert native_head(header, run) is None


def test_pixels_too_long_for_one_value_have_no_native_header() -> None:
    header = _header(ENCODED[0])
    run = header.instance.frames
    assert isinstance(run, FrameRun)
    frames = (1 << 32) // run.format.view_bytes + 1
    long = FrameRun(run.format, frames, run.start, run.stored_bytes, run.encoding)
    assert native_head(header, long) is None
