"""In which order the frames of one image stand.

z follows the position along the normal, and t the first of TIME_KEYS that tells frames at one
position apart, but for times that begin again at midnight.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from dicomzarr_watch.dicom.grouping import Frame
from dicomzarr_watch.dicom.places import number
from dicomzarr_watch.dicom.pose import TIME_KEYS, Moment

_LONGEST_SCAN: Final = 12e4
"""Twelve hours, in numbers as acquisition times have them: on one day none takes longer."""
_ONE_DAY: Final = 1e6

Places = list[list[Frame]]
"""The frames of one image by their place, in its order."""
Moments = dict[str, tuple[Moment, ...]]


@dataclass(frozen=True, slots=True)
class Order:
    """Frames put in order: t-major, (t, z) of them, and by what."""

    frames: list[Frame]
    shape: tuple[int, int]
    z_by: str = ""
    t_by: str = ""
    moments: Moments = field(default_factory=dict)


def by_position(found: Places) -> Order:
    """Order places that have as many frames each."""
    times = len(found[0])
    t_by, key = _time_key(found)
    ordered = [sorted(place, key=key) for place in found]
    frames = [place[t] for t in range(times) for place in ordered]
    if times == 1:
        return Order(frames, (1, len(found)), "position")
    return Order(frames, (times, len(found)), "position", t_by, _moments(ordered))


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
            # bval and bvec tables list volumes in the order of the scan, and so does t
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
