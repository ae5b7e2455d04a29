"""In which order the frames of one image stand.

z follows the position along the normal. t follows the first of TIME_KEYS that tells frames at one
position apart by the same values at all positions, such as a phase or a b-value; else the first
whose order is that of the last one everywhere. Slices that were taken in turns through the heart's
cycle are no moments by the time of day: their numbers say better what belongs together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Final

from dicomzarr_watch.dicom.grouping import Frame
from dicomzarr_watch.dicom.places import number
from dicomzarr_watch.dicom.pose import TIME_KEYS, Moment

_LONGEST_SCAN: Final = 12e4
"""Twelve hours, in numbers as acquisition times have them: on one day none takes longer."""

Places = list[list[Frame]]
"""The frames of one image by their place, in its order."""
Moments = dict[str, tuple[Moment, ...]]
Key = Callable[[Frame], tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class Order:
    """Frames put in order: t-major, (t, z) of them, and by what.

    is_certain: whether nothing that is said of the moments orders them in another way.
    """

    frames: list[Frame]
    shape: tuple[int, int]
    z_by: str = ""
    t_by: str = ""
    moments: Moments = field(default_factory=dict)
    is_certain: bool = True


def by_position(found: Places) -> Order:
    """Order places that have as many frames each."""
    times = len(found[0])
    if times == 1:
        return Order([place[0] for place in found], (1, len(found)), "position")
    t_by, key, is_certain = _time_key(found)
    ordered = [sorted(place, key=key) for place in found]
    frames = [place[t] for t in range(times) for place in ordered]
    shape = (times, len(found))
    return Order(frames, shape, "position", t_by, _moments(ordered), is_certain)


def _moments(found: Places) -> Moments:
    """Return what all slices of a moment share and those of others do not, by TIME_KEYS."""
    moments: Moments = {}
    for i, name in enumerate(TIME_KEYS):
        shared = [{frame.pose.times[i] for frame in slices} for slices in zip(*found, strict=True)]
        told = [one for values in shared for one in values if one is not None]
        if len(told) == len(shared) == sum(map(len, shared)) and len(set(told)) > 1:
            moments[name] = tuple(told)
    return moments


def by_number(frames: list[Frame]) -> Order:
    """Order what has no place: the frames of one cine are moments, single files are slices."""
    ordered = sorted(frames, key=number)
    runs = {f.pose.concatenation[0] or f.file for f in ordered}
    if len(ordered) > 1 and len(runs) == 1:
        moments = _moments([ordered])
        return Order(ordered, (len(ordered), 1), t_by="frame number", moments=moments)
    return Order(ordered, (1, len(ordered)), z_by="instance number")


def _time_key(found: Places) -> tuple[str, Key, bool]:
    """Choose by what moments are ordered, and tell whether that is certain."""
    telling = [i for i in range(len(TIME_KEYS)) if _tells_apart(found, i)]
    keys = {i: _key(found, i) for i in telling}
    for i in telling:
        if _is_said_alike(found, i):
            ranks = _ranks(found, keys[i], keys[telling[-1]])
            return TIME_KEYS[i], keys[i], _go_one_way(ranks)
    for i in telling:
        ranks = _ranks(found, keys[i], keys[telling[-1]])
        if len(ranks) == 1:
            is_confirmed = len(telling) > 1 or _take_turns(found, i)
            return TIME_KEYS[i], keys[i], i == telling[0] and is_confirmed and _go_one_way(ranks)
    return "file order", lambda f: (f.pose.concatenation[1], f.file, f.number), False


def _tells_apart(found: Places, i: int) -> bool:
    """Tell whether a key is known of all frames and differs at every position.

    Times that begin again at midnight order nothing.
    """
    for place in found:
        told = {frame.pose.times[i] for frame in place}
        if None in told or len(told) < len(place):
            return False
    return TIME_KEYS[i] != "acquisition time" or not _crosses_midnight(
        frame.pose.times[i] for place in found for frame in place
    )


def _is_said_alike(found: Places, i: int) -> bool:
    said = {frame.pose.times[i] for frame in found[0]}
    return all({frame.pose.times[i] for frame in place} == said for place in found)


def _ranks(found: Places, key: Key, other: Key) -> set[tuple[int, ...]]:
    """Return the numbers by another key of frames in the order of a key, for all places."""
    ranks = set()
    for place in found:
        rank = {id(frame): n for n, frame in enumerate(sorted(place, key=other))}
        ranks.add(tuple(rank[id(frame)] for frame in sorted(place, key=key)))
    return ranks


def _go_one_way(ranks: set[tuple[int, ...]]) -> bool:
    """Tell whether two keys order all places alike, or all of them the other way round."""
    return len(ranks) == 1 and all(sorted(r) in (list(r), list(r[::-1])) for r in ranks)


def _take_turns(found: Places, i: int) -> bool:
    """Tell whether by a key one moment follows the other, or one place the other."""
    by_place = [sorted(frame.pose.times[i] or () for frame in place) for place in found]
    by_moment = [list(row) for row in zip(*by_place, strict=True)]
    return any(
        all(ahead[-1] <= row[0] for ahead, row in pairwise(sorted(map(sorted, rows))))
        for rows in (by_place, by_moment)
    )


def _key(found: Places, i: int) -> Key:
    """Return what sorts by one of TIME_KEYS."""
    first: dict[Moment | None, tuple[int, ...]] = {}
    if TIME_KEYS[i] == "b-value and direction":
        # bval and bvec tables list volumes in the order of the scan, and so does t
        for frame in sorted((f for place in found for f in place), key=number, reverse=True):
            first[frame.pose.times[i]] = number(frame)
    return lambda f: (first.get(f.pose.times[i], ()), f.pose.times[i] or (), f.file, f.number)


def _crosses_midnight(moments: Iterable[Moment | None]) -> bool:
    """Tell whether times of one day, or of none, are farther apart than a scan takes."""
    told = [moment for moment in moments if moment]
    times = [moment[-1] for moment in told]
    return len({moment[0] for moment in told}) == 1 and max(times) - min(times) > _LONGEST_SCAN
