"""drop.json: written when nothing of a drop is under way any more, and only if it says news."""

from __future__ import annotations

import json
from pathlib import Path

from dicomzarr_watch.archive.disk import write_durably
from dicomzarr_watch.daemon.watching import Watching
from dicomzarr_watch.ledger.account import Fate, account
from dicomzarr_watch.ledger.jobs import Job
from dicomzarr_watch.ledger.store import Ledger
from dicomzarr_watch.operate.logs import Event, Log, Name


def report(output: Path, ledger: Ledger, watching: Watching, log: Log) -> None:
    """Write drop.json of every drop that has become quiet."""
    quiet = _quiet(ledger, watching)
    if not quiet:
        return
    jobs = {job.id: job for job in ledger.jobs()}
    for drop in quiet:
        try:
            _report(output, drop, ledger, jobs, log)
        except OSError:
            return  # a full or lost output; the next round tries again
        watching.unreported.discard(drop)


def has_rejected(ledger: Ledger) -> bool:
    """Tell whether a file that is in the inbox was rejected."""
    jobs = {job.id: job for job in ledger.jobs()}
    drops = {file.drop for file in ledger.files()}
    accounts = (account(drop, ledger.files(drop), jobs) for drop in drops)
    return any(Fate.REJECTED in found["counts"] for found in accounts)


def _quiet(ledger: Ledger, watching: Watching) -> list[str]:
    if not watching.is_there or not watching.unreported:
        return []
    sight = watching.sight
    busy = {a.key.drop for a in sight.arrivals if not a.is_complete}
    return sorted(watching.unreported - busy - sight.fresh - ledger.active_drops())


def _report(output: Path, drop: str, ledger: Ledger, jobs: dict[int, Job], log: Log) -> None:
    found = account(drop, ledger.files(drop), jobs)
    data = json.dumps(found, indent=1).encode() + b"\n"
    path = output / drop / "drop.json"
    if path.exists() and path.read_bytes() == data:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    write_durably(path, data)
    log.info(Event.DROP_FINISHED, drop=Name(drop), **found["counts"])
