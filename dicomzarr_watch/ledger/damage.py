"""A ledger that cannot be used: told apart from one that can, and set aside, never deleted."""

from __future__ import annotations

import sqlite3
from contextlib import closing, suppress
from itertools import count
from pathlib import Path
from typing import Final

from dicomzarr_watch.errors import StopError
from dicomzarr_watch.ledger.schema import OLDEST, version

LEDGER: Final = "ledger.sqlite"
_DAMAGED: Final = {
    sqlite3.SQLITE_CORRUPT: "ledger-damaged",
    sqlite3.SQLITE_NOTADB: "no-database",
}


def damage(path: Path) -> str:
    """Return the code of what makes a ledger unusable; empty if it can be used.

    Raises sqlite3.Error for what does not lie in its bytes.
    """
    if not path.exists():
        return ""
    try:
        with closing(sqlite3.connect(path)) as connection:
            said = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
            is_old = 0 < version(connection) < OLDEST
    except sqlite3.DatabaseError as error:
        if found := damage_told(error):
            return found
        raise
    if said != "ok":
        return "ledger-damaged"
    return "ledger-version" if is_old else ""


def damage_told(error: sqlite3.Error) -> str:
    """Return the code of damage that an error tells of; empty if it is another error."""
    return _DAMAGED.get(getattr(error, "sqlite_errorcode", 0) & 0xFF, "")


def set_aside(path: Path, mark: str) -> Path:
    """Rename a ledger with all that belongs to it, and return its new name."""
    free = (path.with_name(f"{path.name}.{mark}{f'.{n}' if n else ''}") for n in count())
    aside = next(name for name in free if not name.exists())
    for ending in ("-wal", "-shm", ""):  # a journal that is left would be read into the next
        with suppress(FileNotFoundError):
            Path(f"{path}{ending}").rename(f"{aside}{ending}")
    return aside


def damaged(aside: Path | None = None) -> StopError:
    """Return what is to be said of a ledger that is damaged; aside: the name that it has now."""
    is_aside = f", set aside as {aside.name}" if aside else ""
    sets_aside = "" if aside else " and sets this one aside"
    return StopError(
        "ledger-damaged",
        expected="a ledger",
        found=f"a file that is none any more{is_aside}",
        todo=f"start the daemon, which makes it anew from the output{sets_aside}",
    )


def gone() -> StopError:
    """Return what is to be said of a ledger that went while a daemon had it."""
    return StopError(
        "ledger-gone",
        expected=f"{LEDGER} in the state folder as long as the daemon runs",
        found="none, or another one in its place",
        todo="start the daemon, which makes a ledger that is lost anew from the output",
    )
