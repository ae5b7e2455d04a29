"""The pose of every frame: from the top level, or from the functional groups of PS3.3 C.7.6.16.

The groups are read as they stand: there may be ten for each of thousands of frames, and pydicom
takes ten times as long to make objects of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate
from typing import Final

import numpy as np

from dicomzarr_watch.dicom import tags
from dicomzarr_watch.dicom.frames import FrameRun
from dicomzarr_watch.dicom.geometry import normal
from dicomzarr_watch.dicom.nuclear import NUCLEAR_MEDICINE, nuclear_poses
from dicomzarr_watch.dicom.pose import TIME_KEYS, Meaning, Moment, Pose, plausible
from dicomzarr_watch.dicom.quantity import rescale
from dicomzarr_watch.dicom.siemens import mosaic_poses
from dicomzarr_watch.dicom.top_level import (
    cosines,
    date_time,
    image_type,
    moment,
    phase,
    point,
    top_level,
)
from dicomzarr_watch.dicom.values import Values

_FRAME_TYPE_VALUES: Final = 4
"""The fourth value is the derived pixel contrast (PS3.3 C.8.16.1.4)."""

_VOLUMES: Final = frozenset(
    {
        "1.2.840.10008.5.1.4.1.1.481.2",
        "1.2.840.10008.5.1.4.1.1.30",
        "1.2.840.10008.5.1.4.1.1.66.4",
        "1.2.840.10008.5.1.4.1.1.66.7",
    }
)
"""RT dose, parametric map, segmentation, label map: each instance of several frames is a volume
of its own, whose segments or values are numbered or scaled within it."""

_SYNCHRONIZATIONS: Final = (
    tags.CARDIAC_SYNCHRONIZATION_SEQUENCE,
    tags.RESPIRATORY_SYNCHRONIZATION_SEQUENCE,
)
_SAME_HEIGHT_MM: Final = 1e-3

_MEANINGS: Final = (
    ("image type", tags.MR_IMAGE_FRAME_TYPE_SEQUENCE, tags.FRAME_TYPE, b"CS"),
    ("image type", tags.CT_IMAGE_FRAME_TYPE_SEQUENCE, tags.FRAME_TYPE, b"CS"),
    ("image type", tags.PET_FRAME_TYPE_SEQUENCE, tags.FRAME_TYPE, b"CS"),
    (
        "complex component",
        tags.MR_IMAGE_FRAME_TYPE_SEQUENCE,
        tags.COMPLEX_IMAGE_COMPONENT,
        b"CS",
    ),
    ("echo time", tags.MR_ECHO_SEQUENCE, tags.EFFECTIVE_ECHO_TIME, b"FD"),
    (
        "velocity direction",
        tags.MR_VELOCITY_ENCODING_SEQUENCE,
        tags.VELOCITY_ENCODING_DIRECTION,
        b"FD",
    ),
    ("reconstruction kernel", tags.CT_RECONSTRUCTION_SEQUENCE, tags.CONVOLUTION_KERNEL, b"SH"),
    ("tube voltage", tags.CT_X_RAY_DETAILS_SEQUENCE, tags.KVP, b"DS"),
    (
        "optical path",
        tags.OPTICAL_PATH_IDENTIFICATION_SEQUENCE,
        tags.OPTICAL_PATH_IDENTIFIER,
        b"SH",
    ),
    ("segment", tags.SEGMENT_IDENTIFICATION_SEQUENCE, tags.REFERENCED_SEGMENT_NUMBER, b"US"),
)
"""What sets a frame's values apart: the sequence that says it, the element in it, its usual VR."""


def frame_poses(values: Values, run: FrameRun) -> tuple[Pose, ...]:
    """Return one pose per frame where the header gives them, else one for the file."""
    pose = plausible(top_level(values))
    if run.count > 1 and values.text(tags.SOP_CLASS_UID) in _VOLUMES:
        instance = pose.concatenation[0] or values.text(tags.SOP_INSTANCE_UID)
        pose = replace(pose, meaning=(*pose.meaning, ("instance", instance)))
    of_frames = _of_frames(values, run, pose)
    return (pose,) if of_frames is None else tuple(map(plausible, of_frames))


