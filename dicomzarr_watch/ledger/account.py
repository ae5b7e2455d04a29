"""What became of every file of a drop: drop.json, from the ledger alone.

The rule: every file that entered the inbox has exactly one outcome. What the ledger knows of a
drop can be read back from it, should the ledger be lost.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final

from dicomzarr_watch.identity import Identity
from dicomzarr_watch.kind import Kind
from dicomzarr_watch.ledger.jobs import ACTIVE, Job, State
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


_OF_JOB: Final = (
    "id",
    "series_uid",
    "state",
    "code",
    "folder",
    "revision",
    "files",
    "bytes",
    "attempts",
    "fingerprint",
)
_FATE_OF_KIND: Final[dict[str, Fate]] = {
    Kind.NOT_DICOM: Fate.IGNORED,
    Kind.TEMPORARY: Fate.IGNORED,
    Kind.MARKER: Fate.IGNORED,
    Kind.UNREADABLE: Fate.REJECTED,
    Kind.UNPACKED: Fate.UNPACKED,
}


def fate(file: FileRow, job: Job | None) -> tuple[Fate, str]:
    """Return a file's outcome and its code. job: the one it went through last."""
    of_kind = _FATE_OF_KIND.get(file.kind)
    is_over = job is not None and job.state in (State.DONE, State.REJECTED)
    if not file.is_present and (file.kind == Kind.UNREADABLE or not (of_kind or is_over)):
        return Fate.GONE, ""
    if of_kind is not None:
        return of_kind, file.kind
    if job is None or not is_over:
        return Fate.WAITING, job.code if job else ""
    if job.state is State.DONE and file.kind == Kind.BUNDLE:
        return Fate.UNPACKED, ""
    if job.state is State.DONE:
        return Fate.ARCHIVED, ""  # `done` or `unchanged`: the same to who asks
    return Fate.REJECTED, job.code


def account(drop: str, files: Iterable[FileRow], jobs: Mapping[int, Job]) -> dict[str, Any]:
    """Return drop.json. jobs: by number."""
    rows = [_row(file, jobs.get(file.job or 0)) for file in files]
    return {
        "schema": SCHEMA_VERSION,
        "drop": drop,
        "counts": dict(sorted(Counter(row["outcome"] for row in rows).items())),
        "jobs": [_job_row(job) for job in jobs.values()],
        "files": rows,
    }


def remembered(document: Mapping[str, Any]) -> tuple[list[Job], list[FileRow]]:
    """Return what a ledger knew that wrote this drop.json; the inverse of `account`.

    Jobs and files that waited are left out: they are found again. Raises LookupError, TypeError or
    ValueError for what `account` did not write.
    """
    drop = document["drop"]
    jobs = [_job(drop, row) for row in document["jobs"]]
    known = {job.id: job for job in jobs if job.state not in ACTIVE}
    files = [_file(drop, row, known) for row in document["files"] if _is_over(row, known)]
    return list(known.values()), files


def moment(at: float) -> str:
    """Return a time as people write it; at: in seconds since the epoch."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")


def as_json(document: Mapping[str, Any]) -> bytes:
    """Return drop.json as it stands on disk, a line for each file."""
    lines = []
    for key, value in document.items():
        told = json.dumps(value)
        if key in ("jobs", "files") and value:
            rows = ",\n  ".join(map(json.dumps, value))
            told = f"[\n  {rows}\n ]"
        lines.append(f' "{key}": {told}')
    return ("{\n" + ",\n".join(lines) + "\n}\n").encode()


def _row(file: FileRow, job: Job | None) -> dict[str, Any]:
    outcome, code = fate(file, job)
    row: dict[str, Any] = {
        "path": file.path,
        "size": file.identity.size,
        "outcome": outcome.value,
        "code": code,
        "kind": file.kind,
        "state": list(file.identity[1:]),
        "job": job.id if job is not None else None,
    }
    row |= {"series_uid": file.series_uid} if job is None and file.series_uid else {}
    row |= {"is_truncated": True} if file.is_truncated else {}
    row |= {"number": file.instance_number} if file.instance_number is not None else {}
    if job is not None and outcome is Fate.ARCHIVED:
        row |= {"series": job.folder, "revision": job.revision}
    if file.gone_at is not None:
        row |= {"present": False, "gone_at": moment(file.gone_at)}
        row |= {"original": file.cleared} if file.cleared else {}
    return row


def _is_over(row: Mapping[str, Any], jobs: Mapping[int, Job]) -> bool:
    """Tell whether a row says what became of a file; what a lost job did is to be done again."""
    return row["outcome"] != Fate.WAITING and (row["job"] is None or row["job"] in jobs)


def _file(drop: str, row: Mapping[str, Any], jobs: Mapping[int, Job]) -> FileRow:
    job = jobs.get(row["job"])
    gone_at = row.get("gone_at")
    return FileRow(
        row["path"],
        drop,
        Identity(row["size"], *row["state"]),
        row["kind"],
        job.series_uid if job else row.get("series_uid", ""),
        row.get("is_truncated", False),
        row.get("number"),
        job.id if job else None,
        datetime.fromisoformat(gone_at).timestamp() if gone_at else None,
        row.get("original", ""),
    )


def _job_row(job: Job) -> dict[str, Any]:
    return {key: getattr(job, key) for key in _OF_JOB}


def _job(drop: str, row: Mapping[str, Any]) -> Job:
    facts = {key: row[key] for key in _OF_JOB}
    return Job(drop=drop, **(facts | {"state": State(row["state"])}))
