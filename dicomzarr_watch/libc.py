"""What Linux and its C library have, and Python has no word for."""

from __future__ import annotations

import ctypes
import errno
import os
import signal
from pathlib import Path
from typing import Final

NAME_MOST_BYTES: Final = 255
"""NAME_MAX: what file systems allow for one part of a path."""

RENAME_NOREPLACE: Final = 1
RENAME_EXCHANGE: Final = 2
M_TRIM_THRESHOLD: Final = -1
M_MMAP_THRESHOLD: Final = -3
M_ARENA_MAX: Final = -8

_AT_FDCWD: Final = -100
_PR_SET_PDEATHSIG: Final = 1
_PR_SET_NO_NEW_PRIVS: Final = 38


def end_with_parent() -> None:
    """Have the kernel end this process as soon as the one that started it is gone."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def gain_no_privileges() -> None:
    """Keep this process, and those that it starts, from privileges such as setuid programs give."""
    ctypes.CDLL(None).prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def renameat2(one: Path, other: Path, flags: int) -> None:
    """Rename as the flags say; raises OSError where the system or the file system cannot."""
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "renameat2"):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    paths = os.fsencode(one), os.fsencode(other)
    if libc.renameat2(_AT_FDCWD, paths[0], _AT_FDCWD, paths[1], flags):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def mallopt(option: int, value: int) -> None:
    """Set how memory is kept, where the C library is glibc."""
    call = getattr(ctypes.CDLL(None), "mallopt", None)
    if call:
        call(option, value)


def malloc_trim() -> None:
    """Give free memory back to the system, where the C library is glibc."""
    call = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if call:
        call(0)
