"""What tells one file from another, and one state of it from another, without reading it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final, NamedTuple

_END: Final = 1 << 63
"""Of numbers of 64 bits with a sign."""


class Place(NamedTuple):
    """Which file or folder it is, whatever its path says: device and inode."""

    device: int
    inode: int

    @classmethod
    def of(cls, stat: os.stat_result) -> Place:
        """Take it from a stat."""
        return cls(stat.st_dev, stat.st_ino)

    @classmethod
    def at(cls, path: Path) -> Place | None:
        """Return what a path leads to now; None if there is nothing."""
        try:
            return cls.of(path.stat())
        except FileNotFoundError:
            return None


class Identity(NamedTuple):
    """Size in bytes, times in ns since the epoch, inode; any difference means another state.

    Each is a number of 64 bits with a sign, as the ledger and arrays keep them.
    """

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int

    @classmethod
    def of(cls, stat: os.stat_result) -> Identity:
        """Take the identity from a stat of the file.

        Some file systems number files beyond 64 bits with a sign; so is a time after the year 2262.
        """
        found = stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino
        if min(found) >= -_END and max(found) < _END:
            return cls(*found)
        return cls(*((n + _END) % (2 * _END) - _END for n in found))
