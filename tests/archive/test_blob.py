"""Bytes of unknown number become an array of equal chunks that readers bring back."""

from __future__ import annotations

import tempfile
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from dicomzarr_watch.archive import layout
from dicomzarr_watch.archive.blob import BlobWriter
from dicomzarr_watch.archive.threads import Here

CHUNK = 16


@pytest.fixture(autouse=True, scope="module")
def _small_chunks() -> object:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layout, "BLOB_CHUNK_BYTES", CHUNK)
        yield


def written(folder: Path, pieces: list[bytes], pool: Executor) -> list[Path]:
    told: list[Path] = []
    blob = BlobWriter(folder, pool, told.append)
    for piece in pieces:
        blob.append(piece)
    blob.finish()
    assert blob.size == sum(map(len, pieces))
    return told


@settings(max_examples=60)
@given(st.lists(st.binary(max_size=40), max_size=12), st.sampled_from([1, 3]))
def test_what_is_put_in_piece_by_piece_comes_back_as_one(pieces: list[bytes], threads: int) -> None:
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(threads) as pool:
        path = Path(folder) / "blob"
        told = written(path, pieces, pool)
        assert sorted(told) == sorted(path.glob("c.*"))
        np.testing.assert_array_equal(
            zarr.open_array(path)[...], np.frombuffer(b"".join(pieces), "u1")
        )


@pytest.mark.parametrize("size", [1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 5 * CHUNK + 1])
def test_a_chunk_is_never_longer_than_the_bytes_and_the_last_is_filled_with_zeros(
    size: int, tmp_path: Path
) -> None:
    data = bytes(range(1, size + 1))
    written(tmp_path / "blob", [data], Here())
    array = zarr.open_array(tmp_path / "blob")
    assert array.chunks == (min(size, CHUNK),)
    assert len(list((tmp_path / "blob").glob("c.*"))) == -(-size // CHUNK)
    # what stands behind the end is zeros, whatever the buffer held before
    whole = -(-size // CHUNK) * CHUNK if size > CHUNK else size
    array = zarr.open_array(tmp_path / "blob", mode="r+")
    array.resize((whole,))
    assert np.asarray(array[...]).tobytes() == data.ljust(whole, b"\0")


def test_a_chunk_that_cannot_be_written_is_told_before_the_end(tmp_path: Path) -> None:
    with ThreadPoolExecutor(2) as pool:
        blob = BlobWriter(tmp_path / "blob", pool, lambda _: None)
        (tmp_path / "blob" / "c.1").mkdir()
        blob.append(bytes(2 * CHUNK))
        with pytest.raises(FileExistsError):
            blob.append(bytes(2 * CHUNK))