def _of_frames(values: Values, run: FrameRun, pose: Pose) -> Sequence[Pose] | None:
    if run.format.mosaic_slices and run.count == run.format.mosaic_slices:
        others = run.format.tiles - 1
        excess = run.format.rows * others, run.format.columns * others
        return mosaic_poses(values, pose, run.format.mosaic_slices, excess)
    offsets = values.decimals(tags.GRID_FRAME_OFFSET_VECTOR)
    if len(offsets) == run.count > 1 and pose.position and pose.orientation:
        return _offset(pose, offsets)
    try:
        if run.count > 1 and values.text(tags.SOP_CLASS_UID) == NUCLEAR_MEDICINE:
            return nuclear_poses(values, pose, run.count)
        if tags.PER_FRAME_FUNCTIONAL_GROUPS_SEQUENCE in values:
            return _from_groups(values, pose, run.count)
    except ValueError:  # a broken sequence costs the geometry, never the file
        return None
    return _in_time(values, pose, run.count)


def _in_time(values: Values, pose: Pose, count: int) -> tuple[Pose, ...] | None:
    """Say when each frame of a cine was taken; None where nothing says it (PS3.3 C.7.6.5)."""
    steps = values.decimals(tags.FRAME_TIME_VECTOR)
    steps = steps or (0.0, *values.decimals(tags.FRAME_TIME)[:1] * (count - 1))
    if len(steps) != count or count == 1:
        return None
    at = TIME_KEYS.index("frame time")
    return tuple(
        replace(pose, times=(*pose.times[:at], (round(ms, 6),), *pose.times[at + 1 :]))
        for ms in accumulate(steps)
    )


def _offset(pose: Pose, offsets: tuple[float, ...]) -> tuple[Pose, ...]:
    """Place the frames of an RT dose along the normal, or at heights (PS3.3 C.8.8.3.2)."""
    first = np.asarray(pose.position, float)
    # heights start at the position's own, and are such along z whichever way the normal goes
    is_height = offsets[0] != 0 and abs(offsets[0] - first[2]) < _SAME_HEIGHT_MM
    way = np.array([0.0, 0.0, 1.0]) if is_height else normal(pose.orientation or ())
    points = first + np.outer(np.asarray(offsets) - offsets[0], way)
    return tuple(replace(pose, position=(float(x), float(y), float(z))) for x, y, z in points)


def shared_pose(values: Values) -> Pose:
    """Return what the header says of all frames of a file; raises ValueError if it is broken."""
    pose = plausible(top_level(values))
    for item in values.items(tags.SHARED_FUNCTIONAL_GROUPS_SEQUENCE):
        pose = with_groups(pose, item)
    return pose


def _from_groups(values: Values, pose: Pose, count: int) -> tuple[Pose, ...]:
    """Return the pose of every frame; what all share if some have none of their own."""
    shared = next(values.items(tags.SHARED_FUNCTIONAL_GROUPS_SEQUENCE), None)
    base = with_groups(pose, shared) if shared else pose
    frames = values.items(tags.PER_FRAME_FUNCTIONAL_GROUPS_SEQUENCE)
    found = tuple(with_groups(base, own) for own in frames)
    return found[:count] if len(found) >= count else (base,)


