"""Where the frames of a nuclear medicine image stand (PS3.3 C.8.4.8): vectors say it by number.

Slices of a reconstruction lie at the detector's position, apart by the spacing between them, whose
sign says in which direction along the normal they go (PS3.3 C.8.4.15). Projections are no slices:
what they have in common is not a place in the patient.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from dicomzarr_watch.dicom import tags
from dicomzarr_watch.dicom.geometry import normal
from dicomzarr_watch.dicom.pose import TIME_KEYS, Meaning, Moment, Point, Pose
from dicomzarr_watch.dicom.top_level import cosines, point
from dicomzarr_watch.dicom.values import Values

NUCLEAR_MEDICINE: Final = "1.2.840.10008.5.1.4.1.1.20"

_MEANINGS: Final = {
    "energy window": tags.ENERGY_WINDOW_VECTOR,
    "detector": tags.DETECTOR_VECTOR,
}
_INCREMENTS: Final = (
    tags.PHASE_VECTOR,
    tags.ROTATION_VECTOR,
    tags.RR_INTERVAL_VECTOR,
    tags.TIME_SLOT_VECTOR,
    tags.ANGULAR_VIEW_VECTOR,
    tags.TIME_SLICE_VECTOR,
)
"""What advances from frame to frame at one place, the slowest first."""
_INCREMENT: Final = TIME_KEYS.index("frame increment")

Vectors = dict[int, tuple[float, ...]]


def nuclear_poses(values: Values, pose: Pose, count: int) -> list[Pose]:
    """Return the pose of every frame; raises ValueError for a broken sequence."""
    vectors = {
        tag: found
        for tag in (*_MEANINGS.values(), *_INCREMENTS, tags.SLICE_VECTOR)
        if len(found := values.numbers(tag, b"US")) == count
    }
    slices = vectors.get(tags.SLICE_VECTOR)
    if slices is None and values.texts(tags.IMAGE_TYPE)[2:3] == ("RECON TOMO",):
        slices = tuple(range(1, count + 1))
    base = _on_detector(values, pose)
    return [
        replace(
            base,
            position=_of_slice(base, slices[n]) if slices else None,
            meaning=_meaning(base.meaning, vectors, n),
            times=_times(base.times, vectors, n),
        )
        for n in range(count)
    ]


def _meaning(said: Meaning, vectors: Vectors, n: int) -> Meaning:
    own = {name: str(int(vectors[tag][n])) for name, tag in _MEANINGS.items() if tag in vectors}
    return tuple(sorted((dict(said) | own).items()))


def _times(said: tuple[Moment | None, ...], vectors: Vectors, n: int) -> tuple[Moment | None, ...]:
    own = tuple(vectors[tag][n] for tag in _INCREMENTS if tag in vectors)
    return (*said[:_INCREMENT], own or None, *said[_INCREMENT + 1 :])


def _on_detector(values: Values, pose: Pose) -> Pose:
    """Return the pose of the first slice: the detector's, or what the top level says."""
    for item in values.items(tags.DETECTOR_INFORMATION_SEQUENCE):
        orientation = cosines(item.decimals(tags.IMAGE_ORIENTATION_PATIENT))
        position = point(item.decimals(tags.IMAGE_POSITION_PATIENT))
        if position and orientation:
            return replace(pose, position=position, orientation=orientation)
    return pose


def _of_slice(first: Pose, number: float) -> Point | None:
    if first.position is None or first.orientation is None:
        return None
    between = first.spacing_between or first.thickness
    if not between:
        return None
    way = normal(first.orientation) * between * (number - 1)
    x, y, z = (a + float(b) for a, b in zip(first.position, way, strict=True))
    return x, y, z
