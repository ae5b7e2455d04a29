"""A Zarr v3 shard, written as a stream.

The `sharding_indexed` codec lays chunks into one object in any order and ends it with an index:
offset and length of every chunk as little endian uint64, all ones for an absent chunk, and the
CRC32C of these bytes.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from io import FileIO
from pathlib import Path
from typing import Final

import google_crc32c

Put = Callable[[Path], None]
"""Told of a file that has been written, so that it is put on disk while other work goes on."""

_ABSENT: Final = (1 << 64) - 1


class ShardFile:
    """One shard that takes chunks until all expected ones are there."""

    def __init__(self, path: Path, slots: int, expected: int) -> None:
        """Open the file; `slots` chunks have a place in it and `expected` will come."""
        self.path = path
        self._stream = path.open("xb", buffering=0)
        self._index = [_ABSENT] * (2 * slots)
        self._left = expected
        self._end = 0

    @property
    def is_full(self) -> bool:
        return self._left == 0

    def append(self, slot: int, chunk: bytes) -> None:
        """Write one chunk; each slot is written once."""
        if self._index[2 * slot] != _ABSENT:
            raise ValueError("chunk written twice")
        write_all(self._opened().fileno(), chunk)
        self._index[2 * slot : 2 * slot + 2] = self._end, len(chunk)
        self._end += len(chunk)
        self._left -= 1

    def finish(self) -> None:
        """Write the index; the file is whole then."""
        index = struct.pack(f"<{len(self._index)}Q", *self._index)
        checksum = google_crc32c.value(index)
        write_all(self._opened().fileno(), index + struct.pack("<I", checksum))
        self._stream.close()

    def close(self) -> None:
        """Let the file go, finished or not; the next chunk opens it again."""
        self._stream.close()

    def _opened(self) -> FileIO:
        if self._stream.closed:
            self._stream = self.path.open("ab", buffering=0)
        return self._stream


def write_all(descriptor: int, data: bytes) -> None:
    """Write all bytes; a short write is gone on with, and what the system refuses is raised."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
