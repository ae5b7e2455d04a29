"""The inbox's side: look, record what was seen, offer what is complete, say what is new."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from dicomzarr_watch.config import Settings
from dicomzarr_watch.intake.arrival import Arrival, Rules, SeriesKey
from dicomzarr_watch.intake.inbox import Inbox, Known, Sight
from dicomzarr_watch.intake.listing import Entry, Place
from dicomzarr_watch.intake.peek import Kind, Peek
from dicomzarr_watch.intake.wakeup import Wakeup
from dicomzarr_watch.ledger.jobs import State
from dicomzarr_watch.ledger.store import ArrivingRow, FileRow, Ledger
from dicomzarr_watch.operate.logs import Event, Log, Name

LOOK_PAUSE_S: Final = 0.3
"""The least time between two looks, however many events come."""
SHARE_OF_TIME: Final = 4.0
"""A look that takes long is followed by a pause so many times as long."""


class Watching:
    """The inbox over time, and what of it stands in the ledger.

    sight: what the last look found. unreported: drops that changed since drop.json was written.
    """

    def __init__(
        self,
        settings: Settings,
        log: Log,
        ledger: Ledger,
        wake: Callable[[], None],
        *,
        is_once: bool,
    ) -> None:
        self.sight = Sight(None)
        self.unreported = {file.drop for file in ledger.files()}
        self._settings = settings
        self._log = log
        self._ledger = ledger
        hold_s = 0.0 if is_once else settings.truncated_hold_s
        rules = Rules(settings.settle_s, hold_s)
        self._inbox = Inbox(settings.inbox, rules, map(_known, ledger.files()))
        self._wakeup = Wakeup(settings.inbox, wake)
        self._offered = {
            SeriesKey(job.drop, job.series_uid): job.fingerprint
            for job in ledger.jobs()
            if job.state is not State.WITHDRAWN
        }
        self._arrivals: dict[SeriesKey, Arrival] = {}
        self._arriving: dict[SeriesKey, str] = {}
        self._place: Place | None = None
        self._is_watched: bool | None = None
        self._is_missing = self._is_due = False
        self._looked_s = self._took_s = 0.0

    @property
    def is_there(self) -> bool:
        """Whether the last look found the inbox."""
        return self.sight.place is not None

    @property
    def is_settled(self) -> bool:
        """Whether nothing in the inbox is waited for."""
        arrivals = self.sight.arrivals
        return self.is_there and not self.sight.fresh and all(a.is_complete for a in arrivals)

    @property
    def next_look_s(self) -> float:
        """When to look again, on the monotonic clock."""
        earliest_s = self._looked_s + max(LOOK_PAUSE_S, SHARE_OF_TIME * self._took_s)
        if self._is_due:
            return earliest_s
        return max(earliest_s, min(self.sight.due_s, self._looked_s + self._settings.poll_s))

    @property
    def arriving(self) -> int:
        """How many series are not complete."""
        return len(self._arriving)

    def start(self) -> None:
        """Watch first, then look: what comes in between is seen by both."""
        self._watch()
        self.look()

    def stop(self) -> None:
        """End the observer."""
        self._wakeup.stop()

    def stir(self) -> None:
        """Take note of an event: look as soon as may be."""
        self._is_due = True

    def arrival(self, key: SeriesKey) -> Arrival | None:
        """Return a series as the last look found it."""
        return self._arrivals.get(key)

    def forget(self, key: SeriesKey, *, is_changing: bool) -> None:
        """Offer a series again when it is complete; it settles anew if it is changing."""
        self._offered.pop(key, None)
        self._is_due = True
        if is_changing:
            self._inbox.disturb(key)

    def look(self) -> None:
        """List the inbox, record what is new, and offer what is complete."""
        self._is_due = False
        start_s = time.monotonic()
        sight = self._inbox.look(start_s)
        self._looked_s = time.monotonic()
        self._took_s = self._looked_s - start_s
        self._say_of_place(sight)
        self.sight = sight
        if sight.place is None:
            return
        self._record(sight)
        self._arrivals = {a.key: a for a in sight.arrivals}
        news = [a for a in sight.arrivals if self._offered.get(a.key) != a.growth.fingerprint]
        for arrival in news:
            if arrival.is_complete:
                self._offer(arrival)
        self._note_arriving([a for a in news if not a.is_complete])

    def _say_of_place(self, sight: Sight) -> None:
        """Say once when the inbox goes, comes back or is another one; watch it anew then."""
        if sight.place is None:
            if not self._is_missing:
                self._log.warning(Event.INBOX_MISSING)
            self._is_missing = True
            return
        is_other = self._place is not None and sight.place != self._place
        if is_other:
            self._log.warning(Event.INBOX_REPLACED)
        elif self._is_missing:
            self._log.info(Event.INBOX_BACK)
        if is_other or self._is_missing or not self._wakeup.is_healthy:
            self._watch()
        self._place, self._is_missing = sight.place, False
        if sight.unreadable and sight.unreadable != self.sight.unreadable:
            self._log.warning(Event.INBOX_UNREADABLE, folders=len(sight.unreadable))

    def _watch(self) -> None:
        is_watched = self._wakeup.start()
        if is_watched:
            self._log.info(Event.WATCH_STARTED)
            self._is_due = True  # what came before the watch is found by another look
        elif self._is_watched is not False:
            self._log.warning(Event.WATCH_LOST, poll_s=self._settings.poll_s)
        self._is_watched = is_watched

    def _record(self, sight: Sight) -> None:
        if sight.changed or sight.gone:
            self._ledger.record(map(_row, sight.changed), sight.gone)
        self.unreported |= sight.fresh
        for known in sight.changed:
            self.unreported.add(known.entry.drop)
            if known.peek.kind is Kind.UNREADABLE:
                self._log.warning(Event.FILE_UNREADABLE, file=Name(known.entry.path))

    def _offer(self, arrival: Arrival) -> None:
        job = self._ledger.offer(
            arrival.key.drop,
            arrival.key.uid,
            arrival.growth.fingerprint,
            len(arrival.files),
            sum(file.identity.size for file in arrival.files),
        )
        if job is None:
            return  # another set of the series is under way; the next look offers again
        self._offered[arrival.key] = job.fingerprint
        if job.state is State.QUEUED:
            self._log.info(Event.JOB_QUEUED, **named(arrival.key), job=job.id, files=job.files)

    def _note_arriving(self, arrivals: list[Arrival]) -> None:
        self._ledger.note_arriving(
            ArrivingRow(a.key.drop, a.key.uid, a.waits_for, len(a.files)) for a in arrivals
        )
        for arrival in arrivals:
            told = {**named(arrival.key), "files": len(arrival.files)}
            before = self._arriving.get(arrival.key)
            if before is None:
                self._log.info(Event.SERIES_ARRIVING, **told)
            if arrival.waits_for == "truncated" != before:
                self._log.warning(Event.SERIES_HELD, **told, truncated=len(arrival.truncated))
        self._arriving = {a.key: a.waits_for for a in arrivals}


def named(key: SeriesKey) -> dict[str, Name]:
    """Return the fields that name a series in the log."""
    return {"drop": Name(key.drop), "series": Name(key.uid)}


def _row(known: Known) -> FileRow:
    entry, said = known.entry, known.peek
    return FileRow(
        entry.path,
        entry.drop,
        entry.identity,
        said.kind.value,
        said.series_uid,
        said.sop_uid,
        said.transfer_syntax,
        said.is_truncated,
    )


def _known(row: FileRow) -> Known:
    """Return what `_row` wrote down."""
    said = Peek(Kind(row.kind), row.series_uid, row.sop_uid, row.transfer_syntax, row.is_truncated)
    return Known(Entry(row.path, row.identity), said)
