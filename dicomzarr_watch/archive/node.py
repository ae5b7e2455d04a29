"""Groups and arrays of a store as the documents that Zarr v3 asks for.

They say what zarr-python would write, key by key, which takes it longer than all the rest of a
small series: a test holds the two together.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from zarr.abc.codec import Codec
from zarr.codecs import BytesCodec, Crc32cCodec

DOCUMENT: Final = "zarr.json"
SEPARATOR: Final = "."

Codecs = Sequence[Codec]


def write_group(path: Path, attributes: Mapping[str, Any] | None = None) -> None:
    """Make a group; raises FileExistsError if there is anything."""
    path.mkdir()
    _write(path, {"attributes": attributes or {}, "zarr_format": 3, "node_type": "group"})


def write_array(
    path: Path,
    *,
    shape: Sequence[int],
    chunk: Sequence[int],
    dtype: np.dtype[Any],
    codecs: Codecs,
    shard: Sequence[int] | None = None,
    attributes: Mapping[str, Any] | None = None,
    axes: Sequence[str] = (),
) -> None:
    """Write what an array is; chunks that stand there already are its own.

    codecs: from the array to the bytes. shard: how much of the array stands in one object; the
    chunks are in it then.
    """
    path.mkdir(exist_ok=True)
    found = [_codec(codec) for codec in codecs]
    if shard is not None:
        found = [_sharding(chunk, found)]
    grid = {"name": "regular", "configuration": {"chunk_shape": list(shard or chunk)}}
    keys = {"name": "default", "configuration": {"separator": SEPARATOR}}
    document: dict[str, Any] = {
        "shape": list(shape),
        "data_type": dtype.name,
        "chunk_grid": grid,
        "chunk_key_encoding": keys,
        "fill_value": dtype.type(0).item(),
        "codecs": found,
        "attributes": attributes or {},
    }
    if axes:
        document["dimension_names"] = list(axes)
    _write(path, document | {"zarr_format": 3, "node_type": "array", "storage_transformers": []})


def bytes_codec(dtype: np.dtype[Any], *, is_big_endian: bool = False) -> BytesCodec:
    """Return the codec of numbers as they stand; single bytes have no order."""
    if dtype.itemsize == 1:
        return BytesCodec(endian=None)
    return BytesCodec(endian="big" if is_big_endian else "little")


def _sharding(chunk: Sequence[int], codecs: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the codec of chunks in one object, with their index at its end."""
    index = [_codec(codec) for codec in (BytesCodec(endian="little"), Crc32cCodec())]
    return {
        "name": "sharding_indexed",
        "configuration": {
            "chunk_shape": list(chunk),
            "codecs": codecs,
            "index_codecs": index,
            "index_location": "end",
        },
    }


def _codec(codec: Codec) -> dict[str, Any]:
    return dict(codec.to_dict())


def _write(path: Path, document: Mapping[str, Any]) -> None:
    (path / DOCUMENT).write_bytes(json.dumps(document).encode())
