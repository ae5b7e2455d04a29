"""Where and when a frame was taken, as its header says it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Final

Point = tuple[float, float, float]
Moment = tuple[float, ...]
"""Numbers that order, such as a time, or a b-value with its direction."""
Meaning = tuple[tuple[str, str], ...]
"""Names and values, sorted by name."""


@dataclass(frozen=True, slots=True)
class Pose:
    """One frame's place in the patient and in time.

    position: centre of the first voxel, LPS, mm (PS3.3 C.7.6.2.1.1); of a whole slide, the first
    pixel of its matrix in the slide's own coordinates, mm.
    orientation: direction cosines of a row, then of a column.
    spacing: between rows, between columns, mm; thickness and spacing_between: mm.
    rescale, window: slope and intercept, centre and width, where they are said for the frame.
    meaning: what sets the values of this frame apart from others of its series, by the names in
    MEANINGS; what is not said is left out.
    times: what may order frames at one position, by TIME_KEYS; None where not said.
    stack: the name of the stack that a frame is said to be of.
    concatenation: what the parts of one multi-frame image share that was cut into files, and the
    number of this file's first frame in it (PS3.3 C.7.6.16.2.2.4).
    coordinates: those of the position: of the patient, of a slide, or of an ultrasound volume.
    """

    position: Point | None = None
    orientation: tuple[float, ...] | None = None
    spacing: tuple[float, float] | None = None
    thickness: float | None = None
    spacing_between: float | None = None
    frame_of_reference: str = ""
    instance_number: int | None = None
    rescale: tuple[float, float] | None = None
    window: tuple[float, float] | None = None
    meaning: Meaning = ()
    times: tuple[Moment | None, ...] = (None,) * 10
    stack: str = ""
    concatenation: tuple[str, int] = ("", 0)
    coordinates: str = "patient"


MEANINGS: Final = (
    "series number",
    "image type",
    "complex component",
    "echo",
    "echo time",
    "velocity direction",
    "reconstruction kernel",
    "tube voltage",
    "energy window",
    "detector",
    "view",
    "optical path",
    "focal plane",
    "segment",
    "instance",
)
"""The names that `Pose.meaning` may hold."""

TIME_KEYS: Final = (
    "temporal position",
    "acquisition time",
    "trigger time",
    "b-value and direction",
    "phase",
    "frame increment",
    "frame time",
    "acquisition number",
    "dimension index",
    "instance number",
)
"""What the members of `Pose.times` are, the most trusted first.

A phase is a percentage of the heart's or the breath's cycle. A frame time is in ms from the first
frame. The acquisition time is a date, or 0, and a time of day: one number of both would be rounded
to milliseconds. A dimension index is one within its instance, whose number comes first.
"""

FARTHEST_MM: Final = 1e9
"""Numbers beyond this are no place, no direction and no distance, and squares of them overflow."""

SKEW_MOST: Final = 0.1
"""Of the length of row × column, which is 1: cosines that give less or more are no directions."""


def plausible(pose: Pose) -> Pose:
    """Return a pose without the numbers that cannot be true."""
    if pose.orientation and not _is_direction(pose.orientation):
        pose = replace(pose, orientation=None)
    lengths = pose.position, pose.spacing, pose.thickness, pose.spacing_between
    if all(map(_is_near, lengths)):
        return pose
    names = "position", "spacing", "thickness", "spacing_between"
    wrong: dict[str, Any] = {
        n: None for n, v in zip(names, lengths, strict=True) if not _is_near(v)
    }
    return replace(pose, **wrong)


def _is_direction(cosines: tuple[float, ...]) -> bool:
    """Tell whether a row and a column are across each other; some files have only zeros."""
    a, b, c, d, e, f = cosines
    length = math.hypot(b * f - c * e, c * d - a * f, a * e - b * d)
    return abs(length - 1) <= SKEW_MOST


def _is_near(value: tuple[float, ...] | float | None) -> bool:
    """Tell whether all numbers that are said are within bounds; NaN is not."""
    if isinstance(value, tuple):
        return all(abs(v) <= FARTHEST_MM for v in value)
    return value is None or abs(value) <= FARTHEST_MM
