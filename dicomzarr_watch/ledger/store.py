"""The ledger in SQLite: WAL, synchronous=FULL, one writer by an exclusive lock.

Every question is answered by an index: what is asked for again and again may not take longer the
more has been done.
"""

from __future__ import annotations

import math
import os
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from dicomzarr_watch import lockfile, private
from dicomzarr_watch.errors import StopError
from dicomzarr_watch.identity import Identity, Stamp
from dicomzarr_watch.ledger import schema
from dicomzarr_watch.ledger.damage import LEDGER, damage, damage_told, damaged, gone, set_aside
from dicomzarr_watch.ledger.jobs import (
    ACTIVE,
    Job,
    State,
    Step,
    claimed,
    given_back,
    lost,
    next_turn,
    renewed,
    step,
)
from dicomzarr_watch.ledger.rows import (
    ArrivingRow,
    FileRow,
    arriving_row,
    file_row,
    file_values,
    job_row,
    job_values,
)

LOCK_PATIENCE_S: Final = 0.3
_FILE_COLUMNS: Final = (
    "path, drop_name, size, mtime_ns, ctime_ns, inode, kind, series_uid, is_truncated,"
    " instance_number, job, gone_at, cleared"
)
_IDENTITY: Final = "(size, mtime_ns, ctime_ns, inode)"
_RECORD: Final = (
    f"INSERT INTO files ({_FILE_COLUMNS}) VALUES (?,?,?,?,?,?,?,?,?,?,NULL,NULL,'')"  # noqa: S608 - ours
    " ON CONFLICT (path) DO UPDATE SET"
    f" job = CASE WHEN {_IDENTITY} = (excluded.size, excluded.mtime_ns, excluded.ctime_ns,"
    " excluded.inode) THEN job END, size = excluded.size, mtime_ns = excluded.mtime_ns,"
    " ctime_ns = excluded.ctime_ns, inode = excluded.inode, kind = excluded.kind,"
    " series_uid = excluded.series_uid, is_truncated = excluded.is_truncated,"
    " instance_number = excluded.instance_number, gone_at = NULL, cleared = ''"
)
_FILES: Final = f"SELECT {_FILE_COLUMNS} FROM files"  # noqa: S608 - ours
_JOBS: Final = (
    "SELECT id, drop_name, series_uid, fingerprint, files, bytes, state, attempts, tries, due_at,"
    " code, folder, revision, losses, turn FROM jobs"
)
_REJECTED: Final = (
    "SELECT EXISTS (SELECT 1 FROM files WHERE gone_at IS NULL AND (kind = 'unreadable' OR"
    " kind IN ('dicom', 'archive') AND job IN (SELECT id FROM jobs WHERE state = ?)))"
)

Remembered = tuple[list[Job], list[FileRow]]
"""What is known of one drop from elsewhere."""


