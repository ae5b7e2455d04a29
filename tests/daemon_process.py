"""The real daemon as a process: started by its command, heard by its log, ended by signals.

Waiting is reading: a test goes on when the line it waits for comes through the pipe.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

PATIENCE_S: Final = 120.0
"""How long a test waits for what must come; only a failure ever takes it."""
SETTLE_S: Final = 0.3
DEFAULTS: Final[dict[str, object]] = {
    "settle_s": SETTLE_S,
    "poll_s": 1.0,
    "workers": 2,
    "min_free_bytes": 0,  # a test's disk may be as small as it likes
}
COMMAND: Final = (sys.executable, "-m", "dicomzarr_watch")
HAMPERED: Final = (sys.executable, str(Path(__file__).with_name("hampered.py")))
FAULTY: Final = (sys.executable, str(Path(__file__).with_name("faulty.py")))
COMPLAINT: Final = b"dicomzarr-watch: "
"""What a line begins with that was said before there was a log."""

Fields = dict[str, Any]


class Daemon:
    """A daemon that works on the folders `inbox`, `output` and `state` of a place."""

    def __init__(
        self,
        place: Path,
        *arguments: str,
        command: tuple[str, ...] = COMMAND,
        inbox: Path | None = None,
        **settings: object,
    ) -> None:
        """Start it; settings and upper-case variables go through its environment."""
        self.place = place
        self.inbox = inbox or place / "inbox"
        self.output = place / "output"
        self.state = place / "state"
        self.text = ""
        self.events: list[Fields] = []
        folders = {"inbox": self.inbox, "output": self.output, "state": self.state}
        given = DEFAULTS | folders | settings
        self.process = subprocess.Popen(
            [*command, "run", *arguments],
            env=clean_environment() | {_variable(k): str(v) for k, v in given.items()},
            cwd=place,
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        assert self.process.stderr is not None
        self._pipe = self.process.stderr.fileno()
        self._rest = b""

    def wait(
        self, event: str, *, count: int = 1, within_s: float = PATIENCE_S, **fields: object
    ) -> Fields:
        """Return the event that is the count-th of its kind; fails if it does not come in time."""
        self.until(lambda: len(self.all(event, **fields)) >= count, f"{event} {fields}", within_s)
        return self.all(event, **fields)[count - 1]

    def until(self, is_so: Callable[[], bool], what: str, within_s: float = PATIENCE_S) -> None:
        """Read until something is so; fails if it does not come in time."""
        until_s = time.monotonic() + within_s
        while not is_so():
            if not self._read(until_s):
                raise AssertionError(f"{what} did not come; the log:\n{self.text}")

    def all(self, event: str, **fields: object) -> list[Fields]:
        """Return the events that have been read so far."""
        wanted = {"event": event} | fields
        return [e for e in self.events if wanted.items() <= {k: e.get(k) for k in wanted}.items()]

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def end(self) -> int:
        """Read the log to its end and return the exit code."""
        until_s = time.monotonic() + PATIENCE_S
        while self._read(until_s):
            pass
        try:
            return self.process.wait(max(1.0, until_s - time.monotonic()))
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it does not end; the log:\n{self.text}") from None

    def stop(self) -> int:
        self.signal(signal.SIGTERM)
        return self.end()

    def kill(self) -> None:
        """End it as a lost machine would, and wait until its children are gone with it."""
        self.process.kill()
        self.end()

    def _read(self, until_s: float) -> bool:
        """Take in lines as they come; False at the end of the pipe or when the time is up."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._pipe, selectors.EVENT_READ)
            if not selector.select(max(0.0, until_s - time.monotonic())):
                return False
        found = os.read(self._pipe, 1 << 16)
        *lines, self._rest = (self._rest + found).split(b"\n")
        for line in lines:
            self.text += line.decode() + "\n"
            self.events.append(_event(line))
        return bool(found)


def _event(line: bytes) -> Fields:
    """Parse a line; anything but an event of ours, such as a traceback, fails the test."""
    if line.startswith(COMPLAINT):
        return {"event": "", "told": line.decode()}
    try:
        found: Fields = json.loads(line)
    except ValueError as error:
        raise AssertionError(f"no log line: {line.decode()}") from error
    return found


def _variable(name: str) -> str:
    return name if name.isupper() else f"DICOMZARR_{name.upper()}"


def clean_environment() -> dict[str, str]:
    """Return the environment without what would set a daemon, or change how Python writes."""
    ours = ("DICOMZARR_", "NOTIFY_", "PYTHONUNBUFFERED")
    return {k: v for k, v in os.environ.items() if not k.startswith(ours)}


@contextmanager
def running(place: Path, *arguments: str, **settings: Any) -> Iterator[Daemon]:
    """Give a daemon that has started; it is killed at the end if the test did not stop it."""
    with begun(place, *arguments, **settings) as daemon:
        daemon.wait("daemon.started")
        yield daemon


@contextmanager
def begun(place: Path, *arguments: str, **settings: Any) -> Iterator[Daemon]:
    """Give a daemon that may end before it has started; else as `running`."""
    place.mkdir(parents=True, exist_ok=True)
    daemon = Daemon(place, *arguments, **settings)
    try:
        yield daemon
    finally:
        daemon.process.kill()
        daemon.process.wait()
        assert daemon.process.stderr is not None
        daemon.process.stderr.close()


def once(place: Path, **settings: Any) -> tuple[int, Daemon]:
    """Run the daemon over what is in the inbox, to its end."""
    with running(place, "--once", **settings) as daemon:
        return daemon.end(), daemon


@contextmanager
def deadline(seconds: float = PATIENCE_S) -> Iterator[None]:
    """Let a call that blocks fail after some time."""

    def give_up(*_: object) -> None:
        raise TimeoutError(f"nothing came within {seconds:g} s")

    before: Any = signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextmanager
def held_at(gate: Path) -> Iterator[Callable[[], None]]:
    """Wait until a job stands at a gate (see faulty.py); give the function that lets it go on."""
    with deadline():
        descriptor = os.open(gate, os.O_WRONLY)
    gate.unlink()
    left = [descriptor]

    def let_go() -> None:
        os.close(left.pop())

    try:
        yield let_go
    finally:
        for number in left:
            os.close(number)
