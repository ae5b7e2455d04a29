"""The loop, and the only one who knows both sides: the inbox and the archive.

Each round looks at the inbox if that is due, records what it saw, takes in what has ended, starts
what can start, and writes down what is finished. Between rounds it sleeps until an event, an ended
job, a signal or the next thing that is due.
"""

from __future__ import annotations

import json
import os
import queue
import random
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from dicomzarr_watch import __version__
from dicomzarr_watch.archive.disk import clear_staging, write_durably
from dicomzarr_watch.archive.work import Finding, Source, Work
from dicomzarr_watch.config import Settings
from dicomzarr_watch.engine.local import LocalEngine
from dicomzarr_watch.errors import NO_SPACE, OUTPUT_ERROR
from dicomzarr_watch.intake.arrival import Arrival, Rules, SeriesKey
from dicomzarr_watch.intake.inbox import Inbox, Known, Sight
from dicomzarr_watch.intake.listing import Entry, Place
from dicomzarr_watch.intake.peek import Kind, Peek
from dicomzarr_watch.intake.wakeup import Wakeup, quieten
from dicomzarr_watch.ledger.account import account
from dicomzarr_watch.ledger.jobs import Job, Patience, State, ended
from dicomzarr_watch.ledger.store import ArrivingRow, FileRow, Ledger
from dicomzarr_watch.operate.logs import Event, Log, Name
from dicomzarr_watch.operate.systemd import Notifier
from dicomzarr_watch.outcome import Ended, Outcome

LOOK_PAUSE_S: Final = 0.3
"""The least time between two looks, however many events come."""
ROUND_S: Final = 10.0
"""The longest sleep: the service manager hears of us that often."""
SHARE_OF_TIME: Final = 4.0
"""A look that takes long is followed by a pause so many times as long."""

_OUTPUT_CODES: Final = frozenset({NO_SPACE, OUTPUT_ERROR})


def run(settings: Settings, log: Log, *, is_once: bool = False) -> int:
    """Run the daemon until it is told to stop, or once over what is there.

    Returns the exit code: 1 if `is_once` and a file was rejected, else 0. Raises StopError if the
    state is not to be had.
    """
    quieten()
    for folder in (settings.inbox, settings.output):
        folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        ledger = Ledger.own(settings.state)
        stack.callback(ledger.close)
        wakes: queue.SimpleQueue[str] = queue.SimpleQueue()
        stack.enter_context(_signals(wakes))
        engine = LocalEngine(
            workers=settings.workers,
            timeout_s=settings.job_timeout_s,
            lock=settings.state / "children.lock",
            level=settings.verify,
            wake=lambda: wakes.put("ended"),
        )
        stack.callback(engine.close)
        clear_staging(settings.output)
        daemon = _Daemon(settings, log, ledger, engine, wakes, is_once=is_once)
        stack.callback(daemon.watch.stop)
        return daemon.run()


