"""Wishes to the daemon, which alone writes the ledger: a file for each, named by what is wished.

A wish is there until the daemon has taken it, whether it runs now or not.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from dicomzarr_watch import private

_FOLDER: Final = "requests"
_RETRY: Final = "retry."


def wish_retries(state: Path, numbers: Iterable[int]) -> None:
    """Ask that jobs that were given up are tried again."""
    folder = state / _FOLDER
    private.make_folder(folder)
    for number in numbers:
        private.make_file(folder / f"{_RETRY}{number}")


def wished_retries(state: Path) -> list[int]:
    """Return the jobs that somebody wants to be tried again."""
    found = (state / _FOLDER).glob(f"{_RETRY}*")
    tails = (path.name.removeprefix(_RETRY) for path in found)
    return sorted(int(tail) for tail in tails if tail.isdecimal())


def granted(state: Path, number: int) -> None:
    """Forget a wish."""
    (state / _FOLDER / f"{_RETRY}{number}").unlink(missing_ok=True)
