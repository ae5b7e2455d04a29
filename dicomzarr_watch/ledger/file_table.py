"""The files of every drop, and the job that each went through last.

Every question is answered by an index: what is asked for again and again may not take longer the
more has been done.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from dicomzarr_watch.identity import Identity
from dicomzarr_watch.ledger.database import Database
from dicomzarr_watch.ledger.jobs import State
from dicomzarr_watch.ledger.rows import FileRow

_COLUMNS: Final = (
    "path, drop_name, size, mtime_ns, ctime_ns, inode, kind, series_uid, is_truncated,"
    " instance_number, job, gone_at, cleared"
)
_IDENTITY: Final = "(size, mtime_ns, ctime_ns, inode)"
_INSERT: Final = f"INTO files ({_COLUMNS}) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?)"
_RECORD: Final = (
    f"INSERT {_INSERT} ON CONFLICT (path) DO UPDATE SET"
    f" job = CASE WHEN {_IDENTITY} = (excluded.size, excluded.mtime_ns, excluded.ctime_ns,"
    " excluded.inode) THEN job END, size = excluded.size, mtime_ns = excluded.mtime_ns,"
    " ctime_ns = excluded.ctime_ns, inode = excluded.inode, kind = excluded.kind,"
    " series_uid = excluded.series_uid, is_truncated = excluded.is_truncated,"
    " instance_number = excluded.instance_number, gone_at = NULL, cleared = ''"
)
_FILES: Final = f"SELECT {_COLUMNS} FROM files"  # noqa: S608 - ours


class Files:
    """What is known of files; paths are in the inbox."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, path: str) -> FileRow | None:
        """Return one file."""
        row = self._database.ask(_FILES + " WHERE path = ?", os.fsencode(path)).fetchone()
        return _file(row) if row else None

    def of_drop(self, drop: str) -> Iterator[FileRow]:
        """Yield all files that a drop ever had."""
        query = _FILES + " WHERE drop_name = ? ORDER BY path"
        return map(_file, self._database.ask(query, os.fsencode(drop)))

    def of_series(self, drop: str, series_uid: str) -> Iterator[FileRow]:
        """Yield the files of a series that are in the inbox."""
        query = _FILES + (
            " WHERE drop_name = ? AND series_uid = ? AND kind IN ('dicom', 'archive')"
            " AND gone_at IS NULL ORDER BY path"
        )
        return map(_file, self._database.ask(query, os.fsencode(drop), series_uid))

    def archives(self) -> Iterator[FileRow]:
        """Yield the zip and tar files of the inbox."""
        query = _FILES + " WHERE kind = 'archive' AND gone_at IS NULL"
        return map(_file, self._database.ask(query))

    def present(self) -> Iterator[tuple[str, Identity, str, str, bool]]:
        """Yield path, identity, kind, series UID and whether truncated, of each file in the inbox.

        There may be a million of them, so they are no FileRows.
        """
        rows = self._database.ask(
            "SELECT path, size, mtime_ns, ctime_ns, inode, kind, series_uid, is_truncated"
            " FROM files WHERE gone_at IS NULL ORDER BY path"
        )
        for path, size, mtime_ns, ctime_ns, inode, kind, uid, is_truncated in rows:
            identity = Identity(size, mtime_ns, ctime_ns, inode)
            yield os.fsdecode(path), identity, kind, uid, bool(is_truncated)

    def instance_numbers(self, drop: str, series_uid: str) -> Iterator[int]:
        """Yield the instance numbers of the files of a series that are in the inbox."""
        found = (row.instance_number for row in self.of_series(drop, series_uid))
        return (number for number in found if number is not None)

    def carried_bytes(self, drop: str, series_uid: str) -> int:
        """Return the sizes of the files of a series that went through a job and are gone since."""
        query = (
            "SELECT coalesce(sum(size), 0) FROM files WHERE drop_name = ? AND series_uid = ?"
            " AND gone_at IS NOT NULL AND job IS NOT NULL"
        )
        found: int = self._database.one(query, os.fsencode(drop), series_uid)
        return found

    def archived_drops(self) -> set[str]:
        """Return the drops with files in the inbox that are archived or unpacked."""
        query = (
            "SELECT DISTINCT drop_name FROM files WHERE gone_at IS NULL"
            " AND job IN (SELECT id FROM jobs WHERE state = ?)"
        )
        return {os.fsdecode(drop) for (drop,) in self._database.ask(query, State.DONE)}

    def has_archived(self, drop: str) -> bool:
        """Tell whether files of a drop are in the inbox that are archived or unpacked."""
        query = (
            "SELECT EXISTS (SELECT 1 FROM files WHERE drop_name = ? AND gone_at IS NULL"
            " AND job IN (SELECT id FROM jobs WHERE drop_name = ? AND state = ?))"
        )
        return bool(self._database.one(query, os.fsencode(drop), os.fsencode(drop), State.DONE))

    def is_archived(self, drop: str, series_uid: str) -> bool:
        """Tell whether every file of a series that is in the inbox went through a job well."""
        query = (
            "SELECT EXISTS (SELECT 1 FROM files LEFT JOIN jobs ON jobs.id = files.job"
            " WHERE files.drop_name = ? AND files.series_uid = ? AND kind IN ('dicom', 'archive')"
            " AND gone_at IS NULL AND jobs.state IS NOT ?)"
        )
        return not self._database.one(query, os.fsencode(drop), series_uid, State.DONE)

    def has_rejected(self) -> bool:
        """Tell whether a file that is in the inbox was rejected."""
        query = (
            "SELECT EXISTS (SELECT 1 FROM files WHERE gone_at IS NULL AND (kind = 'unreadable' OR"
            " kind IN ('dicom', 'archive') AND job IN (SELECT id FROM jobs WHERE state = ?)))"
        )
        return bool(self._database.one(query, State.REJECTED))

    def record(self, changed: Iterable[FileRow], gone: Iterable[str], now: float) -> None:
        """Take in files as they are seen, and which are no longer there.

        A file that comes back in the state it was in is still the one that went through its job.
        """
        self._database.tell_each(_RECORD, ((*_seen(row), None, None, "") for row in changed))
        self._database.tell_each(
            "UPDATE files SET gone_at = ? WHERE path = ? AND gone_at IS NULL",
            ((now, os.fsencode(path)) for path in gone),
        )

    def remember(self, rows: Iterable[FileRow], numbers: Mapping[int, int]) -> None:
        """Take in files as they were known elsewhere; numbers: what their jobs are called here."""
        self._database.tell_each(
            f"INSERT OR IGNORE {_INSERT}",
            ((*_seen(f), numbers.get(f.job or 0), f.gone_at, f.cleared) for f in rows),
        )

    def note_job(self, number: int, files: Iterable[tuple[str, Identity]]) -> None:
        """Take in that files went through a job, if they still are in these states."""
        marked = f"UPDATE files SET job = ? WHERE path = ? AND {_IDENTITY} = (?,?,?,?)"  # noqa: S608 - ours
        values = ((number, os.fsencode(path), *of) for path, of in files)
        self._database.tell_each(marked, values)

    def note_clearing(self, paths: Iterable[str], how: str) -> None:
        """Take in that files are about to be taken away, or empty that they are not."""
        self._database.tell_each(
            "UPDATE files SET cleared = ? WHERE path = ?",
            ((how, os.fsencode(path)) for path in paths),
        )


def _seen(row: FileRow) -> tuple[Any, ...]:
    """Return the columns of a file as it is seen."""
    return (
        os.fsencode(row.path),
        os.fsencode(row.drop),
        *row.identity,
        row.kind,
        row.series_uid,
        row.is_truncated,
        row.instance_number,
    )


def _file(row: tuple[Any, ...]) -> FileRow:
    """Return the file of a row of all columns."""
    path, drop, size, mtime_ns, ctime_ns, inode, kind, uid, is_truncated, number, *rest = row
    identity = Identity(size, mtime_ns, ctime_ns, inode)
    names = os.fsdecode(path), os.fsdecode(drop)
    return FileRow(*names, identity, kind, uid, bool(is_truncated), number, *rest)
