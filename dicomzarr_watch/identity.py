"""What tells one state of a file from another without reading it."""

from __future__ import annotations

import os
from dataclasses import dataclass

Stamp = tuple[int, int, int, int]
"""The four numbers of an identity, each in 64 bits with a sign."""


@dataclass(frozen=True, slots=True, order=True)
class Identity:
    """Size in bytes, times in ns since the epoch, inode; any difference means another state."""

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int

    @classmethod
    def of(cls, stat: os.stat_result) -> Identity:
        """Take the identity from a stat of the file."""
        return cls(*stamp(stat))

    @property
    def stamp(self) -> Stamp:
        return self.size, self.mtime_ns, self.ctime_ns, self.inode


def stamp(stat: os.stat_result) -> Stamp:
    """Return the four numbers of an identity.

    Some file systems number files beyond, and a time after the year 2262 is beyond as well.
    """
    found = stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino
    if min(found) >= -(1 << 63) and max(found) < 1 << 63:
        return found
    size, mtime_ns, ctime_ns, inode = ((n + (1 << 63)) % (1 << 64) - (1 << 63) for n in found)
    return size, mtime_ns, ctime_ns, inode
