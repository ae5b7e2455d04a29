"""Nothing that a store could lose goes unnoticed."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from archive_cases import (
    CASES,
    Archived,
    Array,
    chunk_files,
    contents,
    image_paths,
    made,
    planes,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from dicomzarr_watch.archive import layout
from dicomzarr_watch.archive.reader import Store
from dicomzarr_watch.archive.verify import differing
from dicomzarr_watch.errors import RejectError


def _hashes(store: Store) -> dict[str, bytes]:
    return {file.name: file.sha256 for file in store.files}


def test_a_sound_store_differs_in_nothing(series: Archived) -> None:
    told: list[int] = []
    store = series.store
    assert differing(store, _hashes(store), progress=told.append) == ()
    assert sum(told) == sum(map(len, contents(series.files).values()))


def test_rebuilt_files_are_left_where_they_are_asked_for(
    cut_small: Archived, tmp_path: Path
) -> None:
    assert differing(cut_small.store, keep_in=tmp_path) == ()
    assert contents(tmp_path) == contents(cut_small.files)
    for file in cut_small.store.files:
        assert (tmp_path / file.name).stat().st_mtime_ns == file.mtime_ns


def test_missing_extra_and_other_files_are_named(cut_small: Archived) -> None:
    store = cut_small.store
    expected = _hashes(store)
    first, second, third, *_ = expected
    expected["extra.dcm"] = expected.pop(first)
    expected[third] = bytes(32)
    assert set(differing(store, expected)) == {"extra.dcm", first, third}
    assert second not in differing(store, expected)


def test_a_hash_in_the_store_that_is_not_the_originals_is_noticed(tmp_path: Path) -> None:
    done = made(tmp_path, CASES["series"].write)
    expected = _hashes(done.store)
    sha256 = zarr.open_array(done.path / "dicom" / "sha256", mode="a")
    sha256[1] = np.zeros(32, "u1")
    named = (done.store.files[1].name,)
    assert differing(done.store, expected) == named
    assert differing(done.store) == named


@pytest.fixture(scope="module")
def cut_small(tmp_path_factory: pytest.TempPathFactory) -> Archived:
    """A store with many chunks of every sort, and frames that are kept twice."""

    def write(folder: Path) -> None:
        CASES["unused bits carry data"].write(folder)
        CASES["not only frames"].write(folder / "more")

    # real shards hold 64 MB and chunks of blobs 4 MB; small limits cut small data into many of them
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layout, "SHARD_BYTES", 300)
        patch.setattr(layout, "BLOB_CHUNK_BYTES", 900)
        return made(tmp_path_factory.mktemp("cut"), write)


def _everything(path: Path) -> tuple[dict[str, tuple[bytes, int]], list[Array | None]]:
    """Return all that a store holds: its files with their times, and its voxels.

    An image is None if zarr-python refuses it: it looks at bits of Blosc's header that zarrs, which
    verifies, passes over.
    """
    store = Store(path)
    files = {
        file.name: (b"".join(pieces), file.mtime_ns) for file, pieces in store.rebuilt(store.files)
    }
    return files, [_read(path, image) for image in image_paths(path)]


def _read(path: Path, image: str) -> Array | None:
    try:
        return planes(path, image)
    except RuntimeError:
        return None


@settings(max_examples=100)
@given(data=st.data())
def test_no_flipped_byte_changes_anything_unnoticed(
    cut_small: Archived, before: tuple[Any, list[Array | None]], data: st.DataObject
) -> None:
    chunk = data.draw(st.sampled_from([*chunk_files(cut_small.path)]))
    sound = chunk.read_bytes()
    offset = data.draw(st.integers(0, len(sound) - 1))
    broken = bytearray(sound)
    broken[offset] ^= data.draw(st.integers(1, 255))
    chunk.write_bytes(broken)
    try:
        is_noticed = _is_noticed(cut_small.path)
        # a few bits of a Blosc or zstd header mean nothing: then all is as it was
        assert is_noticed or _same(_everything(cut_small.path), before)
    finally:
        chunk.write_bytes(sound)


@pytest.fixture(scope="module")
def before(cut_small: Archived) -> tuple[Any, list[Array | None]]:
    found = _everything(cut_small.path)
    assert all(image is not None for image in found[1])
    return found


def _is_noticed(path: Path) -> bool:
    try:
        return bool(differing(Store(path)))
    except RejectError:
        return True


def _same(one: tuple[Any, list[Any]], other: tuple[Any, list[Any]]) -> bool:
    voxels = zip(one[1], other[1], strict=True)
    return one[0] == other[0] and all(a is None or np.array_equal(a, b) for a, b in voxels)


@pytest.mark.parametrize("table", ["index", "frames", "names", "sha256"])
def test_no_flipped_bit_in_a_table_is_overlooked(cut_small: Archived, table: str) -> None:
    (chunk,) = chunk_files(cut_small.path / "dicom" / table)
    sound = chunk.read_bytes()
    try:
        for offset in range(0, len(sound), 7):
            broken = bytearray(sound)
            broken[offset] ^= 1 << offset % 8
            chunk.write_bytes(broken)
            with pytest.raises(RejectError, match="store-damaged"):
                Store(cut_small.path)
    finally:
        chunk.write_bytes(sound)


def _emptied(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [Path.unlink, _emptied])
def test_no_lost_chunk_is_overlooked(
    cut_small: Archived, damage: Callable[[Path], None], tmp_path: Path
) -> None:
    for number, chunk in enumerate(chunk_files(cut_small.path)):
        copy = tmp_path / f"{number}.zarr"
        shutil.copytree(cut_small.path, copy)
        damage(copy / chunk.relative_to(cut_small.path))
        assert _is_noticed(copy)


def test_frames_that_are_not_the_pixels_kept_beside_them_are_noticed(tmp_path: Path) -> None:
    done = made(tmp_path, CASES["unused bits carry data"].write)
    (twice,) = (file for file in done.store.files if file.is_kept_twice)
    ((image, plane),) = done.store.frames_of(twice)
    array = zarr.open_array(done.path / image_paths(done.path)[image], mode="a")
    voxels: Any = array[plane]
    voxels[3, 3] += 1
    array[plane] = voxels
    assert differing(done.store) == (twice.name,)
