"""When is a series complete? A pure function of what is known, what is seen, and the time.

The rule: not one file of the series has changed for `settle_s` over two looks, and none is
truncated. A truncated file holds its series for `truncated_hold_s` at most. Nothing is held for
ever. Time is a monotonic clock of our own; the files' times are compared, never believed.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from dicomzarr_watch.identity import Stamp

_MARKS: Final = 1 << 256
_STAMP: Final = struct.Struct("<4q")


@dataclass(frozen=True, slots=True, order=True)
class SeriesKey:
    """A series of one drop; an empty UID gathers DICOM files that bear none."""

    drop: str
    uid: str


class SeriesFile(NamedTuple):
    """A file of a series as it is seen; stamp: the numbers of its identity."""

    path: str
    stamp: Stamp
    is_truncated: bool = False


@dataclass(frozen=True, slots=True)
class Tally:
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
        return Tally(
            self.files - other.files,
            self.bytes - other.bytes,
            self.truncated - other.truncated,
            (self.mark - other.mark) % _MARKS,
        )


def tally(files: Iterable[SeriesFile]) -> Tally:
    """Return the sums over some files."""
    count = size = truncated = mark = 0
    for path, stamp, is_truncated in files:
        count += 1
        size += stamp[0]
        truncated += is_truncated
        state = _STAMP.pack(*stamp) + path.encode("utf-8", "surrogateescape")
        mark += int.from_bytes(hashlib.sha256(state).digest())
    return Tally(count, size, truncated, mark % _MARKS)


@dataclass(frozen=True, slots=True)
class Rules:
    """How long to wait, in seconds."""

    settle_s: float
    truncated_hold_s: float


@dataclass(frozen=True, slots=True)
class Growth:
    """What is remembered of a series between looks.

    since_s: when its present set of files was first seen. looks: how often since.
    """

    tally: Tally
    since_s: float
    looks: int


@dataclass(frozen=True, slots=True)
class Arrival:
    """A series at this look.

    waits_for: empty if complete, else `settle` or `truncated`. due_s: when to look again.
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
) -> tuple[Arrival, ...]:
    """Judge every series that is seen; one that is no longer seen is not spoken of."""
    return tuple(
        _arrival(key, known.get(key), found, now_s, rules) for key, found in sorted(seen.items())
    )


def _arrival(
    key: SeriesKey, known: Growth | None, found: Tally, now_s: float, rules: Rules
) -> Arrival:
    if known is None or known.tally != found:
        growth = Growth(found, now_s, 1)
    else:
        growth = Growth(found, known.since_s, known.looks + 1)
    hold_s = max(rules.settle_s, rules.truncated_hold_s if found.truncated else 0.0)
    settled_s = growth.since_s + rules.settle_s
    due_s = growth.since_s + hold_s
    if now_s < settled_s or growth.looks < 2:
        return Arrival(key, growth, "settle", settled_s)
    if now_s < due_s:
        return Arrival(key, growth, "truncated", due_s)
    return Arrival(key, growth, "", now_s)
