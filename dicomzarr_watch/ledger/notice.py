"""Why the daemon is paused, for who asks it: a file beside the ledger, while it is so."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Final

from dicomzarr_watch import private

_PAUSED: Final = "paused"


def note_paused(state: Path, code: str) -> None:
    """Take note of why the daemon is paused; an empty code says that it is not.

    A state folder that takes no note is no reason to stop.
    """
    with suppress(OSError):
        if code:
            private.make_file(state / _PAUSED)
            (state / _PAUSED).write_text(code, "ascii")
        else:
            (state / _PAUSED).unlink(missing_ok=True)


def paused(state: Path) -> str:
    """Return why a daemon that runs is paused; empty if it is not."""
    try:
        return (state / _PAUSED).read_text("ascii")
    except (FileNotFoundError, ValueError):
        return ""
