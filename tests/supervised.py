"""Every call of a daemon and its children that changes files, decided one by one.

The calls come in one order over all processes and threads, before the kernel does them. A test lets
them pass, has one fail, does half of it, says that it was done, or kills who asks: at exactly the
call it means, and for as long as it likes.
"""

from __future__ import annotations

import errno
import os
import selectors
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from threading import Lock, Thread
from typing import Final

import syscalls
from syscalls import PASS, Arguments, Verdict

WRITE, SYNC, RENAME, MAKE, REMOVE = "write", "sync", "rename", "make", "remove"
KINDS: Final = {
    "write": WRITE,
    "pwrite64": WRITE,
    "ftruncate": WRITE,
    "fsync": SYNC,
    "fdatasync": SYNC,
    "rename": RENAME,
    "renameat": RENAME,
    "renameat2": RENAME,
    "mkdir": MAKE,
    "mkdirat": MAKE,
    "openat": MAKE,
    "unlink": REMOVE,
    "unlinkat": REMOVE,
    "rmdir": REMOVE,
}


@dataclass(frozen=True, slots=True)
class Call:
    """One call that waits to be decided.

    where: `staging`, `output` or `state`. path: relative to the place; of a rename the new one.
    """

    kind: str
    name: str
    where: str
    path: str
    is_child: bool
    process: int
    arguments: Arguments

    def __str__(self) -> str:
        return f"{'child' if self.is_child else 'daemon'} {self.name} {self.path}"


Fault = Callable[[Call], Verdict]


def passed(_: Call) -> Verdict:
    return PASS


def failed(number: int) -> Fault:
    """Let a call fail."""
    return lambda _: (0, -number, 0)


def killed(call: Call) -> Verdict:
    """End the process that asks, before anything is done."""
    os.kill(call.process, signal.SIGKILL)
    return 0, -errno.EINTR, 0  # which nobody sees: it is gone before


def halved(call: Call) -> Verdict:
    """Write half, as a disk does that is nearly full."""
    descriptor, address, size, offset = call.arguments[:4]
    if call.name not in ("write", "pwrite64") or size < 2:
        return PASS
    data = syscalls.memory_of(call.process, address, size // 2)
    copy = syscalls.file_of(call.process, descriptor)
    try:
        is_placed = call.name == "pwrite64"
        return (os.pwrite(copy, data, offset) if is_placed else os.write(copy, data)), 0, 0
    finally:
        os.close(copy)


def untrue(call: Call) -> Verdict:
    """Say that all was written, and write nothing."""
    return (call.arguments[2], 0, 0) if call.name in ("write", "pwrite64") else PASS


def at(
    numbers: range, fault: Fault, *, of: Callable[[Call], bool], asked: list[Call] | None = None
) -> Fault:
    """Let a fault happen at some of the calls that are meant, counted from 0.

    asked: takes the calls that it happened at.
    """
    counter = count()

    def decide(call: Call) -> Verdict:
        if not of(call) or next(counter) not in numbers:
            return PASS
        if asked is not None:
            asked.append(call)
        return fault(call)

    return decide


class Supervisor:
    """Decides the calls of the daemons that `command` starts.

    calls: those on files below the place, in their order.
    """

    _names = count()

    def __init__(self, place: Path) -> None:
        self.place = place
        self.calls: list[Call] = []
        self._fault: Fault = passed
        self._lock = Lock()
        self._problem: BaseException | None = None
        self._name = f"dicomzarr-{os.getpid()}-{next(self._names)}"
        self._door = socket.socket(socket.AF_UNIX)
        self._door.bind("\0" + self._name)
        self._door.listen()
        self._end, end = socket.socketpair()
        self._daemons: dict[int, int] = {}
        self._thread = Thread(target=self._serve, args=(end,), daemon=True)
        self._thread.start()

    def command(self, *command: str) -> tuple[str, ...]:
        """Return the words that start a command under supervision."""
        return (sys.executable, syscalls.__file__, self._name, *command)

    def run(self, *command: str) -> None:
        """Run a command to its end, which is to be a good one."""
        subprocess.run(self.command(*command), check=True, stdout=subprocess.DEVNULL)

    def set(self, fault: Fault) -> None:
        """Decide by this from now on."""
        with self._lock:
            self._fault = fault

    def close(self) -> None:
        """End; what went wrong in deciding is raised here."""
        self._end.close()
        self._thread.join()
        self._door.close()
        if self._problem:
            raise self._problem

    def _serve(self, end: socket.socket) -> None:
        with selectors.DefaultSelector() as waiting, end:
            waiting.register(end, selectors.EVENT_READ)
            waiting.register(self._door, selectors.EVENT_READ)
            try:
                while all(self._take(key.fileobj, waiting) for key, _ in waiting.select()):
                    pass
            except BaseException as error:  # noqa: BLE001 - raised where the test is
                self._problem = error
            for listener in self._daemons:
                os.close(listener)  # calls that still wait fail with ENOSYS

    def _take(self, ready: object, waiting: selectors.BaseSelector) -> bool:
        """Take in a daemon or one of its calls; False when all is over."""
        if ready is self._door:
            connection, _ = self._door.accept()
            with connection:
                said, (listener,), *_ = socket.recv_fds(connection, 16, 1)
            self._daemons[listener] = int(said)
            waiting.register(listener, selectors.EVENT_READ)
            return True
        if not isinstance(ready, int):
            return False
        if syscalls.is_in_use(ready):
            self._decide(ready)
        else:
            waiting.unregister(ready)
            del self._daemons[ready]
            os.close(ready)
        return True

    def _decide(self, listener: int) -> None:
        found = syscalls.received(listener)
        if found is None:
            return  # killed while it waited
        number, thread, name, arguments = found
        verdict = PASS
        with suppress(FileNotFoundError, ProcessLookupError):  # or while it was looked at
            call = self._call(self._daemons[listener], thread, name, arguments)
            if call is not None:
                with self._lock:
                    self.calls.append(call)
                    verdict = self._fault(call)
        syscalls.answer(listener, number, verdict)

    def _call(self, daemon: int, thread: int, name: str, arguments: Arguments) -> Call | None:
        """Return what is asked, if it is about a file of the place."""
        path = syscalls.path_of(thread, name, arguments)
        if not path.startswith(f"{self.place}/"):
            return None
        path = path.removeprefix(f"{self.place}/")
        where = "staging" if path.startswith("output/.staging") else path.partition("/")[0]
        process = syscalls.process_of(thread)
        return Call(KINDS[name], name, where, path, process != daemon, process, arguments)


@contextmanager
def supervised(place: Path) -> Iterator[Supervisor]:
    """Give a supervisor of what happens below a place."""
    supervisor = Supervisor(place)
    try:
        yield supervisor
    finally:
        supervisor.close()
