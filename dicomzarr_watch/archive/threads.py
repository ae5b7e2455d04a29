"""Threads where there is enough to do for them: for little, handing it over takes longer."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from functools import partial
from typing import Any, Final, ParamSpec, TypeVar

CORES: Final = os.cpu_count() or 1
"""So many threads work where nobody says how many."""
WORTH_BYTES: Final = 2 << 20
"""So many bytes of files are more than a few milliseconds' work."""
WORTH_FILE_BYTES: Final = 64 << 10
"""Of smaller files, what is to be done in the interpreter takes longest, by one at a time."""

P = ParamSpec("P")
T = TypeVar("T")
F = TypeVar("F", Future[Any], asyncio.Future[Any])


def worth(threads: int, size: int, files: int) -> int:
    """Return how many threads so many bytes in so many files are worth."""
    return threads if size >= max(WORTH_BYTES, WORTH_FILE_BYTES * files) else 1


def pool(threads: int, name: str) -> Executor:
    """Give a pool of threads; with one only, what is submitted is done by who submits it."""
    return ThreadPoolExecutor(threads, name) if threads > 1 else Here()


class Here(Executor):
    """Does everything at once, in the thread that submits it."""

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Call a function and return what came of it."""
        return resolved(Future(), partial(fn, *args, **kwargs))


def resolved(future: F, call: Callable[[], object]) -> F:
    """Call a function and have a future, of threads or of a loop, bear what came of it."""
    try:
        future.set_result(call())
    except Exception as error:  # noqa: BLE001 - it is for who asks for the result
        future.set_exception(error)
    return future
