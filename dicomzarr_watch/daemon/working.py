"""The engine's side: start what is due, take in what has ended, say how."""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Final

from dicomzarr_watch.config import Settings
from dicomzarr_watch.daemon.clearing import CLEARING, Clearing
from dicomzarr_watch.daemon.naming import job_fields, key_of
from dicomzarr_watch.daemon.pause import Pause, patience
from dicomzarr_watch.daemon.room import Need, Room
from dicomzarr_watch.daemon.tasks import task_of
from dicomzarr_watch.daemon.watching import FILES_CHANGED, Watching
from dicomzarr_watch.engine.local import LocalEngine
from dicomzarr_watch.engine.task import Task
from dicomzarr_watch.errors import RetryError
from dicomzarr_watch.intake.bundles import Bundles
from dicomzarr_watch.ledger.jobs import Job, State, claimed, ended
from dicomzarr_watch.ledger.requests import granted, wished_retries
from dicomzarr_watch.ledger.rows import FileRow
from dicomzarr_watch.ledger.store import Ledger
from dicomzarr_watch.operate.logs import Event, Log
from dicomzarr_watch.outcome import UNPACKED, Ended, Outcome, of_error

AWAY_LOOK_S: Final = 1.0
"""How often it is looked whether an output that is away is back."""


@dataclass(frozen=True, slots=True)
class _Attempt:
    """A job under way, the files that it was given, what is to be done and what that needs."""

    job: Job
    files: tuple[FileRow, ...]
    task: Task
    need: Need


@dataclass(frozen=True, slots=True)
class _Due:
    """What can start; what there is no room for, and why; and jobs whose files are other ones."""

    fit: list[_Attempt]
    large: list[tuple[_Attempt, RetryError]]
    outdated: list[Job]


