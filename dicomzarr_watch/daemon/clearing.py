"""Originals that are archived leave the inbox, if the settings say so; the engine takes them away.

The rule: what is to go is written down before, and goes when drop.json says that it is archived.
So whatever ends the daemon, it is known afterwards what became of a file and what is left to do.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Final

from dicomzarr_watch.archive.work import AfterSuccess
from dicomzarr_watch.config import Settings
from dicomzarr_watch.daemon.emptied import Emptied
from dicomzarr_watch.daemon.leaving import MEMBERS_STAY, Leaver, leaving, portions
from dicomzarr_watch.daemon.mounts import file_system, is_remote, mounts
from dicomzarr_watch.daemon.naming import key_of
from dicomzarr_watch.daemon.pause import patience
from dicomzarr_watch.daemon.tasks import clearing_task
from dicomzarr_watch.daemon.watching import Watching
from dicomzarr_watch.engine.task import Task
from dicomzarr_watch.identity import Identity
from dicomzarr_watch.intake.arrival import SeriesKey
from dicomzarr_watch.intake.bundle import is_of_bundle, outermost
from dicomzarr_watch.intake.bundles import Bundles
from dicomzarr_watch.intake.listing import drop_of
from dicomzarr_watch.ledger.jobs import ACTIVE, backoff_s
from dicomzarr_watch.ledger.rows import FileRow
from dicomzarr_watch.ledger.store import Ledger
from dicomzarr_watch.operate.logs import Event, Log, Name
from dicomzarr_watch.outcome import Ended, Outcome

CLEARING: Final = -1
"""What clearing is called where jobs have their numbers; there is one at a time."""
_DONE: Final = {AfterSuccess.MOVE: "moved", AfterSuccess.DELETE: "deleted"}


class Clearing:
    """What is to leave the inbox, and what is on its way."""

    def __init__(
        self, settings: Settings, log: Log, ledger: Ledger, watching: Watching, bundles: Bundles
    ) -> None:
        self._settings = settings
        self._log = log
        self._ledger = ledger
        self._watching = watching
        self._bundles = bundles
        self._how = _DONE.get(settings.after_success, "")
        # drops that had archived files as the daemon began, until they are accounted for
        self._waiting: set[str] = set()
        # of drops, the portions that may go
        self._todo: dict[str, deque[tuple[Leaver, ...]]] = {}
        # what the engine clears now, of one drop
        self._under_way: tuple[Leaver, ...] = ()
        # of drops, the paths of what went, until a look has missed it
        self._unseen: dict[str, set[str]] = {}
        # by path, the files that stay for good: in this state, and after this job
        self._kept: dict[str, tuple[Identity, int | None]] = {}
        # of drops that are tried again, how often that was and when the next time is
        self._again: dict[str, tuple[int, float]] = {}
        self._emptied = Emptied(settings.inbox, settings.settle_s)

    @property
    def is_wanted(self) -> bool:
        """Whether originals are to go at all."""
        return bool(self._how)

    @property
    def is_under_way(self) -> bool:
        return bool(self._under_way)

    @property
    def is_over(self) -> bool:
        """Whether nothing is to be cleared that has not failed often enough."""
        is_left = self._waiting or self._todo or self._under_way or self._unseen
        is_worth_it = any(tries < self._settings.max_attempts for tries, _ in self._again.values())
        return not (is_left or is_worth_it) and self._emptied.due_s == float("inf")

    @property
    def due_s(self) -> float:
        """When there is something to look at, on the monotonic clock."""
        if not self._watching.is_there:
            return float("inf")
        return min([self._emptied.due_s, *(at for _, at in self._again.values())])

    @property
    def is_ready(self) -> bool:
        """Whether the engine could clear something now."""
        return bool(self._todo) and not self._under_way and self._watching.is_there

    def is_of(self, drop: str) -> bool:
        """Tell whether files of a drop are being cleared now."""
        return self.is_under_way and self._under_way[0].file.drop == drop

    def renounce(self) -> None:
        """Let all originals stay as long as this daemon runs; before anything else is asked."""
        self._how = ""

    def begin(self) -> None:
        """Find out what is left to clear of what was archived before, whatever stayed then."""
        if not self.is_wanted:
            return
        self._kept.clear()
        with suppress(OSError):  # an inbox that is away has no empty folders
            for one in self._settings.inbox.iterdir():
                files = self._ledger.files.of_drop(drop_of(one.name)) if one.is_dir() else ()
                cleared = (f.path for f in files if f.cleared and not outermost(f.path))
                self._emptied.add(cleared, time.monotonic())
        self._waiting = self._ledger.files.archived_drops()

    def remove_folders(self) -> None:
        """Remove folders that were left empty, once it is time."""
        if self._watching.is_there and (count := self._emptied.remove(time.monotonic())):
            self._log.info(Event.FOLDERS_REMOVED, folders=count)

    def due_drops(self) -> set[str]:
        """Return the drops of which something may go as soon as they are reported."""
        now_s = time.monotonic()
        return self._waiting | {drop for drop, (_, at) in self._again.items() if at <= now_s}

    def note_reported(self, drops: Iterable[str]) -> None:
        """Plan what goes of drops, now that drop.json says what the ledger does."""
        for drop in drops if self.is_wanted else ():
            if not self.is_of(drop):
                self._waiting.discard(drop)
                self._plan(drop)

    def _plan(self, drop: str) -> None:
        files = list(self._ledger.files.of_drop(drop))
        jobs = {job.id: job for job in self._ledger.jobs.select(drop=drop)}
        active = {job.series_uid for job in jobs.values() if job.state in ACTIVE}
        is_quiet = self._watching.is_quiet(drop) and not active

        def is_busy(uid: str) -> bool:
            if is_of_bundle(uid):
                return not is_quiet
            return uid in active or not self._watching.is_complete(SeriesKey(drop, uid))

        found = leaving(files, jobs, is_busy)
        self._keep(drop, found.staying, _members_stay())
        left = [leaver for leaver in found.leavers if not self._is_kept(leaver.file)]
        marked = {file.path for file in files if file.cleared and file.is_present}
        unseen = marked & self._unseen.pop(drop, set())
        if unseen:
            self._unseen[drop] = unseen
        leaves = {file.path for leaver in left for file in leaver.files}
        self._ledger.files.note_clearing(marked - leaves - unseen, "")
        self._todo.pop(drop, None)
        if left:
            self._todo[drop] = deque(portions(left))
        if drop in self._again:
            tries, _ = self._again.pop(drop)
            self._again |= {drop: (tries, float("inf"))} if left else {}

    def claimed(self) -> Task | None:
        """Write down what is to go next, and return it for the engine, if there is anything."""
        while self.is_ready:
            drop, portions_left = next(iter(self._todo.items()))
            del self._todo[drop]
            leavers = tuple(filter(self._may_leave, portions_left.popleft()))
            if portions_left:
                self._todo[drop] = portions_left  # after the others
            if leavers:
                paths = (file.path for leaver in leavers for file in leaver.files)
                self._ledger.files.note_clearing(paths, self._how)
                self._under_way = leavers
                is_local = not is_remote(file_system(self._settings.inbox.resolve(), mounts()))
                return clearing_task(
                    drop, leavers, self._settings, self._bundles, is_local=is_local
                )
        return None

    def take_in(self, outcome: Outcome) -> None:
        """Record and say what went, and what stays."""
        of = {leaver.file.path: leaver for leaver in self._under_way}
        drop = self._under_way[0].file.drop
        self._under_way = ()
        kept: Mapping[str, Outcome] = dict.fromkeys(of, outcome)
        if outcome.ended is Ended.DONE:
            kept = outcome.summary["kept"]
            self._note_gone(drop, outcome, [of[path] for path in of if path not in kept])
        for why in {found.code: found for found in kept.values()}.values():
            files = [of[path].file for path, found in kept.items() if found.code == why.code]
            self._keep(drop, files, why)
        if not self._ledger.jobs.is_active(drop):
            self._bundles.put_away(drop)
        self._watching.look_soon()

    def _note_gone(self, drop: str, outcome: Outcome, gone: list[Leaver]) -> None:
        if not gone:
            return
        self._again.pop(drop, None)
        paths = (file.path for leaver in gone for file in leaver.files)
        self._unseen.setdefault(drop, set()).update(paths)
        self._emptied.add((leaver.file.path for leaver in gone), time.monotonic())
        size = outcome.summary["bytes"]
        self._log.info(
            Event.ORIGINALS_CLEARED, drop=Name(drop), files=len(gone), bytes=size, done=self._how
        )

    def _keep(self, drop: str, files: Iterable[FileRow], why: Outcome) -> None:
        """Take note that files stay: for good, or until they are tried again; say it once."""
        news = [file for file in files if not self._is_kept(file)]
        if not news or why.ended is Ended.CHANGED:
            return  # of what changed the next look tells
        tries = 0
        if why.ended is Ended.REJECTED:
            self._kept |= {file.path: (file.identity, file.job) for file in news}
        else:
            self._todo.pop(drop, None)
            tries, _ = self._again.get(drop, (0, 0.0))
            pause_s = backoff_s(tries, patience(self._settings))
            self._again[drop] = tries + 1, time.monotonic() + pause_s
        if not tries:
            said = {"drop": Name(drop), "code": why.code, "told": why.told, "files": len(news)}
            self._log.warning(Event.ORIGINALS_KEPT, **said, **self._log.private(why.private))

    def _is_kept(self, file: FileRow) -> bool:
        return self._kept.get(file.path) == (file.identity, file.job)

    def _may_leave(self, leaver: Leaver) -> bool:
        """Tell whether all that was decided over still holds."""
        for file in leaver.files:
            now = self._ledger.files.get(file.path)
            if now is None or not now.is_present:
                return False
            if (now.identity, now.job) != (file.identity, file.job):
                return False
            if not self._watching.is_complete(key_of(file)):
                return False
        return not (leaver.is_bundle and self._ledger.jobs.is_active(leaver.file.drop))


def _members_stay() -> Outcome:
    told = "not all that came out of a zip or tar file is archived, so it stays as it is"
    return Outcome(Ended.REJECTED, MEMBERS_STAY, told)
