"""When is a series complete? A pure function of what is known, what is seen, and the time.

The rule: not one file of the series has changed for `settle_s` over two looks, and none is
truncated. A truncated file holds its series for `truncated_hold_s` at most. Nothing is held for
ever. Time is a monotonic clock of our own; the files' times are compared, never believed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from dicomzarr_watch.identity import Identity


@dataclass(frozen=True, slots=True, order=True)
class SeriesKey:
    """A series of one drop; an empty UID gathers DICOM files that bear none."""

    drop: str
    uid: str


@dataclass(frozen=True, slots=True)
class SeriesFile:
    """A file of a series as it is seen."""

    path: str
    identity: Identity
    is_truncated: bool = False


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

    fingerprint: str
    since_s: float
    looks: int


@dataclass(frozen=True, slots=True)
class Arrival:
    """A series at this look.

    waits_for: empty if complete, else `settle` or `truncated`. due_s: when to look again.
    """

    key: SeriesKey
    growth: Growth
    files: tuple[SeriesFile, ...]
    waits_for: str
    due_s: float

    @property
    def is_complete(self) -> bool:
        return not self.waits_for

    @property
    def truncated(self) -> tuple[str, ...]:
        return tuple(f.path for f in self.files if f.is_truncated)


def fingerprint(files: Iterable[SeriesFile]) -> str:
    """Return the identity of a set of files in their present state."""
    digest = hashlib.sha256()
    for file in sorted(files, key=lambda f: f.path):
        i = file.identity
        line = f"{file.path}\0{i.size} {i.mtime_ns} {i.ctime_ns} {i.inode}\n"
        digest.update(line.encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def arrivals(
    known: Mapping[SeriesKey, Growth],
    seen: Mapping[SeriesKey, tuple[SeriesFile, ...]],
    now_s: float,
    rules: Rules,
) -> tuple[Arrival, ...]:
    """Judge every series that is seen; one that is no longer seen is not spoken of."""
    return tuple(
        _arrival(key, known.get(key), files, now_s, rules) for key, files in sorted(seen.items())
    )


def _arrival(
    key: SeriesKey,
    known: Growth | None,
    files: tuple[SeriesFile, ...],
    now_s: float,
    rules: Rules,
) -> Arrival:
    found = fingerprint(files)
    if known is None or known.fingerprint != found:
        growth = Growth(found, now_s, 1)
    else:
        growth = Growth(found, known.since_s, known.looks + 1)
    is_truncated = any(f.is_truncated for f in files)
    hold_s = max(rules.settle_s, rules.truncated_hold_s if is_truncated else 0.0)
    settled_s = growth.since_s + rules.settle_s
    due_s = growth.since_s + hold_s
    if now_s < settled_s or growth.looks < 2:
        return Arrival(key, growth, files, "settle", settled_s)
    if now_s < due_s:
        return Arrival(key, growth, files, "truncated", due_s)
    return Arrival(key, growth, files, "", now_s)
