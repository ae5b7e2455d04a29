"""A child process that does jobs one after the other, as both sides see it.

The rule: a child has one job at a time, so that what ends it costs that job an attempt and no
other. Two pipes lead to it: tasks go down, outcomes come up. It ends when the daemon lets go of
either, whatever it is doing.
"""

from __future__ import annotations

import fcntl
import gc
import math
import os
import resource
import signal
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Final

from dicomzarr_watch import libc, lockfile
from dicomzarr_watch.engine.limits import confine
from dicomzarr_watch.engine.task import Task
from dicomzarr_watch.errors import from_child_error
from dicomzarr_watch.outcome import Ended, Outcome, of_error

KEPT_BYTES: Final = 384 << 20
"""A child that was ever larger is not kept for a further job: its memory goes with it."""
_ARENAS: Final = 2
"""What threads share their free memory in: each keeps up to 64 MB of its own otherwise."""


class Child:
    """The daemon's side. is_fit: whether it may have a further job."""

    def __init__(self, context: ForkServerContext, lock: Path, memory_bytes: int) -> None:
        """Start it; lock: a file that every child holds while it lives."""
        self.is_fit = True
        tasks, self._tasks = context.Pipe(duplex=False)
        self._results, results = context.Pipe(duplex=False)
        self._process = context.Process(
            target=_main, args=(tasks, results, lock, os.getpid(), memory_bytes), daemon=True
        )
        self._process.start()
        tasks.close()
        results.close()

    @property
    def is_alive(self) -> bool:
        """Whether a child that waits is there; its pipe ends before its end is known otherwise."""
        return not self._results.poll() and self._process.is_alive()

    def done(self, task: Task, timeout_s: float) -> Outcome:
        """Have a job done and wait; a child that does not see it through is fit for no other."""
        try:
            self._tasks.send(task)
            if not self._results.poll(timeout_s):
                self.is_fit = False
                return Outcome(Ended.CRASHED, "timed-out", f"ended after {timeout_s:g} s")
            outcome: Outcome
            outcome, is_large = self._results.recv()
        except (EOFError, OSError):  # it lets go of its pipes as it dies, however that comes
            self.is_fit = False
            self._process.join()
            return Outcome(Ended.CRASHED, "worker-died", _exit_reason(self._process.exitcode))
        self.is_fit = outcome.ended is not Ended.CRASHED and not is_large
        return outcome

    def kill(self) -> None:
        """End it at once; another thread may be waiting for it."""
        self._process.kill()

    def end(self) -> None:
        """End it and put it away."""
        self._process.kill()
        self._process.join()
        self._process.close()
        self._tasks.close()
        self._results.close()


def _exit_reason(code: int | None) -> str:
    if code is not None and code < 0:
        return f"signal {signal.Signals(-code).name}"
    return f"exit code {code}"


def _main(
    tasks: Connection, results: Connection, lock: Path, daemon: int, memory_bytes: int
) -> None:
    """Do jobs until no more come."""
    libc.end_with_parent()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)  # the daemon decides how long a job may go on
    problem = _held(lock)
    _silence()
    libc.mallopt(libc.M_ARENA_MAX, _ARENAS)
    confine(memory_bytes)
    from dicomzarr_watch.engine import job  # noqa: PLC0415 - heavy; the forkserver has it

    gc.freeze()  # to look through all that is imported for what may go takes 20 ms, and often
    while True:
        try:
            task: Task = tasks.recv()
        except EOFError:
            return
        _end_with_reader(results)
        if not _is_alive(daemon):
            return
        outcome = problem or job.done(task)
        _outlive_reader(results)
        results.send((outcome, problem is not None or _is_large()))


def _held(lock: Path) -> Outcome | None:
    """Hold the lock for good; return what to say of any job if it is not to be had."""
    try:
        lockfile.take(lock, patience_s=math.inf, is_shared=True)
    except OSError as error:
        return of_error(from_child_error(error))
    return None


def _is_large() -> bool:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10 > KEPT_BYTES


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
