"""What series, jobs and files are called, among each other and in the log."""

from __future__ import annotations

from dicomzarr_watch.intake.arrival import SeriesKey
from dicomzarr_watch.ledger.jobs import Job
from dicomzarr_watch.ledger.rows import FileRow
from dicomzarr_watch.operate.logs import Name


def key_of(one: Job | FileRow) -> SeriesKey:
    """Return the series that a job or a file belongs to."""
    return SeriesKey(one.drop, one.series_uid)


def series_fields(key: SeriesKey) -> dict[str, object]:
    """Return the fields that name a series in the log."""
    return {"drop": Name(key.drop), "series": Name(key.uid)}


def job_fields(job: Job) -> dict[str, object]:
    """Return the fields that name a job in the log."""
    return {**series_fields(key_of(job)), "job": job.id}
