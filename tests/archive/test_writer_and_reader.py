"""What is written can be read: by us, and by every other reader of Zarr."""

from __future__ import annotations

import json
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import tensorstore
import zarr
from archive_cases import (
    CASES,
    Archived,
    Array,
    Case,
    contents,
    image_paths,
    made,
    noise,
    planes,
    slices,
)
from dicom_files import PIXEL_CASES, PixelCase, write_slice
from hypothesis import given, settings
from hypothesis import strategies as st
from ome_zarr_models.v05 import BioFormats2Raw, Image
from pydicom.pixels.utils import pixel_array

from dicomzarr_watch.archive import layout
from dicomzarr_watch.archive.reader import Store
from dicomzarr_watch.errors import RejectError


def _by_zarr_python(path: Path) -> Array:
    with zarr.config.set({"codec_pipeline.path": "zarr.core.codec_pipeline.BatchedCodecPipeline"}):
        return np.asarray(zarr.open_array(path, mode="r")[...])


def _by_zarrs(path: Path) -> Array:
    with zarr.config.set({"codec_pipeline.path": "zarrs.ZarrsCodecPipeline"}):
        return np.asarray(zarr.open_array(path, mode="r")[...])


def _by_tensorstore(path: Path) -> Array:
    spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(path)}}
    return np.asarray(tensorstore.open(spec, read=True).result().read().result())


def test_every_frame_is_seen(series: Archived, case: Case) -> None:
    assert series.receipt.counts["frames"] == case.frames
    assert series.receipt.counts["images"] == case.images
    assert len(image_paths(series.path)) == case.images


def test_promise_3_every_frame_stands_in_an_array_with_its_stored_values(
    series: Archived, case: Case
) -> None:
    store = series.store
    seen = [planes(series.path, path) for path in image_paths(series.path)]
    places = [place for file in store.files for place in store.frames_of(file)]
    there = [(n, k) for n, image in enumerate(seen) for k in range(len(image))]
    empty = set(there).difference(places)
    assert len(there) == len(places) + case.missing
    assert len(set(places)) == len(places)
    assert not any(seen[image][plane].any() for image, plane in empty)
    for file in (file for file in store.files if file.frame_count):
        frames = case.stored if case.stored is not None else _frames(series.files / file.name)
        for frame, (image, plane) in zip(frames, store.frames_of(file), strict=True):
            np.testing.assert_array_equal(seen[image][plane], frame, strict=True)


def _frames(path: Path) -> Array:
    """Read the stored values as pydicom sees them; (frames, ...)."""
    found = pixel_array(path, raw=True)
    native = found.astype(found.dtype.newbyteorder("="))
    count = pydicom.dcmread(path, stop_before_pixels=True).get("NumberOfFrames") or 1
    return native if count > 1 else native[np.newaxis]


def test_other_readers_see_the_same_voxels(series: Archived) -> None:
    for path in image_paths(series.path):
        expected = _by_zarr_python(series.path / path)
        for read in (_by_zarrs, _by_tensorstore):
            np.testing.assert_array_equal(read(series.path / path), expected, strict=True)


def test_every_image_is_valid_ome_zarr(series: Archived, case: Case) -> None:
    root = zarr.open_group(series.path, mode="r")
    if case.images == 1:
        Image.from_zarr(root)
    elif case.images:
        assert BioFormats2Raw.from_zarr(root).image_paths == [str(n) for n in range(case.images)]


def test_any_reader_of_zarr_can_list_the_whole_store(series: Archived) -> None:
    # a file that is no node of the hierarchy would raise a warning, and warnings are errors; but
    # OME-Zarr has one in the group OME, which viewers find several images by
    root = zarr.open_group(series.path, mode="r")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Object at METADATA.ome.xml", UserWarning)
        found = dict(root.members(max_depth=None))
    tables = {f"dicom/{name}" for name in ("headers", "residue", "index", "frames", "names")}
    images = image_paths(series.path)
    groups = {path.rpartition("/")[0] for path in images} - {""}
    if len(images) > 1:
        groups.add("OME")
        told: Any = found["OME"].attrs["ome"]
        assert [f"{group}/0" for group in told["series"]] == images
    assert found.keys() == {"dicom", "dicom/sha256", *tables, *images, *groups}


def test_the_metadata_says_where_the_voxels_lie(tmp_path: Path) -> None:
    done = made(tmp_path, lambda f: slices(f, spacing=(0.75, 0.5)))
    own: Any = zarr.open_group(done.path, mode="r").attrs["ome"]
    multiscale = own["multiscales"][0]
    assert [axis["name"] for axis in multiscale["axes"]] == ["z", "y", "x"]
    scale, translation = multiscale["datasets"][0]["coordinateTransformations"]
    assert scale["scale"] == [2.5, 0.75, 0.5]
    assert translation["translation"] == [0.0, 0.0, 0.0]


