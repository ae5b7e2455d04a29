"""The fields that name a series or a job in the log."""

from __future__ import annotations

from dicomzarr_watch.intake.arrival import SeriesKey
from dicomzarr_watch.ledger.jobs import Job
from dicomzarr_watch.operate.logs import Name


def named(key: SeriesKey) -> dict[str, object]:
    """Return the fields that name a series."""
    return {"drop": Name(key.drop), "series": Name(key.uid)}


def told(job: Job) -> dict[str, object]:
    """Return the fields that name a job."""
    return {**named(SeriesKey(job.drop, job.series_uid)), "job": job.id}
