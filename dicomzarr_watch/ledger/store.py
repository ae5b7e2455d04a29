"""The ledger in SQLite: WAL, synchronous=FULL, one writer by an exclusive lock.

Paths are bytes in the file and `str` with surrogate escapes outside it, as `os.fsencode` has it.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from dicomzarr_watch import lockfile
from dicomzarr_watch.errors import StopError
from dicomzarr_watch.identity import Identity
from dicomzarr_watch.ledger.jobs import ACTIVE, Job, State, Step, claimed, recovered, step

SCHEMA_VERSION: Final = 1
LOCK_PATIENCE_S: Final = 0.3
_SCHEMA: Final = """
CREATE TABLE files (
    path BLOB PRIMARY KEY, drop_name BLOB NOT NULL,
    size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, ctime_ns INTEGER NOT NULL,
    inode INTEGER NOT NULL, kind TEXT NOT NULL, series_uid TEXT NOT NULL,
    sop_uid TEXT NOT NULL, transfer_syntax TEXT NOT NULL, is_truncated INTEGER NOT NULL,
    is_present INTEGER NOT NULL DEFAULT 1, job INTEGER
) WITHOUT ROWID;
CREATE INDEX files_by_drop ON files (drop_name);
CREATE TABLE jobs (
    id INTEGER PRIMARY KEY, drop_name BLOB NOT NULL, series_uid TEXT NOT NULL,
    fingerprint TEXT NOT NULL, files INTEGER NOT NULL, bytes INTEGER NOT NULL,
    state TEXT NOT NULL, attempts INTEGER NOT NULL, tries INTEGER NOT NULL, due_at REAL NOT NULL,
    code TEXT NOT NULL, folder TEXT NOT NULL, revision INTEGER NOT NULL,
    UNIQUE (drop_name, series_uid, fingerprint)
);
CREATE INDEX jobs_by_state ON jobs (state);
CREATE TABLE arriving (
    drop_name BLOB NOT NULL, series_uid TEXT NOT NULL, waits_for TEXT NOT NULL,
    files INTEGER NOT NULL, PRIMARY KEY (drop_name, series_uid)
) WITHOUT ROWID;
"""
_FILES: Final = (
    "SELECT path, drop_name, size, mtime_ns, ctime_ns, inode, kind, series_uid, sop_uid,"
    " transfer_syntax, is_truncated, job, is_present FROM files"
)
_JOBS: Final = (
    "SELECT id, drop_name, series_uid, fingerprint, files, bytes, state, attempts, tries, due_at,"
    " code, folder, revision FROM jobs"
)


@dataclass(frozen=True, slots=True)
class FileRow:
    """One file of the inbox; job: the number of the job that it went through last, if any."""

    path: str
    drop: str
    identity: Identity
    kind: str
    series_uid: str = ""
    sop_uid: str = ""
    transfer_syntax: str = ""
    is_truncated: bool = False
    job: int | None = None
    is_present: bool = True


@dataclass(frozen=True, slots=True)
class ArrivingRow:
    """A series that is not complete yet."""

    drop: str
    series_uid: str
    waits_for: str
    files: int


class Ledger:
    """The opened ledger."""

    def __init__(self, connection: sqlite3.Connection, lock: int | None) -> None:
        """Use `Ledger.own` or `Ledger.read`."""
        self._connection = connection
        self._lock = lock
        self._arriving: tuple[ArrivingRow, ...] | None = None

    @classmethod
    def own(cls, state: Path) -> Ledger:
        """Open the ledger of a state folder for writing, as the only one.

        Jobs that were running are queued again. Raises StopError if another daemon has it.
        """
        state.mkdir(parents=True, exist_ok=True, mode=0o700)
        with ExitStack() as undo:
            lock = _locked(state / "lock")
            undo.callback(os.close, lock)
            connection = sqlite3.connect(state / "ledger.sqlite", isolation_level=None)
            undo.callback(connection.close)
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")
            ledger = cls(connection, lock)
            ledger._create()
            with ledger._transaction():
                for job in ledger.jobs(State.RUNNING):
                    ledger._update(recovered(job))
            undo.pop_all()
        return ledger

    @classmethod
    def read(cls, state: Path) -> Ledger:
        """Open the ledger for looking only; raises StopError if there is none."""
        path = state / "ledger.sqlite"
        none = StopError(
            "no-ledger", expected="a state folder of a daemon", found="none", private=str(path)
        )
        if not path.exists():
            raise none
        with ExitStack() as undo:
            connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
            undo.callback(connection.close)
            ledger = cls(connection, None)
            if not ledger._is_made():
                raise none  # a daemon was ended as it began
            undo.pop_all()
        return ledger

    def close(self) -> None:
        """Close the file and let the next daemon have it."""
        self._connection.close()
        if self._lock is not None:
            os.close(self._lock)

    # --- files ---

    def files(self, drop: str | None = None) -> Iterator[FileRow]:
        """Yield the files of the inbox, or all that one drop ever had."""
        if drop is None:
            rows = self._connection.execute(_FILES + " WHERE is_present ORDER BY path")
        else:
            named = _FILES + " WHERE drop_name = ? ORDER BY path"
            rows = self._connection.execute(named, (os.fsencode(drop),))
        return map(_file, rows)

    def record(self, changed: Iterable[FileRow], gone: Iterable[str] = ()) -> None:
        """Take in new or changed files, and say which are no longer there.

        A file that comes back in the state it was in is still the one that went through its job.
        """
        with self._transaction():
            self._connection.executemany(
                "INSERT OR REPLACE INTO files VALUES (?,?,?,?,?,?,?,?,?,?,?,1, (SELECT job"
                " FROM files WHERE (path, size, mtime_ns, ctime_ns, inode) = (?,?,?,?,?)))",
                (
                    (
                        os.fsencode(f.path),
                        os.fsencode(f.drop),
                        *_numbers(f.identity),
                        f.kind,
                        f.series_uid,
                        f.sop_uid,
                        f.transfer_syntax,
                        f.is_truncated,
                        os.fsencode(f.path),
                        *_numbers(f.identity),
                    )
                    for f in changed
                ),
            )
            self._connection.executemany(
                "UPDATE files SET is_present = 0 WHERE path = ?",
                ((os.fsencode(path),) for path in gone),
            )

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
        with self._transaction():
            for other in of_series:
                if other.state is State.QUEUED:
                    self._update(step(other, Step.WITHDRAW))
            if same is not None:
                job = step(same, Step.RETRY)
                self._update(job)
                return job
            number = self._connection.execute(
                "INSERT INTO jobs VALUES (NULL,?,?,?,?,?,?,0,0,0,'','',0)",
                (os.fsencode(drop), series_uid, fingerprint, files, size, State.QUEUED),
            ).lastrowid
        return Job(number or 0, drop, series_uid, fingerprint, files, size)

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
        return [_job(row) for row in rows]

    def claim(self, job: Job) -> Job:
        """Record that an attempt at a queued job begins, before it does."""
        return self._changed(claimed(job))

    def withdraw(self, job: Job) -> Job:
        """Take a queued job back; its files are not what they were."""
        return self._changed(step(job, Step.WITHDRAW))

    def settle(self, job: Job, paths: Iterable[str]) -> Job:
        """Record how a job ended, and that these files went through it."""
        with self._transaction():
            self._update(job)
            self._connection.executemany(
                "UPDATE files SET job = ? WHERE path = ?",
                ((job.id, os.fsencode(path)) for path in paths),
            )
        return job

    def counts(self) -> dict[State, int]:
        """Count jobs by state."""
        query = "SELECT state, count(*) FROM jobs GROUP BY state"
        found = {State(state): count for state, count in self._connection.execute(query)}
        return {state: found.get(state, 0) for state in State}

    def active_drops(self) -> frozenset[str]:
        """Return the drops that have jobs queued or running."""
        query = "SELECT DISTINCT drop_name FROM jobs WHERE state IN (?, ?)"
        found = self._connection.execute(query, tuple(sorted(ACTIVE)))
        return frozenset(os.fsdecode(drop) for (drop,) in found)

    # --- what is arriving ---

    def note_arriving(self, rows: Iterable[ArrivingRow]) -> None:
        """Replace what is known of incomplete series, if it differs."""
        now = tuple(rows)
        if now == self._arriving:
            return
        with self._transaction():
            self._connection.execute("DELETE FROM arriving")
            self._connection.executemany(
                "INSERT INTO arriving VALUES (?,?,?,?)",
                ((os.fsencode(r.drop), r.series_uid, r.waits_for, r.files) for r in now),
            )
        self._arriving = now

    def arriving(self) -> tuple[ArrivingRow, ...]:
        """Return the series that are not complete yet."""
        found = self._connection.execute("SELECT * FROM arriving ORDER BY drop_name, series_uid")
        return tuple(ArrivingRow(os.fsdecode(row[0]), *row[1:]) for row in found)

    # --- inside ---

    def _is_made(self) -> bool:
        """Tell whether there are tables; raises StopError if they are another version's."""
        (found,) = self._connection.execute("PRAGMA user_version").fetchone()
        if found not in (0, SCHEMA_VERSION):
            raise StopError(
                "ledger-version",
                expected=f"schema version {SCHEMA_VERSION}",
                found=str(found),
                todo="use the version of dicomzarr-watch that wrote it, or another state folder",
            )
        return bool(found)

    def _create(self) -> None:
        if self._is_made():
            return
        script = f"BEGIN;{_SCHEMA}PRAGMA user_version = {SCHEMA_VERSION};COMMIT;"
        self._connection.executescript(script)

    def _changed(self, job: Job) -> Job:
        with self._transaction():
            self._update(job)
        return job

    def _update(self, job: Job) -> None:
        self._connection.execute(
            "UPDATE jobs SET state=?, attempts=?, tries=?, due_at=?, code=?, folder=?, revision=?"
            " WHERE id=?",
            (
                job.state,
                job.attempts,
                job.tries,
                job.due_at,
                job.code,
                job.folder,
                job.revision,
                job.id,
            ),
        )

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")


def _numbers(identity: Identity) -> tuple[int, int, int, int]:
    return identity.size, identity.mtime_ns, identity.ctime_ns, identity.inode


def _file(row: tuple[Any, ...]) -> FileRow:
    return FileRow(
        path=os.fsdecode(row[0]),
        drop=os.fsdecode(row[1]),
        identity=Identity(*row[2:6]),
        kind=row[6],
        series_uid=row[7],
        sop_uid=row[8],
        transfer_syntax=row[9],
        is_truncated=bool(row[10]),
        job=row[11],
        is_present=bool(row[12]),
    )


def _job(row: tuple[Any, ...]) -> Job:
    number, drop, series_uid, fingerprint, files, size, state, *rest = row
    return Job(number, os.fsdecode(drop), series_uid, fingerprint, files, size, State(state), *rest)


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
