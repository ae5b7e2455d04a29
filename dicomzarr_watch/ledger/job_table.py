"""The jobs: offered, asked for, moved on by `jobs`, whose decisions are written down here.

Every question is answered by an index, as in `file_table`.
"""

from __future__ import annotations

import math
import os
from collections.abc import Generator
from dataclasses import replace
from typing import Any, Final

from dicomzarr_watch.ledger.database import Database
from dicomzarr_watch.ledger.jobs import (
    ACTIVE,
    Job,
    State,
    Step,
    claimed,
    given_back,
    next_turn,
    renewed,
    step,
)

_COLUMNS: Final = (
    "id, drop_name, series_uid, fingerprint, files, bytes, state, attempts, tries, due_at, code,"
    " folder, revision, losses, turn"
)
_JOBS: Final = f"SELECT {_COLUMNS} FROM jobs"  # noqa: S608 - ours
_INSERT: Final = (
    f"INSERT INTO jobs ({_COLUMNS})"  # noqa: S608 - ours
    " VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)"
)
_UPDATE: Final = (
    "UPDATE jobs SET state=?, attempts=?, tries=?, due_at=?, code=?, folder=?, revision=?,"
    " losses=?, turn=? WHERE id=?"
)


class Jobs:
    """What is known of jobs, and whose turn it is."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._turn = 0

    def begin(self) -> None:
        """Take up the turns where they were left."""
        query = "SELECT min(turn) FROM jobs WHERE state = ?"
        self._turn = self._database.one(query, State.QUEUED) or 0

    # --- questions ---

    def get(self, number: int) -> Job | None:
        """Return one job."""
        row = self._database.ask(_JOBS + " WHERE id = ?", number).fetchone()
        return _job(row) if row else None

    def select(
        self,
        state: State | None = None,
        *,
        drop: str | None = None,
        series_uid: str | None = None,
    ) -> list[Job]:
        """Return the jobs that are as is said, or all, oldest first."""
        asked = {
            "state = ?": state,
            "drop_name = ?": os.fsencode(drop) if drop is not None else None,
            "series_uid = ?": series_uid,
        }
        given = {k: v for k, v in asked.items() if v is not None}
        where = " WHERE " + " AND ".join(given) if given else ""
        rows = self._database.ask(_JOBS + where + " ORDER BY id", *given.values())
        return [_job(row) for row in rows]

    def due(self, now: float, longest_s: float = math.inf) -> Generator[Job, None, None]:
        """Yield queued jobs that are due, those that never failed first; drops take turns.

        longest_s: the longest pause; who would wait longer waits since the clock was set back.
        To be closed before anything is told to the ledger.
        """
        is_due = "NOT (due_at > ? AND due_at <= ?)"
        query = _JOBS + f" WHERE state = ? AND {is_due} ORDER BY due_at, turn, id"
        rows = self._database.ask(query, State.QUEUED, now, now + longest_s)
        try:
            yield from map(_job, rows)
        finally:
            rows.close()

    def next_due_at(self, now: float) -> float:
        """Return when the next queued job is due that is not yet; infinity without one."""
        query = "SELECT min(due_at) FROM jobs WHERE state = ? AND due_at > ?"
        found: float | None = self._database.one(query, State.QUEUED, now)
        return float("inf") if found is None else found

    def counts(self) -> dict[State, int]:
        """Count jobs by state."""
        query = "SELECT state, count(*) FROM jobs GROUP BY state"
        found = {State(state): count for state, count in self._database.ask(query)}
        return {state: found.get(state, 0) for state in State}

    def is_active(self, drop: str) -> bool:
        """Tell whether jobs of a drop are queued or running."""
        query = "SELECT EXISTS (SELECT 1 FROM jobs WHERE drop_name = ? AND state IN (?,?))"
        return bool(self._database.one(query, os.fsencode(drop), *ACTIVE))

    def is_queued(self, *, most_tries: float = math.inf) -> bool:
        """Tell whether jobs are queued that the surroundings have failed less often than that."""
        query = "SELECT EXISTS (SELECT 1 FROM jobs WHERE state = ? AND tries < ?)"
        return bool(self._database.one(query, State.QUEUED, most_tries))

    # --- steps ---

    def offer(
        self, drop: str, series_uid: str, fingerprint: str, files: int, size: int
    ) -> Job | None:
        """Queue a complete series, unless this very set was offered before.

        A queued job of another set of the same series is withdrawn for it. Returns the job that
        has the set now, or None while another set of the series is running.
        """
        of_series = self.select(drop=drop, series_uid=series_uid)
        same = next((j for j in of_series if j.fingerprint == fingerprint), None)
        if same is not None and same.state is not State.WITHDRAWN:
            return same
        if any(j.state is State.RUNNING for j in of_series):
            return None
        with self._database.together():
            for other in of_series:
                if other.state is State.QUEUED:
                    self.withdraw(other)
            turn = self._next_turn(drop)
            if same is not None:
                return self.update(replace(step(same, Step.RETRY), turn=turn))
            return self.insert(Job(0, drop, series_uid, fingerprint, files, size, turn=turn))

    def claim(self, job: Job) -> Job:
        """Record that an attempt at a queued job begins, before it does."""
        self._turn = max(self._turn, job.turn)
        return self.update(claimed(job))

    def give_back(self, job: Job) -> Job:
        """Record that an attempt was ended in good order before it was over."""
        return self.update(given_back(job))

    def retry(self, job: Job) -> Job:
        """Queue a job again that is over, as if it had never been tried."""
        return self.update(replace(renewed(job), turn=self._next_turn(job.drop)))

    def withdraw(self, job: Job) -> Job:
        """Take a queued job back; its files are not what they were."""
        return self.update(step(job, Step.WITHDRAW))

    def update(self, job: Job) -> Job:
        """Write down what has become of a job."""
        self._database.tell(_UPDATE, *_changing(job), job.id)
        return job

    def insert(self, job: Job) -> Job:
        """Take in a job, under its number if that is free."""
        number = None if job.id < 1 or self.get(job.id) else job.id
        what = job.series_uid, job.fingerprint, job.files, job.bytes
        values = (number, os.fsencode(job.drop), *what, *_changing(job))
        return replace(job, id=self._database.tell(_INSERT, *values))

    def remember(self, job: Job) -> int:
        """Take in a job as it was known elsewhere, if it is not known; return its number here."""
        of_series = self.select(drop=job.drop, series_uid=job.series_uid)
        same = next((j for j in of_series if j.fingerprint == job.fingerprint), None)
        return (same or self.insert(job)).id

    def _next_turn(self, drop: str) -> int:
        of_drop = "SELECT max(turn) FROM jobs WHERE drop_name = ? AND state = ?"
        found = (self._database.one(of_drop, os.fsencode(drop), state) for state in ACTIVE)
        last = max((turn for turn in found if turn is not None), default=None)
        return next_turn(self._turn, last)


def _changing(job: Job) -> tuple[Any, ...]:
    """Return the columns of a job that change."""
    return (
        job.state,
        job.attempts,
        job.tries,
        job.due_at,
        job.code,
        job.folder,
        job.revision,
        job.losses,
        job.turn,
    )


def _job(row: tuple[Any, ...]) -> Job:
    """Return the job of a row of all columns."""
    number, drop, series_uid, fingerprint, files, size, state, *rest = row
    return Job(number, os.fsdecode(drop), series_uid, fingerprint, files, size, State(state), *rest)
