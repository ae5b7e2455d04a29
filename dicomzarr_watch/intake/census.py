"""Which files there are, and what each counts for.

As there may be a million files, little is kept of each: its name and state in the columns of its
folder, and the series that it counts for. Of a series it is sums. Time is not known here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from itertools import groupby
from typing import Final, Literal, NamedTuple

from dicomzarr_watch.identity import Identity
from dicomzarr_watch.intake.arrival import SeriesFile, SeriesKey, Tally, tally
from dicomzarr_watch.intake.bundle import form
from dicomzarr_watch.intake.listing import LOOSE, Drops, Folder, drop_of, drop_of_file

HUGE_FILES: Final = 10_000


class _Mark(Enum):
    UNREAD = "unread"


UNREAD: Final = _Mark.UNREAD
"""What a file counts for whose header has not been read since it changed."""
_Counted = SeriesKey | Literal[_Mark.UNREAD] | None


class Remembered(NamedTuple):
    """A file that was known before; uid: of its series, None if it is in none."""

    path: str
    identity: Identity
    uid: str | None
    is_truncated: bool = False
    is_unread: bool = False


@dataclass(frozen=True, slots=True)
class Changes:
    """What a listing changed.

    gone: files that are not there any more. drops: those in which anything differs. new: how many
    files stand where none stood.
    """

    gone: tuple[str, ...]
    drops: frozenset[str]
    new: int


class Census:
    """The files of the last listing.

    tallies: the series that have files. touched: those of which any has changed since somebody
    emptied the set. unread: the drops with files whose headers have not been read, in order.
    """

    def __init__(self) -> None:
        self.drops: Drops = {}
        self.tallies: dict[SeriesKey, Tally] = {}
        self.touched: set[SeriesKey] = set()
        self.unread: dict[str, None] = {}
        self._counted: dict[str, list[_Counted]] = {}
        self._keys: dict[SeriesKey, SeriesKey] = {}
        self._truncated: set[str] = set()

    def take_in(self, found: Drops) -> Changes:
        """Compare with a new listing; files that are new or changed are unread then."""
        gone: list[str] = []
        drops = set()
        files = sum(map(len, self._counted.values()))
        for drop in {**self.drops, **found}:
            before, after = self.drops.get(drop, {}), found.get(drop, {})
            for path in {**before, **after}:
                old, new = before.get(path), after.get(path)
                if old is not new and self._compare(old or Folder(path), new or Folder(path), gone):
                    drops.add(drop)
        self.drops = found
        self.unread = dict.fromkeys(sorted(self.unread, key=self._is_huge))
        self._put_last(found.get(LOOSE, {}).get(""))
        came = sum(map(len, self._counted.values())) - files + len(gone)
        return Changes(tuple(gone), frozenset(drops), came)

    def files(self) -> Iterator[tuple[str, Folder, int]]:
        """Yield the unread files with their drop; each is to be counted before the next."""
        for drop in list(self.unread):
            for path, folder in self.drops.get(drop, {}).items():
                for number, counted in enumerate(self._counted[path]):
                    if counted is UNREAD:
                        yield drop, folder, number
            del self.unread[drop]

    def count(self, folder: Folder, number: int, uid: str | None, *, is_truncated: bool) -> None:
        """Say what an unread file is: one of a series, or none if its UID is None."""
        path = folder.path_of(number)
        key = self._key(drop_of_file(path), uid)
        self._counted[folder.path][number] = key
        if key is not None:
            self._add(key, [SeriesFile(path, folder.identity(number), is_truncated)])

    def remember(self, known: Iterable[Remembered]) -> None:
        """Take in files that were known before; only before the first listing.

        It goes fastest where those of one folder and series follow each other.
        """
        for place, of_folder in groupby(known, lambda one: one.path.rpartition("/")[0]):
            drop = drop_of(place)
            folder = self.drops.setdefault(drop, {}).setdefault(place, Folder(place))
            counted = self._counted.setdefault(place, [])
            for (uid, of), of_series in groupby(of_folder, _in_folder(drop) if place else _loose):
                files = [SeriesFile(path, identity, cut) for path, identity, _, cut, _ in of_series]
                key = self._key(of, uid)
                if key is not None:
                    self._add(key, files)
                counted += [key] * len(files)
                for path, identity, _ in files:
                    folder.names.append(path.rpartition("/")[2])
                    folder.states.extend(identity)

    def forget(self, paths: Iterable[str]) -> None:
        """Have files that count for nothing read again."""
        for _, place, number in self._those_of(paths):
            self._counted[place][number] = UNREAD
            self.unread[drop_of(place)] = None

    def read_of(self, paths: Iterable[str]) -> Iterator[str]:
        """Yield those of some files that are there and were read in the state that they are in."""
        for path, place, number in self._those_of(paths):
            if self._counted[place][number] is not UNREAD:
                yield path

    def _those_of(self, paths: Iterable[str]) -> Iterator[tuple[str, str, int]]:
        """Yield those of some files that are there, with their folder and their number in it.

        Each folder is gone through once, however many of its files are asked for.
        """
        wanted: dict[str, dict[str, str]] = {}
        for path in paths:
            place, _, name = path.rpartition("/")
            wanted.setdefault(place, {})[name] = path
        for place, by_name in wanted.items():
            folder = self.drops.get(drop_of(place), {}).get(place, Folder(place))
            for number, name in enumerate(folder.names):
                if name in by_name:
                    yield by_name[name], place, number

    def _compare(self, old: Folder, new: Folder, gone: list[str]) -> bool:
        """Carry over what files count for that are as they were; return whether any is not."""
        counted = self._counted.pop(old.path, [])
        before = {name: number for number, name in enumerate(old.names)}
        now: list[_Counted] = []
        is_changed = False
        for number, name in enumerate(new.names):
            former = before.pop(name, None)
            if former is not None and old.identity(former) == new.identity(number):
                now.append(counted[former])
                continue
            if former is not None:
                self._remove(old, former, counted[former])
            now.append(UNREAD)
            is_changed = True
        for former in before.values():
            self._remove(old, former, counted[former])
            gone.append(old.path_of(former))
        if now:
            self._counted[new.path] = now
        if is_changed:
            self.unread[drop_of(new.path)] = None
        return is_changed or bool(before)

    def _is_huge(self, drop: str) -> bool:
        """Tell whether reading a drop takes so long that others are read before.

        The loose files are not, as bundles among them make drops that come after.
        """
        folders = self.drops.get(drop, {}).values()
        return drop != LOOSE and sum(len(folder.names) for folder in folders) > HUGE_FILES

    def _put_last(self, loose: Folder | None) -> None:
        """Have the drops of bundles among the loose files unread until those have been read."""
        if loose is None or LOOSE not in self.unread:
            return
        for name, counted in zip(loose.names, self._counted[""], strict=True):
            if counted is UNREAD and form(name):
                drop = drop_of_file(name)
                self.unread.pop(drop, None)
                self.unread[drop] = None

    def _key(self, drop: str, uid: str | None) -> SeriesKey | None:
        """Return the series of a file, always as the same object."""
        if uid is None:
            return None
        key = SeriesKey(drop, uid)
        return self._keys.setdefault(key, key)

    def _add(self, key: SeriesKey, files: list[SeriesFile]) -> None:
        self.touched.add(key)
        before = self.tallies.get(key)
        self.tallies[key] = before.plus(tally(files)) if before else tally(files)
        self._truncated.update(file.path for file in files if file.is_truncated)

    def _remove(self, folder: Folder, number: int, key: _Counted) -> None:
        if not isinstance(key, SeriesKey):
            return
        path = folder.path_of(number)
        file = SeriesFile(path, folder.identity(number), path in self._truncated)
        left = self.tallies[key].minus(tally([file]))
        self._truncated.discard(path)
        self.touched.add(key)
        if left.files:
            self.tallies[key] = left
        else:
            del self.tallies[key], self._keys[key]


def _in_folder(drop: str) -> Callable[[Remembered], tuple[str | None, str]]:
    """Return what tells the series of the files in one folder."""
    return lambda one: (one.uid, drop)


def _loose(one: Remembered) -> tuple[str | None, str]:
    return one.uid, drop_of_file(one.path)
