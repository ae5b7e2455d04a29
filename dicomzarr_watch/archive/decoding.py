"""Where frames are decoded: decoders hold the interpreter's lock, so that threads do not help.

Where it is worth the start, a few processes decode, forked from this one: they have all that is
imported, and a decoder that ends its process costs the frame and not the job.
"""

from __future__ import annotations

import gc
import os
import signal
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from queue import Empty, SimpleQueue
from typing import Any, Final, ParamSpec, TypeVar

from dicomzarr_watch import libc
from dicomzarr_watch.dicom.pixels import NotDecodedError
from dicomzarr_watch.errors import RetryError, from_child_error

WORTH_BYTES: Final = 32 << 20
"""So many bytes of samples take longer to decode than processes take to start."""

_KEPT_BYTES: Final = 32 << 20
"""What a decoding process keeps at hand; larger frames are given back."""
_LAST_DESCRIPTOR: Final = 1 << 20
P = ParamSpec("P")
T = TypeVar("T")


@contextmanager
def decoding(sample_bytes: int, threads: int, *, is_apart: bool = False) -> Iterator[Executor]:
    """Give an executor that decodes so many bytes of samples, `threads` frames at a time.

    is_apart: whether that is to be in other processes, even where it is not worth it.
    What is submitted to it raises NotDecodedError if its process ends, RetryError if there can be
    none.
    """
    if (sample_bytes and is_apart) or (threads > 1 and sample_bytes >= WORTH_BYTES):
        pool: Executor = Processes(threads)
    else:
        pool = ThreadPoolExecutor(threads, "decode")
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


class Processes(Executor):
    """Processes that call one function at a time each; to be made before other threads are."""

    def __init__(self, count: int) -> None:
        self._idle: SimpleQueue[_Process | None] = SimpleQueue()
        libc.malloc_trim()  # copies would keep what stands in memory that is free
        for _ in range(count):
            process = None
            with suppress(RetryError):  # a call tries again
                process = _Process()
            self._idle.put(process)
        self._threads = ThreadPoolExecutor(count, "decode")

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Have a function called in one of the processes; it and its arguments are pickled."""
        return self._threads.submit(self._called, fn, args, kwargs)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the processes that are idle; without `wait`, others end with this process."""
        self._threads.shutdown(wait=wait, cancel_futures=cancel_futures)
        found: list[_Process | None] = []
        with suppress(Empty):
            while True:
                found.append(self._idle.get_nowait())
        idle = [process for process in found if process]
        for process in idle:  # their memory goes while the others are told
            process.kill()
        for process in idle:
            process.end()

    def _called(self, function: Callable[..., T], args: Any, kwargs: Any) -> T:
        process = self._idle.get()
        try:
            process = process or _Process()
            try:
                is_done, answer = process.answer(function, args, kwargs)
            except (EOFError, OSError) as error:  # it let go of its pipe as it died
                process.end()
                process = None
                raise NotDecodedError("the decoder ended its process") from error
        finally:
            self._idle.put(process)
        if not is_done:
            raise answer
        found: T = answer
        return found


def _keep_memory() -> None:
    """Keep the memory of one frame for the next: what is given back comes back page by page."""
    libc.mallopt(libc.M_MMAP_THRESHOLD, _KEPT_BYTES)
    libc.mallopt(libc.M_TRIM_THRESHOLD, _KEPT_BYTES)


class _Process:
    """A copy of this process that waits for calls, and ends with it."""

    def __init__(self) -> None:
        """Fork; raises RetryError if the system has no room for it."""
        try:
            self._calls, theirs = Pipe()
            with warnings.catch_warnings():
                # of threads that a copy does not have; ours hold no lock that a decoder needs
                warnings.simplefilter("ignore", DeprecationWarning)
                self._id = os.fork()
        except OSError as error:
            raise from_child_error(error) from error
        if self._id == 0:
            _serve(theirs)
        theirs.close()

    def answer(self, function: Callable[..., Any], args: Any, kwargs: Any) -> tuple[bool, Any]:
        """Return whether a call was done, and what it returned or raised.

        Raises EOFError or OSError if the process ends; nothing else of it does.
        """
        self._calls.send((function, args, kwargs))
        found: tuple[bool, Any] = self._calls.recv()
        return found

    def kill(self) -> None:
        os.kill(self._id, signal.SIGKILL)

    def end(self) -> None:
        """End it and put it away; its number may be another's from then on."""
        self.kill()
        self._calls.close()
        os.waitpid(self._id, 0)


def _serve(calls: Connection) -> None:
    """Make calls until no more come; never returns, as what is above it is the parent's."""
    try:
        libc.end_with_parent()
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what it means
        os.closerange(3, calls.fileno())  # others wait for the parent to let go of them
        os.closerange(calls.fileno() + 1, _LAST_DESCRIPTOR)
        _keep_memory()
        gc.freeze()  # a collection would make a copy of all memory that is shared
        while True:
            function, args, kwargs = calls.recv()
            calls.send(_answer(function, args, kwargs))
    finally:
        os._exit(0)


def _answer(function: Callable[..., Any], args: Any, kwargs: Any) -> tuple[bool, Any]:
    try:
        return True, function(*args, **kwargs)
    except Exception as error:  # noqa: BLE001 - raised where it was called for
        return False, error