def with_groups(pose: Pose, groups: Values) -> Pose:
    """Add what the functional groups of an item say; raises ValueError if they are broken."""
    found: dict[str, object] = {}
    for item in groups.items(tags.PLANE_POSITION_SEQUENCE):
        found["position"] = point(item.decimals(tags.IMAGE_POSITION_PATIENT))
    for item in groups.items(tags.PLANE_ORIENTATION_SEQUENCE):
        found["orientation"] = cosines(item.decimals(tags.IMAGE_ORIENTATION_PATIENT))
    for item in groups.items(tags.PLANE_POSITION_VOLUME_SEQUENCE):
        found["position"] = point(item.numbers(tags.IMAGE_POSITION_VOLUME, b"FD"))
        found["coordinates"] = "volume"
    for item in groups.items(tags.PLANE_ORIENTATION_VOLUME_SEQUENCE):
        found["orientation"] = cosines(item.numbers(tags.IMAGE_ORIENTATION_VOLUME, b"FD"))
    for item in groups.items(tags.PIXEL_MEASURES_SEQUENCE):
        spacing = item.decimals(tags.PIXEL_SPACING)
        found["spacing"] = spacing if len(spacing) == 2 and min(spacing) > 0 else pose.spacing
        found["thickness"] = item.decimal(tags.SLICE_THICKNESS) or pose.thickness
        between = item.decimal(tags.SPACING_BETWEEN_SLICES)
        found["spacing_between"] = between or pose.spacing_between
    for item in groups.items(tags.FRAME_CONTENT_SEQUENCE):
        found["stack"] = item.text(tags.STACK_ID)
    for item in groups.items(tags.PIXEL_VALUE_TRANSFORMATION_SEQUENCE):
        found["rescale"] = rescale(item)
    for item in groups.items(tags.FRAME_VOI_LUT_SEQUENCE):
        found["window"] = item.decimal_pair(tags.WINDOW_CENTER, tags.WINDOW_WIDTH)
    found["times"] = _times_of(groups, pose.times)
    found["meaning"] = _meaning_of(groups, pose.meaning)
    return replace(pose, **found)  # type: ignore[arg-type]  # keys are fields, values checked above


def _times_of(groups: Values, told: tuple[Moment | None, ...]) -> tuple[Moment | None, ...]:
    """Add what the functional groups of a frame say of its time."""
    times: dict[str, Moment | None] = dict(zip(TIME_KEYS, told, strict=True))
    found: dict[str, Moment | None] = {}
    for item in groups.items(tags.FRAME_CONTENT_SEQUENCE):
        acquired = item.text(tags.FRAME_ACQUISITION_DATE_TIME)
        acquired = acquired or item.text(tags.FRAME_REFERENCE_DATE_TIME)
        index = item.numbers(tags.DIMENSION_INDEX_VALUES, b"UL")
        found["temporal position"] = moment(item.number(tags.TEMPORAL_POSITION_INDEX, b"UL"))
        found["acquisition time"] = date_time(acquired)
        found["dimension index"] = index and (*(times["instance number"] or (0.0,)), *index)
    for item in groups.items(tags.CARDIAC_SYNCHRONIZATION_SEQUENCE):
        found["trigger time"] = item.numbers(tags.NOMINAL_CARDIAC_TRIGGER_DELAY_TIME, b"FD")[:1]
    for sequence in _SYNCHRONIZATIONS:
        for item in groups.items(sequence):
            found["phase"] = phase(item) or found.get("phase")
    for item in groups.items(tags.MR_DIFFUSION_SEQUENCE):
        direction = [
            value
            for inner in item.items(tags.DIFFUSION_GRADIENT_DIRECTION_SEQUENCE)
            for value in inner.numbers(tags.DIFFUSION_GRADIENT_ORIENTATION, b"FD")
        ]
        b_value = item.numbers(tags.DIFFUSION_B_VALUE, b"FD")[:1]
        found["b-value and direction"] = b_value and (*b_value, *direction)
    return tuple(found.get(name) or times[name] for name in TIME_KEYS)


def _meaning_of(groups: Values, meaning: Meaning) -> Meaning:
    """Add what the functional groups of a frame say to what the file says."""
    said: dict[str, str] = {}
    for name, sequence, tag, usual_vr in _MEANINGS:
        for item in groups.items(sequence):
            told = item.told(tag, usual_vr)
            is_type = tag == tags.FRAME_TYPE
            value = image_type(told, _FRAME_TYPE_VALUES) if is_type else "\\".join(told)
            if value:
                said[name] = value
    return tuple(sorted((dict(meaning) | said).items())) if said else meaning
