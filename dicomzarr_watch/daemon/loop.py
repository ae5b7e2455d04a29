"""The loop.

Each round takes in what has ended, starts what can start, writes down what is
finished, and looks at the inbox if that is due. Between rounds it sleeps until an event, an ended
job, a signal or the next thing that is due.
"""

from __future__ import annotations

import queue
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Final

from dicomzarr_watch import __version__
from dicomzarr_watch.archive.claim import claimed
from dicomzarr_watch.archive.disk import clear_staging
from dicomzarr_watch.config import Settings
from dicomzarr_watch.daemon.clearing import Clearing
from dicomzarr_watch.daemon.mounts import mounts
from dicomzarr_watch.daemon.rebuilding import known
from dicomzarr_watch.daemon.reporting import Reporting
from dicomzarr_watch.daemon.surroundings import checks
from dicomzarr_watch.daemon.watching import Watching
from dicomzarr_watch.daemon.working import Working
from dicomzarr_watch.engine.local import LocalEngine
from dicomzarr_watch.intake.bundles import Bundles
from dicomzarr_watch.intake.roll import Limits
from dicomzarr_watch.intake.wakeup import quieten
from dicomzarr_watch.ledger.jobs import State
from dicomzarr_watch.ledger.store import Ledger
from dicomzarr_watch.operate.logs import Event, Log
from dicomzarr_watch.operate.systemd import Notifier

ROUND_S: Final = 10.0
"""The longest sleep: the service manager hears of us that often."""
TOLD_S: Final = 1.0
"""And no more often than that."""


def run(settings: Settings, log: Log, notifier: Notifier, *, is_once: bool = False) -> int:
    """Run the daemon until it is told to stop, or once over what is there.

    Returns the exit code: 1 if `is_once` and a file was rejected, or a folder could not be looked
    at, else 0. Raises StopError if the state or the output is not to be had, or the state is lost
    on the way.
    """
    quieten()
    for folder in (settings.inbox, settings.output):
        folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        ledger = Ledger.own(settings.state, lambda: known(settings.output, time.time()))
        stack.callback(ledger.close)
        stack.enter_context(ledger.set_aside_if_damaged())
        _say_of_ledger(ledger, log)
        wakes: queue.SimpleQueue[str] = queue.SimpleQueue()
        stack.enter_context(_signals(wakes, has_file=settings.log_file is not None))
        bundles = _bundles(settings)
        stack.callback(bundles.clear)
        _say_of_lock(stack.enter_context(claimed(settings.output)), log)
        stack.callback(clear_staging, settings.output)  # where the system let none of it go before
        engine = LocalEngine(
            workers=settings.workers,
            timeout_s=settings.job_timeout_s,
            lock=settings.state / "children.lock",
            level=settings.verify,
            memory_bytes=settings.job_memory_bytes,
            wake=lambda: wakes.put("ended"),
        )
        stack.callback(engine.close)
        clear_staging(settings.output)
        bundles.clear()
        watching = Watching(
            settings, log, ledger, lambda: wakes.put("event"), bundles=bundles, is_once=is_once
        )
        stack.callback(watching.stop)
        clearing = Clearing(settings, log, ledger, watching, bundles)
        working = Working(
            settings, log, ledger, engine, watching, bundles=bundles, clearing=clearing
        )
        reporting = Reporting(
            settings.output, log, ledger, watching, bundles, is_clearing=clearing.is_wanted
        )
        loop = _Loop(settings, log, ledger, wakes, notifier, watching, working, clearing, reporting)
        return loop.run(is_once=is_once)


def _say_of_ledger(ledger: Ledger, log: Log) -> None:
    if ledger.damage is not None:
        code, file = ledger.damage
        todo = "nothing, it is made anew; keep the file if you want to know what happened"
        log.warning(Event.LEDGER_DAMAGED, code=code, file=file, todo=todo)
    if ledger.rebuilt:
        log.info(Event.LEDGER_REBUILT, **ledger.rebuilt)


def _say_of_lock(error: OSError | None, log: Log) -> None:
    if error is not None:
        todo = "let no other daemon and no convert write there, as nothing would keep them apart"
        found = error.strerror or "an error"
        log.warning(Event.CHECK_FAILED, code="output-lock", found=found, todo=todo)


def _bundles(settings: Settings) -> Bundles:
    limits = Limits(
        settings.archive_max_members,
        settings.archive_max_bytes,
        settings.archive_max_ratio,
        settings.archive_depth,
    )
    return Bundles(settings.inbox, settings.state / "unpacked", limits)


@contextmanager
def _signals(wakes: queue.SimpleQueue[str], *, has_file: bool) -> Iterator[None]:
    """Turn SIGTERM and SIGINT into wake-ups; SimpleQueue.put is safe in a signal handler.

    has_file: whether the log goes to a file. Who rotates it may send SIGHUP, which is not needed
    and does no harm; else it says that a terminal is gone, and ends the daemon.
    """
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = {n: signal.signal(n, lambda *_: wakes.put("stop")) for n in numbers}
    if has_file:
        before[signal.SIGHUP] = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@dataclass(slots=True)
