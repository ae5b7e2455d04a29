"""The documents of groups and arrays, held against what zarr-python writes of the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from zarr.abc.codec import ArrayArrayCodec
from zarr.codecs import BloscCodec, BytesCodec, Crc32cCodec, TransposeCodec, ZstdCodec

from dicomzarr_watch.archive import node

ATTRIBUTES: dict[str, Any] = {
    "ome": {"version": "0.5", "name": "Größe"},
    "numbers": [1, 2.5, None, True],
}


def document(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((path / "zarr.json").read_bytes())
    return found


@pytest.mark.parametrize("attributes", [None, {}, ATTRIBUTES])
def test_a_group_is_what_zarr_writes(tmp_path: Path, attributes: dict[str, Any] | None) -> None:
    node.write_group(tmp_path / "ours", attributes)
    zarr.open_group(tmp_path / "theirs", mode="w-", attributes=attributes)
    ours, theirs = document(tmp_path / "ours"), document(tmp_path / "theirs")
    assert (ours, list(ours)) == (theirs, list(theirs))
    assert dict(zarr.open_group(tmp_path / "ours", mode="r").attrs) == (attributes or {})


def test_a_group_is_not_made_over_another(tmp_path: Path) -> None:
    node.write_group(tmp_path / "group", ATTRIBUTES)
    with pytest.raises(FileExistsError):
        node.write_group(tmp_path / "group")
    assert document(tmp_path / "group")["attributes"] == ATTRIBUTES


@pytest.mark.parametrize(
    "dtype", ["bool", "u1", "i1", "<u2", ">u2", "<i4", ">u4", "<u8", "<f4", "<f8"]
)
@pytest.mark.parametrize("is_sharded", [False, True])
@pytest.mark.parametrize("order", [None, (0, 2, 3, 1)])
def test_an_image_is_what_zarr_writes(
    tmp_path: Path, dtype: str, *, is_sharded: bool, order: tuple[int, ...] | None
) -> None:
    of = np.dtype(dtype)
    blosc = BloscCodec(cname="zstd", clevel=1, shuffle="bitshuffle", typesize=of.itemsize)
    filters: list[ArrayArrayCodec] = [TransposeCodec(order=order)] if order else []
    axes = ("t", "z", "y", "x")
    shard = (4, 3, 5, 6) if is_sharded else None
    is_big = dtype.startswith(">")
    node.write_array(
        tmp_path / "ours",
        shape=(4, 3, 5, 6),
        chunk=(1, 3, 5, 6),
        shard=shard,
        dtype=of,
        codecs=[*filters, node.bytes_codec(of, is_big_endian=is_big), blosc],
        axes=axes,
    )
    zarr.create_array(
        tmp_path / "theirs",
        shape=(4, 3, 5, 6),
        chunks=(1, 3, 5, 6),
        shards=shard,
        dtype=of,
        filters=filters,
        serializer=BytesCodec(endian="big" if is_big else "little"),
        compressors=[blosc],
        chunk_key_encoding={"name": "default", "separator": "."},
        dimension_names=axes,
        fill_value=0,
    )
    ours, theirs = document(tmp_path / "ours"), document(tmp_path / "theirs")
    assert (ours, list(ours)) == (theirs, list(theirs))


@pytest.mark.parametrize("dtype", ["u1", "<i8", "<u8"])
@pytest.mark.parametrize("shape", [(7,), (0, 2), (7, 2)])
def test_a_table_is_what_zarr_writes(tmp_path: Path, dtype: str, shape: tuple[int, ...]) -> None:
    of, chunk = np.dtype(dtype), tuple(max(n, 1) for n in shape)
    node.write_array(
        tmp_path / "ours",
        shape=shape,
        chunk=chunk,
        dtype=of,
        codecs=[node.bytes_codec(of), ZstdCodec(level=1), Crc32cCodec()],
        attributes=ATTRIBUTES,
    )
    zarr.create_array(
        tmp_path / "theirs",
        shape=shape,
        chunks=chunk,
        dtype=of,
        compressors=[ZstdCodec(level=1), Crc32cCodec()],
        chunk_key_encoding={"name": "default", "separator": "."},
        attributes=ATTRIBUTES,
    )
    ours, theirs = document(tmp_path / "ours"), document(tmp_path / "theirs")
    assert (ours, list(ours)) == (theirs, list(theirs))
