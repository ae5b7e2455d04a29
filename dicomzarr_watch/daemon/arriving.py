"""The series that are not complete: in the ledger too, and said once of each."""

from __future__ import annotations

from typing import Final

from dicomzarr_watch.daemon.naming import named
from dicomzarr_watch.intake.arrival import Arrival, SeriesKey
from dicomzarr_watch.intake.inbox import Sight
from dicomzarr_watch.ledger.rows import ArrivingRow
from dicomzarr_watch.ledger.store import Ledger
from dicomzarr_watch.operate.logs import Event, Log

_HOLDS: Final = frozenset({"truncated", "gap"})


class Arriving:
    """Who is waited for, for what, and with how many files."""

    def __init__(self, log: Log, ledger: Ledger) -> None:
        self._log = log
        self._ledger = ledger
        self._known: dict[SeriesKey, tuple[str, int]] = {}

    def __len__(self) -> int:
        return len(self._known)

    def note(self, sight: Sight) -> frozenset[SeriesKey]:
        """Take in a look; return the series that are waited for otherwise than before."""
        waiting = {a.key: (a.waits_for, a.tally.files) for a in sight.arrivals if a.waits_for}
        news = {k: of for k, of in waiting.items() if self._known.get(k) != of}
        over = [*sight.over, *(a.key for a in sight.arrivals if a.is_complete)]
        over = [key for key in over if key in self._known]
        for key in over:
            del self._known[key]
        if news or over:
            rows = [ArrivingRow(*k, *of) for k, of in news.items()]
            rows += [ArrivingRow(*k, "", 0) for k in over]
            self._ledger.drops.note_arriving(rows)
        for arrival in sight.arrivals:
            if arrival.key in news:
                self._say(arrival)
        self._known |= news
        return frozenset(news)

    def _say(self, arrival: Arrival) -> None:
        said = named(arrival.key) | {"files": arrival.tally.files}
        waited_for, _ = self._known.get(arrival.key, ("", 0))
        if not waited_for:
            self._log.info(Event.SERIES_ARRIVING, **said)
        if arrival.waits_for in _HOLDS and arrival.waits_for != waited_for:
            said |= {"waits_for": arrival.waits_for, "truncated": arrival.tally.truncated}
            self._log.warning(Event.SERIES_HELD, **said)
