"""A lock that ends with the process that holds it, however that ends."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

from dicomzarr_watch.identity import Place

_STEP_S: Final = 0.02


def take(path: Path, *, patience_s: float, is_shared: bool = False) -> int | None:
    """Lock a file, which is made if need be, and return the descriptor that holds the lock.

    Returns None if others have it for longer than the patience; infinity waits for them.
    """
    until_s = time.monotonic() + patience_s
    access = os.O_RDONLY  # open for writing, it would keep a disk from being mounted read-only
    while True:
        descriptor = os.open(path, access | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            is_had = _is_locked(descriptor, fcntl.LOCK_SH if is_shared else fcntl.LOCK_EX)
            if is_had and _stands(path, descriptor):
                return descriptor
        except OSError as error:
            os.close(descriptor)
            if error.errno != errno.EBADF or access == os.O_RDWR:
                raise
            access = os.O_RDWR  # NFS has locks for one alone only of files that he could write
            continue
        os.close(descriptor)
        if time.monotonic() > until_s:
            return None
        time.sleep(_STEP_S)


def let_go(path: Path, descriptor: int) -> None:
    """Let go of a lock; the last who has it takes the file away, if the system lets him."""
    with suppress(OSError):
        if _is_locked(descriptor, fcntl.LOCK_EX) and _stands(path, descriptor):
            path.unlink()
    os.close(descriptor)


def is_taken(path: Path) -> bool:
    """Tell whether somebody has the lock for himself now."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        return not _is_locked(descriptor, fcntl.LOCK_SH)
    finally:
        os.close(descriptor)


def _is_locked(descriptor: int, how: int) -> bool:
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _stands(path: Path, descriptor: int) -> bool:
    """Tell whether others would find the file that is locked, as somebody may have let go of it."""
    return Place.at(path) == Place.of(os.fstat(descriptor))
