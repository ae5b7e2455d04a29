"""When is a series complete? A pure function of what is known, what is seen, and the time.

The rule: not one file of the series has changed for `settle_s` over two looks, and none is
truncated. A truncated file holds its series for `truncated_hold_s` at most, a gap in its instance
numbers for `gap_hold_s`. Who moved a folder in whole, or put a marker into it, need not wait, but
two looks have to agree all the same. Nothing is held for ever. Time is a monotonic clock of our
own; the files' times are compared, never believed.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from itertools import pairwise
from typing import Final, NamedTuple

from dicomzarr_watch.identity import Identity

_MARKS: Final = 1 << 256
_IDENTITY: Final = struct.Struct("<4q")


class SeriesKey(NamedTuple):
    """A series of one drop; an empty UID gathers DICOM files that bear none."""

    drop: str
    uid: str


class SeriesFile(NamedTuple):
    """A file of a series as it is seen."""

    path: str
    identity: Identity
    is_truncated: bool = False


class Tally(NamedTuple):
    """A set of files as sums over them, so that one more or less is one step.

    mark: the sum of the hashes of the files in their present state, modulo 2**256. It is the
    identity of the set, whatever the order.
    """

    files: int = 0
    bytes: int = 0
    truncated: int = 0
    mark: int = 0

    @property
    def fingerprint(self) -> str:
        return f"{self.mark:064x}"

    def plus(self, other: Tally) -> Tally:
        """Return the sums over these files and others."""
        return Tally(
            self.files + other.files,
            self.bytes + other.bytes,
            self.truncated + other.truncated,
            (self.mark + other.mark) % _MARKS,
        )

    def minus(self, other: Tally) -> Tally:
        """Return the sums over these files without some of them."""
        return self.plus(Tally(*(-count for count in other)))


def tally(files: Iterable[SeriesFile]) -> Tally:
    """Return the sums over some files."""
    count = size = truncated = mark = 0
    for path, identity, is_truncated in files:
        count += 1
        size += identity.size
        truncated += is_truncated
        state = _IDENTITY.pack(*identity) + path.encode("utf-8", "surrogateescape")
        mark += int.from_bytes(hashlib.sha256(state).digest())
    return Tally(count, size, truncated, mark % _MARKS)


@dataclass(frozen=True, slots=True)
class Rules:
    """How long to wait, in seconds."""

    settle_s: float
    truncated_hold_s: float
    gap_hold_s: float = 0.0


class Haste(Enum):
    """Why a drop need not settle.

    MOVED: it was moved in whole; what is truncated may still be written to. MARKED: its producer
    says that nothing more comes.
    """

    MOVED = "moved"
    MARKED = "marked"


@dataclass(frozen=True, slots=True)
class Growth:
    """What is remembered of a series between looks.

    since_s: when its present set of files was first seen. looks: how often since. has_gap: whether
    instance numbers are missing; None if nobody has asked.
    """

    tally: Tally
    since_s: float
    looks: int
    has_gap: bool | None = None


@dataclass(frozen=True, slots=True)
class Arrival:
    """A series at this look.

    waits_for: empty if complete, else `settle`, `truncated` or `gap`. due_s: when to look again.
    """

    key: SeriesKey
    growth: Growth
    waits_for: str
    due_s: float

    @property
    def is_complete(self) -> bool:
        return not self.waits_for

    @property
    def tally(self) -> Tally:
        return self.growth.tally


def arrivals(
    known: Mapping[SeriesKey, Growth],
    seen: Mapping[SeriesKey, Tally],
    now_s: float,
    rules: Rules,
    *,
    haste: Mapping[str, Haste] | None = None,
    has_gap: Callable[[SeriesKey], bool] = lambda _: False,
) -> tuple[Arrival, ...]:
    """Judge every series that is seen; one that is no longer seen is not spoken of.

    haste: of drops that need not settle. has_gap: asked at most once of a set of files, and only
    if all that matters is the answer.
    """
    found = []
    for key, tally in sorted(seen.items()):
        hurried = _hurried(rules, (haste or {}).get(key.drop))
        found.append(_arrival(key, _grown(known.get(key), tally, now_s), now_s, hurried, has_gap))
    return tuple(found)


def _hurried(rules: Rules, haste: Haste | None) -> Rules:
    match haste:
        case Haste.MOVED:
            return replace(rules, settle_s=0.0)
        case Haste.MARKED:
            return Rules(0.0, 0.0, 0.0)
    return rules


def _grown(known: Growth | None, found: Tally, now_s: float) -> Growth:
    if known is None or known.tally != found:
        return Growth(found, now_s, 1)
    return replace(known, looks=known.looks + 1)


def _arrival(
    key: SeriesKey, growth: Growth, now_s: float, rules: Rules, has_gap: Callable[[SeriesKey], bool]
) -> Arrival:
    settled_s = growth.since_s + rules.settle_s
    if now_s < settled_s or growth.looks < 2:
        return Arrival(key, growth, "settle", settled_s)
    due_s = growth.since_s + rules.truncated_hold_s
    if growth.tally.truncated and now_s < due_s:
        return Arrival(key, growth, "truncated", due_s)
    due_s = growth.since_s + rules.gap_hold_s
    if now_s < due_s:
        if growth.has_gap is None:
            growth = replace(growth, has_gap=has_gap(key))
        if growth.has_gap:
            return Arrival(key, growth, "gap", due_s)
    return Arrival(key, growth, "", now_s)


def gaps(numbers: Iterable[int]) -> tuple[tuple[int, int], ...]:
    """Return the first and last of each run of integers that is missing between others."""
    there = sorted(set(numbers))
    return tuple((a + 1, b - 1) for a, b in pairwise(there) if b - a > 1)
