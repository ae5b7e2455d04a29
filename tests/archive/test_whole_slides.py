"""A whole slide is one picture whose chunks are its tiles."""

from __future__ import annotations

import json
import resource
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.resources import files
from itertools import count, islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pydicom
import pytest
import tensorstore
import zarr
from archive_cases import SLIDES, Archived, contents, image_paths, made
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from ome_zarr_models.v05 import Image
from pydicom.uid import JPEG2000Lossless, RLELossless
from slide_files import (
    MATRIX,
    TILE,
    Pixels,
    Place,
    assembled,
    jpeg_slide,
    places,
    slide,
    tiles,
    write,
)

from dicomzarr_watch.archive import describe, layout, planes, verify
from dicomzarr_watch.archive.planes import PlaneRun
from dicomzarr_watch.archive.restore import restore
from dicomzarr_watch.archive.second import Look
from dicomzarr_watch.archive.work import Finding, Level
from dicomzarr_watch.dicom import model
from dicomzarr_watch.dicom.tiles import TileGrid

SCHEMA = json.loads(files("dicomzarr_watch").joinpath("schemas/series.schema.json").read_text())


def converted(folder: Path, *slides: Any, **options: Any) -> Archived:
    def written(folder: Path) -> None:
        for n, one in enumerate(slides):
            one.SOPInstanceUID = f"1.2.3.{n}"
            write(one, folder / f"{n}.dcm")

    return made(folder, written, **options)


def picture(done: Archived, path: str = "0") -> Pixels:
    """Read an image by zarr-python; (y, x) or (y, x, colours)."""
    array: Any = zarr.open_array(done.path / path, mode="r")
    values = np.asarray(array[...])
    return np.moveaxis(values, 0, -1) if values.ndim == 3 else values


def series(done: Archived) -> dict[str, Any]:
    """Read series.json, which is what its schema says."""
    told: dict[str, Any] = json.loads((done.final / "series.json").read_bytes())
    Draft202012Validator(SCHEMA).validate(told)
    return told


def image(done: Archived, number: int = 0) -> dict[str, Any]:
    found: dict[str, Any] = series(done)["images"][number]
    return found


@pytest.mark.parametrize("colours", [0, 3])
def test_a_slide_is_the_picture_that_its_tiles_make(tmp_path: Path, colours: int) -> None:
    frames = tiles(colours=colours)
    done = converted(tmp_path, slide(frames))
    np.testing.assert_array_equal(picture(done), assembled(frames), strict=True)
    array: Any = zarr.open_array(done.path / "0", mode="r")
    assert array.chunks[-2:] == TILE
    assert array.metadata.dimension_names == (("c",) if colours else ()) + ("y", "x")
    assert done.receipt.findings == ()


def test_the_true_matrix_is_told_and_the_padding_is_kept(tmp_path: Path) -> None:
    done = converted(tmp_path, slide(tiles()))
    true = {"rows": MATRIX[0], "columns": MATRIX[1]}
    own: Any = zarr.open_group(done.path, mode="r").attrs["dicomzarr"]
    assert own["total_pixel_matrix"] == true
    assert image(done)["total_pixel_matrix"] == true
    assert image(done)["shape"] == [12, 18]
    (told,) = describe.described(done.store)["images"]
    assert told["total_pixel_matrix"] == true


def test_the_picture_lies_where_the_slide_says(tmp_path: Path) -> None:
    done = converted(tmp_path, slide(tiles(colours=3)))
    seen = Image.from_zarr(zarr.open_group(done.path, mode="r")).ome_attributes.multiscales[0]
    assert [axis.name for axis in seen.axes] == ["c", "y", "x"]
    scale, translation = (t.model_dump() for t in seen.datasets[0].coordinateTransformations)
    assert scale["scale"] == [1.0, 0.0005, 0.00025]
    assert translation["translation"] == [0.0, 40.0, 20.0]
    found = image(done)["geometry"]
    assert (found["coordinates"], found["placed"]) == ("slide", True)
    assert found["origin"] == [20.0, 40.0, 0.0]
    assert found["size"] == [18, 12, 1]


def test_a_patient_is_no_slide(tmp_path: Path) -> None:
    done = made(tmp_path, SLIDES["slide, too many frames"].write)
    assert image(done)["geometry"]["coordinates"] == "patient"
    assert image(done)["geometry"]["placed"] is False
    assert image(done)["total_pixel_matrix"] is None


