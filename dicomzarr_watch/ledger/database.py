"""One SQLite file and its transactions; what it says is known to the tables alone.

The rule: what is told is on disk when the block that tells it ends, all of it or nothing.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dicomzarr_watch.identity import Place
from dicomzarr_watch.ledger.damage import gone


class Database:
    """An open file."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        """Take a connection to the file of this path."""
        self._connection = connection
        self._path = path
        self._place = Place.of(path.stat())
        self._soon: list[tuple[str, tuple[object, ...]]] = []

    def close(self) -> None:
        self._connection.close()

    def ask(self, query: str, *values: object) -> sqlite3.Cursor:
        """Return the rows of an answer, which are read as they are taken."""
        return self._connection.execute(query, values)

    def one(self, query: str, *values: object) -> Any:
        """Return the first value of an answer's first row."""
        return self.ask(query, *values).fetchone()[0]

    def tell(self, statement: str, *values: object) -> int:
        """Write something; return the number of the row that was made, if one was."""
        with self.together():
            return self._connection.execute(statement, values).lastrowid or 0

    def tell_each(self, statement: str, values: Iterable[tuple[object, ...]]) -> None:
        """Write something for each of some values, all of it or nothing."""
        with self.together():
            self._connection.executemany(statement, values)

    def tell_soon(self, statement: str, *values: object) -> None:
        """Write something with what is told next, before that; until then it may be lost."""
        if self._connection.in_transaction:
            self._connection.execute(statement, values)
        else:
            self._soon.append((statement, values))

    @contextmanager
    def together(self) -> Iterator[None]:
        """Write all that is told within this block at once, with one wait for the disk.

        Raises StopError if the file is not there any more: nobody would find what is written.
        """
        if self._connection.in_transaction:
            yield
            return
        if Place.at(self._path) != self._place:
            raise gone()
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            while self._soon:
                statement, values = self._soon.pop(0)
                self._connection.execute(statement, values)
            yield
        except BaseException:
            self._connection.rollback()  # of what a disk that fails has left of it
            raise
        self._connection.execute("COMMIT")
