"""Works that go wrong in the child that does them, and a script that has an engine do one.

`odd_engine.py ACT PLACE` is as little of a daemon as can be killed: it submits one work, prints
its outcome, and ends.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import queue
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn, cast

from dicomzarr_watch.archive.work import Level, Source, Work
from dicomzarr_watch.engine.child import KEPT_BYTES
from dicomzarr_watch.engine.local import LocalEngine
from dicomzarr_watch.engine.task import Task
from dicomzarr_watch.errors import RejectError, StopError
from dicomzarr_watch.identity import Identity
from dicomzarr_watch.outcome import Outcome

MUCH_BYTES: Final = 1 << 30


@dataclass(frozen=True)
class OddPath:
    """A path that does something when the child opens it."""

    act: str
    place: Path

    def __fspath__(self) -> str:
        ACTS[self.act](self.place)
        return str(self.place / "not-there")


def work(act: str, place: Path) -> Task:
    """Make a work that goes wrong as named."""
    source = Source("a", cast("Path", OddPath(act, place)), Identity(0, 0, 0, 0))
    return Task(work=Work("drop", (source,), place / "output"))


def engine(
    place: Path, wake: Callable[[], None], *, timeout_s: float, memory_bytes: int = 0
) -> LocalEngine:
    return LocalEngine(
        workers=2,
        timeout_s=timeout_s,
        lock=place / "children.lock",
        level=Level.EXACT,
        memory_bytes=memory_bytes,
        wake=wake,
    )


def outcome(act: str, place: Path, *, timeout_s: float = 60.0, memory_bytes: int = 0) -> Outcome:
    """Return how an engine says that a work ended."""
    wakes: queue.SimpleQueue[bool] = queue.SimpleQueue()
    found = engine(place, lambda: wakes.put(True), timeout_s=timeout_s, memory_bytes=memory_bytes)
    try:
        found.submit(7, work(act, place))
        wakes.get(timeout=timeout_s + 30.0)
        ((number, ended),) = found.results()
    finally:
        found.close()
    assert number == 7
    return ended


def _raise(error: BaseException) -> Callable[[Path], NoReturn]:
    def act(_: Path) -> NoReturn:
        raise error

    return act


def _kill(number: signal.Signals) -> Callable[[Path], None]:
    return lambda _: os.kill(os.getpid(), number)


def _hang(place: Path) -> None:
    """Say that it begins, then wait in C and hold the interpreter's lock, as decoders can."""
    (place / "begun").write_bytes(b"\n")
    ctypes.PyDLL(None).pause()


def _print(_: Path) -> None:
    for descriptor in (1, 2):
        os.write(descriptor, b"the name of a patient\n")
    sys.stderr.write("the name of a patient\n")
    sys.stderr.flush()


def _sign(place: Path) -> None:
    """Say which process it is."""
    with (place / "signed").open("a") as stream:
        stream.write(f"{os.getpid()}\n")


def _grow(place: Path) -> None:
    _sign(place)
    assert len(b"x" * KEPT_BYTES) == KEPT_BYTES


def _reserve(_: Path) -> None:
    """Set addresses aside without writing there, as allocators and mapped files do."""
    mmap.mmap(-1, MUCH_BYTES, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, mmap.PROT_READ).close()


ACTS: Final[dict[str, Callable[[Path], None]]] = {
    "raise": _raise(ValueError("the name of a patient")),
    "out of memory": _raise(MemoryError()),
    "leave": _raise(SystemExit(4)),
    "exit": lambda _: os._exit(3),
    "crash": _kill(signal.SIGSEGV),
    "be killed": _kill(signal.SIGKILL),
    "hang": _hang,
    "print": _print,
    "be gone": lambda _: None,
    "sign": _sign,
    "grow": _grow,
    "take much": lambda _: bytearray(MUCH_BYTES).clear(),
    "set much aside": _reserve,
    "be unreadable": _raise(OSError(errno.EIO, "the disk says so")),
    "be refused": _raise(RejectError("over-a-limit")),
    "stop": _raise(StopError("settings-wrong")),
}

if __name__ == "__main__":
    sys.stdout.write(outcome(sys.argv[1], Path(sys.argv[2])).code + "\n")
