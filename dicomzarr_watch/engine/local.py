"""Jobs on this machine, in children: processes that do one job at a time.

A decoder that crashes, hangs or eats the memory costs one job; a fresh child takes the next. One
that has done well is kept for it, as starting costs more than a small series. Children come from a
forkserver that has the heavy imports already; where nothing is to be done for a while, both go.
A child dies with its daemon, and the next daemon waits until the last of them is gone: two never
write at the same place.
"""

from __future__ import annotations

import multiprocessing
import os
import queue
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from multiprocessing import forkserver, resource_tracker
from pathlib import Path
from threading import Lock
from typing import Final

from dicomzarr_watch import lockfile
from dicomzarr_watch.archive.work import Level
from dicomzarr_watch.engine.child import Child
from dicomzarr_watch.engine.task import Task
from dicomzarr_watch.errors import RetryError, StopError, from_child_error
from dicomzarr_watch.outcome import Outcome, of_crash, of_error

ORPHANS_WAIT_S: Final = 30.0
IDLE_S: Final = 30.0
"""How long children wait for work before their memory is given back."""

_PRELOAD: Final = ("__main__", "dicomzarr_watch.engine.job", "numpy.ma", "zarrs")
"""What a job imports; zarr and numpy leave some of it to the first who needs it."""
_WITNESS: Final = "dicomzarr_watch.archive.witness"


class LocalEngine:
    """Up to `workers` children at a time."""

    def __init__(
        self,
        *,
        workers: int,
        timeout_s: float,
        lock: Path,
        level: Level,
        memory_bytes: int = 0,
        wake: Callable[[], None],
    ) -> None:
        """Start the forkserver; `wake` is called from another thread when a job has ended.

        lock: a file that every child holds while it lives. memory_bytes: the most that a child may
        take; 0 for no limit. Raises StopError if children of an earlier daemon do not end.
        """
        self._workers = workers
        self._timeout_s = timeout_s
        self._lock = lock
        self._memory_bytes = memory_bytes
        self._wake = wake
        self._results: queue.SimpleQueue[tuple[int, Outcome]] = queue.SimpleQueue()
        self._under_way = 0
        self._used_s = time.monotonic()
        self._supervisors = ThreadPoolExecutor(workers, "supervise")
        self._children: set[Child] = set()
        self._free: queue.LifoQueue[Child] = queue.LifoQueue()
        self._starting = Lock()
        self._is_closed = False
        self._context = multiprocessing.get_context("forkserver")
        _wait_for_orphans(lock)
        preload = [*_PRELOAD, *([_WITNESS] if level is Level.INDEPENDENT else [])]
        self._context.set_forkserver_preload(preload)
        _ensure_forkserver()

    @property
    def capacity(self) -> int:
        """How many more jobs can start now."""
        return self._workers - self._under_way

    def submit(self, number: int, task: Task) -> None:
        """Start a job; its outcome comes through `results` under this number."""
        self._under_way += 1
        _ensure_forkserver()
        self._supervisors.submit(self._supervise, number, task)

    def results(self) -> list[tuple[int, Outcome]]:
        """Return what has ended since the last call; never waits."""
        found = []
        while not self._results.empty():
            found.append(self._results.get())
        self._under_way -= len(found)
        return found

    def tend(self, *, is_expecting: bool) -> None:
        """Have at hand what children come from while jobs are coming, and let it go later.

        To be called every now and then.
        """
        now_s = time.monotonic()
        if is_expecting or self._under_way:
            self._used_s = now_s
            _ensure_forkserver()
        elif now_s - self._used_s > IDLE_S:
            self._put_free_away()
            _end_forkserver()

    def close(self) -> None:
        """End what still runs, at once."""
        with self._starting:
            self._is_closed = True
            for child in self._children:
                child.kill()
        self._supervisors.shutdown(wait=True)
        self._put_free_away()

    def _supervise(self, number: int, task: Task) -> None:
        """See one job through, in a thread of its own."""
        try:
            outcome = self._done(task)
        except RetryError as error:
            outcome = of_error(error)
        except Exception as error:  # noqa: BLE001 - such as no memory for a child; it is told
            outcome = of_crash(error)
        self._results.put((number, outcome))
        self._wake()

    def _done(self, task: Task) -> Outcome:
        child = self._free_child() or self._fresh_child()
        try:
            return child.done(task, self._timeout_s)
        finally:
            if child.is_fit and not self._is_closed:
                self._free.put(child)
            else:
                self._put_away(child)

    def _free_child(self) -> Child | None:
        """Return a child that waits; one that has died as it did was not ended by the next job."""
        while True:
            try:
                child = self._free.get_nowait()
            except queue.Empty:
                return None
            if child.is_alive:
                return child
            self._put_away(child)

    def _fresh_child(self) -> Child:
        with self._starting:
            if self._is_closed:
                raise RuntimeError("a job after the end")
            try:
                child = Child(self._context, self._lock, self._memory_bytes)
            except (OSError, EOFError) as error:  # the forkserver ends where it gets no process
                raise from_child_error(error) from error
            self._children.add(child)
        return child

    def _put_free_away(self) -> None:
        while (child := self._free_child()) is not None:
            self._put_away(child)

    def _put_away(self, child: Child) -> None:
        with self._starting:
            self._children.discard(child)
        child.end()


def _ensure_forkserver() -> None:
    """Start what children come from, if it does not run; if it cannot, the next child says so."""
    with suppress(OSError), _muted():
        resource_tracker.ensure_running()
        forkserver.ensure_running()


def _end_forkserver() -> None:
    """Give its memory back; the standard library has no other name for it."""
    forkserver._forkserver._stop()  # type: ignore[attr-defined]  # noqa: SLF001


@contextmanager
def _muted() -> Iterator[None]:
    """Start processes that write nothing between the lines of the log.

    The forkserver imports libraries, and multiprocessing's resource tracker complains of what a
    child that was ended did not put away.
    """
    with ExitStack() as undo:
        kept = os.dup(2)
        undo.callback(os.close, kept)
        nowhere = os.open(os.devnull, os.O_WRONLY)
        undo.callback(os.close, nowhere)
        undo.callback(os.dup2, kept, 2)
        os.dup2(nowhere, 2)
        yield


def _wait_for_orphans(lock: Path) -> None:
    """Wait until no child of an earlier daemon holds the lock."""
    descriptor = lockfile.take(lock, patience_s=ORPHANS_WAIT_S)
    if descriptor is None:
        raise StopError(
            "orphans",
            expected="children of the last daemon to be gone",
            found="one that still runs",
            todo="end it, then start again",
        )
    os.close(descriptor)
