"""The ledger: one SQLite file in WAL with synchronous=FULL, one writer by an exclusive lock.

What is known of files, jobs and drops stands in tables of their own. What is told of more than one
of them is told here, at once.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from dicomzarr_watch import lockfile, private
from dicomzarr_watch.errors import StopError
from dicomzarr_watch.identity import Identity
from dicomzarr_watch.ledger import requests, schema
from dicomzarr_watch.ledger.damage import LEDGER, damage, damage_told, damaged, set_aside
from dicomzarr_watch.ledger.database import Database
from dicomzarr_watch.ledger.drop_table import Drops
from dicomzarr_watch.ledger.file_table import Files
from dicomzarr_watch.ledger.job_table import Jobs
from dicomzarr_watch.ledger.jobs import Job, State, lost
from dicomzarr_watch.ledger.rows import FileRow

LOCK_PATIENCE_S: Final = 0.3

Remembered = tuple[list[Job], list[FileRow]]
"""What is known of one drop from elsewhere."""


class Ledger:
    """The opened ledger.

    together: writes all that is told within its block at once. lost: what became of the jobs that
    were running as the last daemon was lost. damage: the code of what made the ledger that was
    there unusable and the name that it has now, if it was. rebuilt: of a new one, how many drops,
    jobs and files it knows from elsewhere.
    """

    def __init__(self, connection: sqlite3.Connection, path: Path, lock: int | None) -> None:
        """Use `Ledger.own` or `Ledger.read`."""
        self._database = Database(connection, path)
        self._path = path
        self._lock = lock
        self.together = self._database.together
        self.files = Files(self._database)
        self.jobs = Jobs(self._database)
        self.drops = Drops(self._database)
        self.lost: tuple[Job, ...] = ()
        self.damage: tuple[str, str] | None = None
        self.rebuilt: dict[str, int] = {}

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
            requests.prepare(state)
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
            ledger = cls(connection, path, None)
            undo.pop_all()
        return ledger

    def close(self) -> None:
        """Close the file and let the next daemon have it."""
        self._database.close()
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
            self._database.close()
            raise damaged(set_aside(self._path, _mark())) from error

    def record(
        self,
        changed: Iterable[FileRow],
        gone: Iterable[tuple[str, str]] = (),
        *,
        now: float = 0.0,
    ) -> None:
        """Take in new or changed files, and say by path and drop which are no longer there."""
        rows, gone = list(changed), list(gone)
        with self.together():
            self.files.record(rows, (path for path, _ in gone), now)
            self.drops.owe({*(row.drop for row in rows), *(drop for _, drop in gone)})

    def conclude(self, job: Job, files: Iterable[tuple[str, Identity]]) -> Job:
        """Record how an attempt ended, and that files in these states went through its job."""
        with self.together():
            self.jobs.update(job)
            self.files.note_job(job.id, files)
            self.drops.owe([job.drop])
        return job

    def _remember(self, drops: Iterable[Remembered]) -> None:
        counts: Counter[str] = Counter()
        for jobs, files in drops:
            numbers = {job.id: self.jobs.remember(job) for job in jobs}
            self.files.remember(files, numbers)
            counts.update(drops=1, jobs=len(jobs), files=len(files))
        self.rebuilt = dict(counts)

    def _begin_anew(self) -> None:
        now = time.time()
        with self.together():
            self.drops.begin()
            self.jobs.begin()
            self.lost = tuple(lost(job, now) for job in self.jobs.select(State.RUNNING))
            for job in self.lost:
                files = self.files.of_series(job.drop, job.series_uid)
                is_over = job.state is State.REJECTED
                self.conclude(job, [(f.path, f.identity) for f in files] if is_over else ())


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
