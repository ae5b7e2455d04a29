"""What the ledger says of files and of series that arrive; the rows of its tables as values.

Paths are bytes in the file and `str` with surrogate escapes outside it, as `os.fsencode` has it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from dicomzarr_watch.identity import Identity
from dicomzarr_watch.ledger.jobs import Job, State


@dataclass(frozen=True, slots=True)
class FileRow:
    """One file of the inbox.

    job: the number of the job that it went through last, if any. gone_at: since when it is known
    to be there no more, in seconds since the epoch. cleared: how we took it away once it was
    archived, or are about to as long as it is there; empty if we do not.
    """

    path: str
    drop: str
    identity: Identity
    kind: str
    series_uid: str = ""
    is_truncated: bool = False
    instance_number: int | None = None
    job: int | None = None
    gone_at: float | None = None
    cleared: str = ""

    @property
    def is_present(self) -> bool:
        return self.gone_at is None


@dataclass(frozen=True, slots=True)
class ArrivingRow:
    """A series that is not complete yet; waits_for: empty if it is waited for no more."""

    drop: str
    series_uid: str
    waits_for: str
    files: int


def file_values(row: FileRow) -> tuple[Any, ...]:
    """Return the columns of a file as it is seen."""
    return (
        os.fsencode(row.path),
        os.fsencode(row.drop),
        *row.identity.stamp,
        row.kind,
        row.series_uid,
        row.is_truncated,
        row.instance_number,
    )


def file_row(row: tuple[Any, ...]) -> FileRow:
    """Return the file of a row of all columns."""
    path, drop, size, mtime_ns, ctime_ns, inode, kind, uid, is_truncated, number, *rest = row
    identity = Identity(size, mtime_ns, ctime_ns, inode)
    names = os.fsdecode(path), os.fsdecode(drop)
    return FileRow(*names, identity, kind, uid, bool(is_truncated), number, *rest)


def job_values(job: Job) -> tuple[Any, ...]:
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


def job_row(row: tuple[Any, ...]) -> Job:
    """Return the job of a row of all columns."""
    number, drop, series_uid, fingerprint, files, size, state, *rest = row
    return Job(number, os.fsdecode(drop), series_uid, fingerprint, files, size, State(state), *rest)


def arriving_row(row: tuple[Any, ...]) -> ArrivingRow:
    """Return the series of a row of all columns."""
    return ArrivingRow(os.fsdecode(row[0]), *row[1:])
