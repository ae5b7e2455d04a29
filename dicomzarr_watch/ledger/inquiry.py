"""What the ledger knows of a file, a series or a job, for somebody who asks by its name."""

from __future__ import annotations

from typing import Any, Final

from dicomzarr_watch.errors import NO_SPACE
from dicomzarr_watch.kind import Kind
from dicomzarr_watch.ledger.account import Fate, fate, moment
from dicomzarr_watch.ledger.jobs import Job, State
from dicomzarr_watch.ledger.rows import ArrivingRow, FileRow
from dicomzarr_watch.ledger.store import Ledger
from dicomzarr_watch.outcome import UNPACKED

_WAITS: Final = {
    "settle": "it settles: no file of it may change for settle_s",
    "truncated": "a file of it is shorter than its elements say; held for truncated_hold_s",
    "gap": "instance numbers are missing; held for gap_hold_s",
}
_STATES: Final = {
    State.QUEUED: "it waits for a worker",
    State.RUNNING: "it is being converted",
    State.DONE: "it is archived and verified",
    State.REJECTED: "it was given up; `retry` tries it again",
    State.WITHDRAWN: "its files changed or went; another job has those that are there",
}


_NO_ROOM: Final = "it waits for room on the disk"
_UNPACKED: Final = "what came out of it is known by itself"


def about(ledger: Ledger, what: str) -> list[dict[str, Any]]:
    """Return all that is known under a name: a path, a Series Instance UID or a job's number.

    A path may be one in drop.json, or any longer one that ends so.
    """
    return [*_file(ledger, what), *_series(ledger, what), *_job(ledger, what)]


def job_facts(job: Job) -> dict[str, Any]:
    """Return a job as people ask for it."""
    return {
        "job": job.id,
        "state": job.state.value,
        "drop": job.drop,
        "series": job.series_uid,
        "files": job.files,
        "bytes": job.bytes,
        "code": job.code,
        "attempts": job.attempts,
        "folder": job.folder,
        "revision": job.revision,
    }


def _file(ledger: Ledger, what: str) -> list[dict[str, Any]]:
    starts = [0, *(at + 1 for at, letter in enumerate(what) if letter == "/")]
    for start in starts:
        file = ledger.files.get(what[start:])
        if file is not None:
            return [_file_facts(ledger, file)]
    return []


def _file_facts(ledger: Ledger, file: FileRow) -> dict[str, Any]:
    went_through = ledger.jobs.get(file.job) if file.job else None
    outcome, code = fate(file, went_through)
    found: dict[str, Any] = {
        "file": file.path,
        "outcome": outcome.value,
        "code": code,
        "present": file.is_present,
    }
    if file.gone_at is not None:
        found["gone_at"] = moment(file.gone_at)
        found |= {"original": file.cleared} if file.cleared else {}
    if outcome is Fate.GONE:
        return found | {"series": file.series_uid, "why": "it went before it was archived"}
    if file.kind not in (Kind.DICOM, Kind.BUNDLE):
        return found | {"why": file.kind}
    job = went_through or _latest(ledger, file)
    key = file.drop, file.series_uid
    arriving = [a for a in ledger.drops.arriving() if (a.drop, a.series_uid) == key]
    why = _waits(arriving[0]) if arriving else _stands(job) if job else "it was just seen"
    return found | {"series": file.series_uid, "why": why} | (job_facts(job) if job else {})


def _latest(ledger: Ledger, file: FileRow) -> Job | None:
    """Return the job that the series of a file is in now, which may not have begun yet."""
    jobs = ledger.jobs.select(drop=file.drop, series_uid=file.series_uid)
    return next((j for j in reversed(jobs) if j.state is not State.WITHDRAWN), None)


def _stands(job: Job) -> str:
    if job.state is State.QUEUED and job.code == NO_SPACE:
        return _NO_ROOM
    return _UNPACKED if job.code == UNPACKED else _STATES[job.state]


def _waits(row: ArrivingRow) -> str:
    return _WAITS.get(row.waits_for, row.waits_for)


def _series(ledger: Ledger, what: str) -> list[dict[str, Any]]:
    arriving = [
        {"series": a.series_uid, "drop": a.drop, "files": a.files, "why": _waits(a)}
        for a in ledger.drops.arriving()
        if a.series_uid == what
    ]
    jobs = ledger.jobs.select(series_uid=what)
    return arriving + [job_facts(job) | {"why": _stands(job)} for job in jobs]


def _job(ledger: Ledger, what: str) -> list[dict[str, Any]]:
    job = ledger.jobs.get(int(what)) if what.isdecimal() else None
    return [job_facts(job) | {"why": _stands(job)}] if job else []