def test_interleaved_and_planar_colour_read_alike(tmp_path: Path) -> None:
    shape = {}
    for name in ("RGB, interleaved", "RGB, planar"):
        (case,) = (c for c in PIXEL_CASES if c.name == name)
        done = made(tmp_path / name, partial(_write, case))
        array: Any = zarr.open_array(done.path / "0", mode="r")
        shape[name] = array.shape, array.metadata.dimension_names
    assert shape["RGB, interleaved"] == shape["RGB, planar"]
    assert shape["RGB, planar"][1] == ("t", "c", "z", "y", "x")


def _write(case: PixelCase, folder: Path) -> None:
    (folder / "a.dcm").write_bytes(case.content)


@pytest.mark.parametrize("threads", [1, 3])
def test_the_same_files_make_the_same_bytes(tmp_path: Path, threads: int) -> None:
    def write(folder: Path) -> None:
        slices(folder, 20)
        slices(folder / "b", 2, size=5)
        (folder / "c").write_bytes(b"x" * 1000)

    one = made(tmp_path / "one", write, threads=2)
    other = made(tmp_path / "other", write, threads=threads)
    assert contents(one.path) == contents(other.path)
    told = [json.loads((done.final / "series.json").read_bytes()) for done in (one, other)]
    assert told[0] == told[1]
    receipts = [json.loads((done.final / "done.json").read_bytes()) for done in (one, other)]
    assert [receipt.pop("seconds").keys() for receipt in receipts]
    assert receipts[0] == receipts[1]


@pytest.mark.parametrize("shard_bytes", [1, 130, 128 * 3, 128 * 4, 1 << 20])
def test_images_of_many_shards_come_back(
    tmp_path: Path, shard_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # real shards hold 64 MB and chunks of blobs 4 MB; small limits cut small data into many of them
    monkeypatch.setattr(layout, "SHARD_BYTES", shard_bytes)
    monkeypatch.setattr(layout, "BLOB_CHUNK_BYTES", 1000)
    for room in ("planes", "reader"):
        monkeypatch.setattr(f"dicomzarr_watch.archive.{room}.RUN_BYTES", 128 * 2)

    def write(folder: Path) -> None:
        for n in range(14):
            write_slice(
                folder / f"{n:02}.dcm",
                pixels=noise(8, 8, seed=n),
                position=(0.0, 0.0, float(n % 7)),
                instance_number=n,
            )
        (folder / "whole").write_bytes(noise(1500).tobytes())

    done = made(tmp_path, write)
    store = done.store
    assert store.images[0].array.shape == (2, 7, 8, 8)
    for file, pieces in store.rebuilt(store.files):
        assert b"".join(pieces) == (done.files / file.name).read_bytes()
    voxels = [read(done.path / "0") for read in (_by_zarr_python, _by_zarrs, _by_tensorstore)]
    expected = [noise(8, 8, seed=n) for t in range(2) for n in range(7 * t, 7 * t + 7)]
    for found in voxels:
        np.testing.assert_array_equal(found, np.reshape(expected, (2, 7, 8, 8)))


@settings(max_examples=25)
@given(wanted=st.lists(st.integers(0, 5), max_size=8))
def test_any_files_in_any_order_can_be_asked_for(odd_store: Store, wanted: list[int]) -> None:
    files = [odd_store.files[n] for n in wanted]
    once = {f.name: b"".join(pieces) for f, pieces in odd_store.rebuilt(odd_store.files)}
    found = [(f.name, b"".join(pieces)) for f, pieces in odd_store.rebuilt(files)]
    assert found == [(f.name, once[f.name]) for f in files]


@pytest.fixture(scope="module")
def odd_store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return made(tmp_path_factory.mktemp("odd"), CASES["not only frames"].write).store


def test_a_folder_that_is_no_store_is_refused(tmp_path: Path) -> None:
    zarr.create_group(tmp_path / "other.zarr")
    for path in (tmp_path / "nothing", tmp_path, tmp_path / "other.zarr"):
        with pytest.raises(RejectError, match="not-a-store"):
            Store(path)


def test_a_store_of_a_later_version_is_refused(tmp_path: Path) -> None:
    done = made(tmp_path, slices)
    metadata = json.loads((done.path / "zarr.json").read_bytes())
    metadata["attributes"]["dicomzarr"]["version"] += 1
    (done.path / "zarr.json").write_text(json.dumps(metadata))
    with pytest.raises(RejectError, match="not-a-store"):
        Store(done.path)


@pytest.mark.parametrize("place", [(1, 0), (-1, 0), (0, -1)])
def test_frames_of_an_image_that_is_not_there_are_damage(
    tmp_path: Path, place: tuple[int, int]
) -> None:
    done = made(tmp_path, slices)
    frames = zarr.open_array(done.path / "dicom" / "frames", mode="a")
    frames[0] = np.array(place)
    with pytest.raises(RejectError, match="store-damaged"):
        Store(done.path)
