"""Arrays of bytes: what all but the images is compressed and checked by, and its writer."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import google_crc32c
import numpy as np
from numcodecs import Zstd
from zarr.codecs import Crc32cCodec, ZstdCodec

from dicomzarr_watch.archive import layout, node
from dicomzarr_watch.archive.shard import write_all

_ZSTD_LEVEL: Final = 1


class BlobWriter:
    """A one-dimensional uint8 array of unknown length, written chunk by chunk."""

    def __init__(self, folder: Path) -> None:
        self.size = 0
        self.folder = folder
        self.folder.mkdir()
        self._rest = bytearray()
        self._chunks = 0

    @property
    def chunk_bytes(self) -> int:
        return max(1, min(self.size, layout.BLOB_CHUNK_BYTES))

    def append(self, data: bytes) -> None:
        """Add bytes to the end."""
        self._rest += data
        self.size += len(data)
        while len(self._rest) >= layout.BLOB_CHUNK_BYTES:
            self._flush(bytes(self._rest[: layout.BLOB_CHUNK_BYTES]))
            del self._rest[: layout.BLOB_CHUNK_BYTES]

    def finish(self) -> None:
        """Write what is left, filled up to a whole chunk."""
        if self._rest:
            self._flush(bytes(self._rest).ljust(self.chunk_bytes, b"\0"))
            self._rest.clear()

    def _flush(self, data: bytes) -> None:
        with (self.folder / f"c.{self._chunks}").open("xb", buffering=0) as stream:
            write_all(stream.fileno(), compressed(data))
            os.fsync(stream.fileno())
        self._chunks += 1


def create_blob(blob: BlobWriter) -> None:
    """Write the metadata of an array whose chunks are there."""
    write_metadata(blob.folder, (blob.size,), (blob.chunk_bytes,), np.dtype("uint8"))


def write_metadata(
    folder: Path,
    shape: Sequence[int],
    chunk: Sequence[int],
    dtype: np.dtype[Any],
    attributes: Mapping[str, Any] | None = None,
) -> None:
    """Write the metadata of an array that is no image.

    What names, times and offsets say is not hashed, so a checksum stands with them.
    """
    node.write_array(
        folder,
        shape=shape,
        chunk=chunk,
        dtype=dtype,
        codecs=[node.bytes_codec(dtype), ZstdCodec(level=_ZSTD_LEVEL), Crc32cCodec()],
        attributes=attributes,
    )


def compressed(data: bytes) -> bytes:
    """Return the chunk of an array that is no image, as its codecs would."""
    return _with_checksum(Zstd(level=_ZSTD_LEVEL).encode(data))


def _with_checksum(data: bytes) -> bytes:
    """Do as the crc32c codec does: end with the checksum, little endian."""
    checksum: int = google_crc32c.value(data)
    return data + checksum.to_bytes(4, "little")