class Working:
    """The jobs: those queued in the ledger, and those under way."""

    def __init__(
        self,
        settings: Settings,
        log: Log,
        ledger: Ledger,
        engine: LocalEngine,
        watching: Watching,
        *,
        bundles: Bundles,
        clearing: Clearing,
    ) -> None:
        self._settings = settings
        self._log = log
        self._ledger = ledger
        self._engine = engine
        self._watching = watching
        self._bundles = bundles
        self._clearing = clearing
        self._is_jobs_turn = False
        self._is_deaf = False
        self._was_away = False
        self._running: dict[int, _Attempt] = {}
        self._pause = Pause(settings, log)
        self._room = Room(settings)
        for job in ledger.lost:
            if job.state is State.REJECTED:
                self._log.error(Event.JOB_REJECTED, **job_fields(job), code=job.code)

    @property
    def running(self) -> int:
        """How many jobs are under way."""
        return len(self._running)

    @property
    def is_busy(self) -> bool:
        """Whether the engine is at work, be it on a job or on originals to clear."""
        return bool(self._running) or self._clearing.is_under_way

    @property
    def is_over(self) -> bool:
        """Whether no job is under way, and none waits that has not failed often enough."""
        most = self._settings.max_attempts
        is_vain = self._pause.is_vain or not self._ledger.jobs.is_queued(most_tries=most)
        return is_vain and not self._running

    @property
    def is_away(self) -> bool:
        """Whether the output is away, so that nothing may be written there."""
        return self._pause.is_away

    @property
    def due_in_s(self) -> float:
        """When the next job that waits is due, in seconds from now."""
        now = time.time()
        if self._pause.is_away:
            return AWAY_LOOK_S
        if self._clearing.is_ready and self._engine.capacity:
            return 0.0
        if self._pause.is_on:
            return self._pause.due_in_s(now) if not self._running else float("inf")
        return self._ledger.jobs.next_due_at(now) - now

    def go_on(self) -> set[str]:
        """Take in what has ended and start what is due; return the drops of what has ended.

        What is written is on disk before a job starts, at one go for all.
        """
        self._engine.tend(is_expecting=self._watching.arriving > 0)
        with self._ledger.together():
            drops = self.take_in()
            self._begin_clearing_anew_if_back()
            self._grant_retries()
            self._watching.offer()
            capacity = 0 if self._pause.is_away else self._engine.capacity
            attempts, clearance = self._claimed_in_turn(capacity)
            self._pause.review(self._is_queued)
        for attempt in attempts:
            self._start(attempt)
        if clearance is not None:
            self._engine.submit(CLEARING, clearance)
        return drops

    def _begin_clearing_anew_if_back(self) -> None:
        """Have originals tried again that stayed because the output was away with their archive."""
        self._was_away |= self._pause.is_away
        if self._was_away and not (self._pause.is_away or self._clearing.is_under_way):
            self._clearing.begin()
            self._was_away = False

    def _claimed_in_turn(self, capacity: int) -> tuple[list[_Attempt], Task | None]:
        """Claim jobs and originals to clear; where only one can start, in turn."""
        if self._is_jobs_turn:
            attempts = self._claimed(capacity)
            clearance = self._clearing.claimed() if capacity > len(attempts) else None
        else:
            clearance = self._clearing.claimed() if capacity else None
            attempts = self._claimed(capacity - (clearance is not None))
        self._is_jobs_turn = clearance is not None or (self._is_jobs_turn and not attempts)
        return attempts, clearance

    def give_back(self) -> None:
        """End what is under way at once, to be done after the next start.

        What came to an end by itself just before is taken in.
        """
        self._engine.close()
        with self._ledger.together():
            self.take_in(is_ending=True)
            for attempt in self._running.values():
                self._ledger.jobs.give_back(attempt.job)

    def take_in(self, *, is_ending: bool = False) -> set[str]:
        """Look at the output, record and say how jobs ended there; return their drops.

        is_ending: whether the engine was closed, so that children were ended whose fault it is not.
        """
        drops = set()
        found = self._engine.results()
        self._pause.look()
        for number, said in found:
            if is_ending and said.ended is Ended.CRASHED:
                continue
            if number == CLEARING:
                self._clearing.take_in(said)
                continue
            attempt = self._running.pop(number)
            outcome = self._pause.judged(said)
            after = ended(attempt.job, outcome, time.time(), patience(self._settings))
            self._ledger.conclude(after, ((f.path, f.identity) for f in attempt.files))
            self._say(after, outcome)
            if after.code == UNPACKED:
                self._watching.note_unpacked(attempt.files[0].path)
            drops.add(after.drop)
        return drops

    def _grant_retries(self) -> None:
        """Queue what somebody wants to be tried again; say once if it is not to be known."""
        try:
            for number in wished_retries(self._settings.state):
                granted(self._settings.state, number)
                self._grant_retry(number)
        except OSError as error:
            if not self._is_deaf:
                self._say_deaf(error)
            self._is_deaf = True
        else:
            self._is_deaf = False

    def _grant_retry(self, number: int) -> None:
        job = self._ledger.jobs.get(number)
        if job is not None and job.state is State.REJECTED:
            job = self._ledger.jobs.retry(job)
            self._log.info(Event.JOB_QUEUED, **job_fields(job), files=job.files)

    def _say_deaf(self, error: OSError) -> None:
        found = error.strerror or "an error"
        todo = "let this user list and write requests in the state folder; retry is not heard"
        self._log.warning(Event.CHECK_FAILED, code="requests", found=found, todo=todo)

    def _claimed(self, capacity: int) -> list[_Attempt]:
        """Claim what is due; one job alone while it is to be seen whether the output is back."""
        now = time.time()
        if self._pause.is_on:
            is_tried = not self._running and not self._pause.due_in_s(now)
            capacity = min(capacity, 1) if is_tried else 0
        if not self._watching.is_there or not capacity:
            return []
        due = self._due(now, capacity)
        for job in due.outdated:
            self._ledger.jobs.withdraw(job)
            self._log.info(Event.JOB_WITHDRAWN, **job_fields(job), code=FILES_CHANGED)
        for attempt, lack in due.large:
            self._put_off(attempt.job, of_error(lack))
        return [replace(one, job=self._ledger.jobs.claim(one.job)) for one in due.fit]

    def _due(self, now: float, capacity: int) -> _Due:
        """Return jobs that can start, up to `capacity`, and those found on the way that cannot.

        One job of a series runs at a time, as they write at the same place, and one of those that
        a daemon was lost over, to tell which of them it is. A job that would fit if others were not
        under way ends the search: it keeps its turn.
        """
        found = _Due([], [], [])
        under_way = [*self._running.values()]
        busy = {key_of(attempt.job) for attempt in under_way}
        is_doubtful = any(attempt.job.losses for attempt in under_way)
        with closing(self._ledger.jobs.due(now, self._settings.retry_max_s)) as due:
            for job in due:
                key = key_of(job)
                tally = self._watching.tally(key)
                if tally is None or tally.fingerprint != job.fingerprint:
                    found.outdated.append(job)
                elif key in busy or self._clearing.is_of(job.drop):
                    continue  # others write there, or files that it is about may just be going
                elif self._watching.is_complete(key) and not (job.losses and is_doubtful):
                    attempt = self._attempt(job)
                    if lack := self._room.lack([attempt.need]):
                        found.large.append((attempt, lack))
                        continue
                    needs = [a.need for a in (*under_way, *found.fit, attempt)]
                    if self._room.lack(needs):
                        break
                    found.fit.append(attempt)
                    busy.add(key)
                    is_doubtful = is_doubtful or job.losses > 0
                if len(found.fit) == capacity:
                    break
        return found

    def _attempt(self, job: Job) -> _Attempt:
        """Return what becomes of a job that is queued if it starts now."""
        files = tuple(self._ledger.files.of_series(job.drop, job.series_uid))
        task = task_of(claimed(job), files, self._settings, self._bundles)
        carried_bytes = self._ledger.files.carried_bytes(job.drop, job.series_uid)
        return _Attempt(job, files, task, self._room.need(task, carried_bytes))

    def _put_off(self, job: Job, outcome: Outcome) -> None:
        """Have a job wait that there is no room for, as if it had failed as it began."""
        after = ended(claimed(job), outcome, time.time(), patience(self._settings))
        self._ledger.conclude(after, ())
        self._pause.put_off(job.id, outcome)

    def _is_queued(self, number: int) -> bool:
        job = self._ledger.jobs.get(number)
        return job is not None and job.state is State.QUEUED

    def _start(self, attempt: _Attempt) -> None:
        job = attempt.job
        self._log.info(Event.JOB_STARTED, **job_fields(job), attempt=job.attempts)
        self._running[job.id] = attempt
        self._engine.submit(job.id, attempt.task)

    def _say(self, job: Job, outcome: Outcome) -> None:
        fields = job_fields(job) | {"attempt": job.attempts}
        why = {"code": job.code, "told": outcome.told, **self._log.private(outcome.private)}
        if outcome.ended is Ended.DONE:
            if outcome.code != UNPACKED:  # which says nothing of the output
                self._pause.end()
            self._log.info(Event.JOB_DONE, **fields, code=job.code, **outcome.summary)
        elif outcome.ended is Ended.CHANGED:
            self._watching.disturb(key_of(job))
            self._log.info(Event.JOB_WITHDRAWN, **fields, **why)
        elif job.state is State.REJECTED:
            self._log.error(Event.JOB_REJECTED, **fields, **why, cause=outcome.code)
        elif self._pause.is_for(outcome):
            self._pause.begin(outcome, time.time())
        else:
            pause_s = round(max(0.0, job.due_at - time.time()), 1)
            self._log.warning(Event.JOB_RETRY, **fields, **why, pause_s=pause_s)
