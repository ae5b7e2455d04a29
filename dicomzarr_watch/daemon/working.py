"""The engine's side: start what is due, take in what has ended, say how."""

from __future__ import annotations

import os
import random
import time
from typing import Final

from dicomzarr_watch.archive.work import Finding, Source, Work
from dicomzarr_watch.config import Settings
from dicomzarr_watch.daemon.watching import Watching, named
from dicomzarr_watch.engine.local import LocalEngine
from dicomzarr_watch.errors import NO_SPACE, OUTPUT_ERROR
from dicomzarr_watch.intake.arrival import Arrival, SeriesKey
from dicomzarr_watch.intake.listing import Entry
from dicomzarr_watch.ledger.jobs import Job, Patience, State, ended
from dicomzarr_watch.ledger.store import Ledger
from dicomzarr_watch.operate.logs import Event, Log
from dicomzarr_watch.outcome import Ended, Outcome

_OUTPUT_CODES: Final = frozenset({NO_SPACE, OUTPUT_ERROR})


class Working:
    """The jobs: those queued in the ledger, and those under way."""

    def __init__(
        self,
        settings: Settings,
        log: Log,
        ledger: Ledger,
        engine: LocalEngine,
        watching: Watching,
    ) -> None:
        self._settings = settings
        self._log = log
        self._ledger = ledger
        self._engine = engine
        self._watching = watching
        self._running: dict[int, tuple[Job, Arrival]] = {}
        self._paused_until: float | None = None

    @property
    def running(self) -> int:
        """How many jobs are under way."""
        return len(self._running)

    @property
    def next_due_s(self) -> float:
        """When the next job that waits is due, in seconds from now."""
        now = time.time()
        due = [job.due_at for job in self._ledger.jobs(State.QUEUED)]
        if self._paused_until is not None:
            due = [self._paused_until]
        return min((at - now for at in due if at > now), default=float("inf"))

    def start_due(self) -> None:
        """Start what is due; one job alone while it is to be seen whether the output is back."""
        if not self._watching.is_there or self._engine.capacity == 0:
            return
        now = time.time()
        if self._paused_until is not None and (self._running or now < self._paused_until):
            return
        for job in self._ledger.jobs(State.QUEUED):
            key = SeriesKey(job.drop, job.series_uid)
            arrival = self._watching.arrival(key)
            if arrival is None or arrival.growth.fingerprint != job.fingerprint:
                self._ledger.withdraw(job)
                self._watching.forget(key, is_changing=False)
                continue
            if job.due_at > now or not arrival.is_complete:
                continue
            self._start(self._ledger.claim(job), arrival)
            if self._engine.capacity == 0 or self._paused_until is not None:
                return

    def take_in(self) -> None:
        """Record and say how jobs ended."""
        for number, outcome in self._engine.results():
            job, arrival = self._running.pop(number)
            patience = Patience(
                self._settings.max_attempts,
                self._settings.retry_max_s,
                random.random(),  # noqa: S311 - spreads retries, guards nothing
            )
            after = ended(job, outcome, time.time(), patience)
            self._ledger.settle(after, (file.path for file in arrival.files))
            self._watching.unreported.add(job.drop)
            self._say(after, arrival, outcome)

    def _start(self, job: Job, arrival: Arrival) -> None:
        told = named(arrival.key)
        self._log.info(Event.JOB_STARTED, **told, job=job.id, attempt=job.attempts)
        self._running[job.id] = (job, arrival)
        self._engine.submit(job.id, self._work(job, arrival))

    def _work(self, job: Job, arrival: Arrival) -> Work:
        settings = self._settings
        entries = [Entry(file.path, file.identity) for file in arrival.files]
        sources = [Source(e.name, settings.inbox / e.path, e.identity) for e in entries]
        truncated = tuple(
            e.name for e, file in zip(entries, arrival.files, strict=True) if file.is_truncated
        )
        held = Finding("held-while-truncated", truncated)
        return Work(
            drop=arrival.key.drop,
            sources=tuple(sorted(sources, key=lambda s: s.name)),
            output=settings.output,
            verify=settings.verify,
            keep_reconstructed=settings.keep_reconstructed,
            keep_encoded=settings.keep_encoded,
            threads=os.cpu_count() or 1,
            findings=(held,) if truncated else (),
            # a broken frame can end the process that decodes it: the last attempt does without
            is_decoded=not 1 < job.attempts == settings.max_attempts,
        )

    def _say(self, job: Job, arrival: Arrival, outcome: Outcome) -> None:
        told = {**named(arrival.key), "job": job.id, "attempt": job.attempts}
        why = {"code": job.code, "told": outcome.told, **self._log.private(outcome.private)}
        if outcome.ended is Ended.DONE:
            self._resume()
            self._log.info(Event.JOB_DONE, **told, code=job.code, **outcome.summary)
        elif outcome.ended is Ended.CHANGED:
            self._watching.forget(arrival.key, is_changing=True)
            self._log.info(Event.JOB_WITHDRAWN, **told, **why)
        elif job.state is State.REJECTED:
            self._log.error(Event.JOB_REJECTED, **told, **why, cause=outcome.code)
        elif outcome.code in _OUTPUT_CODES:
            self._pause(job, outcome)
        else:
            pause_s = round(max(0.0, job.due_at - time.time()), 1)
            self._log.warning(Event.JOB_RETRY, **told, **why, pause_s=pause_s)

    def _pause(self, job: Job, outcome: Outcome) -> None:
        if self._paused_until is None:
            self._log.warning(Event.OUTPUT_PAUSED, code=outcome.code, told=outcome.told)
        self._paused_until = job.due_at

    def _resume(self) -> None:
        if self._paused_until is not None:
            self._log.info(Event.OUTPUT_RESUMED)
        self._paused_until = None
