"""How a job ended, as one value that passes from the engine to the ledger and the log."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from dicomzarr_watch.errors import DicomzarrError, RejectError, RetryError, SourceChangedError

UNPACKED: Final = "unpacked"
"""The code of a job that unpacked a zip or tar file."""

CLEARED: Final = "cleared"
"""The code of what moved or deleted originals, as far as they could go."""


class Ended(StrEnum):
    """What happens next.

    DONE: nothing. RETRY: again later, the surroundings failed. CRASHED: again, an attempt is used
    up. CHANGED: look at the inbox again. REJECTED: a person decides.
    """

    DONE = "done"
    RETRY = "retry"
    CRASHED = "crashed"
    CHANGED = "changed"
    REJECTED = "rejected"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one job ended.

    code: a stable word. told: more, without anything of the data. private: more, with it.
    summary: what the receipt says, for a job that is done.
    """

    ended: Ended
    code: str
    told: str = ""
    private: str = ""
    summary: Mapping[str, Any] = field(default_factory=dict)


def of_error(error: DicomzarrError) -> Outcome:
    """Class an error of ours by what happens next."""
    match error:
        case RetryError():
            ended = Ended.RETRY
        case SourceChangedError():
            ended = Ended.CHANGED
        case RejectError():
            ended = Ended.REJECTED
        case _:
            ended = Ended.CRASHED
    return Outcome(ended, error.code, str(error), error.private)


def of_crash(error: BaseException) -> Outcome:
    """Class an error that nobody expected; where it came from, without what it said."""
    frames = traceback.extract_tb(error.__traceback__)[-4:]
    where = " < ".join(f"{Path(f.filename).name}:{f.lineno}" for f in reversed(frames))
    code = "out-of-memory" if isinstance(error, MemoryError) else "internal-error"
    return Outcome(Ended.CRASHED, code, f"{type(error).__name__} at {where}", str(error))
