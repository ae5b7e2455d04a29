"""What SimpleITK says of the same files is listened to, where it can be compared."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import zarr
from archive_cases import CASES, Archived, contents, made, slices, sources
from dicom_files import AXIAL, BIG, IMPLICIT, PixelCase, pydicom_files, slice_dataset, write_series
from pydicom.dataset import Dataset

from dicomzarr_watch.archive import chunk, layout, reader, witness
from dicomzarr_watch.archive.restore import restore
from dicomzarr_watch.archive.verify import differing
from dicomzarr_watch.archive.work import Finding, Level
from dicomzarr_watch.dicom.frames import PixelFormat, Samples, Stored
from dicomzarr_watch.dicom.instance import Instance, read_header
from dicomzarr_watch.dicom.views import verbatim, view

SAGITTAL = (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)
OBLIQUE = (0.8, 0.6, 0.0, 0.0, 0.0, -1.0)
GREY = np.arange(16, dtype=np.uint16).reshape(4, 4)
SIGNED = np.arange(-24, 24, dtype=np.int16).reshape(8, 6)

AGREEING: dict[str, Callable[[Path], object]] = {
    "plain": slices,
    "implicit": partial(slices, syntax=IMPLICIT.uid),
    "big endian": partial(slices, syntax=BIG.uid),
    "one slice": partial(slices, count=1),
    "sagittal": partial(write_series, count=4, orientation=SAGITTAL, position=(3, -4, 5.5)),
    "oblique": partial(write_series, count=4, orientation=OBLIQUE),
    "without a place": partial(slices, position=None),
    "whole rescale": partial(slices, RescaleSlope=1, RescaleIntercept=-1024),
    "broken rescale": partial(slices, RescaleSlope="0.37", RescaleIntercept="-12.5"),
    "signed": partial(write_series, count=3, pixels=SIGNED),
    "moments": CASES["moments"].write,
    "padded": CASES["MR_small_padded.dcm"].write,
}


@pytest.mark.parametrize("name", AGREEING)
def test_both_say_the_same(name: str, tmp_path: Path) -> None:
    done = made(tmp_path, AGREEING[name], verify=Level.INDEPENDENT)
    said = done.receipt.verified["independent"]
    assert said == {"agree": ["0"], "not_comparable": {}, "differ": {}}


def _pixel_file(case: PixelCase) -> Callable[[Path], object]:
    return lambda folder: (folder / "a.dcm").write_bytes(case.content)


def _run_lengths(folder: Path) -> None:
    """Write colours of 16 bits in RLE, which SimpleITK takes for other samples."""
    (shipped,) = (p for p in pydicom_files() if p.name == "SC_rgb_rle_16bit.dcm")
    shutil.copy(shipped, folder)


SILENT: dict[str, tuple[Callable[[Path], object], str]] = {
    "inverted": (
        partial(slices, PhotometricInterpretation="MONOCHROME1"),
        "SimpleITK converts MONOCHROME1",
    ),
    "multi-frame": (
        CASES["frames out of order"].write,
        "SimpleITK reads multi-frame geometry from the first frame",
    ),
    "packed": (
        _pixel_file(PixelCase("1 bit", GREY[np.newaxis] % 2 == 0, bits=1, vr="OB")),
        "single-bit pixels",
    ),
    "64 bits": (_pixel_file(PixelCase("u8", GREY[np.newaxis].astype("u8"))), "64-bit samples"),
    "busy bits": (CASES["unused bits carry data"].write, "unused bits carry data"),
    "one sample that is called colour": (
        partial(slices, PhotometricInterpretation="RGB"),
        "SimpleITK reads another matrix",
    ),
    "decoded otherwise": (_run_lengths, "SimpleITK decodes it otherwise than two decoders"),
    "float": (
        _pixel_file(PixelCase("f4", GREY[np.newaxis] / np.float32(8), vr="OF", tag=0x7FE00008)),
        "SimpleITK cannot read it",
    ),
}


@pytest.mark.parametrize("name", SILENT)
def test_what_cannot_be_compared_is_said_to_be_so_with_the_reason(
    name: str, tmp_path: Path
) -> None:
    write, reason = SILENT[name]
    done = made(tmp_path, write, verify=Level.INDEPENDENT)
    said = done.receipt.verified["independent"]
    assert said == {"agree": [], "not_comparable": {"0": reason}, "differ": {}}


def _three_orientations(folder: Path) -> None:
    """Write frames that lie across each other into one file, as localizers do."""
    made = slice_dataset(pixels=GREY, NumberOfFrames=3, PixelSpacing=None)
    made.PerFrameFunctionalGroupsSequence = []
    for orientation in (AXIAL, SAGITTAL, OBLIQUE):
        place, lie, measures, groups = Dataset(), Dataset(), Dataset(), Dataset()
        place.ImagePositionPatient = [1, 2, 3]
        lie.ImageOrientationPatient = list(orientation)
        measures.PixelSpacing = [2, 2]
        groups.PlanePositionSequence = [place]
        groups.PlaneOrientationSequence = [lie]
        groups.PixelMeasuresSequence = [measures]
        made.PerFrameFunctionalGroupsSequence.append(groups)
    made.PixelData = GREY.tobytes() * 3
    pydicom.dcmwrite(folder / "a.dcm", made, enforce_file_format=True)


def test_the_frames_of_one_file_are_not_compared_though_each_is_an_image(tmp_path: Path) -> None:
    done = made(tmp_path, _three_orientations, verify=Level.INDEPENDENT)
    reason = "SimpleITK reads multi-frame geometry from the first frame"
    said = done.receipt.verified["independent"]
    assert said["not_comparable"] == {f"{n}/0": reason for n in range(3)}
    assert done.receipt.findings == ()


def _instances(files: Path) -> list[Instance]:
    found = []
    for source in sources(files):
        with source.path.open("rb") as stream:
            found.append(read_header(stream).instance)
    return found


def _asked(done: Archived, files: Path, **facts: Any) -> witness.Testimony:
    """Have a store compared with files; facts: what its headers are to have said instead."""
    instances = [replace(found, **facts) for found in _instances(done.files)]
    paths = [source.path for source in sources(files)]
    plan = layout.plan(instances)
    return witness.testify(done.store, plan, instances, paths, not_verbatim=(), vouched=())


@pytest.fixture
def done(tmp_path: Path) -> Archived:
    return made(tmp_path, write_series_of_five)


def write_series_of_five(folder: Path, **keywords: Any) -> None:
    write_series(folder, 5, **keywords)


def test_a_voxel_that_differs_is_named_by_its_plane(done: Archived) -> None:
    assert _asked(done, done.files) == witness.Testimony(("0",), {}, {})
    array = zarr.open_array(done.path / "0", mode="a")
    array[3, 2, 1] = 12345
    assert _asked(done, done.files).differ == {"0": "voxels of plane 3"}


def test_a_rescale_that_differs_shows_in_the_voxels(done: Archived) -> None:
    assert _asked(done, done.files, rescale=(2.0, 0.0)).differ == {"0": "voxels of plane 0"}


@pytest.mark.parametrize(
    ("keywords", "what"),
    [
        ({"position": (1.0, 0.0, 0.0)}, "origin"),
        ({"spacing": (0.5, 0.7)}, "spacing"),
        ({"gap_mm": 1.6}, "spacing"),
        ({"orientation": SAGITTAL}, "direction"),
    ],
)
def test_a_grid_that_lies_elsewhere_differs(
    done: Archived, tmp_path: Path, keywords: dict[str, Any], what: str
) -> None:
    write_series_of_five(tmp_path / "other", **keywords)
    assert _asked(done, tmp_path / "other").differ == {"0": what}


def _inverted(stored: bytes, pixel_format: PixelFormat) -> Samples:
    return np.invert(view(stored, pixel_format).astype(np.uint16))


def _inverted_back(samples: Samples, pixel_format: PixelFormat) -> Stored:
    return verbatim(np.invert(samples.astype(np.uint16)), pixel_format)


def test_a_fault_that_undoes_itself_is_seen_by_the_witness_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # a wrong view with its own inverse: every byte comes back, and no voxel is right
    monkeypatch.setattr(chunk, "view", _inverted)
    monkeypatch.setattr(chunk, "is_verbatim", lambda *_: True)
    monkeypatch.setattr(reader, "verbatim", _inverted_back)
    blind = made(tmp_path / "exact", slices, verify=Level.EXACT)
    assert differing(blind.store) == ()
    seeing = made(tmp_path / "independent", slices, verify=Level.INDEPENDENT)
    names = tuple(sorted(contents(seeing.files)))
    assert seeing.receipt.findings == (Finding("view-did-not-verify", names),)
    assert seeing.receipt.counts["images"] == 0
    restore(seeing.store, tmp_path / "back", seeing.store.files)
    assert contents(tmp_path / "back") == contents(seeing.files)