class Ledger:
    """The opened ledger.

    lost: what became of the jobs that were running as the last daemon was lost. unreported: the
    drops of which files or jobs have changed since they were last reported. damage: the code of
    what made the ledger that was there unusable and the name that it has now, if it was.
    rebuilt: of a new one, how many drops, jobs and files it knows from elsewhere.
    """

    def __init__(self, connection: sqlite3.Connection, path: Path, lock: int | None) -> None:
        """Use `Ledger.own` or `Ledger.read`."""
        self.lost: tuple[Job, ...] = ()
        self.unreported: set[str] = set()
        self.damage: tuple[str, str] | None = None
        self.rebuilt: dict[str, int] = {}
        self._reported: set[str] = set()
        self._turn = 0
        self._connection = connection
        self._lock = lock
        self._path = path
        self._state = path.stat()

    @classmethod
    def own(cls, state: Path, remember: Callable[[], Iterable[Remembered]] = lambda: ()) -> Ledger:
        """Open the ledger of a state folder for writing, as the only one.

        One that cannot be used is set aside. remember: gives what is known from elsewhere, to be
        taken in by a ledger that is new; all of it or nothing.

        Jobs that were running are queued again, or given up. Raises StopError if another daemon
        has it.
        """
        private.make_folder(state)
        with ExitStack() as undo:
            lock = _locked(state / "lock")
            undo.callback(os.close, lock)
            path = state / LEDGER
            code = damage(path)
            aside = set_aside(path, _mark()) if code else None
            private.make_file(path)  # what SQLite makes beside it is like it
            connection = sqlite3.connect(path, isolation_level=None)
            undo.callback(connection.close)
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")
            ledger = cls(connection, path, lock)
            ledger.damage = (code, aside.name) if aside else None
            schema.prepare(connection, lambda: ledger._remember(remember()))
            ledger._begin_anew()
            undo.pop_all()
        return ledger

    @classmethod
    def read(cls, state: Path) -> Ledger:
        """Open the ledger for looking only; raises StopError if there is none."""
        path = state / LEDGER
        none = StopError(
            "no-ledger", expected="a state folder of a daemon", found="none", private=str(path)
        )
        if not path.exists():
            raise none
        with ExitStack() as undo:
            connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
            undo.callback(connection.close)
            ledger = cls(connection, path, None)
            try:
                found = schema.version(connection)
            except sqlite3.DatabaseError as error:
                if damage_told(error):
                    raise damaged() from error
                raise
            if not found:
                raise none  # a daemon was ended as it began
            if found != schema.SCHEMA_VERSION:
                raise schema.wrong_version(found)
            undo.pop_all()
        return ledger

    def close(self) -> None:
        """Close the file and let the next daemon have it."""
        self._connection.close()
        if self._lock is not None:
            os.close(self._lock)

    @contextmanager
    def set_aside_if_damaged(self) -> Iterator[None]:
        """Have a ledger that shows to be damaged within this block made anew by the next start.

        What showed it, a check at that start need not find. Raises StopError then.
        """
        try:
            yield
        except sqlite3.DatabaseError as error:
            if not damage_told(error):
                raise
            self._connection.close()
            raise damaged(set_aside(self._path, _mark())) from error

    @contextmanager
    def together(self) -> Iterator[None]:
        """Write all that is told within this block at once, with one wait for the disk.

        Raises StopError if the file is not there any more: nobody would find what is written.
        """
        if self._connection.in_transaction:
            yield
            return
        if not self._is_there:
            raise gone()
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._forget_reported()
        except BaseException:
            self._connection.rollback()  # of what a disk that fails has left of it
            raise
        self._connection.execute("COMMIT")

    @property
    def _is_there(self) -> bool:
        try:
            return os.path.samestat(self._path.stat(), self._state)
        except FileNotFoundError:
            return False

    # --- files ---

    def files(self, drop: str | None = None, series_uid: str | None = None) -> Iterator[FileRow]:
        """Yield the files of the inbox, or all that one drop ever had, or those of one series.

        Of a series only those that are in the inbox.
        """
        if drop is None:
            rows = self._connection.execute(_FILES + " WHERE gone_at IS NULL ORDER BY path")
        elif series_uid is None:
            of_drop = _FILES + " WHERE drop_name = ? ORDER BY path"
            rows = self._connection.execute(of_drop, (os.fsencode(drop),))
        else:
            of_series = _FILES + (
                " WHERE drop_name = ? AND series_uid = ? AND kind IN ('dicom', 'archive')"
                " AND gone_at IS NULL"
                " ORDER BY path"
            )
            rows = self._connection.execute(of_series, (os.fsencode(drop), series_uid))
        return map(file_row, rows)

    def present(self) -> Iterator[tuple[str, Stamp, str, str, bool]]:
        """Yield of each file in the inbox path, stamp, kind, series UID, whether it is truncated.

        There may be a million of them, so they are no FileRows.
        """
        rows = self._connection.execute(
            "SELECT path, size, mtime_ns, ctime_ns, inode, kind, series_uid, is_truncated"
            " FROM files WHERE gone_at IS NULL ORDER BY path"
        )
        for path, size, mtime_ns, ctime_ns, inode, kind, uid, is_truncated in rows:
            stamp = (size, mtime_ns, ctime_ns, inode)
            yield os.fsdecode(path), stamp, kind, uid, bool(is_truncated)

    def instance_numbers(self, drop: str, series_uid: str) -> Iterator[int]:
        """Yield the instance numbers of the files of a series that are in the inbox."""
        found = (row.instance_number for row in self.files(drop, series_uid))
        return (number for number in found if number is not None)

    def carried_bytes(self, drop: str, series_uid: str) -> int:
        """Return the sizes of the files of a series that went through a job and are gone since."""
        query = (
            "SELECT coalesce(sum(size), 0) FROM files WHERE drop_name = ? AND series_uid = ?"
            " AND gone_at IS NOT NULL AND job IS NOT NULL"
        )
        found: int = self._one(query, os.fsencode(drop), series_uid)
        return found

    def archives(self) -> Iterator[FileRow]:
        """Yield the zip and tar files of the inbox."""
        query = _FILES + " WHERE kind = 'archive' AND gone_at IS NULL"
        return map(file_row, self._connection.execute(query))

    def file(self, path: str) -> FileRow | None:
        """Return one file by its path in the inbox."""
        row = self._connection.execute(_FILES + " WHERE path = ?", (os.fsencode(path),)).fetchone()
        return file_row(row) if row else None

    def record(
        self,
        changed: Iterable[FileRow],
        gone: Iterable[tuple[str, str]] = (),
        *,
        now: float = 0.0,
    ) -> None:
        """Take in new or changed files, and say by path and drop which are no longer there.

        A file that comes back in the state it was in is still the one that went through its job.
        """
        rows, gone = list(changed), list(gone)
        with self.together():
            self._connection.executemany(_RECORD, map(file_values, rows))
            self._connection.executemany(
                "UPDATE files SET gone_at = ? WHERE path = ? AND gone_at IS NULL",
                ((now, os.fsencode(path)) for path, _ in gone),
            )
            self._owe({*(row.drop for row in rows), *(drop for _, drop in gone)})

    def note_clearing(self, paths: Iterable[str], how: str) -> None:
        """Take in that files are about to be taken away, or empty that they are not."""
        with self.together():
            self._connection.executemany(
                "UPDATE files SET cleared = ? WHERE path = ?",
                ((how, os.fsencode(path)) for path in paths),
            )

    def archived_drops(self) -> set[str]:
        """Return the drops with files in the inbox that are archived or unpacked."""
        found = self._connection.execute(
            "SELECT DISTINCT drop_name FROM files WHERE gone_at IS NULL"
            " AND job IN (SELECT id FROM jobs WHERE state = ?)",
            (State.DONE,),
        )
        return {os.fsdecode(drop) for (drop,) in found}

    def has_archived(self, drop: str) -> bool:
        """Tell whether files of a drop are in the inbox that are archived or unpacked."""
        query = (
            "SELECT EXISTS (SELECT 1 FROM files WHERE drop_name = ? AND gone_at IS NULL"
            " AND job IN (SELECT id FROM jobs WHERE drop_name = ? AND state = ?))"
        )
        return bool(self._one(query, os.fsencode(drop), os.fsencode(drop), State.DONE))

    def is_archived(self, drop: str, series_uid: str) -> bool:
        """Tell whether every file of a series that is in the inbox went through a job well."""
        return not self._one(
            "SELECT EXISTS (SELECT 1 FROM files LEFT JOIN jobs ON jobs.id = files.job"
            " WHERE files.drop_name = ? AND files.series_uid = ? AND kind IN ('dicom', 'archive')"
            " AND gone_at IS NULL AND jobs.state IS NOT ?)",
            os.fsencode(drop),
            series_uid,
            State.DONE,
        )

    def has_rejected(self) -> bool:
        """Tell whether a file that is in the inbox was rejected."""
        return bool(self._one(_REJECTED, State.REJECTED))

    # --- jobs ---

    def offer(
        self, drop: str, series_uid: str, fingerprint: str, files: int, size: int
    ) -> Job | None:
        """Queue a complete series, unless this very set was offered before.

        A queued job of another set of the same series is withdrawn for it. Returns the job that
        has the set now, or None while another set of the series is running.
        """
        of_series = self.jobs(drop=drop, series_uid=series_uid)
        same = next((j for j in of_series if j.fingerprint == fingerprint), None)
        if same is not None and same.state is not State.WITHDRAWN:
            return same
        if any(j.state is State.RUNNING for j in of_series):
            return None
        with self.together():
            for other in of_series:
                if other.state is State.QUEUED:
                    self._update(step(other, Step.WITHDRAW))
            turn = self._next_turn(drop)
            if same is not None:
                return self._update(replace(step(same, Step.RETRY), turn=turn))
            job = Job(0, drop, series_uid, fingerprint, files, size, turn=turn)
            return replace(job, id=self._insert(job))

    def jobs(
        self,
        state: State | None = None,
        *,
        drop: str | None = None,
        series_uid: str | None = None,
    ) -> list[Job]:
        """Return jobs, oldest first."""
        asked = {
            "state = ?": state,
            "drop_name = ?": os.fsencode(drop) if drop is not None else None,
            "series_uid = ?": series_uid,
        }
        given = {k: v for k, v in asked.items() if v is not None}
        where = " WHERE " + " AND ".join(given) if given else ""
        rows = self._connection.execute(_JOBS + where + " ORDER BY id", tuple(given.values()))
        return [job_row(row) for row in rows]

    def job(self, number: int) -> Job | None:
        """Return one job."""
        row = self._connection.execute(_JOBS + " WHERE id = ?", (number,)).fetchone()
        return job_row(row) if row else None

    def due(self, now: float) -> Generator[Job, None, None]:
        """Yield queued jobs that are due, those that never failed first; drops take turns.

        To be closed before anything is told to the ledger.
        """
        due = _JOBS + " WHERE state = ? AND due_at <= ? ORDER BY due_at, turn, id"
        rows = self._connection.execute(due, (State.QUEUED, now))
        try:
            yield from map(job_row, rows)
        finally:
            rows.close()

    def next_due_at(self, now: float) -> float:
        """Return when the next queued job is due that is not yet; infinity without one."""
        query = "SELECT min(due_at) FROM jobs WHERE state = ? AND due_at > ?"
        found: float | None = self._one(query, State.QUEUED, now)
        return float("inf") if found is None else found

    def claim(self, job: Job) -> Job:
        """Record that an attempt at a queued job begins, before it does."""
        self._turn = max(self._turn, job.turn)
        return self._changed(claimed(job))

    def give_back(self, job: Job) -> Job:
        """Record that an attempt was ended in good order before it was over."""
        return self._changed(given_back(job))

    def retry(self, job: Job) -> Job:
        """Queue a job again that is over, as if it had never been tried."""
        return self._changed(replace(renewed(job), turn=self._next_turn(job.drop)))

    def withdraw(self, job: Job) -> Job:
        """Take a queued job back; its files are not what they were."""
        return self._changed(step(job, Step.WITHDRAW))

    def settle(self, job: Job, files: Iterable[tuple[str, Identity]]) -> Job:
        """Record how a job ended, and that files in these states went through it."""
        marked = f"UPDATE files SET job = ? WHERE path = ? AND {_IDENTITY} = (?,?,?,?)"  # noqa: S608
        with self.together():
            self._update(job)
            self._connection.executemany(
                marked, ((job.id, os.fsencode(path), *of.stamp) for path, of in files)
            )
            self._owe([job.drop])
        return job

    def counts(self) -> dict[State, int]:
        """Count jobs by state."""
        query = "SELECT state, count(*) FROM jobs GROUP BY state"
        found = {State(state): count for state, count in self._connection.execute(query)}
        return {state: found.get(state, 0) for state in State}

    def is_active(self, drop: str) -> bool:
        """Tell whether jobs of a drop are queued or running."""
        query = "SELECT EXISTS (SELECT 1 FROM jobs WHERE drop_name = ? AND state IN (?,?))"
        return bool(self._one(query, os.fsencode(drop), *ACTIVE))

    def is_queued(self, *, most_tries: float = math.inf) -> bool:
        """Tell whether jobs are queued that the surroundings have failed less often than that."""
        query = "SELECT EXISTS (SELECT 1 FROM jobs WHERE state = ? AND tries < ?)"
        return bool(self._one(query, State.QUEUED, most_tries))

    # --- what is arriving, and what is to be reported ---

    def note_arriving(self, rows: Iterable[ArrivingRow]) -> None:
        """Take in how it stands with series that arrive or are waited for no more."""
        values = [(os.fsencode(r.drop), r.series_uid, r.waits_for, r.files) for r in rows]
        with self.together():
            self._connection.executemany(
                "INSERT OR REPLACE INTO arriving VALUES (?,?,?,?)", (v for v in values if v[2])
            )
            self._connection.executemany(
                "DELETE FROM arriving WHERE drop_name = ? AND series_uid = ?",
                (v[:2] for v in values if not v[2]),
            )

    def arriving(self) -> tuple[ArrivingRow, ...]:
        """Return the series that are not complete yet."""
        found = self._connection.execute("SELECT * FROM arriving ORDER BY drop_name, series_uid")
        return tuple(map(arriving_row, found))

    def note_reported(self, drop: str) -> None:
        """Take in that a drop has been reported as it is; on disk when the next is told."""
        self.unreported.discard(drop)
        self._reported.add(drop)

    # --- inside ---

    def _remember(self, drops: Iterable[Remembered]) -> None:
        counts: Counter[str] = Counter()
        for jobs, files in drops:
            numbers = {job.id: self._insert(job) for job in jobs}
            rows = [(*file_values(f), numbers.get(f.job or 0), f.gone_at, f.cleared) for f in files]
            self._connection.executemany(
                f"INSERT OR IGNORE INTO files ({_FILE_COLUMNS})"  # noqa: S608 - ours
                " VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?)",
                rows,
            )
            counts.update(drops=1, jobs=len(jobs), files=len(rows))
        self.rebuilt = dict(counts)

    def _insert(self, job: Job) -> int:
        """Take in a job under its number, if that is free."""
        number = None if job.id < 1 or self.job(job.id) else job.id
        found = self._connection.execute(
            "INSERT INTO jobs (id, drop_name, series_uid, fingerprint, files, bytes, state,"
            " attempts, tries, due_at, code, folder, revision, losses, turn)"
            " VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
            (
                number,
                os.fsencode(job.drop),
                job.series_uid,
                job.fingerprint,
                job.files,
                job.bytes,
                *job_values(job),
            ),
        ).lastrowid
        return found or 0

    def _begin_anew(self) -> None:
        found = self._connection.execute("SELECT drop_name FROM unreported")
        self.unreported = {os.fsdecode(drop) for (drop,) in found}
        now = time.time()
        self._turn = self._one("SELECT min(turn) FROM jobs WHERE state = ?", State.QUEUED) or 0
        with self.together():
            self._connection.execute("DELETE FROM arriving")
            self.lost = tuple(lost(job, now) for job in self.jobs(State.RUNNING))
            for job in self.lost:
                files = list(self.files(job.drop, job.series_uid))
                is_over = job.state is State.REJECTED
                self.settle(job, ((f.path, f.identity) for f in files) if is_over else ())

    def _next_turn(self, drop: str) -> int:
        of_drop = "SELECT max(turn) FROM jobs WHERE drop_name = ? AND state = ?"
        found = (self._one(of_drop, os.fsencode(drop), state) for state in ACTIVE)
        last = max((turn for turn in found if turn is not None), default=None)
        return next_turn(self._turn, last)

    def _owe(self, drops: Iterable[str]) -> None:
        news = set(drops) - self.unreported
        self._connection.executemany(
            "INSERT OR IGNORE INTO unreported VALUES (?)", ((os.fsencode(drop),) for drop in news)
        )
        self.unreported |= news

    def _forget_reported(self) -> None:
        self._connection.executemany(
            "DELETE FROM unreported WHERE drop_name = ?",
            ((os.fsencode(drop),) for drop in self._reported - self.unreported),
        )
        self._reported.clear()

    def _one(self, query: str, *values: object) -> Any:
        return self._connection.execute(query, values).fetchone()[0]

    def _changed(self, job: Job) -> Job:
        with self.together():
            return self._update(job)

    def _update(self, job: Job) -> Job:
        self._connection.execute(
            "UPDATE jobs SET state=?, attempts=?, tries=?, due_at=?, code=?, folder=?, revision=?,"
            " losses=?, turn=? WHERE id=?",
            (*job_values(job), job.id),
        )
        return job


def is_owned(state: Path) -> bool:
    """Tell whether a daemon has the state folder now."""
    return lockfile.is_taken(state / "lock")


def _locked(path: Path) -> int:
    """Take the lock; somebody who only asks whether it is taken may have it for a moment."""
    descriptor = lockfile.take(path, patience_s=LOCK_PATIENCE_S)
    if descriptor is None:
        raise StopError(
            "state-in-use",
            expected="a state folder of its own for every daemon",
            found="another daemon that has this one",
            todo="stop the other daemon or set another state folder",
        )
    return descriptor


def _mark() -> str:
    return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
