"""What is under way with drops: series that arrive, and accounts that are owed."""

from __future__ import annotations

import os
from collections.abc import Iterable

from dicomzarr_watch.ledger.database import Database
from dicomzarr_watch.ledger.rows import ArrivingRow


class Drops:
    """What is known of drops.

    unreported: those of which files or jobs have changed since they were last reported.
    """

    def __init__(self, database: Database) -> None:
        self.unreported: set[str] = set()
        self._database = database

    def begin(self) -> None:
        """Take up what is owed; who starts has seen nothing arrive yet."""
        found = self._database.ask("SELECT drop_name FROM unreported")
        self.unreported = {os.fsdecode(drop) for (drop,) in found}
        self._database.tell("DELETE FROM arriving")

    def arriving(self) -> tuple[ArrivingRow, ...]:
        """Return the series that are not complete yet."""
        found = self._database.ask(
            "SELECT drop_name, series_uid, waits_for, files FROM arriving"
            " ORDER BY drop_name, series_uid"
        )
        return tuple(ArrivingRow(os.fsdecode(drop), *rest) for drop, *rest in found)

    def note_arriving(self, rows: Iterable[ArrivingRow]) -> None:
        """Take in how it stands with series that arrive or are waited for no more."""
        values = [(os.fsencode(r.drop), r.series_uid, r.waits_for, r.files) for r in rows]
        with self._database.together():
            self._database.tell_each(
                "INSERT OR REPLACE INTO arriving VALUES (?,?,?,?)", (v for v in values if v[2])
            )
            self._database.tell_each(
                "DELETE FROM arriving WHERE drop_name = ? AND series_uid = ?",
                (v[:2] for v in values if not v[2]),
            )

    def owe(self, drops: Iterable[str]) -> None:
        """Take in that what was reported of drops, if anything, is not what is known any more."""
        news = set(drops) - self.unreported
        self._database.tell_each(
            "INSERT OR IGNORE INTO unreported VALUES (?)", ((os.fsencode(drop),) for drop in news)
        )
        self.unreported |= news

    def note_reported(self, drop: str) -> None:
        """Take in that a drop has been reported as it is; on disk when the next is told."""
        self.unreported.discard(drop)
        self._database.tell_soon("DELETE FROM unreported WHERE drop_name = ?", os.fsencode(drop))
