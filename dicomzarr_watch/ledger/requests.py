"""Wishes to the daemon, which alone writes the ledger: a file for each, named by what is wished.

A wish is there until the daemon has taken it, whether it runs now or not.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

from dicomzarr_watch import private

_FOLDER: Final = "requests"
_RETRY: Final = "retry."


def prepare(state: Path) -> None:
    """Make the place for wishes: the daemon's own, whoever is the first to have one."""
    private.make_folder(state / _FOLDER)


def wish_retries(state: Path, numbers: Iterable[int]) -> None:
    """Ask that jobs that were given up are tried again; the daemon's user can read it."""
    folder = state / _FOLDER
    if not folder.exists():
        private.make_folder(folder)
        private.hand_over(folder)
    for number in numbers:
        wish = folder / f"{_RETRY}{number}"
        with suppress(FileExistsError):
            private.make_file(wish, is_new=True)
            private.hand_over(wish)


def wished_retries(state: Path) -> list[int]:
    """Return the jobs that somebody wants to be tried again; raises OSError if nobody can tell."""
    try:
        found = [path.name for path in (state / _FOLDER).iterdir()]
    except FileNotFoundError:
        return []
    tails = (name.removeprefix(_RETRY) for name in found if name.startswith(_RETRY))
    return sorted(int(tail) for tail in tails if tail.isdecimal())


def granted(state: Path, number: int) -> None:
    """Forget a wish."""
    (state / _FOLDER / f"{_RETRY}{number}").unlink(missing_ok=True)
