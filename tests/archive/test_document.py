"""series.json and done.json say what is in the store."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import zarr
from archive_cases import CASES, Archived, contents, made, noise, pet, slices, uid
from dicom_files import slice_dataset, write_slice
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.uid import RLELossless

from dicomzarr_watch.archive.document import Receipt, content_hash
from dicomzarr_watch.archive.lines import as_json
from dicomzarr_watch.archive.work import Finding

UNUSED_BITS = "unused-bits-carry-data"


def _told(done: Archived) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(
        (done.final / "series.json").read_bytes(), parse_constant=pytest.fail
    )
    return found


def test_every_file_is_told_of_in_the_order_of_the_store(series: Archived) -> None:
    files = contents(series.files)
    told = _told(series)["files"]
    assert [file["name"] for file in told] == [file.name for file in series.store.files]
    assert {file["name"]: file["size"] for file in told} == {n: len(d) for n, d in files.items()}
    assert {file["name"]: file["sha256"] for file in told} == {
        name: hashlib.sha256(data).hexdigest() for name, data in files.items()
    }


def test_how_a_file_is_kept_is_told_truly(series: Archived) -> None:
    told = _told(series)["files"]
    unlike = {n for f in series.receipt.findings for n in f.files if f.code == UNUSED_BITS}
    for said, file in zip(told, series.store.files, strict=True):
        is_native = file.is_in_frames or file.name in unlike
        facts = {
            "frames": is_native,
            "residue": not is_native and file.head_bytes > 0,
            "whole": not is_native and not file.head_bytes,
        }
        assert [how for how, holds in facts.items() if holds] == [said["kept"]]
        assert said["frames"] == file.frame_count
        assert bool(said["why"]) is (file.frame_count == 0)
        assert is_native or file.residue_offset >= 0
    for how in ("frames", "residue", "whole"):
        assert series.receipt.counts[f"files_as_{how}"] == [f["kept"] for f in told].count(how)


def test_every_image_is_told_of_as_it_stands_in_the_store(series: Archived) -> None:
    for said in _told(series)["images"]:
        array: Any = zarr.open_array(series.path / said["path"], mode="r")
        assert tuple(said["shape"]) == array.shape
        assert said["dtype"] == array.dtype.name
        assert tuple(said["axes"]) == array.metadata.dimension_names


def test_the_receipt_on_disk_is_the_one_that_is_returned(series: Archived) -> None:
    written = (series.final / "done.json").read_bytes()
    told = json.loads(written)
    read = Receipt.from_json(told)
    assert as_json(read.as_json()) == written
    assert read.counts == series.receipt.counts
    assert read.findings == series.receipt.findings
    assert (told["state"], told["store"]) == ("done", "series.zarr")
    assert (series.final / told["store"]).is_dir()
    out = sum(map(len, contents(series.final).values()))
    assert read.counts["bytes_out"] == out - len(written)
    assert read.counts["bytes_in"] == sum(map(len, contents(series.files).values()))


texts = st.text()
found = st.builds(Finding, texts, st.lists(texts).map(tuple), texts, texts)


@settings(max_examples=30)
@given(
    st.builds(
        Receipt,
        series_instance_uid=texts,
        folder=texts,
        content=texts,
        revision=st.integers(1),
        counts=st.dictionaries(texts, st.integers()),
        verified=st.dictionaries(texts, texts),
        findings=st.lists(found, max_size=3).map(tuple),
        seconds=st.dictionaries(texts, st.integers(0, 10**6).map(lambda n: n / 10**4)),
        versions=st.dictionaries(texts, texts),
    )
)
def test_a_receipt_is_read_back_as_it_was_written(receipt: Receipt) -> None:
    assert Receipt.from_json(json.loads(as_json(receipt.as_json()))) == receipt


names = st.text(st.characters(exclude_characters="\0", codec="utf-8"))
files = st.dictionaries(names, st.binary(min_size=32, max_size=32))


@settings(max_examples=50)
@given(files, st.randoms())
def test_the_content_of_a_series_has_no_order(named: dict[str, bytes], order: Any) -> None:
    shuffled = list(named.items())
    order.shuffle(shuffled)
    assert content_hash(shuffled) == content_hash(named.items())


@settings(max_examples=50)
@given(files, files)
def test_other_content_has_another_hash(one: dict[str, bytes], other: dict[str, bytes]) -> None:
    assert (content_hash(one.items()) == content_hash(other.items())) is (one == other)


def test_tags_that_all_share_stand_once_and_others_as_columns(tmp_path: Path) -> None:
    done = made(tmp_path, lambda f: slices(f, PatientName="Doe^Jane"))
    tags = _told(done)["tags"]
    assert tags["shared"]["00100010"] == {"vr": "PN", "Value": [{"Alphabetic": "Doe^Jane"}]}
    column = tags["columns"]["00080018"]
    names = [column["distinct"][n]["Value"][0] for n in column["of"]]
    read = [pydicom.dcmread(done.files / file.name) for file in done.store.files]
    assert names == [dataset.SOPInstanceUID for dataset in read]


def _referred(done: Archived, value: dict[str, Any]) -> bytes:
    """Return the bytes that a BulkDataURI names."""
    where = re.fullmatch(r"(series\.zarr/dicom/\w+)#(\d+),(\d+)", value["BulkDataURI"])
    assert where is not None
    start, count = int(where[2]), int(where[3])
    array = zarr.open_array(done.final / where[1], mode="r")
    return np.asarray(array[start : start + count]).tobytes()


@pytest.mark.parametrize("kept", ["frames", "whole"])
def test_a_long_value_is_found_where_series_json_says(tmp_path: Path, kept: str) -> None:
    long = {n: noise(1000, seed=n).tobytes() for n in range(2)}

    def write(folder: Path) -> None:
        for n, value in long.items():
            made = slice_dataset(position=(0, 0, -n), sop_uid=uid(n))
            made.private_block(0x0099, "ACME", create=True).add_new(0x01, "OB", value)
            path = folder / f"{n}.dcm"
            pydicom.dcmwrite(path, made, enforce_file_format=True)
            if kept == "whole":
                path.write_bytes(path.read_bytes()[:-1])

    done = made(tmp_path, write)
    assert done.receipt.counts[f"files_as_{kept}"] == 2
    column = _told(done)["tags"]["columns"]["00991001"]
    values = [_referred(done, column["distinct"][n]) for n in column["of"]]
    assert values == [long[int(Path(file.name).stem)] for file in done.store.files]


def test_a_rescale_that_varies_is_told_per_plane(tmp_path: Path) -> None:
    def write(folder: Path) -> None:
        for n, slope in enumerate(["2", "0.5", "1"]):
            rescale = {"RescaleSlope": slope, "RescaleIntercept": -n} if n < 2 else {}
            place = (0.0, 0.0, -n)
            write_slice(folder / f"{n}", position=place, sop_uid=uid(n), WindowCenter=40, **rescale)

    (image,) = _told(made(tmp_path, write))["images"]
    assert image["rescale"] == {"slope": [None, 0.5, 2.0], "intercept": [None, -1.0, 0.0]}
    assert image["window"] is None


def test_a_rescale_that_all_share_is_told_once(tmp_path: Path) -> None:
    keywords: dict[str, Any] = {"RescaleSlope": "2", "RescaleIntercept": "-1024"}
    keywords |= {"WindowCenter": [40, 600], "WindowWidth": [400, 2000]}
    (image,) = _told(made(tmp_path, lambda f: slices(f, **keywords)))["images"]
    assert image["rescale"] == {"slope": 2.0, "intercept": -1024.0}
    assert image["window"] == {"center": 40.0, "width": 400.0}


@pytest.mark.parametrize(
    ("weight", "suv"),
    [
        ("70", {"by": "body weight", "units": "g/ml", "factor": 70e3 / 350e6}),
        (None, {"why_not": "no weight or no dose"}),
    ],
)
def test_a_pet_tells_its_units_and_what_makes_them_suv(
    tmp_path: Path, weight: str | None, suv: dict[str, Any]
) -> None:
    done = made(tmp_path, lambda folder: pet(folder, PatientWeight=weight))
    (image,) = _told(done)["images"]
    assert (image["units"], image["suv"]) == ("BQML", suv)


def test_units_that_differ_are_told_per_plane(tmp_path: Path) -> None:
    def write(folder: Path) -> None:
        for n, units in enumerate(["HU", "US"]):
            keywords: dict[str, Any] = {"RescaleType": units, "sop_uid": uid(n)}
            write_slice(folder / f"{n}", position=(0.0, 0.0, n), **keywords)

    (image,) = _told(made(tmp_path, write))["images"]
    assert (image["units"], image["suv"]) == (["HU", "US"], None)


def test_the_geometry_is_told_in_the_terms_of_simpleitk(tmp_path: Path) -> None:
    (image,) = _told(made(tmp_path, lambda f: slices(f, 4, spacing=(0.75, 0.5))))["images"]
    geometry = image["geometry"]
    assert geometry["size"] == [8, 8, 4]
    assert geometry["spacing"] == [0.5, 0.75, 2.5]
    assert geometry["positions"] == [0.0, 2.5, 5.0, 7.5]
    assert geometry["affine"][1] == [0.0, 0.75, 0.0, 0.0]
    assert geometry["regular"]


def test_what_tells_moments_apart_is_told_of_each(tmp_path: Path) -> None:
    (image,) = _told(made(tmp_path, CASES["moments"].write))["images"]
    assert (image["t_by"], image["moments"]) == (
        "temporal position",
        {"temporal position": [[1.0], [2.0]]},
    )


@pytest.mark.parametrize(
    ("facts", "scale", "unit"),
    [
        ({"FrameTime": "33.3"}, 33.3, "millisecond"),
        ({"FrameTimeVector": [0, 40, 50]}, 1.0, None),
        ({}, 1.0, None),
    ],
)
def test_a_cine_tells_viewers_how_fast_it_is(
    facts: dict[str, Any], scale: float, unit: str | None, tmp_path: Path
) -> None:
    def write(folder: Path) -> None:
        made = slice_dataset(position=None, NumberOfFrames=3, **facts)
        made.PixelData = made.PixelData * 3
        made.save_as(folder / "0.dcm", enforce_file_format=True)

    told: Any = zarr.open_group(made(tmp_path, write).path, mode="r").attrs["ome"]
    (multiscale,) = told["multiscales"]
    assert (multiscale["axes"][0]["name"], multiscale["axes"][0].get("unit")) == ("t", unit)
    found = multiscale["datasets"][0]["coordinateTransformations"][0]["scale"][0]
    assert found == pytest.approx(scale)


def test_an_axis_along_which_nobody_says_the_distance_has_no_unit(tmp_path: Path) -> None:
    def write(folder: Path) -> None:
        write_slice(folder / "0.dcm", PixelSpacing=None, SliceThickness=None)

    done = made(tmp_path, write)
    assert _told(done)["images"][0]["geometry"]["unmeasured"] == ["x", "y", "z"]
    told: Any = zarr.open_group(done.path, mode="r").attrs["ome"]
    assert [axis.get("unit") for axis in told["multiscales"][0]["axes"]] == [None] * 3


def test_values_that_mean_what_a_table_says_are_a_finding(tmp_path: Path) -> None:
    table = pydicom.Dataset()
    table.LUTDescriptor = [2, 0, 16]
    table.ModalityLUTType = "OD"
    table.add_new(0x00283006, "OW", bytes(4))

    def write(folder: Path) -> None:
        write_slice(folder / "0.dcm", ModalityLUTSequence=[table])

    done = made(tmp_path, write)
    assert done.receipt.findings == (Finding("modality-lut", ("0.dcm",)),)
    assert _told(done)["images"][0]["rescale"] is None


def test_why_a_series_was_split_is_told(tmp_path: Path) -> None:
    images = _told(made(tmp_path, CASES["mixed sizes"].write))["images"]
    assert [image["split_by"] for image in images] == [
        {"matrix size": "7 7"},
        {"matrix size": "4 4"},
    ]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("truncated", Finding("truncated", ("002.dcm",))),
        ("unused bits carry data", Finding("unused-bits-carry-data", ("0.dcm",))),
    ],
)
def test_what_a_person_should_know_is_a_finding(
    name: str, expected: Finding, tmp_path: Path
) -> None:
    done = made(tmp_path, CASES[name].write)
    assert expected in done.receipt.findings
    assert [f["code"] for f in _told(done)["findings"]] == [f.code for f in done.receipt.findings]


def test_missing_slices_are_a_finding_of_their_image(tmp_path: Path) -> None:
    def write(folder: Path) -> None:
        slices(folder, 6)
        (folder / "003.dcm").unlink()

    assert made(tmp_path, write).receipt.findings == (Finding("slices-missing", image="0"),)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_number_that_is_not_finite_is_no_reason_to_refuse_a_file(
    value: float, tmp_path: Path
) -> None:
    done = made(tmp_path, lambda f: slices(f, AcquisitionDuration=value))
    (told,) = _told(done)["tags"]["shared"]["00189073"]["Value"]
    assert str(float(told)) == str(value)


@pytest.mark.parametrize(("frames", "is_told"), [(2, False), (1, True)])
def test_frames_that_are_encoded_and_not_said_are_told_of(
    frames: int, is_told: bool, tmp_path: Path
) -> None:
    def write(folder: Path) -> None:
        pixels = noise(2, 8, 8)
        made = slice_dataset(pixels=pixels[0], NumberOfFrames=2)
        made.compress(RLELossless, pixels)
        made.NumberOfFrames = frames
        pydicom.dcmwrite(folder / "a.dcm", made, enforce_file_format=True)

    done = made(tmp_path, write)
    assert done.receipt.counts["frames"] == frames
    assert (Finding("more-pixel-data", ("a.dcm",)) in done.receipt.findings) is is_told
