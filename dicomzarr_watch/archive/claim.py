"""Who has an output: one daemon alone, or conversions by command that share it, a drop each.

The rule: who clears what others left in staging has the output for himself, as what is under way
there looks the same; and who converts a series has its drop for himself, as two would write at the
same place. The lock ends with its process. Where there are no locks, or no place for one, all goes
on without.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from dicomzarr_watch import lockfile
from dicomzarr_watch.errors import StopError

LOCK: Final = ".lock"
PATIENCE_S: Final = 0.3
"""Who lets go of it may be seen for a moment still."""


@contextmanager
def claimed(output: Path, *, is_shared: bool = False) -> Iterator[OSError | None]:
    """Have an output, which is made if need be; gives why it cannot be locked, if it cannot.

    Raises StopError `output-in-use` if others have it.
    """
    lock, problem = None, None
    try:
        output.mkdir(parents=True, exist_ok=True)
        lock = lockfile.take(output / LOCK, patience_s=PATIENCE_S, is_shared=is_shared)
    except OSError as error:
        problem = error
    if lock is None and problem is None:
        raise StopError(
            "output-in-use",
            expected="an output that no other daemon has, and no conversion beside a daemon",
            found="somebody who has this one",
            todo="stop the other, or let it end; or set another output",
            private=str(output),
        )
    try:
        yield problem
    finally:
        if lock is not None:
            lockfile.let_go(output / LOCK, lock)


@contextmanager
def alone(output: Path, drop: str) -> Iterator[None]:
    """Have a drop of an output that is shared; waits until others have let go of it."""
    path = output / f"{LOCK}.{hashlib.sha256(os.fsencode(drop)).hexdigest()[:16]}"
    lock = None
    with suppress(OSError):
        lock = lockfile.take(path, patience_s=math.inf)
    try:
        yield
    finally:
        if lock is not None:
            lockfile.let_go(path, lock)
