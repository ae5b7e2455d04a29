"""What the frames of a line may be divided by, where they make no grid together.

The parts are acquisitions, stacks, or the moments that have the same places; if nothing that the
frames say divides them, what every place has and what is left. A moment is never mixed with others
because one of its slices is missing, or there twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain, pairwise
from typing import Final

from dicomzarr_watch.dicom.gathering import gathered
from dicomzarr_watch.dicom.grouping import Frame
from dicomzarr_watch.dicom.order import Places
from dicomzarr_watch.dicom.places import number, places
from dicomzarr_watch.dicom.pose import TIME_KEYS, Moment

_ACQUISITION: Final = TIME_KEYS.index("acquisition number")
_OTHERS: Final = [i for i in range(len(TIME_KEYS)) if i != _ACQUISITION]
PARTS_MOST: Final = 64
"""What has more parts numbers something else than volumes."""


def is_even(found: Places) -> bool:
    """Tell whether all places have as many frames."""
    return len({len(place) for place in found}) == 1


def divisions(found: Places) -> Iterator[tuple[str, dict[str, Places]]]:
    """Yield what divides frames, and the parts, each with as many frames at every place."""
    frames = list(chain(*found))
    at = {id(frame): n for n, place in enumerate(found) for frame in place}
    by_number = gathered((_acquisition(f), f) for f in frames)
    if None not in by_number:
        alike = _with_same_places(by_number.values(), at)
        yield from _even("acquisition", _by_numbers(alike))
    if all(frame.pose.stack for frame in frames):
        yield from _even("stack", gathered((f.pose.stack, f) for f in frames))
    for i in _OTHERS:
        moments = gathered((f.pose.times[i], f) for f in frames)
        if None in moments or 2 * len(moments) > len(frames):
            continue  # not known of all, or it numbers frames and not moments
        alike = _with_same_places(moments.values(), at)
        yield from _even("part", {str(n): part for n, part in enumerate(alike, 1)})


def layers(found: Places) -> Iterator[Places]:
    """Yield as many frames as every place has, and so on with what is left.

    Where those would not be moments one after the other, the places that have the usual number of
    frames come first.
    """
    while found:
        ordered = [sorted(place, key=number) for place in found]
        count = min(len(place) for place in ordered)
        if count == 1 or _follow_each_other(ordered, count):
            yield [place[:count] for place in ordered]
            rest = [frame for place in ordered for frame in place[count:]]
        else:
            usual = sorted(len(place) for place in ordered)[len(ordered) // 2]
            yield [place for place in ordered if len(place) == usual]
            rest = [frame for place in ordered if len(place) != usual for frame in place]
        found = places(rest) if rest else []


def _follow_each_other(ordered: Places, count: int) -> bool:
    """Tell whether the first frames of all places were taken before the second ones, and so on."""
    rows = [sorted(number(place[t]) for place in ordered) for t in range(count)]
    return all(one[-1] < other[0] for one, other in pairwise(rows))


def _with_same_places(moments: Iterable[list[Frame]], at: dict[int, int]) -> Iterable[list[Frame]]:
    """Gather moments that have the same places; what one has twice at a place is apart."""
    alike: dict[frozenset[int], list[Frame]] = {}
    for moment in moments:
        by_place = gathered((at[id(f)], f) for f in sorted(moment, key=number))
        for k in range(max(map(len, by_place.values()))):
            once = {n: frames[k] for n, frames in by_place.items() if k < len(frames)}
            alike.setdefault(frozenset(once), []).extend(once.values())
    return alike.values()


def _acquisition(frame: Frame) -> Moment | None:
    return frame.pose.times[_ACQUISITION]


def _numbers(frames: Iterable[Frame]) -> str:
    told = sorted({int(moment[0]) for moment in map(_acquisition, frames) if moment})
    return str(told[0]) if len(told) == 1 else f"{told[0]} to {told[-1]}"


def _by_numbers(parts: Iterable[list[Frame]]) -> dict[str, list[Frame]]:
    """Call parts by their acquisitions; those of the same, as one has a slice twice, are numbered.

    No two of them have one name, or the frames of one would be in no image.
    """
    same = gathered((_numbers(part), part) for part in parts)
    return {
        told if len(found) == 1 else f"{told}, part {n}": part
        for told, found in same.items()
        for n, part in enumerate(found, 1)
    }


def _even(name: str, parts: dict[str, list[Frame]]) -> Iterator[tuple[str, dict[str, Places]]]:
    """Yield a division if it is one."""
    if 1 < len(parts) <= PARTS_MOST:
        found = {value: places(part) for value, part in parts.items()}
        if all(map(is_even, found.values())):
            yield name, found
