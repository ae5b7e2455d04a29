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
    """A one-dimensional uint8 array of unknown length, written chunk by chunk on other threads.

    Two buffers are filled in turn: memory that is new costs as much as to compress what it holds.
    """

    def __init__(self, folder: Path, pool: Executor, put: Put) -> None:
        """Make the array's folder; `put` is told of each file that has been written."""
        self.size = 0
        self.folder = folder
        self.folder.mkdir()
        self._pool = pool
        self._put = put
        self._buffer = bytearray()
        self._filled = 0
        self._chunks = 0
        self._under_way: deque[tuple[Future[None], bytearray]] = deque()

    @property
    def chunk_bytes(self) -> int:
        return max(1, min(self.size, layout.BLOB_CHUNK_BYTES))

    def append(self, data: bytes) -> None:
        """Add bytes to the end; raises what went wrong with those before, and is of no use then."""
        self.size += len(data)
        left = memoryview(data)
        while left:
            count = min(len(left), layout.BLOB_CHUNK_BYTES - self._filled)
            self._fill(left[:count])
            left = left[count:]
            if self._filled == layout.BLOB_CHUNK_BYTES:
                self._flush()

    def finish(self) -> None:
        """Write what is left, filled up to a whole chunk, and what the array is."""
        if self._filled:
            self._fill(memoryview(bytes(self.chunk_bytes - self._filled)))
            self._flush()
        while self._under_way:
            self._next_done()
        write_metadata(self.folder, (self.size,), (self.chunk_bytes,), np.dtype("uint8"))

    def _fill(self, data: memoryview) -> None:
        """Put bytes where others were, or make room for them."""
        if self._filled == len(self._buffer):
            self._buffer += data
        else:
            memoryview(self._buffer)[self._filled : self._filled + len(data)] = data
        self._filled += len(data)

    def _flush(self) -> None:
        path = self.folder / f"c.{self._chunks}"
        future = self._pool.submit(_write, path, self._buffer, self._put)
        self._under_way.append((future, self._buffer))
        self._buffer = self._next_done() if len(self._under_way) > 1 else bytearray()
        self._filled = 0
        self._chunks += 1

    def _next_done(self) -> bytearray:
        """Wait for the chunk that waits longest, and return its buffer."""
        future, buffer = self._under_way.popleft()
        future.result()
        return buffer


def _write(path: Path, data: bytearray, put: Put) -> None:
    encoded = _encoded(data)
    with path.open("xb", buffering=0) as stream:
        write_all(stream.fileno(), encoded)
        write_all(stream.fileno(), _checksum(encoded))
    put(path)


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
    encoded = _encoded(data)
    return encoded + _checksum(encoded)


def _encoded(data: bytes | bytearray) -> bytes:
    found: bytes = Zstd(level=_ZSTD_LEVEL).encode(data)
    return found


def _checksum(data: bytes) -> bytes:
    """Return what the crc32c codec ends a chunk with, little endian."""
    checksum: int = google_crc32c.value(data)
    return checksum.to_bytes(4, "little")