class _Loop:
    """The parts that take turns; stops: how many signals to stop have come."""

    _settings: Settings
    _log: Log
    _ledger: Ledger
    _wakes: queue.SimpleQueue[str]
    _notifier: Notifier
    _watching: Watching
    _working: Working
    _clearing: Clearing
    _reporting: Reporting
    _stops: int = 0
    _told_s: float = float("-inf")

    def run(self, *, is_once: bool) -> int:
        self._log.info(
            Event.DAEMON_STARTED,
            version=__version__,
            workers=self._settings.workers,
            verify=self._settings.verify.value,
            after_success=self._settings.after_success.value,
            settle_s=self._settings.settle_s,
            is_once=is_once,
        )
        self._say_of_surroundings()
        self._say_of_output()
        self._look(self._watching.start)
        self._clearing.begin()
        self._notifier.ready()
        while not self._stops:
            self._reporting.stir(self._working.go_on())
            self._clearing.remove_folders()
            self._reporting.stir(self._clearing.due_drops())
            self._clearing.note_reported(self._reported())
            if is_once and self._is_over:
                break
            self._tell()
            now_s = time.monotonic()
            due_s = min(now_s + self._working.due_in_s, self._clearing.due_s, now_s + ROUND_S)
            self._sleep(min(self._watching.next_look_s, due_s))
            if time.monotonic() >= self._watching.next_look_s:
                self._look(self._watching.look)
        self._drain()
        is_left = self._ledger.files.has_rejected() or self._ledger.jobs.is_queued()
        return 1 if is_once and (is_left or not self._watching.is_whole) else 0

    def _say_of_surroundings(self) -> None:
        """Say what the machine does not give, before any job begins; it takes moments."""
        try:
            found = list(checks(self._settings, mounts()))
        except OSError:
            return  # what cannot be looked at is no reason not to start
        for one in found:
            if not one.is_well:
                self._log.warning(Event.CHECK_FAILED, code=one.code, found=one.found, todo=one.todo)

    def _say_of_output(self) -> None:
        """Let originals stay if the output has none of what was done: it may not be mounted."""
        with suppress(OSError):
            found = self._settings.output.iterdir()
            is_empty = all(place.name.startswith(".") for place in found)
            if is_empty and self._ledger.jobs.counts()[State.DONE]:
                self._clearing.renounce()
                todo = "mount it and start the daemon again, unless the results were taken away;"
                todo += " no original goes before the next start"
                told = "none of the results that the ledger knows"
                self._log.warning(Event.CHECK_FAILED, code="output-empty", found=told, todo=todo)

    @property
    def _is_over(self) -> bool:
        is_cleared = self._clearing.is_over or self._working.is_away
        return self._watching.is_settled and self._working.is_over and is_cleared

    def _reported(self, *, is_last: bool = False) -> list[str]:
        """Write down what is finished, if the output is there to write it to."""
        return [] if self._working.is_away else self._reporting.report(is_last=is_last)

    def _look(self, look: Callable[[], None]) -> None:
        look()
        self._reporting.stir()

    def _tell(self) -> None:
        """Say that every part makes progress, once a second at most."""
        now_s = time.monotonic()
        if now_s - self._told_s >= TOLD_S and self._notifier.is_heard:
            self._told_s = now_s
            self._notifier.alive(self._status())

    def _sleep(self, until_s: float) -> None:
        """Wait for a wake-up, then take in all that have come."""
        try:
            woken = [self._wakes.get(timeout=max(0.0, until_s - time.monotonic()))]
            while not self._wakes.empty():
                woken.append(self._wakes.get())
        except queue.Empty:
            return
        self._stops += woken.count("stop")

    def _drain(self) -> None:
        """Let the jobs under way end, for `drain_s` at most; a second signal ends the waiting."""
        self._notifier.stopping()
        if self._stops:
            self._log.info(Event.DAEMON_STOPPING, running=self._working.running)
        until_s = time.monotonic() + self._settings.drain_s
        while self._working.is_busy and self._stops < 2 and time.monotonic() < until_s:
            self._sleep(until_s)
            self._reporting.stir(self._working.take_in())
        self._working.give_back()
        self._reporting.stir()
        self._reported(is_last=True)
        self._log.info(
            Event.DAEMON_STOPPED,
            given_back=self._working.running,
            queued=self._ledger.jobs.counts()[State.QUEUED],
            arriving=self._watching.arriving,
        )

    def _status(self) -> str:
        counts = self._ledger.jobs.counts()
        told = [f"{count} {state.value}" for state, count in counts.items() if count]
        return ", ".join([f"{self._watching.arriving} arriving", *told])
