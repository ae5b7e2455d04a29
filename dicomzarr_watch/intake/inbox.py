"""The inbox over time: a look compares the listing with what is known; what is new is then read.

Looking and reading are apart, as a million new files take minutes to read. A series is judged once
for each look, and not before all of its drop has been read.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Final, NamedTuple

from dicomzarr_watch.identity import Identity, Place
from dicomzarr_watch.intake.arrival import (
    Arrival,
    Haste,
    Rules,
    SeriesKey,
    Tally,
    arrivals,
)
from dicomzarr_watch.intake.bundle import form, outermost, series_uid
from dicomzarr_watch.intake.bundles import Bundles
from dicomzarr_watch.intake.census import Census, Remembered
from dicomzarr_watch.intake.listing import (
    Entry,
    Folder,
    Listing,
    drop_of,
    drop_of_file,
    listing,
)
from dicomzarr_watch.intake.peek import Peek, Peeks
from dicomzarr_watch.kind import Kind

UNREADABLE_AGAIN_S: Final = 2.0
UNREADABLE_AGAIN_MOST_S: Final = 300.0


class Known(NamedTuple):
    """A file and what its header said when it was in this state."""

    entry: Entry
    peek: Peek


@dataclass(frozen=True, slots=True)
class Sight:
    """What is news after a look, or after reading on.

    place: which folder it was; None if the inbox is not there, and then nothing else is said.
    arrivals: the series that were judged: all that are not complete, and those that just became it.
    over: series that have no file any more. unreadable: folders that could not be looked at as a
    whole. new: how many files stand where none stood at the look before.
    is_all_read: whether the headers of all files that were listed have been read. due_s: when to
    look again at the latest; infinity if nothing is waited for.
    """

    place: Place | None
    arrivals: tuple[Arrival, ...] = ()
    over: tuple[SeriesKey, ...] = ()
    changed: tuple[Known, ...] = ()
    gone: tuple[str, ...] = ()
    unreadable: tuple[str, ...] = ()
    is_all_read: bool = True
    due_s: float = float("inf")
    new: int = 0


class Inbox:
    """What is known of the inbox."""

    def __init__(
        self,
        folder: Path,
        rules: Rules,
        known: Iterable[Remembered] = (),
        *,
        complete: Mapping[SeriesKey, str] | None = None,
        bundles: Bundles | None = None,
        marker: str = "",
        has_gap: Callable[[SeriesKey], bool] = lambda _: False,
        peek: Callable[[str], Peek] | None = None,
    ) -> None:
        """Start from what was known before, if anything.

        complete: fingerprints of series that were complete; as long as they are the same they are.
        bundles: what came out of zip and tar files; without it they are files like others.
        marker: the name of a file that says that nothing more comes into its drop; empty for none.
        has_gap: tells whether instance numbers of a series are missing.
        """
        self.folder = folder
        self._rules = rules
        self._bundles = bundles
        self._marker = marker
        self._has_gap = has_gap
        self._peek = peek or Peeks()
        self._census = Census()
        self._place: Place | None = None
        self._unsaid: set[str] = set()
        self._looked_s = float("-inf")
        self._open: dict[str, dict[SeriesKey, Arrival | None]] = {}
        self._changed_s: dict[str, float] = {}
        self._haste: dict[str, Haste] = {}
        self._spent: dict[str, Identity] = {}
        self._moved: set[str] = set()
        self._again: dict[str, tuple[int, float]] = {}
        self._reading: Iterator[tuple[str, Folder, int]] = iter(())
        self._unjudged: deque[str] = deque()
        self._census.remember(self._noted(known))
        self._open_touched()
        for key, fingerprint in (complete or {}).items():
            tally = self._census.tallies.get(key)
            if tally is not None and tally.fingerprint == fingerprint:
                self._close(key)
        for drop in self._census.drops.keys() - self._open.keys() if marker else ():
            self._spend(drop)

    @property
    def is_settled(self) -> bool:
        """Whether nothing is waited for."""
        return not (self._open or self._changed_s or self._census.unread)

    def is_quiet(self, drop: str) -> bool:
        """Tell whether nothing of a drop is waited for."""
        return not any(drop in part for part in (self._open, self._changed_s, self._census.unread))

    def tally(self, key: SeriesKey) -> Tally | None:
        """Return the sums over the files of a series, if it has any."""
        return self._census.tallies.get(key)

    def is_complete(self, key: SeriesKey) -> bool:
        """Tell whether a series has been complete since its files last changed."""
        return key in self._census.tallies and key not in self._open.get(key.drop, {})

    def disturb(self, key: SeriesKey) -> None:
        """Let a series settle anew, because it was found changing while it was read."""
        if key in self._census.tallies:
            self._open.setdefault(key.drop, {})[key] = None

    def look(self, now_s: float, moved: Collection[str] = ()) -> Sight:
        """List the inbox and judge what needs no reading; time is a monotonic clock, seconds.

        moved: folders straight in the inbox that were moved there in whole since the last look, and
        bundles, with a slash behind them, that were unpacked since.
        """
        inside = self._bundles.folders if self._bundles else lambda _: ()
        found = listing(self.folder, self._census.drops, inside)
        if found is None:
            return Sight(None)
        changes = self._census.take_in(found.drops)
        gone = self._gone(found, changes.gone)
        self._place, self._looked_s = found.place, now_s
        self._try_again(now_s)
        self._reading = self._census.files()
        self._unjudged = deque(self._census.unread)
        self._open_touched()
        self._hurry({drop_of(name) for name in moved if self._is_all(name)}, changes.drops)
        self._changed_s |= dict.fromkeys(changes.drops, now_s)
        self._changed_s = {
            drop: at
            for drop, at in self._changed_s.items()
            if at + self._rules.settle_s > now_s and drop not in self._haste
        }
        ready = [drop for drop in self._open if drop not in self._census.unread]
        sight = self._sight(ready, gone=gone)
        return replace(sight, unreadable=found.unreadable, new=changes.new)

    def _gone(self, found: Listing, missing: tuple[str, ...]) -> tuple[str, ...]:
        """Return which files are not there any more, of those that are missing.

        Another folder says nothing of drops of which it has nothing. What is missing in it is said
        once there is anything of the drop.
        """
        said = set(missing) if self._is_same(found) else set()
        self._unsaid = (self._unsaid | set(missing)) - said
        told = {path for path in self._unsaid if drop_of_file(path) in found.drops}
        if told and not found.unreadable:
            self._unsaid -= told
            folders = (f for drop in {*map(drop_of_file, told)} for f in found.drops[drop].values())
            said |= told.difference(f.path_of(n) for f in folders for n in range(len(f.names)))
        return tuple(sorted(said))

    def _is_same(self, found: Listing) -> bool:
        """Tell whether this is the folder that was known; another says nothing of what was in it.

        One with nothing in it as the daemon starts may be where a mount is missing.
        """
        if self._place is None:
            return bool(found.drops) or _has_anything(self.folder)
        return found.place == self._place

    def read(self, most: int, is_enough: Callable[[], bool] = lambda: False) -> Sight:
        """Read the headers of at most so many files; judge the drops that are read to the end.

        is_enough: asked behind each of them whether to leave it at that.
        """
        changed = []
        for _, folder, number in islice(self._reading, most):
            entry = folder.entry(number)
            is_news = entry.path not in self._again
            seen = self._peeked(entry)
            self._census.count(folder, number, _uid(seen), is_truncated=seen.is_truncated)
            if is_news or seen.kind is not Kind.UNREADABLE:
                changed.append(Known(entry, seen))
            if is_enough():
                break
        self._open_touched()
        ready = []
        while self._unjudged and self._unjudged[0] not in self._census.unread:
            ready.append(self._unjudged.popleft())
        return self._sight(ready, changed=tuple(changed))

    def _sight(
        self,
        ready: Iterable[str],
        changed: tuple[Known, ...] = (),
        gone: tuple[str, ...] = (),
    ) -> Sight:
        """Judge the open series of drops that are ready."""
        keys = [key for drop in ready for key in self._open.get(drop, ())]
        tallies = self._census.tallies
        seen = {key: tallies[key] for key in keys if key in tallies}
        known = {key: a.growth for key in seen if (a := self._open[key.drop][key])}
        judged = arrivals(
            known, seen, self._looked_s, self._rules, haste=self._haste, has_gap=self._has_gap
        )
        for arrival in judged:
            self._open[arrival.key.drop][arrival.key] = arrival
        over = tuple(key for key in keys if key not in seen)
        for key in (*over, *(a.key for a in judged if a.is_complete)):
            self._close(key)
        is_all_read = not self._census.unread
        due_s = self._due_s() if is_all_read else self._looked_s
        return Sight(self._place, judged, over, changed, gone, is_all_read=is_all_read, due_s=due_s)

    def _due_s(self) -> float:
        waits = [a.due_s for drop in self._open.values() for a in drop.values() if a]
        waits += [at + self._rules.settle_s for at in self._changed_s.values()]
        waits += [at for _, at in self._again.values() if at > self._looked_s]
        return min(waits, default=float("inf"))

    def _hurry(self, moved: set[str], changed: frozenset[str]) -> None:
        """Say of which drops two looks from now on are enough.

        One that was moved in is hurried over two looks, or until all of it is read, as long as
        nothing in it changes; then it is like any other.
        """
        before = self._haste
        marked = {drop for drop in {*self._open, *changed} if self._is_marked(drop)}
        hurried = moved | (self._moved - changed)
        self._moved = moved | (hurried & self._census.unread.keys())
        self._haste = dict.fromkeys(hurried, Haste.MOVED) | dict.fromkeys(marked, Haste.MARKED)
        for drop, haste in self._haste.items():
            if before.get(drop) is not haste:
                for key in self._open.get(drop, ()):
                    self._open[drop][key] = None

    def _is_all(self, moved: str) -> bool:
        """Tell whether all of a drop is in what was moved or unpacked."""
        folders = self._census.drops.get(drop_of(moved), {})
        return all(f"{path}/".startswith(f"{moved}/") for path in folders)

    def _is_marked(self, drop: str) -> bool:
        marker = self._marker_of(drop)
        return marker is not None and marker != self._spent.get(drop)

    def _spend(self, drop: str) -> None:
        """Let a marker say nothing of what comes once all of its drop was complete with it.

        Who uses the drop's name again puts it there anew; before, it is the one of the last time.
        What is to come out of a bundle is of this time.
        """
        marker = self._marker_of(drop)
        if marker is not None and not any(
            form(name) for folder in self._census.drops[drop].values() for name in folder.names
        ):
            self._spent[drop] = marker

    def _marker_of(self, drop: str) -> Identity | None:
        folders = self._census.drops.get(drop, {})
        top = next((folder for path, folder in folders.items() if "/" not in path), None)
        if top is None or not top.path or self._marker not in top.names:
            return None
        return top.identity(top.names.index(self._marker))

    def _open_touched(self) -> None:
        for key in self._census.touched:
            self._open.setdefault(key.drop, {}).setdefault(key, None)
        self._census.touched.clear()

    def _close(self, key: SeriesKey) -> None:
        of_drop = self._open[key.drop]
        del of_drop[key]
        if not of_drop:
            del self._open[key.drop]
            self._spend(key.drop)

    def _peeked(self, entry: Entry) -> Peek:
        if self._marker and entry.path.partition("/")[1:] == ("/", self._marker):
            return Peek(Kind.MARKER)
        if entry.is_temporary:
            return Peek(Kind.TEMPORARY)
        if self._bundles and outermost(entry.path):
            return self._bundles.peek(entry.path)
        found = self._peek(f"{self.folder}/{entry.path}")
        if found.kind is Kind.NOT_DICOM and self._is_bundle(entry.path):
            found = Peek(Kind.BUNDLE, series_uid(entry.path))
        tries, _ = self._again.pop(entry.path, (0, 0.0))
        if found.kind is Kind.UNREADABLE:
            pause_s = min(UNREADABLE_AGAIN_S * 2**tries, UNREADABLE_AGAIN_MOST_S)
            self._again[entry.path] = (min(tries + 1, 30), self._looked_s + pause_s)
        return found

    def _is_bundle(self, path: str) -> bool:
        return self._bundles is not None and form(path) is not None and not outermost(path)

    def _noted(self, known: Iterable[Remembered]) -> Iterator[Remembered]:
        """Have what was not read before read again."""
        for one in known:
            if one.is_unread:
                self._again[one.path] = (0, float("-inf"))
            yield one

    def _try_again(self, now_s: float) -> None:
        """Have files read again that could not be; forget those that changed or are gone."""
        self._again = {path: self._again[path] for path in self._census.read_of(self._again)}
        self._census.forget(path for path, (_, at) in self._again.items() if at <= now_s)


def _uid(found: Peek) -> str | None:
    """Return the series that a file counts for; None for what is to be read no further."""
    return found.series_uid if found.kind in (Kind.DICOM, Kind.BUNDLE) else None


def _has_anything(folder: Path) -> bool:
    try:
        return any(folder.iterdir())
    except OSError:
        return False
