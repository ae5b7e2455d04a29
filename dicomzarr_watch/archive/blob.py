"""Arrays of bytes: what all but the images is compressed and checked by, and its writer."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final

import google_crc32c
import zarr
from numcodecs import Zstd
from zarr.codecs import Crc32cCodec, ZstdCodec

from dicomzarr_watch.archive import layout
from dicomzarr_watch.archive.shard import write_all

CHUNK_KEYS: Final[Any] = {"name": "default", "separator": "."}
_ZSTD_LEVEL: Final = 1


class BlobWriter:
    """A one-dimensional uint8 array of unknown length, written chunk by chunk."""

    def __init__(self, folder: Path) -> None:
        self.size = 0
        self._folder = folder
        self._folder.mkdir()
        self._codec = Zstd(level=_ZSTD_LEVEL)
        self._rest = bytearray()
        self._chunks = 0

    @property
    def name(self) -> str:
        return self._folder.name

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
        with (self._folder / f"c.{self._chunks}").open("xb", buffering=0) as stream:
            write_all(stream.fileno(), _with_checksum(self._codec.encode(data)))
            os.fsync(stream.fileno())
        self._chunks += 1


def create_blob(group: zarr.Group, blob: BlobWriter) -> None:
    """Write the metadata of an array whose chunks are there."""
    group.create_array(
        blob.name,
        shape=(blob.size,),
        chunks=(blob.chunk_bytes,),
        dtype="uint8",
        compressors=byte_codecs(),
        chunk_key_encoding=CHUNK_KEYS,
    )


def byte_codecs() -> list[ZstdCodec | Crc32cCodec]:
    """Return the codecs of all but the images: what names, times and offsets say is not hashed."""
    return [ZstdCodec(level=_ZSTD_LEVEL), Crc32cCodec()]


def _with_checksum(data: bytes) -> bytes:
    """Do as the crc32c codec does: end with the checksum, little endian."""
    checksum: int = google_crc32c.value(data)
    return data + checksum.to_bytes(4, "little")
