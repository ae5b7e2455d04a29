"""The ledger's tables, and how those of earlier versions become them.

A file of an earlier version is taken over in one transaction: it is as it was or as it is to be.
Of versions before OLDEST nothing is known here; they are made anew like a damaged one.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Final

from dicomzarr_watch.errors import StopError

SCHEMA_VERSION: Final = 5
OLDEST: Final = 3
_TABLES: Final = """
CREATE TABLE files (
    path BLOB PRIMARY KEY, drop_name BLOB NOT NULL,
    size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, ctime_ns INTEGER NOT NULL,
    inode INTEGER NOT NULL, kind TEXT NOT NULL, series_uid TEXT NOT NULL,
    is_truncated INTEGER NOT NULL, instance_number INTEGER, job INTEGER,
    gone_at REAL, cleared TEXT NOT NULL DEFAULT ''
) WITHOUT ROWID;
CREATE INDEX files_by_series ON files (drop_name, series_uid);
CREATE TABLE jobs (
    id INTEGER PRIMARY KEY, drop_name BLOB NOT NULL, series_uid TEXT NOT NULL,
    fingerprint TEXT NOT NULL, files INTEGER NOT NULL, bytes INTEGER NOT NULL,
    state TEXT NOT NULL, attempts INTEGER NOT NULL, tries INTEGER NOT NULL, due_at REAL NOT NULL,
    code TEXT NOT NULL, folder TEXT NOT NULL, revision INTEGER NOT NULL, losses INTEGER NOT NULL,
    turn INTEGER NOT NULL DEFAULT 0,
    UNIQUE (drop_name, series_uid, fingerprint)
);
CREATE INDEX jobs_by_state ON jobs (state, due_at, turn);
CREATE INDEX jobs_by_drop ON jobs (drop_name, state, turn);
CREATE TABLE arriving (
    drop_name BLOB NOT NULL, series_uid TEXT NOT NULL, waits_for TEXT NOT NULL,
    files INTEGER NOT NULL, PRIMARY KEY (drop_name, series_uid)
) WITHOUT ROWID;
CREATE TABLE unreported (drop_name BLOB PRIMARY KEY) WITHOUT ROWID;
"""
_TAKEN_OVER: Final = {
    3: """
ALTER TABLE files RENAME TO files_3;
DROP INDEX files_by_series;
CREATE TABLE files (
    path BLOB PRIMARY KEY, drop_name BLOB NOT NULL,
    size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, ctime_ns INTEGER NOT NULL,
    inode INTEGER NOT NULL, kind TEXT NOT NULL, series_uid TEXT NOT NULL,
    is_truncated INTEGER NOT NULL, instance_number INTEGER, job INTEGER,
    gone_at REAL, cleared TEXT NOT NULL DEFAULT ''
) WITHOUT ROWID;
INSERT INTO files SELECT path, drop_name, size, mtime_ns, ctime_ns, inode, kind, series_uid,
    is_truncated, instance_number, job,
    CASE WHEN is_present THEN NULL ELSE strftime('%s', 'now') END, '' FROM files_3;
DROP TABLE files_3;
CREATE INDEX files_by_series ON files (drop_name, series_uid);
""",
    4: """
ALTER TABLE jobs ADD COLUMN turn INTEGER NOT NULL DEFAULT 0;
DROP INDEX jobs_by_state;
DROP INDEX jobs_by_drop;
CREATE INDEX jobs_by_state ON jobs (state, due_at, turn);
CREATE INDEX jobs_by_drop ON jobs (drop_name, state, turn);
""",
}
"""Of a version the way to the next, in tables as they were then, whatever _TABLES comes to say."""


def prepare(connection: sqlite3.Connection, fill: Callable[[], None]) -> None:
    """See that the tables are there, of this version; raises StopError if they are of a later one.

    fill: puts into new tables what is known from elsewhere, in the same transaction.
    """
    found = version(connection)
    if found > SCHEMA_VERSION:
        raise wrong_version(found)
    if found == SCHEMA_VERSION:
        return
    script = "".join(_TAKEN_OVER[n] for n in range(found, SCHEMA_VERSION)) if found else _TABLES
    connection.execute("BEGIN IMMEDIATE")
    try:
        for statement in script.split(";"):
            connection.execute(statement)
        if not found:
            fill()
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def version(connection: sqlite3.Connection) -> int:
    """Return the version of the tables; 0 if there are none."""
    found: int = connection.execute("PRAGMA user_version").fetchone()[0]
    return found


def wrong_version(found: int) -> StopError:
    """Return what is to be said of tables that are not of this version."""
    is_older = found < SCHEMA_VERSION
    newer = "use the version of dicomzarr-watch that wrote it, or another state folder"
    return StopError(
        "ledger-version",
        expected=f"schema version {SCHEMA_VERSION}",
        found=str(found),
        todo="start the daemon, which takes it over" if is_older else newer,
    )
