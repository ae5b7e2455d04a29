"""What a child may take of the machine, for good: nothing that it does can raise it again."""

from __future__ import annotations

import resource
from typing import Final

from dicomzarr_watch import libc

MOST_FILES: Final = 4096


def confine(memory_bytes: int) -> None:
    """Keep this process, and those that it starts, from more than a job needs.

    memory_bytes: of each process; 0 for no limit. Memory that is written to counts, with the
    stacks of all threads; addresses that are only set aside, as allocators and mapped files do by
    the gigabyte, do not (RLIMIT_DATA, not RLIMIT_AS). Who asks for more gets a MemoryError, or is
    ended by a library that knows no such thing.
    """
    _lower(resource.RLIMIT_CORE, 0)  # it would be full of pixel data, wherever it is written
    _lower(resource.RLIMIT_NOFILE, MOST_FILES)
    if memory_bytes:
        _lower(resource.RLIMIT_DATA, memory_bytes)
    libc.gain_no_privileges()


def _lower(what: int, most: int) -> None:
    known = [n for n in resource.getrlimit(what) if n != resource.RLIM_INFINITY]
    limit = min([most, *known])
    resource.setrlimit(what, (limit, limit))
