"""drop.json: written when nothing of a drop is under way any more, and only if it says news.

Where originals go once it says that they are archived, it is written in between as well: in some
inboxes something is always under way. What only ever had temporary names is no drop: once it has
gone under its final name, nothing is left of it here.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

from dicomzarr_watch.archive.disk import sync, write_durably
from dicomzarr_watch.daemon.watching import Watching
from dicomzarr_watch.intake.bundles import Bundles
from dicomzarr_watch.intake.listing import Entry
from dicomzarr_watch.ledger.account import account, as_json
from dicomzarr_watch.ledger.rows import FileRow
from dicomzarr_watch.ledger.store import Ledger
from dicomzarr_watch.operate.logs import Event, Log, Name

LONG_S: Final = 0.1
"""An account that takes longer puts off the next one of its drop. What counts is the time of the
processor: a disk that stalls once, or a machine that slept, says nothing."""
SHARE_OF_TIME: Final = 20.0
"""By so many times what it took."""
RESTLESS_S: Final = 10.0
"""The least time between two accounts of a drop with something under way."""


class Reporting:
    """What is to be written down, of drops of which anything has changed."""

    def __init__(
        self,
        output: Path,
        log: Log,
        ledger: Ledger,
        watching: Watching,
        bundles: Bundles,
        *,
        is_clearing: bool,
    ) -> None:
        self._output = output
        self._log = log
        self._ledger = ledger
        self._watching = watching
        self._bundles = bundles
        self._is_clearing = is_clearing
        # drops to be looked at in the next report, and of some how long that has to wait
        self._stirred: set[str] = set()
        self._not_before_s: dict[str, float] = {}
        self._restless_until_s: dict[str, float] = {}
        # drops whose account could not be written, and those of which the log does not tell yet
        self._failed: set[str] = set()
        self._untold: set[str] = set()

    def stir(self, drops: Iterable[str] | None = None) -> None:
        """Have drops looked at in the next report, or all that are not reported as they are."""
        self._stirred |= self._ledger.drops.unreported if drops is None else set(drops)

    def report(self, *, is_last: bool = False) -> list[str]:
        """Write drop.json of those that have become quiet, and put away what their work needed.

        Returns the drops of which drop.json says what the ledger does.
        """
        now_s = time.monotonic()
        found, later = [], set()
        for drop in sorted(self._stirred):
            is_quiet = self._watching.is_quiet(drop) and not self._ledger.jobs.is_active(drop)
            if not is_quiet and not self._is_pressing(drop, now_s):
                continue
            if self._not_before_s.get(drop, now_s) > now_s and not is_last:
                later.add(drop)
                continue
            if is_quiet:
                self._bundles.put_away(drop)
            try:
                self._report(drop, is_quiet=is_quiet)
                found.append(drop)
            except OSError:
                later.add(drop)  # a full or lost output; the next round tries again
                self._failed.add(drop)
        self._stirred = later
        return found

    def _is_pressing(self, drop: str, now_s: float) -> bool:
        """Tell whether a drop with something under way is to be accounted for all the same."""
        if not self._is_clearing or not self._watching.is_there:
            return False
        is_rest = self._restless_until_s.get(drop, now_s) > now_s
        if is_rest or not self._ledger.files.has_archived(drop):
            return False
        self._restless_until_s[drop] = now_s + RESTLESS_S
        return True

    def _report(self, drop: str, *, is_quiet: bool) -> None:
        start_s = time.thread_time()
        jobs = {job.id: job for job in self._ledger.jobs.select(drop=drop)}
        if not jobs and all(map(_went_on, self._ledger.files.of_drop(drop))):
            self._withdraw(drop)
            return
        found = account(drop, self._ledger.files.of_drop(drop), jobs)
        data = as_json(found)
        path = self._output / drop / "drop.json"
        # what is there after a failure need not be on disk
        if drop in self._failed or not (path.exists() and path.read_bytes() == data):
            path.parent.mkdir(exist_ok=True)  # never the output, which may just have gone
            write_durably(path, data)
            self._untold.add(drop)
        else:
            sync(path.parent)  # one who was killed may have come no further than the name
        if not any(job.folder for job in jobs.values()):
            sync(self._output)  # a drop with results has had its name put on disk with them
        self._failed.discard(drop)
        if is_quiet:
            if drop in self._untold:
                self._log.info(Event.DROP_FINISHED, drop=Name(drop), **found["counts"])
            self._untold.discard(drop)
            self._ledger.drops.note_reported(drop)
        took_s = time.thread_time() - start_s
        if took_s > LONG_S:
            self._not_before_s[drop] = time.monotonic() + SHARE_OF_TIME * took_s

    def _withdraw(self, drop: str) -> None:
        """Take away the account of what only had temporary names, which are gone."""
        with suppress(FileNotFoundError):  # it was never made
            (self._output / drop / "drop.json").unlink()
            self._log.info(Event.DROP_WITHDRAWN, drop=Name(drop))
        with suppress(OSError):  # nor was this, or somebody else has put something there
            (self._output / drop).rmdir()
        self._failed.discard(drop)
        self._untold.discard(drop)
        self._ledger.drops.note_reported(drop)


def _went_on(file: FileRow) -> bool:
    """Tell whether a file had a name that is on its way to another one, and has gone."""
    return not file.is_present and Entry(file.path, file.identity).is_temporary