@contextmanager
def _signals(wakes: queue.SimpleQueue[str]) -> Iterator[None]:
    """Turn SIGTERM and SIGINT into wake-ups; SimpleQueue.put is safe in a signal handler."""
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = {n: signal.signal(n, lambda *_: wakes.put("stop")) for n in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Daemon:
    def __init__(
        self,
        settings: Settings,
        log: Log,
        ledger: Ledger,
        engine: LocalEngine,
        wakes: queue.SimpleQueue[str],
        *,
        is_once: bool,
    ) -> None:
        self._settings = settings
        self._log = log
        self._ledger = ledger
        self._engine = engine
        self._wakes = wakes
        self._is_once = is_once
        self._notifier = Notifier(os.environ)
        hold_s = 0.0 if is_once else settings.truncated_hold_s
        self._inbox = Inbox(
            settings.inbox, Rules(settings.settle_s, hold_s), map(_known, ledger.files())
        )
        self.watch = Wakeup(settings.inbox, lambda: wakes.put("event"))
        self._is_watched: bool | None = None
        self._place: Place | None = None
        self._sight = Sight(None)
        self._arrivals: dict[SeriesKey, Arrival] = {}
        self._offered = {SeriesKey(j.drop, j.series_uid): j.fingerprint for j in ledger.jobs()}
        self._arriving: dict[SeriesKey, str] = {}
        self._running: dict[int, tuple[Job, Arrival]] = {}
        self._unreported = {file.drop for file in ledger.files()}
        self._paused_until: float | None = None
        self._is_missing = self._is_stopping = self._has_events = False
        self._looked_s = self._took_s = 0.0

    # --- the loop ---

    def run(self) -> int:
        self._start_watch()
        self._log.info(
            Event.DAEMON_STARTED,
            version=__version__,
            workers=self._settings.workers,
            verify=self._settings.verify.value,
            settle_s=self._settings.settle_s,
            is_once=self._is_once,
        )
        self._look()
        self._notifier.ready()
        while not self._is_stopping:
            self._collect()
            self._dispatch()
            self._report()
            if self._is_once and self._is_idle():
                break
            self._notifier.alive(self._status())
            self._sleep(self._next_round_s())
            if time.monotonic() >= self._next_look_s():
                self._look()
        return self._stopped()

    def _sleep(self, until_s: float) -> None:
        """Wait for a wake-up, then take in all that have come."""
        try:
            woken = [self._wakes.get(timeout=max(0.0, until_s - time.monotonic()))]
            while not self._wakes.empty():
                woken.append(self._wakes.get())
        except queue.Empty:
            return
        self._has_events |= "event" in woken
        self._is_stopping |= "stop" in woken

    def _next_look_s(self) -> float:
        earliest_s = self._looked_s + max(LOOK_PAUSE_S, SHARE_OF_TIME * self._took_s)
        if self._has_events:
            return earliest_s
        return max(earliest_s, min(self._sight.due_s, self._looked_s + self._settings.poll_s))

    def _next_round_s(self) -> float:
        now_s, now = time.monotonic(), time.time()
        due = [job.due_at for job in self._ledger.jobs(State.QUEUED)]
        if self._paused_until is not None:
            due = [self._paused_until]
        jobs_s = now_s + min((at - now for at in due if at > now), default=float("inf"))
        return min(self._next_look_s(), jobs_s, now_s + ROUND_S)

    def _is_idle(self) -> bool:
        counts = self._ledger.counts()
        return (
            self._sight.place is not None
            and all(a.is_complete for a in self._sight.arrivals)
            and not self._sight.fresh
            and not counts[State.QUEUED]
            and not counts[State.RUNNING]
        )

    def _stopped(self) -> int:
        """Let the jobs under way end, for `drain_s` at most."""
        self._notifier.stopping()
        if self._is_stopping:
            self._log.info(Event.DAEMON_STOPPING, running=len(self._running))
        until_s = time.monotonic() + self._settings.drain_s
        self._is_stopping = False  # a second signal ends the waiting
        while self._running and not self._is_stopping and time.monotonic() < until_s:
            self._sleep(until_s)
            self._collect()
        self._report()
        self._log.info(Event.DAEMON_STOPPED, given_back=len(self._running))
        return 1 if self._is_once and self._has_rejected() else 0

    def _has_rejected(self) -> bool:
        jobs = {job.id: job for job in self._ledger.jobs()}
        drops = {file.drop for file in self._ledger.files()}
        accounts = (account(drop, self._ledger.files(drop), jobs) for drop in drops)
        return any("rejected" in found["counts"] for found in accounts)

    def _status(self) -> str:
        counts = self._ledger.counts()
        told = [f"{len(self._arriving)} arriving"]
        told += [f"{count} {state.value}" for state, count in counts.items() if count]
        return ", ".join(told)

    # --- the inbox ---

    def _look(self) -> None:
        start_s = time.monotonic()
        self._has_events = False
        sight = self._inbox.look(start_s)
        self._looked_s = time.monotonic()
        self._took_s = self._looked_s - start_s
        self._say_of_place(sight)
        self._sight = sight
        if sight.place is None:
            return
        self._record(sight)
        self._arrivals = {a.key: a for a in sight.arrivals}
        for arrival in sight.arrivals:
            if arrival.is_complete and self._is_news(arrival):
                self._offer(arrival)
        self._note_arriving()

    def _say_of_place(self, sight: Sight) -> None:
        """Say once when the inbox goes, comes back or is another one; watch it anew then."""
        if sight.place is None:
            if not self._is_missing:
                self._log.warning(Event.INBOX_MISSING)
            self._is_missing = True
            return
        is_other = self._place is not None and sight.place != self._place
        if is_other:
            self._log.warning(Event.INBOX_REPLACED)
        elif self._is_missing:
            self._log.info(Event.INBOX_BACK)
        if is_other or self._is_missing or not self.watch.is_healthy:
            self._start_watch()
        self._place, self._is_missing = sight.place, False
        if sight.unreadable and sight.unreadable != self._sight.unreadable:
            self._log.warning(Event.INBOX_UNREADABLE, folders=len(sight.unreadable))

    def _start_watch(self) -> None:
        is_watched = self.watch.start()
        if is_watched:
            self._log.info(Event.WATCH_STARTED)
            self._has_events = True  # what came before the watch is found by another look
        elif self._is_watched is not False:
            self._log.warning(Event.WATCH_LOST, poll_s=self._settings.poll_s)
        self._is_watched = is_watched

    def _record(self, sight: Sight) -> None:
        if sight.changed or sight.gone:
            self._ledger.record(map(_row, sight.changed), sight.gone)
        for known in sight.changed:
            self._unreported.add(known.entry.drop)
            if known.peek.kind is Kind.UNREADABLE:
                self._log.warning(Event.FILE_UNREADABLE, file=Name(known.entry.path))

    def _is_news(self, arrival: Arrival) -> bool:
        return self._offered.get(arrival.key) != arrival.growth.fingerprint

    def _offer(self, arrival: Arrival) -> None:
        job = self._ledger.offer(
            arrival.key.drop,
            arrival.key.uid,
            arrival.growth.fingerprint,
            len(arrival.files),
            sum(file.identity.size for file in arrival.files),
        )
        if job is None:
            return  # another set of the series is under way; the next look offers again
        self._offered[arrival.key] = job.fingerprint
        if job.state is State.QUEUED:
            self._log.info(Event.JOB_QUEUED, **_names(arrival.key), job=job.id, files=job.files)

    def _note_arriving(self) -> None:
        incomplete = [a for a in self._sight.arrivals if not a.is_complete and self._is_news(a)]
        for arrival in incomplete:
            told = {**_names(arrival.key), "files": len(arrival.files)}
            before = self._arriving.get(arrival.key)
            if before is None:
                self._log.info(Event.SERIES_ARRIVING, **told)
            if arrival.waits_for != before and arrival.waits_for == "truncated":
                told["truncated"] = len(arrival.truncated)
                self._log.warning(Event.SERIES_HELD, **told)
        self._ledger.note_arriving(
            ArrivingRow(a.key.drop, a.key.uid, a.waits_for, len(a.files)) for a in incomplete
        )
        self._arriving = {a.key: a.waits_for for a in incomplete}

    # --- the jobs ---

    def _dispatch(self) -> None:
        """Start what is due; one job alone while it is to be seen whether the output is back."""
        if self._sight.place is None or self._engine.capacity == 0:
            return
        now = time.time()
        if self._paused_until is not None and (self._running or now < self._paused_until):
            return
        for job in self._ledger.jobs(State.QUEUED):
            arrival = self._arrivals.get(SeriesKey(job.drop, job.series_uid))
            if arrival is None or arrival.growth.fingerprint != job.fingerprint:
                self._ledger.withdraw(job)
                continue
            if job.due_at > now or not arrival.is_complete:
                continue
            self._start(self._ledger.claim(job), arrival)
            if self._engine.capacity == 0 or self._paused_until is not None:
                return

    def _start(self, job: Job, arrival: Arrival) -> None:
        self._log.info(Event.JOB_STARTED, **_names(arrival.key), job=job.id, attempt=job.attempts)
        self._running[job.id] = (job, arrival)
        self._engine.submit(job.id, self._work(arrival))

    def _work(self, arrival: Arrival) -> Work:
        settings = self._settings
        sources = tuple(
            Source(entry.name, settings.inbox / entry.path, entry.identity)
            for entry in (Entry(file.path, file.identity) for file in arrival.files)
        )
        held = Finding("held-while-truncated", arrival.truncated)
        return Work(
            drop=arrival.key.drop,
            sources=tuple(sorted(sources, key=lambda s: s.name)),
            output=settings.output,
            verify=settings.verify,
            keep_reconstructed=settings.keep_reconstructed,
            threads=os.cpu_count() or 1,
            findings=(held,) if arrival.truncated else (),
        )

    def _collect(self) -> None:
        for number, outcome in self._engine.results():
            job, arrival = self._running.pop(number)
            patience = Patience(
                self._settings.max_attempts,
                self._settings.retry_max_s,
                random.random(),  # noqa: S311 - spreads retries, guards nothing
            )
            now = time.time()
            after = ended(job, outcome, now, patience)
            self._ledger.settle(after, (file.path for file in arrival.files))
            self._unreported.add(job.drop)
            self._say_of_job(after, arrival, outcome, now)

    def _say_of_job(self, job: Job, arrival: Arrival, outcome: Outcome, now: float) -> None:
        told = {**_names(arrival.key), "job": job.id, "attempt": job.attempts}
        why = {"code": job.code, "told": outcome.told, **self._log.private(outcome.private)}
        if outcome.ended is Ended.DONE:
            self._resume()
            self._log.info(Event.JOB_DONE, **told, code=job.code, **outcome.summary)
        elif outcome.ended is Ended.CHANGED:
            self._inbox.disturb(arrival.key)
            self._offered.pop(arrival.key, None)
            self._has_events = True
            self._log.info(Event.JOB_WITHDRAWN, **told, **why)
        elif job.state is State.REJECTED:
            self._log.error(Event.JOB_REJECTED, **told, **why, cause=outcome.code)
        elif outcome.code in _OUTPUT_CODES:
            self._pause(job, outcome)
        else:
            pause_s = round(max(0.0, job.due_at - now), 1)
            self._log.warning(Event.JOB_RETRY, **told, **why, pause_s=pause_s)

    def _pause(self, job: Job, outcome: Outcome) -> None:
        if self._paused_until is None:
            self._log.warning(Event.OUTPUT_PAUSED, code=outcome.code, told=outcome.told)
        self._paused_until = job.due_at

    def _resume(self) -> None:
        if self._paused_until is not None:
            self._log.info(Event.OUTPUT_RESUMED)
        self._paused_until = None

    # --- drop.json ---

    def _report(self) -> None:
        """Write drop.json of every drop in which nothing is under way any more."""
        if self._sight.place is None or not self._unreported:
            return
        busy = self._sight.fresh | self._ledger.active_drops()
        busy |= {a.key.drop for a in self._sight.arrivals if not a.is_complete}
        quiet = sorted(self._unreported - busy)
        if not quiet:
            return
        jobs = {job.id: job for job in self._ledger.jobs()}
        for drop in quiet:
            try:
                self._report_drop(drop, jobs)
            except OSError:
                return  # a full or lost output; the next round tries again
            self._unreported.discard(drop)

    def _report_drop(self, drop: str, jobs: dict[int, Job]) -> None:
        found = account(drop, self._ledger.files(drop), jobs)
        data = json.dumps(found, indent=1).encode() + b"\n"
        path = self._settings.output / drop / "drop.json"
        if _content(path) == data:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        write_durably(path, data)
        self._log.info(Event.DROP_FINISHED, drop=Name(drop), **found["counts"])


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _names(key: SeriesKey) -> dict[str, Name]:
    return {"drop": Name(key.drop), "series": Name(key.uid)}


def _row(known: Known) -> FileRow:
    entry, said = known.entry, known.peek
    return FileRow(
        entry.path,
        entry.drop,
        entry.identity,
        said.kind.value,
        said.series_uid,
        said.sop_uid,
        said.transfer_syntax,
        said.is_truncated,
    )


def _known(row: FileRow) -> Known:
    """Return what `_row` wrote down."""
    return Known(
        Entry(row.path, row.identity),
        Peek(Kind(row.kind), row.series_uid, row.sop_uid, row.transfer_syntax, row.is_truncated),
    )