def test_missing_tiles_are_absent_chunks_and_counted(tmp_path: Path) -> None:
    frames = tiles(3)
    done = converted(tmp_path, slide(frames, [places()[n] for n in (7, 0, 4)]))
    expected = np.zeros((9, *TILE), "u1")
    expected[[7, 0, 4]] = frames
    np.testing.assert_array_equal(picture(done), assembled(list(expected)), strict=True)
    assert done.receipt.findings == (Finding("tiles-missing", image="0", detail="6 of 9"),)
    empty = converted(tmp_path / "full", slide(np.zeros((9, *TILE), "u1")))
    sizes = [(store.path / "0" / "c.0.0").stat().st_size for store in (done, empty)]
    assert sizes[0] < sizes[1]


@pytest.mark.parametrize(
    ("write", "finding", "axes"),
    [
        (SLIDES["slide, overlapping tiles"].write, "tiles-overlap", "tzyx"),
        (SLIDES["slide, too many frames"].write, "tile-count", "tzyx"),
        (lambda f: _put(f, tiles(2), [Place(1, 1), Place(2, 1)]), "tiles-off-grid", "tzyx"),
        (lambda f: _put(f, tiles(2), [Place(1, 1)]), "tile-positions-missing", "tzyx"),
    ],
)
def test_frames_that_no_grid_can_hold_are_a_stack_and_it_is_told(
    tmp_path: Path, write: Callable[[Path], object], finding: str, axes: str
) -> None:
    done = made(tmp_path, write)
    assert [f.code for f in done.receipt.findings] == [finding]
    assert image(done)["axes"] == list(axes)
    assert verify.differing(done.store) == ()


def _put(folder: Path, frames: Pixels, at: Sequence[Place]) -> None:
    write(slide(frames, at), folder / "a.dcm")


def test_files_with_the_same_tiles_and_other_bytes_are_both_there(tmp_path: Path) -> None:
    frames = tiles(seed=1), tiles(seed=2)
    done = converted(tmp_path, *map(slide, frames))
    for path, own in zip(image_paths(done.path), frames, strict=True):
        np.testing.assert_array_equal(picture(done, path), assembled(own))
    assert [image(done, n)["split_by"] for n in range(2)] == [{"file": "1"}, {"file": "2"}]


def test_a_copy_of_a_slide_makes_an_image_of_its_own(tmp_path: Path) -> None:
    def twice(folder: Path) -> None:
        for name in ("a.dcm", "b.dcm"):
            write(slide(tiles()), folder / name)

    done = made(tmp_path, twice)
    assert [image(done, n)["split_by"] for n in range(2)] == [{"copy": "0"}, {"copy": "1"}]


def test_simpleitk_is_not_asked_and_it_is_said_why(tmp_path: Path) -> None:
    done = converted(tmp_path, slide(tiles()), verify=Level.INDEPENDENT)
    said = done.receipt.verified["independent"]
    assert said["not_comparable"] == {"0": "SimpleITK does not lay out tiles"}


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless])
@pytest.mark.parametrize("order", [None, [5, 1, 6, 0, 8]])
def test_encoded_tiles_are_seen_as_a_picture_and_looked_at_twice(
    tmp_path: Path, syntax: str, order: list[int] | None
) -> None:
    size = 32, 48  # JPEG 2000 halves a tile five times
    frames = tiles(len(order) if order else 9, size=size)
    at = [places(size=size)[n] for n in order] if order else None
    encoded = slide(frames, at, matrix=(80, 100))
    encoded.compress(syntax)
    done = converted(tmp_path, encoded)
    expected = np.zeros((9, *size), "u1")
    expected[order or range(9)] = frames
    np.testing.assert_array_equal(picture(done), assembled(list(expected)))
    assert done.receipt.counts["files_as_residue"] == 1
    assert done.receipt.verified["second_look"] == {"agrees": 1}


def test_jpeg_tiles_keep_their_ycbcr_samples(tmp_path: Path) -> None:
    done = converted(tmp_path, jpeg_slide(tiles(colours=3)))
    assert image(done)["photometric_interpretation"] == "YBR_FULL_422"
    assert image(done)["shape"] == [3, 12, 18]
    assert done.receipt.verified["second_look"] == {Look.AGREES.value: 1}


def test_a_tile_that_is_another_is_noticed_by_the_second_look(tmp_path: Path) -> None:
    encoded = slide(tiles())
    encoded.compress(RLELossless)
    done = converted(tmp_path, encoded)
    array: Any = zarr.open_array(done.path / "0", mode="a")
    array[4:8, 6:12] += 1
    assert verify.verdict(done.store).looks == {Look.WRONG: ("0.dcm",)}


