"""What a lost ledger knew, from the output: drop.json says it; done.json and series.json suffice.

The rule: only what is published counts as archived. What is not said anywhere is found again as if
it was new; the archive then knows its bytes, so that nothing is converted twice.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from dicomzarr_watch.identity import Identity
from dicomzarr_watch.intake.listing import LOOSE
from dicomzarr_watch.kind import Kind
from dicomzarr_watch.ledger.account import remembered
from dicomzarr_watch.ledger.jobs import Job, State
from dicomzarr_watch.ledger.rows import FileRow
from dicomzarr_watch.ledger.store import Remembered

_UNUSABLE: Final = (OSError, ValueError, LookupError, TypeError, AttributeError)


def known(output: Path, now: float) -> Iterator[Remembered]:
    """Yield of each drop in the output its jobs and files; now: in seconds since the epoch.

    Those whose jobs have numbers come first, so that they keep them.
    """
    drops = [p for p in sorted(output.iterdir()) if p.is_dir() and not p.name.startswith(".")]
    silent = []
    for drop in drops:
        try:
            yield _published(drop, *remembered(_account(drop)))
        except _UNUSABLE:
            silent.append(drop)
    for drop in silent:
        found = _of_results(drop, now)
        if found[0]:
            yield found


def _account(drop: Path) -> Any:
    """Return drop.json; raises ValueError for that of another drop, which is in a copy of it."""
    document = _document(drop / "drop.json")
    if document["drop"] != drop.name:
        raise ValueError("of another drop")
    return document


def _published(drop: Path, jobs: list[Job], files: list[FileRow]) -> Remembered:
    """Leave out what somebody took away from the output, with its files."""
    lost = {job.id for job in jobs if job.folder and not (drop / job.folder / "done.json").exists()}
    return (
        [job for job in jobs if job.id not in lost],
        [file for file in files if file.job not in lost],
    )


@dataclass(frozen=True, slots=True)
class _Result:
    """A published series; is_copy: whether its done marker says that it is called otherwise.

    sizes: of its files by their names.
    """

    folder: str
    uid: str
    revision: int
    sizes: dict[str, int]
    is_copy: bool


def _of_results(drop: Path, now: float) -> Remembered:
    """Return what the results of a drop say that nobody accounts for.

    Of files in a bundle they say the path as if it were a folder.
    """
    jobs: list[Job] = []
    files: list[FileRow] = []
    above = "" if drop.name == LOOSE else f"{drop.name}/"
    for number, result in enumerate(_results(drop), 1):
        count, total = len(result.sizes), sum(result.sizes.values())
        ours = f"rebuilt {result.folder}"
        job = Job(-number, drop.name, result.uid, ours, count, total, State.DONE, code="done")
        jobs.append(replace(job, folder=result.folder, revision=result.revision))
        files += [
            # if it is in the inbox, it is found there in another state
            FileRow(
                above + name,
                drop.name,
                Identity(size, 0, 0, 0),
                Kind.DICOM,
                result.uid,
                job=-number,
                gone_at=now,
            )
            for name, size in result.sizes.items()
        ]
    return jobs, files


def _results(drop: Path) -> list[_Result]:
    """Return the series of a drop, the copies that somebody made last; no copy of one of them."""
    found = []
    for place in sorted(drop.glob("[!.]*/done.json")):
        with suppress(*_UNUSABLE):
            found.append(_result(place))
    own = {result.uid for result in found if not result.is_copy}
    return sorted(
        (result for result in found if not (result.is_copy and result.uid in own)),
        key=lambda result: result.is_copy,
    )


def _result(place: Path) -> _Result:
    done, series = _document(place), _document(place.with_name("series.json"))
    said, folder = done["series"], place.parent.name
    return _Result(
        folder,
        said["SeriesInstanceUID"],
        int(done["revision"]),
        {os.fsdecode(row["name"]): int(row["size"]) for row in series["files"]},
        said["folder"] != folder,
    )


def _document(path: Path) -> Any:
    return json.loads(path.read_bytes())
