"""drop.json: written when nothing of a drop is under way any more, and only if it says news."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from dicomzarr_watch.archive.disk import write_durably
from dicomzarr_watch.daemon.watching import Watching
from dicomzarr_watch.intake.bundles import Bundles
from dicomzarr_watch.ledger.account import account, as_json
from dicomzarr_watch.ledger.store import Ledger
from dicomzarr_watch.operate.logs import Event, Log, Name

LONG_S: Final = 0.1
SHARE_OF_TIME: Final = 20.0
"""A drop whose account takes that long has to wait so many times as long for the next."""


class Reporting:
    """What is to be written down, of drops of which anything has changed."""

    def __init__(
        self, output: Path, log: Log, ledger: Ledger, watching: Watching, bundles: Bundles
    ) -> None:
        self._output = output
        self._log = log
        self._ledger = ledger
        self._watching = watching
        self._bundles = bundles
        self._stirred: set[str] = set()
        self._not_before_s: dict[str, float] = {}
        self._failed: set[str] = set()

    def stir(self, drops: Iterable[str] | None = None) -> None:
        """Have drops looked at in the next report, or all that are not reported as they are."""
        self._stirred |= self._ledger.unreported if drops is None else set(drops)

    def report(self, *, is_last: bool = False) -> None:
        """Write drop.json of those that have become quiet, and put away what their work needed."""
        now_s = time.monotonic()
        later = set()
        for drop in sorted(self._stirred):
            if not self._watching.is_quiet(drop) or self._ledger.is_active(drop):
                continue
            if self._not_before_s.get(drop, now_s) > now_s and not is_last:
                later.add(drop)
                continue
            self._bundles.put_away(drop)
            try:
                self._report(drop)
            except OSError:
                later.add(drop)  # a full or lost output; the next round tries again
                self._failed.add(drop)
        self._stirred = later

    def _report(self, drop: str) -> None:
        start_s = time.monotonic()
        jobs = {job.id: job for job in self._ledger.jobs(drop=drop)}
        found = account(drop, self._ledger.files(drop), jobs)
        data = as_json(found)
        path = self._output / drop / "drop.json"
        # what is there after a failure need not be on disk
        if drop in self._failed or not (path.exists() and path.read_bytes() == data):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_durably(path, data)
            self._log.info(Event.DROP_FINISHED, drop=Name(drop), **found["counts"])
        self._failed.discard(drop)
        self._ledger.note_reported(drop)
        took_s = time.monotonic() - start_s
        if took_s > LONG_S:
            self._not_before_s[drop] = start_s + SHARE_OF_TIME * took_s
