"""A lock that ends with the process that holds it, however that ends."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path
from typing import Final

_STEP_S: Final = 0.02


def take(path: Path, *, patience_s: float, is_shared: bool = False) -> int | None:
    """Lock a file, which is made if need be, and return the descriptor that holds the lock.

    Returns None if others have it for longer than the patience; infinity waits for them.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    until_s = time.monotonic() + patience_s
    try:
        while not _is_locked(descriptor, fcntl.LOCK_SH if is_shared else fcntl.LOCK_EX):
            if time.monotonic() > until_s:
                os.close(descriptor)
                return None
            time.sleep(_STEP_S)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


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
