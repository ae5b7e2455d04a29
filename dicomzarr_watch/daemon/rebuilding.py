"""What a lost ledger knew, from the output: drop.json says it; done.json and series.json suffice.

The rule: only what is published counts as archived. What is not said anywhere is found again as if
it was new; the archive then knows its bytes, so that nothing is converted twice.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from dicomzarr_watch.identity import Identity
from dicomzarr_watch.intake.listing import LOOSE
from dicomzarr_watch.intake.peek import Kind
from dicomzarr_watch.ledger.account import remembered
from dicomzarr_watch.ledger.jobs import Job, State
from dicomzarr_watch.ledger.rows import FileRow

_UNUSABLE: Final = (OSError, ValueError, LookupError, TypeError, AttributeError)
Known = tuple[list[Job], list[FileRow]]


def known(output: Path, now: float) -> Iterator[Known]:
    """Yield of each drop in the output its jobs and files; now: in seconds since the epoch.

    Those whose jobs have numbers come first, so that they keep them.
    """
    drops = [p for p in sorted(output.iterdir()) if p.is_dir() and not p.name.startswith(".")]
    silent = []
    for drop in drops:
        try:
            yield _published(drop, *remembered(_document(drop / "drop.json")))
        except _UNUSABLE:
            silent.append(drop)
    for drop in silent:
        found = _of_results(drop, now)
        if found[0]:
            yield found


def _published(drop: Path, jobs: list[Job], files: list[FileRow]) -> Known:
    """Leave out what somebody took away from the output, with its files."""
    lost = {job.id for job in jobs if job.folder and not (drop / job.folder / "done.json").exists()}
    return (
        [job for job in jobs if job.id not in lost],
        [file for file in files if file.job not in lost],
    )


def _of_results(drop: Path, now: float) -> Known:
    """Return what the results of a drop say that nobody accounts for.

    Of files in a bundle they say the path as if it were a folder.
    """
    jobs: list[Job] = []
    files: list[FileRow] = []
    above = "" if drop.name == LOOSE else f"{drop.name}/"
    for place in sorted(drop.glob("[!.]*/done.json")):
        try:
            done, series = _document(place), _document(place.with_name("series.json"))
            uid, revision = done["series"]["SeriesInstanceUID"], int(done["revision"])
            number = -len(jobs) - 1
            own = [
                # if it is in the inbox, it is found there in another state
                FileRow(
                    above + row["name"],
                    drop.name,
                    Identity(row["size"], 0, 0, 0),
                    Kind.DICOM,
                    uid,
                    job=number,
                    gone_at=now,
                )
                for row in series["files"]
            ]
            size = sum(file.identity.size for file in own)
        except _UNUSABLE:
            continue
        job = Job(number, drop.name, uid, "rebuilt", len(own), size, State.DONE)
        jobs.append(replace(job, code="done", folder=place.parent.name, revision=revision))
        files += own
    return jobs, files


def _document(path: Path) -> Any:
    return json.loads(path.read_bytes())
