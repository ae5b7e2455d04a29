"""A shard written as a stream is one that every reader of Zarr understands."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
import tensorstore
import zarr
from archive_cases import Array, files_end_at, noise
from hypothesis import given, settings
from hypothesis import strategies as st
from numcodecs import Zstd
from zarr.codecs import ZstdCodec

from dicomzarr_watch.archive.shard import ShardFile, write_all

PIPELINES = ("zarr.core.codec_pipeline.BatchedCodecPipeline", "zarrs.ZarrsCodecPipeline")


def _empty_array(folder: Path, slots: int, width: int) -> Path:
    zarr.create_array(
        folder / "array",
        shape=(slots, width),
        chunks=(1, width),
        shards=(slots, width),
        dtype="u2",
        compressors=[ZstdCodec(level=1)],
        chunk_key_encoding={"name": "default", "separator": "."},
        fill_value=0,
    )
    return folder / "array"


def _write(array: Path, slots: int, rows: dict[int, Array]) -> Path:
    shard = ShardFile(array / "c.0.0", slots, len(rows))
    for slot, row in rows.items():
        assert not shard.is_full
        shard.append(slot, bytes(Zstd(level=1).encode(row.tobytes())))
    assert shard.is_full
    shard.finish()
    return array / "c.0.0"


def _read(array: Path, pipeline: str) -> Array:
    with zarr.config.set({"codec_pipeline.path": pipeline}):
        return np.asarray(zarr.open_array(array, mode="r")[...])


@st.composite
def _shards(draw: st.DrawFn) -> tuple[int, int, list[int]]:
    """Draw a number of slots, the width of a chunk, and the slots that are filled, in order."""
    slots = draw(st.integers(1, 12))
    filled = draw(st.lists(st.integers(0, slots - 1), unique=True, min_size=1))
    return slots, draw(st.integers(1, 300)), filled


@settings(max_examples=40)
@given(shard=_shards(), below=st.sampled_from([1, 2, 4096]))
def test_chunks_in_any_order_and_of_any_size_are_read_back(
    shard: tuple[int, int, list[int]], below: int
) -> None:
    slots, width, filled = shard
    rows: dict[int, Array] = {n: noise(width, seed=n, below=below) for n in filled}
    expected = np.zeros((slots, width), "u2")
    for n, row in rows.items():
        expected[n] = row
    with TemporaryDirectory() as folder:
        array = _empty_array(Path(folder), slots, width)
        _write(array, slots, rows)
        for pipeline in PIPELINES:
            np.testing.assert_array_equal(_read(array, pipeline), expected)


@pytest.mark.parametrize("pipeline", PIPELINES)
@pytest.mark.parametrize("from_end", range(1, 5))
def test_a_damaged_checksum_is_refused(tmp_path: Path, pipeline: str, from_end: int) -> None:
    array = _empty_array(tmp_path, 3, 8)
    path = _write(array, 3, {n: noise(8, seed=n) for n in range(3)})
    _flip(path, -from_end)
    with pytest.raises((ValueError, RuntimeError), match="checksum"):
        _read(array, pipeline)


def test_a_damaged_index_is_refused_by_tensorstore_too(tmp_path: Path) -> None:
    array = _empty_array(tmp_path, 3, 8)
    path = _write(array, 3, {n: noise(8, seed=n) for n in range(3)})
    spec: dict[str, Any] = {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(array)}}
    opened = tensorstore.open(spec, read=True).result()
    np.testing.assert_array_equal(opened[1].read().result(), noise(8, seed=1))
    _flip(path, -20)
    with pytest.raises(ValueError, match="Digest mismatch"):
        tensorstore.open(spec, read=True).result()[1].read().result()


def test_a_chunk_is_written_once(tmp_path: Path) -> None:
    shard = ShardFile(tmp_path / "shard", 2, 2)
    shard.append(1, b"one")
    with pytest.raises(ValueError, match="twice"):
        shard.append(1, b"other")
    shard.close()
    assert (tmp_path / "shard").read_bytes() == b"one"


@pytest.mark.parametrize("rest_after", [1, 2, 3])
def test_a_shard_that_was_let_go_takes_the_next_chunk_all_the_same(
    tmp_path: Path, rest_after: int
) -> None:
    array = _empty_array(tmp_path, 3, 8)
    shard = ShardFile(array / "c.0.0", 3, 3)
    for n, slot in enumerate((2, 0, 1), 1):
        shard.append(slot, bytes(Zstd(level=1).encode(noise(8, seed=slot).tobytes())))
        if n == rest_after:
            shard.close()
    shard.finish()
    expected = np.stack([noise(8, seed=slot) for slot in range(3)])
    np.testing.assert_array_equal(_read(array, PIPELINES[0]), expected)


def test_a_shard_that_is_there_is_not_written_over(tmp_path: Path) -> None:
    (tmp_path / "shard").write_bytes(b"precious")
    with pytest.raises(FileExistsError):
        ShardFile(tmp_path / "shard", 1, 1)
    assert (tmp_path / "shard").read_bytes() == b"precious"


def test_a_short_write_is_gone_on_with_until_the_system_refuses(tmp_path: Path) -> None:
    data = noise(600).tobytes()
    with (
        (tmp_path / "full").open("xb", buffering=0) as stream,
        files_end_at(1000),
        pytest.raises(OSError, match="File too large"),
    ):
        write_all(stream.fileno(), data)
    assert (tmp_path / "full").read_bytes() == data[:1000]


def _flip(path: Path, offset: int) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 0x10
    path.write_bytes(data)
