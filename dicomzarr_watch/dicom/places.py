"""Where the frames of one group stand: on which line of slices, and at which place along it.

Frames that lie beside each other belong to different lines, however alike their places along the
normal are: the stations of a whole body, the left and the right side. Frames at one place of a
line are moments of it, or there twice.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Final

import numpy as np

from dicomzarr_watch.dicom.gathering import gathered
from dicomzarr_watch.dicom.geometry import Vector, along_normal, finest_mm, same_place
from dicomzarr_watch.dicom.grouping import Frame

BESIDE: Final = 0.1
"""Of a frame's shorter side: what lies so far beside a line, more than a tilt explains, is not on
it."""
_LINES_MOST: Final = 64


def number(frame: Frame) -> tuple[int, int, int, int]:
    """Return what orders frames that nothing else orders."""
    told = frame.pose.instance_number
    return (told if told is not None else 0, frame.pose.concatenation[1], frame.file, frame.number)


def lines(frames: Sequence[Frame]) -> list[list[Frame]] | None:
    """Gather frames into lines of slices; None where they have no place.

    A line goes on with the frame that lies nearest to its end: aside by no more than a part of a
    frame, and as far again as along, for the tilt of a gantry. One line are also those whose lines
    would be too many.
    """
    placed = _placed(frames)
    if placed is None:
        return None
    spacing, pixels = frames[0].pose.spacing, frames[0].format
    if spacing is None:
        return [list(frames)]
    beside = BESIDE * min(pixels.rows * spacing[0], pixels.columns * spacing[1])
    plane = np.asarray(frames[0].pose.orientation, float).reshape(2, 3)
    along = np.array([at for at, _ in placed])
    aside = np.array([frame.pose.position for _, frame in placed], float) @ plane.T
    if (np.abs(np.diff(aside, axis=0)).max(axis=1) <= beside + np.diff(along)).all():
        return [list(frames)]
    numbers = list(_followed(along, aside, beside))
    if len(numbers) < len(placed):
        return [list(frames)]
    in_order = (frame for _, frame in placed)
    return list(gathered(zip(numbers, in_order, strict=True)).values())


def _followed(along: Vector, aside: Vector, beside: float) -> Iterator[int]:
    """Yield the number of the line that each frame is on, until there are too many."""
    ends = np.empty((0, 3))
    for at, (x, y) in zip(along, aside, strict=True):
        ways = np.abs(ends[:, 1:] - (x, y)).max(axis=1)
        line = int(ways.argmin()) if len(ends) else 0
        if not len(ends) or ways[line] > beside + at - ends[line, 0]:
            line = len(ends)
            if line == _LINES_MOST:
                return
            ends = np.vstack([ends, np.zeros(3)])
        ends[line] = at, x, y
        yield line


def places(frames: Sequence[Frame]) -> list[list[Frame]]:
    """Gather the frames of a line by their place along the normal, in order."""
    placed = _placed(frames) or []
    finest = finest_mm(frames[0].pose)
    tolerance = same_place(_usual_gap([along for along, _ in placed], finest), finest)
    found: list[list[Frame]] = []
    start = 0.0
    for along, frame in placed:
        if not found or along - start > tolerance:
            found.append([])
            start = along
        found[-1].append(frame)
    return found


def _placed(frames: Sequence[Frame]) -> list[tuple[float, Frame]] | None:
    """Return frames with their places along the normal of the first one, in order."""
    across = frames[0].pose.orientation
    found = [(along_normal(frame.pose, across), frame) for frame in frames]
    known = [(along, frame) for along, frame in found if along is not None]
    if len(known) < len(found):
        return None
    return sorted(known, key=lambda v: (v[0], number(v[1])))


def _usual_gap(positions: Sequence[float], finest: float) -> float:
    gaps = sorted(b - a for a, b in pairwise(positions) if b - a > finest)
    return gaps[len(gaps) // 2] if gaps else 0.0
