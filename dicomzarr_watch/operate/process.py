"""What the daemon's process is to the system, before it makes anything or starts anybody."""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import MutableMapping
from fnmatch import fnmatchcase
from typing import Final

NEEDED: Final = ("PATH", "LANG", "LC_*", "TZ", "TMPDIR", "PYTHON*", "LD_*")
"""Environment variables that what it starts may see: where programs are and how text is written."""


def confine(umask: int, environment: MutableMapping[str, str]) -> None:
    """Let others see only what the umask says, now and in what is started from here.

    environment: is left with what is needed; passwords and keys that somebody put there go. No
    core is dumped, as it would be full of names. No Python that is started imports from the working
    directory, which may be the inbox.
    """
    _open_standard_streams()
    os.umask(umask)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for name in [name for name in environment if not _is_needed(name)]:
        del environment[name]
    environment["PYTHONSAFEPATH"] = "1"


def _open_standard_streams() -> None:
    """Have those that were closed lead nowhere: the next file that is opened would be such a one.

    It would be written over by whoever lets a child be silent, and a lock that it holds be lost.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest that is free
    if sys.stderr is None:
        sys.stderr = os.fdopen(2, "w", closefd=False)


def _is_needed(name: str) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in NEEDED)
