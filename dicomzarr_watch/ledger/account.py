"""What became of every file of a drop: drop.json, from the ledger alone.

The rule: every file that entered the inbox has exactly one outcome.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final

from dicomzarr_watch.ledger.jobs import Job, State
from dicomzarr_watch.ledger.rows import FileRow

SCHEMA_VERSION: Final = 1


class Fate(StrEnum):
    """The outcomes. REJECTED files are left where they are; so are IGNORED ones, no DICOM.

    UNPACKED: what came out of it has outcomes of its own. GONE: it went before it was archived.
    """

    ARCHIVED = "archived"
    UNPACKED = "unpacked"
    REJECTED = "rejected"
    IGNORED = "ignored"
    GONE = "gone"
    WAITING = "waiting"


_FATE_OF_KIND: Final = {
    "not-dicom": Fate.IGNORED,
    "temporary-name": Fate.IGNORED,
    "ready-marker": Fate.IGNORED,
    "unreadable": Fate.REJECTED,
    "unpacked": Fate.UNPACKED,
}


def fate(file: FileRow, job: Job | None) -> tuple[Fate, str]:
    """Return a file's outcome and its code. job: the one it went through last."""
    of_kind = _FATE_OF_KIND.get(file.kind)
    is_over = job is not None and job.state in (State.DONE, State.REJECTED)
    if not file.is_present and (file.kind == "unreadable" or not (of_kind or is_over)):
        return Fate.GONE, ""
    if of_kind is not None:
        return of_kind, file.kind
    if job is None or not is_over:
        return Fate.WAITING, job.code if job else ""
    if job.state is State.DONE and file.kind == "archive":
        return Fate.UNPACKED, ""
    if job.state is State.DONE:
        return Fate.ARCHIVED, ""  # whether at this attempt or before a restart is the same
    return Fate.REJECTED, job.code


def account(drop: str, files: Iterable[FileRow], jobs: Mapping[int, Job]) -> dict[str, Any]:
    """Return drop.json. jobs: by number."""
    rows = [_row(file, jobs.get(file.job or 0)) for file in files]
    return {
        "schema": SCHEMA_VERSION,
        "drop": drop,
        "counts": dict(sorted(Counter(row["outcome"] for row in rows).items())),
        "files": rows,
    }


def moment(at: float) -> str:
    """Return a time as people write it; at: in seconds since the epoch."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")


def as_json(document: Mapping[str, Any]) -> bytes:
    """Return drop.json as it stands on disk, a line for each file."""
    files = ",\n  ".join(map(json.dumps, document["files"]))
    lines = [f' "{k}": {json.dumps(v)}' for k, v in document.items() if k != "files"]
    lines.append(f' "files": [\n  {files}\n ]' if files else ' "files": []')
    return ("{\n" + ",\n".join(lines) + "\n}\n").encode()


def _row(file: FileRow, job: Job | None) -> dict[str, Any]:
    outcome, code = fate(file, job)
    row: dict[str, Any] = {
        "path": file.path,
        "size": file.identity.size,
        "outcome": outcome.value,
        "code": code,
    }
    if job is not None and outcome is Fate.ARCHIVED:
        row |= {"series": job.folder, "revision": job.revision}
    if file.gone_at is not None:
        row |= {"present": False, "gone_at": moment(file.gone_at)}
        row |= {"original": file.cleared} if file.cleared else {}
    return row
