"""Where and when a frame was taken, as its header says it."""

from __future__ import annotations

from dataclasses import dataclass

Point = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Pose:
    """One frame's place in the patient and in time.

    position: centre of the first voxel, LPS, mm (PS3.3 C.7.6.2.1.1).
    orientation: direction cosines of a row, then of a column.
    spacing: between rows, between columns, mm; thickness and spacing_between: mm.
    times: what may order frames at one position, the most trusted first; None where not said.
    """

    position: Point | None = None
    orientation: tuple[float, ...] | None = None
    spacing: tuple[float, float] | None = None
    thickness: float | None = None
    spacing_between: float | None = None
    frame_of_reference: str = ""
    instance_number: int | None = None
    times: tuple[float | None, ...] = (None, None, None, None)


TIME_KEYS = ("temporal position", "acquisition time", "trigger time", "instance number")
"""What the members of `Pose.times` are."""
