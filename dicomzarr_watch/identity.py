"""What tells one state of a file from another without reading it."""

from __future__ import annotations

import os
from typing import Final, NamedTuple

_END: Final = 1 << 63
"""Of numbers of 64 bits with a sign."""


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
