"""Arrays of bytes: what all but the images is compressed and checked by, and its writer."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any, Final

import google_crc32c
import numpy as np
from numcodecs import Zstd
from zarr.codecs import Crc32cCodec, ZstdCodec

from dicomzarr_watch.archive import layout, node
from dicomzarr_watch.archive.shard import Put, write_all

_ZSTD_LEVEL: Final = 1


class BlobWriter:
    """A one-dimensional uint8 array of unknown length, written chunk by chunk on other threads."""

    def __init__(self, folder: Path, pool: Executor, put: Put) -> None:
        """Make the array's folder; `put` is told of each file that has been written."""
        self.size = 0
        self.folder = folder
        self.folder.mkdir()
        self._pool = pool
        self._put = put
        self._rest = bytearray()
        self._chunks = 0
        self._under_way: deque[Future[None]] = deque()

    @property
    def chunk_bytes(self) -> int:
        return max(1, min(self.size, layout.BLOB_CHUNK_BYTES))

    def append(self, data: bytes) -> None:
        """Add bytes to the end; raises what went wrong with those before."""
        self.size += len(data)
        left = memoryview(data)
        while left:
            room = layout.BLOB_CHUNK_BYTES - len(self._rest)
            self._rest += left[:room]
            left = left[room:]
            if len(self._rest) == layout.BLOB_CHUNK_BYTES:
                self._flush(most=1)

    def finish(self) -> None:
        """Write what is left, filled up to a whole chunk."""
        if self._rest:
            self._rest += bytes(self.chunk_bytes - len(self._rest))
            self._flush(most=0)
        self._settle(0)

    def _flush(self, most: int) -> None:
        path = self.folder / f"c.{self._chunks}"
        self._under_way.append(self._pool.submit(_write, path, self._rest, self._put))
        self._rest = bytearray()
        self._chunks += 1
        self._settle(most)

    def _settle(self, most: int) -> None:
        """Wait until at most so many chunks are under way."""
        while len(self._under_way) > most:
            self._under_way.popleft().result()


def _write(path: Path, data: bytearray, put: Put) -> None:
    with path.open("xb", buffering=0) as stream:
        write_all(stream.fileno(), compressed(data))
    put(path)


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


def compressed(data: bytes | bytearray) -> bytes:
    """Return the chunk of an array that is no image, as its codecs would."""
    return _with_checksum(Zstd(level=_ZSTD_LEVEL).encode(data))


def _with_checksum(data: bytes) -> bytes:
    """Do as the crc32c codec does: end with the checksum, little endian."""
    checksum: int = google_crc32c.value(data)
    return data + checksum.to_bytes(4, "little")
