"""What the ledger says of files and of series that arrive, as values.

Paths are bytes in its tables and `str` with surrogate escapes outside, as `os.fsencode` has it.
"""

from __future__ import annotations

from dataclasses import dataclass

from dicomzarr_watch.identity import Identity


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
