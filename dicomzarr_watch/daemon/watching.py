"""The inbox's side: look, record what was seen, offer what is complete, say what is new."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from threading import Event as Flag
from typing import Final

from dicomzarr_watch.config import Settings
from dicomzarr_watch.daemon.arriving import Arriving
from dicomzarr_watch.daemon.naming import job_fields, key_of
from dicomzarr_watch.daemon.presence import Presence
from dicomzarr_watch.intake.arrival import Rules, SeriesKey, Tally, gaps
from dicomzarr_watch.intake.bundle import form, is_of_bundle, outermost
from dicomzarr_watch.intake.bundles import Bundles
from dicomzarr_watch.intake.census import Remembered
from dicomzarr_watch.intake.inbox import Inbox, Known, Sight
from dicomzarr_watch.intake.listing import Entry, drop_of_file
from dicomzarr_watch.intake.silence import Silence
from dicomzarr_watch.intake.wakeup import Wakeup
from dicomzarr_watch.kind import Kind
from dicomzarr_watch.ledger.jobs import State
from dicomzarr_watch.ledger.rows import FileRow
from dicomzarr_watch.ledger.store import Ledger
from dicomzarr_watch.operate.logs import Event, Log, Name

LOOK_PAUSE_S: Final = 0.3
"""The least time between two looks, however many events come."""
SHARE_OF_TIME: Final = 4.0
"""How many times as long as a listing takes is the pause behind it."""
IDLE_SHARE_OF_TIME: Final = 250.0
"""The same as long as events would tell of news, so that an idle daemon costs little."""
IDLE_POLL_MOST_S: Final = 600.0
"""No idle pause is longer than that, as events get lost."""
IDLE_POLL_LEAST_S: Final = 60.0
"""No poll_s below that is stretched: what others do to a mount may raise no events."""
FILES_CHANGED: Final = "files-changed"
READ_AT_ONCE: Final = 1000
READ_AT_ONCE_S: Final = 0.5
"""So many headers are read, or for so long, before anything else has its turn."""


class Watching:
    """The inbox over time, and what of it stands in the ledger."""

    def __init__(
        self,
        settings: Settings,
        log: Log,
        ledger: Ledger,
        wake: Callable[[], None],
        *,
        bundles: Bundles,
        is_once: bool,
    ) -> None:
        self._settings = settings
        self._log = log
        self._ledger = ledger
        self._wake = wake
        self._bundles = bundles
        self._came_out: set[str] = set()
        holds_s = (0.0, 0.0) if is_once else (settings.truncated_hold_s, settings.gap_hold_s)
        rules = Rules(settings.settle_s, *holds_s)
        self._inbox = Inbox(
            settings.inbox,
            rules,
            _remembered(ledger),
            complete=self._complete(),
            bundles=bundles if settings.archive_depth else None,
            marker=settings.ready_marker or "",
            has_gap=lambda key: bool(gaps(ledger.files.instance_numbers(key.drop, key.uid))),
        )
        self._wakeup = Wakeup(settings.inbox, self._stir)
        self._presence = Presence(log, self._wakeup, settings.poll_s)
        self._silence = Silence()
        self._unannounced = 0
        self._arriving = Arriving(log, ledger)
        self._unoffered: dict[SeriesKey, Tally] = {}
        self._sight = Sight(None)
        self._is_stirred = Flag()
        self._looked_s = self._took_s = 0.0

    @property
    def is_there(self) -> bool:
        """Whether the last look found the inbox."""
        return self._sight.place is not None

    @property
    def is_whole(self) -> bool:
        """Whether all of the inbox could be looked at."""
        return self._presence.is_whole

    @property
    def is_settled(self) -> bool:
        """Whether nothing in the inbox is waited for."""
        is_waited_for = self._unoffered or self._came_out
        return self.is_there and self._inbox.is_settled and not is_waited_for

    @property
    def next_look_s(self) -> float:
        """When to look again, on the monotonic clock."""
        if not self._sight.is_all_read:
            return self._looked_s
        earliest_s = self._looked_s + max(LOOK_PAUSE_S, SHARE_OF_TIME * self._took_s)
        if self._is_stirred.is_set():
            return earliest_s
        poll_s = self._settings.poll_s
        if self._presence.is_watched and poll_s >= IDLE_POLL_LEAST_S:
            poll_s = max(poll_s, min(IDLE_SHARE_OF_TIME * self._took_s, IDLE_POLL_MOST_S))
        return max(earliest_s, min(self._sight.due_s, self._looked_s + poll_s))

    @property
    def arriving(self) -> int:
        """How many series are not complete."""
        return len(self._arriving)

    def start(self) -> None:
        """Watch first, then look: what comes in between is seen by both."""
        self._presence.watch()
        self.look()

    def stop(self) -> None:
        """End the observer."""
        self._wakeup.stop()

    def is_quiet(self, drop: str) -> bool:
        """Tell whether nothing of a drop is waited for; an inbox that is away says nothing."""
        is_seen = drop not in map(drop_of_file, self._came_out)
        return self.is_there and is_seen and self._inbox.is_quiet(drop)

    def tally(self, key: SeriesKey) -> Tally | None:
        """Return the sums over the files of a series as the last look found it."""
        return self._inbox.tally(key)

    def is_complete(self, key: SeriesKey) -> bool:
        """Tell whether a series is complete."""
        return self._inbox.is_complete(key)

    def disturb(self, key: SeriesKey) -> None:
        """Let a series settle anew, because it was found changing while it was read."""
        self._inbox.disturb(key)
        self._is_stirred.set()

    def look_soon(self) -> None:
        """Have the inbox looked at as soon as may be."""
        self._is_stirred.set()

    def note_unpacked(self, bundle: str) -> None:
        """Take note that a bundle was unpacked: what came out is there at the next look."""
        self._came_out.add(bundle)
        self._is_stirred.set()

    def look(self) -> None:
        """List the inbox, or read on in what was found; record and offer what that brings."""
        now_s = time.monotonic()
        if self._sight.is_all_read or now_s - self._looked_s > self._settings.poll_s:
            sight = self._listed(now_s)
        else:
            until_s = now_s + READ_AT_ONCE_S
            sight = self._inbox.read(READ_AT_ONCE, lambda: time.monotonic() > until_s)
        self._sight = sight
        with self._ledger.together():
            self._record(sight)
            news = self._arriving.note(sight)
            for one in news:
                self._unoffered.pop(one.arrival.key, None)
            self._unoffered |= {a.key: a.tally for a in sight.arrivals if a.is_complete}
            self.offer()
        self._arriving.say(news)

    def _listed(self, now_s: float) -> Sight:
        """List the inbox, and say what is news of the inbox itself."""
        is_asked_for = self._is_stirred.is_set() or not self._presence.is_known
        self._is_stirred.clear()
        moved = {f"{path}/" for path in self._came_out if "/" not in path}
        if self._settings.drop_is_complete_on_move:
            moved |= self._wakeup.moved()
        sight = self._inbox.look(now_s, moved)
        if sight.place is not None:
            self._came_out.clear()
        self._looked_s = time.monotonic()
        self._took_s = self._looked_s - now_s
        if self._presence.see(sight):
            self._is_stirred.set()  # what came before the watch is found by another look
        self._say_of_silence(self._silence.looked(now_s, sight.new, is_asked_for=is_asked_for))
        return sight

    def offer(self) -> None:
        """Offer what is complete; a series of which another set is under way has to wait."""
        with self._ledger.together():
            self._unoffered = {k: t for k, t in self._unoffered.items() if not self._offered(k, t)}

    def _offered(self, key: SeriesKey, tally: Tally) -> bool:
        if not is_of_bundle(key.uid) and self._ledger.files.is_archived(key.drop, key.uid):
            self._ledger.drops.owe([key.drop])  # some files went, none came; the others may go too
            return True
        others = self._ledger.jobs.select(State.QUEUED, drop=key.drop, series_uid=key.uid)
        fingerprint = tally.fingerprint
        job = self._ledger.jobs.offer(key.drop, key.uid, fingerprint, tally.files, tally.bytes)
        if job is None:
            return False
        for other in others:
            if other.id != job.id:
                self._log.info(Event.JOB_WITHDRAWN, **job_fields(other), code=FILES_CHANGED)
        if job.state is State.DONE and is_of_bundle(key.uid):
            rows = self._ledger.files.of_series(*key)
            lost = [row for row in rows if not self._is_unpacked(row)]
            job = self._ledger.jobs.retry(job) if lost else job
        if job.state is State.QUEUED:
            self._log.info(Event.JOB_QUEUED, **job_fields(job), files=job.files)
        return True

    def _complete(self) -> dict[SeriesKey, str]:
        """Return the fingerprints of what was offered before and need not be offered again."""
        jobs = self._ledger.jobs.select()
        found = {key_of(j): j.fingerprint for j in jobs if j.state is not State.WITHDRAWN}
        for row in self._ledger.files.archives():
            if not self._is_unpacked(row):
                found.pop(key_of(row), None)
        return found

    def _is_unpacked(self, row: FileRow) -> bool:
        return self._bundles.is_unpacked(Entry(row.path, row.identity))

    def _stir(self) -> None:
        """Take note of an event, in a thread of watchdog's: look as soon as may be."""
        if not self._is_stirred.is_set():
            self._is_stirred.set()
            self._wake()

    def _say_of_silence(self, files: int) -> None:
        if files:
            self._unannounced += files
            self._log.info(Event.FILES_UNANNOUNCED, files=files, total=self._unannounced)

    def _record(self, sight: Sight) -> None:
        if sight.changed or sight.gone:
            gone = ((path, drop_of_file(path)) for path in sight.gone)
            self._ledger.record(map(_row, sight.changed), gone, now=time.time())
        for path in sight.gone:
            if form(path) and not outermost(path):
                self._bundles.forget(path)
        for known in sight.changed:
            cause = known.peek.cause
            if known.peek.kind is Kind.UNREADABLE and cause != "ENOENT":  # the next look says gone
                self._log.warning(Event.FILE_UNREADABLE, file=Name(known.entry.path), cause=cause)


def _row(known: Known) -> FileRow:
    entry, said = known.entry, known.peek
    return FileRow(
        entry.path,
        entry.drop,
        entry.identity,
        said.kind.value,
        said.series_uid,
        said.is_truncated,
        said.instance_number,
    )


def _remembered(ledger: Ledger) -> Iterator[Remembered]:
    """Yield what `_row` wrote down of the files that were in the inbox."""
    for path, identity, kind, uid, is_truncated in ledger.files.present():
        own = uid if kind in (Kind.DICOM, Kind.BUNDLE) else None
        is_left_alone = kind == Kind.NOT_DICOM and form(path) and not outermost(path)
        is_unread = kind == Kind.UNREADABLE or bool(is_left_alone)
        yield Remembered(path, identity, own, is_truncated, is_unread)