def test_a_damaged_tile_does_not_come_back_unnoticed(tmp_path: Path) -> None:
    done = converted(tmp_path, slide(tiles()))
    array: Any = zarr.open_array(done.path / "0", mode="a")
    array[11, 17] += 1  # the last voxel of the padding
    assert verify.differing(done.store) == ("0.dcm",)


@pytest.mark.parametrize("limit_bytes", [1, 1 << 20])
def test_the_groups_of_all_frames_are_told_however_long_they_are(
    tmp_path: Path, limit_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model, "SEQUENCE_LIMIT_BYTES", limit_bytes)
    done = converted(tmp_path, slide(tiles(), places()))
    expected = pydicom.dcmread(done.files / "0.dcm").to_json_dict()
    assert describe.dicom_json(done.store, "0.dcm") == expected
    told = series(done)["tags"]["shared"]["52009230"]
    assert ("BulkDataURI" in told) is (limit_bytes == 1)


def _readers(path: Path) -> Iterator[Pixels]:
    for pipeline in ("zarr.core.codec_pipeline.BatchedCodecPipeline", "zarrs.ZarrsCodecPipeline"):
        with zarr.config.set({"codec_pipeline.path": pipeline}):
            yield np.asarray(zarr.open_array(path, mode="r")[...])
    spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(path)}}
    yield np.asarray(tensorstore.open(spec, read=True).result().read().result())


@settings(max_examples=25)
@given(
    shape=st.tuples(st.integers(1, 4), st.integers(1, 5)),
    colours=st.sampled_from([0, 3]),
    shard_tiles=st.integers(1, 12),
    run_tiles=st.integers(1, 12),
    data=st.data(),
)
def test_every_tile_stands_at_its_place_and_is_read_back_from_there(
    shape: tuple[int, int], colours: int, shard_tiles: int, run_tiles: int, data: st.DataObject
) -> None:
    whole_count = shape[0] * shape[1]
    order = data.draw(st.lists(st.integers(0, whole_count - 1), min_size=1, unique=True))
    frames = tiles(len(order), colours=colours)
    expected = np.zeros((whole_count, *frames.shape[1:]), "u1")
    expected[order] = frames
    with pytest.MonkeyPatch.context() as patch, TemporaryDirectory() as folder:
        patch.setattr(layout, "SHARD_PLANES", shard_tiles)
        patch.setattr(planes, "RUN_BYTES", run_tiles * frames[0].nbytes)
        matrix = (shape[0] * TILE[0] - 1, shape[1] * TILE[1])
        one = slide(frames, [places(shape)[n] for n in order], matrix=matrix)
        done = converted(Path(folder), one)
        whole = assembled(list(expected), shape)
        for seen in _readers(done.path / "0"):
            np.testing.assert_array_equal(np.moveaxis(seen, 0, -1) if colours else seen, whole)
        (file,) = done.store.files
        assert [plane for _, plane in done.store.frames_of(file)] == order
        stored = done.store.images[0]
        for plane in range(whole_count):
            (seen,) = stored.planes(PlaneRun(0, *divmod(plane, shape[1]), 1, 1))
            np.testing.assert_array_equal(seen, expected[plane])
        assert b"".join(done.store.pieces_of(file)) == (done.files / "0.dcm").read_bytes()


@contextmanager
def _files_open_at_most(more: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken = {int(path.name) for path in Path("/proc/self/fd").iterdir()}
    free = (n for n in count() if n not in taken)
    resource.setrlimit(resource.RLIMIT_NOFILE, (next(islice(free, more, None)), before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_tiles_may_come_in_an_order_that_begins_every_shard_before_one_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layout, "SHARD_PLANES", 2)
    shape = (200, 2)
    order = [*range(0, 400, 2), *range(1, 400, 2)]
    frames = tiles(400)
    matrix = (shape[0] * TILE[0], shape[1] * TILE[1])
    one = slide(frames, [places(shape)[n] for n in order], matrix=matrix)
    with _files_open_at_most(120):
        done = converted(tmp_path, one)
    assert len(list((done.path / "0").glob("c.*"))) == 200
    np.testing.assert_array_equal(picture(done), assembled(frames[np.argsort(order)], shape))


@pytest.mark.parametrize("name", SLIDES)
def test_slides_come_back_byte_for_byte(tmp_path: Path, name: str) -> None:
    done = made(tmp_path, SLIDES[name].write)
    restore(done.store, tmp_path / "back", done.store.files)
    assert contents(tmp_path / "back") == contents(done.files)


def test_the_grid_of_the_tests_has_an_odd_edge() -> None:
    assert TileGrid(MATRIX, TILE).shape == (3, 3)
    assert all(size % tile for size, tile in zip(MATRIX, TILE, strict=True))
