"""The series that are not complete: in the ledger too, and said once of each."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from dicomzarr_watch.daemon.naming import series_fields
from dicomzarr_watch.intake.arrival import Arrival, SeriesKey
from dicomzarr_watch.intake.inbox import Sight
from dicomzarr_watch.ledger.rows import ArrivingRow
from dicomzarr_watch.ledger.store import Ledger
from dicomzarr_watch.operate.logs import Event, Log

_HOLDS: Final = frozenset({"truncated", "gap"})


class News(NamedTuple):
    """A series that is waited for otherwise than before; waited_for: empty if it was not at all."""

    arrival: Arrival
    waited_for: str


class Arriving:
    """Who is waited for, for what, and with how many files."""

    def __init__(self, log: Log, ledger: Ledger) -> None:
        self._log = log
        self._ledger = ledger
        self._known: dict[SeriesKey, tuple[str, int]] = {}

    def __len__(self) -> int:
        return len(self._known)

    def note(self, sight: Sight) -> tuple[News, ...]:
        """Take in a look, and return what is to be said once the ledger has it."""
        waiting = {a.key: (a.waits_for, a.tally.files) for a in sight.arrivals if a.waits_for}
        before = {k: self._known.get(k, ("", 0)) for k in waiting}
        news = {k: of for k, of in waiting.items() if before[k] != of}
        over = [*sight.over, *(a.key for a in sight.arrivals if a.is_complete)]
        over = [key for key in over if key in self._known]
        for key in over:
            del self._known[key]
        self._known |= news
        if news or over:
            rows = [ArrivingRow(*k, *of) for k, of in news.items()]
            rows += [ArrivingRow(*k, "", 0) for k in over]
            self._ledger.drops.note_arriving(rows)
        return tuple(News(a, before[a.key][0]) for a in sight.arrivals if a.key in news)

    def say(self, news: Iterable[News]) -> None:
        """Log what `note` returned."""
        for arrival, waited_for in news:
            fields = series_fields(arrival.key) | {"files": arrival.tally.files}
            if not waited_for:
                self._log.info(Event.SERIES_ARRIVING, **fields)
            if arrival.waits_for in _HOLDS and arrival.waits_for != waited_for:
                fields |= {"waits_for": arrival.waits_for, "truncated": arrival.tally.truncated}
                self._log.warning(Event.SERIES_HELD, **fields)
