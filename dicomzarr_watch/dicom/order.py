"""In which order the frames of one image stand.

z follows the position along the normal, and t the first of TIME_KEYS that tells frames at one
position apart.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

from dicomzarr_watch.dicom.grouping import Frame
from dicomzarr_watch.dicom.places import number
from dicomzarr_watch.dicom.pose import TIME_KEYS, Moment

_LONGEST_SCAN: Final = 12e4
"""Twelve hours, in numbers as acquisition times have them: on one day none takes longer."""
_ONE_DAY: Final = 1e6

Places = list[list[Frame]]
"""The frames of one image by their place, in its order."""


@dataclass(frozen=True, slots=True)
class Order:
    """Frames put in order: t-major, (t, z) of them, and by what."""

    frames: list[Frame]
    shape: tuple[int, int]
    z_by: str = ""
    t_by: str = ""
    moments: tuple[Moment, ...] = ()


def by_position(found: Places) -> Order:
    """Order places that have as many frames each."""
    times = len(found[0])
    t_by, key = _time_key(found)
    ordered = [sorted(place, key=key) for place in found]
    frames = [place[t] for t in range(times) for place in ordered]
    if times == 1:
        return Order(frames, (1, len(found)), "position")
    moments: tuple[Moment, ...] = ()
    if t_by in TIME_KEYS:
        told = [place.pose.times[TIME_KEYS.index(t_by)] for place in ordered[0]]
        moments = tuple(moment or () for moment in told)
    return Order(frames, (times, len(found)), "position", t_by, moments)


def by_number(frames: list[Frame]) -> Order:
    """Order what has no place: the frames of one cine are moments, single files are slices."""
    ordered = sorted(frames, key=number)
    runs = {f.pose.concatenation[0] or f.file for f in ordered}
    if len(ordered) > 1 and len(runs) == 1:
        return Order(ordered, (len(ordered), 1), t_by="frame number")
    return Order(ordered, (1, len(ordered)), z_by="instance number")


def _time_key(found: Places) -> tuple[str, Callable[[Frame], tuple[Any, ...]]]:
    """Choose the first key that is known for all frames and differs at every position."""
    for i, name in enumerate(TIME_KEYS):
        if not all(_tells_apart([f.pose.times[i] for f in place]) for place in found):
            continue
        moments = {f.pose.times[i]: (0, 0, 0, 0) for place in found for f in place}
        if name == "acquisition time" and _crosses_midnight(moments):
            continue
        if name == "b-value and direction":
            # they say which frames are one moment; tables of them are in the order of the scan
            for frame in sorted((f for place in found for f in place), key=number, reverse=True):
                moments[frame.pose.times[i]] = number(frame)
        return name, lambda f, i=i, at=moments: (
            at[f.pose.times[i]],
            f.pose.times[i] or (),
            f.file,
            f.number,
        )
    return "file order", lambda f: (f.pose.concatenation[1], f.file, f.number)


def _tells_apart(times: list[Moment | None]) -> bool:
    return None not in times and len(set(times)) == len(times)


def _crosses_midnight(moments: Iterable[Moment | None]) -> bool:
    """Tell whether times of one day, or of none, are farther apart than a scan takes."""
    told = [moment[0] for moment in moments if moment]
    is_one_day = len({moment // _ONE_DAY for moment in told}) == 1
    return is_one_day and max(told) - min(told) > _LONGEST_SCAN
