"""Jobs on this machine, each in a child process of its own.

A decoder that crashes, hangs or eats the memory costs one job. Children come from a forkserver
that has the heavy imports already. A child dies with its daemon, and the next daemon waits until
the last of them is gone: two never write at the same place.
"""

from __future__ import annotations

import ctypes
import fcntl
import math
import multiprocessing
import os
import queue
import signal
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Final

from dicomzarr_watch import lockfile
from dicomzarr_watch.archive.work import Level, Work
from dicomzarr_watch.errors import DicomzarrError, StopError
from dicomzarr_watch.outcome import Ended, Outcome, of_error

ORPHANS_WAIT_S: Final = 30.0
EXIT_S: Final = 5.0
"""How long a child that has sent its outcome may tidy up."""

_PRELOAD: Final = ("__main__", "dicomzarr_watch.engine.child", "zarrs")
_WITNESS: Final = "dicomzarr_watch.archive.witness"
_PR_SET_PDEATHSIG: Final = 1


class LocalEngine:
    """Up to `workers` children at a time."""

    def __init__(
        self,
        *,
        workers: int,
        timeout_s: float,
        lock: Path,
        level: Level,
        wake: Callable[[], None],
    ) -> None:
        """Start the forkserver; `wake` is called from another thread when a job has ended.

        lock: a file that every child holds while it lives. Raises StopError if children of an
        earlier daemon do not end.
        """
        self._workers = workers
        self._timeout_s = timeout_s
        self._lock = lock
        self._wake = wake
        self._results: queue.SimpleQueue[tuple[int, Outcome]] = queue.SimpleQueue()
        self._children: dict[int, BaseProcess | None] = {}
        self._supervisors = ThreadPoolExecutor(workers, "supervise")
        self._context = multiprocessing.get_context("forkserver")
        _wait_for_orphans(lock)
        preload = [*_PRELOAD, *([_WITNESS] if level is Level.INDEPENDENT else [])]
        self._context.set_forkserver_preload(preload)
        with _muted():
            forkserver.ensure_running()

    @property
    def capacity(self) -> int:
        """How many more jobs can start now."""
        return self._workers - len(self._children)

    def submit(self, number: int, work: Work) -> None:
        """Start a job; its outcome comes through `results` under this number."""
        self._children[number] = None
        future = self._supervisors.submit(self._supervise, number, work)
        future.add_done_callback(lambda done: self._ended(number, done))

    def results(self) -> list[tuple[int, Outcome]]:
        """Return what has ended since the last call; never waits."""
        found = []
        while not self._results.empty():
            number, outcome = self._results.get()
            del self._children[number]
            found.append((number, outcome))
        return found

    def close(self) -> None:
        """End what still runs, at once."""
        for child in list(self._children.values()):
            if child is not None:
                child.kill()
        self._supervisors.shutdown(wait=True)

    def _ended(self, number: int, done: Future[Outcome]) -> None:
        error = done.exception()
        outcome = done.result() if error is None else _crashed(error)
        self._results.put((number, outcome))
        self._wake()

    def _supervise(self, number: int, work: Work) -> Outcome:
        """Run one child to its end, which comes by itself or by the time limit."""
        ours, theirs = self._context.Pipe(duplex=False)
        child = self._context.Process(
            target=_child, args=(theirs, work, self._lock, os.getpid()), daemon=True
        )
        child.start()
        self._children[number] = child
        theirs.close()
        try:
            return _awaited(child, ours, self._timeout_s)
        finally:
            self._children[number] = None
            child.kill()
            child.join()
            child.close()
            ours.close()


@contextmanager
def _muted() -> Iterator[None]:
    """Start processes that write nothing between the lines of the log.

    The forkserver imports libraries, and multiprocessing's resource tracker complains of what a
    child that was ended did not put away.
    """
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _awaited(child: BaseProcess, results: Connection, timeout_s: float) -> Outcome:
    if not results.poll(timeout_s):
        return Outcome(Ended.CRASHED, "timed-out", f"ended after {timeout_s:g} s")
    try:
        outcome: Outcome = results.recv()
    except EOFError:
        child.join()
        return Outcome(Ended.CRASHED, "worker-died", _exit_reason(child.exitcode))
    child.join(EXIT_S)
    return outcome


def _exit_reason(code: int | None) -> str:
    if code is not None and code < 0:
        return f"signal {signal.Signals(-code).name}"
    return f"exit code {code}"


def _child(results: Connection, work: Work, lock: Path, daemon: int) -> None:
    """Do one job in a fresh process and send how it ended."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)  # the daemon decides how long a job may go on
    lockfile.take(lock, patience_s=math.inf, is_shared=True)
    _silence()
    _end_with_reader(results)
    if _is_alive(daemon):
        outcome = _done(work)
        _outlive_reader(results)
        results.send(outcome)


def _done(work: Work) -> Outcome:
    from dicomzarr_watch.engine import child  # noqa: PLC0415 - heavy; the forkserver has it

    try:
        return child.do(work)
    except DicomzarrError as error:
        return of_error(error)
    except Exception as error:  # noqa: BLE001 - whatever it is costs one attempt, with a code
        return _crashed(error)


def _crashed(error: BaseException) -> Outcome:
    """Class an error that nobody expected; where it came from, without what it said."""
    frames = traceback.extract_tb(error.__traceback__)[-4:]
    where = " < ".join(f"{Path(f.filename).name}:{f.lineno}" for f in reversed(frames))
    code = "out-of-memory" if isinstance(error, MemoryError) else "internal-error"
    return Outcome(Ended.CRASHED, code, f"{type(error).__name__} at {where}", str(error))


def _silence() -> None:
    """Let no library write names of files to the daemon's log."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nowhere, descriptor)


def _end_with_reader(results: Connection) -> None:
    """Have the kernel end this process when the pipe loses its reader, whatever it is doing.

    The death of the parent does not do: the forkserver outlives a killed daemon for as long as a
    child holds the pipe that it waits on. SIGIO ends a process that does not handle it.
    """
    fcntl.fcntl(results, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(results, fcntl.F_SETFL, os.O_ASYNC)


def _outlive_reader(results: Connection) -> None:
    """Undo that: reading from the pipe raises SIGIO as well."""
    fcntl.fcntl(results, fcntl.F_SETFL, 0)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


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
