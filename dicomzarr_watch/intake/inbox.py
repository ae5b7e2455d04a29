"""The inbox over time: each look compares the listing with what is known and peeks at the rest."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dicomzarr_watch.intake.arrival import (
    Arrival,
    Growth,
    Rules,
    SeriesFile,
    SeriesKey,
    arrivals,
)
from dicomzarr_watch.intake.listing import Entry, Listing, Place, listing
from dicomzarr_watch.intake.peek import Kind, Peek, Peeks

UNREADABLE_AGAIN_S: Final = 2.0
UNREADABLE_AGAIN_MOST_S: Final = 300.0


@dataclass(frozen=True, slots=True)
class Known:
    """A file and what its header said when it was in this state."""

    entry: Entry
    peek: Peek


@dataclass(frozen=True, slots=True)
class Sight:
    """What one look found.

    place: which folder it was; None if the inbox is not there, and then nothing else is said.
    unreadable: folders that could not be listed. fresh: drops that changed less than `settle_s`
    ago. due_s: when to look again at the latest; infinity if nothing is waited for.
    """

    place: Place | None
    arrivals: tuple[Arrival, ...] = ()
    changed: tuple[Known, ...] = ()
    gone: tuple[str, ...] = ()
    unreadable: tuple[str, ...] = ()
    fresh: frozenset[str] = frozenset()
    due_s: float = float("inf")


class Inbox:
    """What is known of the inbox; starts from what was known before, if anything."""

    def __init__(
        self,
        folder: Path,
        rules: Rules,
        known: Iterable[Known] = (),
        *,
        peek: Callable[[Path], Peek] | None = None,
    ) -> None:
        self.folder = folder
        self._rules = rules
        self._peek = peek or Peeks()
        self._known = {k.entry.path: k for k in known}
        self._place: Place | None = None
        self._growths: dict[SeriesKey, Growth] = {}
        self._changed_s: dict[str, float] = {}
        self._again = {
            path: (0, float("-inf"))
            for path, k in self._known.items()
            if k.peek.kind is Kind.UNREADABLE
        }

    def look(self, now_s: float) -> Sight:
        """List the inbox and judge what stands in it; time is a monotonic clock, seconds."""
        found = listing(self.folder)
        if found is None:
            return Sight(None)
        changed = self._take_in(found, now_s)
        gone = self._let_go(found, now_s)
        if self._place not in (None, found.place):
            gone = []  # another folder says nothing of what was in this one
        self._place = found.place
        judged = arrivals(self._growths, self._series(), now_s, self._rules)
        self._growths = {a.key: a.growth for a in judged}
        settled_s = {drop: at + self._rules.settle_s for drop, at in self._changed_s.items()}
        fresh = frozenset(drop for drop, at in settled_s.items() if at > now_s)
        self._changed_s = {drop: self._changed_s[drop] for drop in fresh}
        waits = [a.due_s for a in judged if not a.is_complete]
        waits += [settled_s[drop] for drop in fresh]
        waits += [at for _, at in self._again.values() if at > now_s]
        due_s = min(waits, default=float("inf"))
        return Sight(
            found.place, judged, tuple(changed), tuple(gone), found.unreadable, fresh, due_s
        )

    def disturb(self, key: SeriesKey) -> None:
        """Let a series settle anew, because it was found changing while it was read."""
        self._growths.pop(key, None)

    def _take_in(self, found: Listing, now_s: float) -> list[Known]:
        """Peek at what is new, changed, or could not be read before."""
        changed = []
        for entry in found.entries:
            known = self._known.get(entry.path)
            is_same = known is not None and known.entry.identity == entry.identity
            if is_same and self._again.get(entry.path, (0, float("inf")))[1] > now_s:
                continue
            seen = Known(entry, self._peeked(entry, now_s))
            if not is_same:
                self._changed_s[entry.drop] = now_s
            if seen != known:
                self._known[entry.path] = seen
                changed.append(seen)
        return changed

    def _peeked(self, entry: Entry, now_s: float) -> Peek:
        if entry.is_temporary:
            return Peek(Kind.TEMPORARY)
        found = self._peek(self.folder / entry.path)
        if found.kind is not Kind.UNREADABLE:
            self._again.pop(entry.path, None)
        else:
            tries, _ = self._again.get(entry.path, (0, 0.0))
            pause_s = min(UNREADABLE_AGAIN_S * 2**tries, UNREADABLE_AGAIN_MOST_S)
            self._again[entry.path] = (min(tries + 1, 30), now_s + pause_s)
        return found

    def _let_go(self, found: Listing, now_s: float) -> list[str]:
        """Forget what is gone; nothing is concluded below a folder that could not be listed."""
        if len(found.entries) == len(self._known):
            return []
        hidden = tuple(f"{folder}/" for folder in found.unreadable)
        seen = {entry.path for entry in found.entries}
        gone = [p for p in self._known if p not in seen and not p.startswith(hidden)]
        for path in gone:
            self._changed_s[self._known.pop(path).entry.drop] = now_s
            self._again.pop(path, None)
        return gone

    def _series(self) -> dict[SeriesKey, tuple[SeriesFile, ...]]:
        found: dict[SeriesKey, list[SeriesFile]] = defaultdict(list)
        for known in self._known.values():
            entry, said = known.entry, known.peek
            if said.kind is Kind.DICOM:
                file = SeriesFile(entry.path, entry.identity, said.is_truncated)
                found[SeriesKey(entry.drop, said.series_uid)].append(file)
        return {key: tuple(files) for key, files in found.items()}
