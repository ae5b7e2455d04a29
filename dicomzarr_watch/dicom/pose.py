"""Where and when a frame was taken, as its header says it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

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
    times: tuple[Moment | None, ...] = (None,) * 5


MEANINGS: Final = (
    "series number",
    "image type",
    "complex component",
    "echo",
    "reconstruction kernel",
    "tube voltage",
    "optical path",
    "focal plane",
    "segment",
)
"""The names that `Pose.meaning` may hold."""

TIME_KEYS: Final = (
    "temporal position",
    "acquisition time",
    "trigger time",
    "b-value and direction",
    "instance number",
)
"""What the members of `Pose.times` are, the most trusted first."""


FARTHEST_MM: Final = 1e9
"""Numbers beyond this are no place, no direction and no distance, and squares of them overflow."""


def plausible(pose: Pose) -> Pose:
    """Return a pose without the numbers that cannot be true."""
    return replace(
        pose,
        position=pose.position if _is_near(pose.position) else None,
        orientation=pose.orientation if _is_near(pose.orientation) else None,
        spacing=pose.spacing if _is_near(pose.spacing) else None,
        thickness=pose.thickness if _is_near((pose.thickness,)) else None,
        spacing_between=pose.spacing_between if _is_near((pose.spacing_between,)) else None,
    )


def _is_near(values: tuple[float | None, ...] | None) -> bool:
    """Tell whether all numbers are there and within bounds; NaN is not."""
    return values is not None and all(v is not None and abs(v) <= FARTHEST_MM for v in values)
