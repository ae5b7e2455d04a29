"""The pose of every frame: from the top level, or from the functional groups of PS3.3 C.7.6.16."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable
from dataclasses import replace
from io import BytesIO

import numpy as np
from pydicom.config import disable_value_validation
from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset

from dicomzarr_watch.dicom import tags
from dicomzarr_watch.dicom.frames import FrameRun
from dicomzarr_watch.dicom.geometry import normal
from dicomzarr_watch.dicom.pose import Point, Pose
from dicomzarr_watch.dicom.siemens import mosaic_poses
from dicomzarr_watch.dicom.values import Values

_GROUPS = (tags.SHARED_FUNCTIONAL_GROUPS_SEQUENCE, tags.PER_FRAME_FUNCTIONAL_GROUPS_SEQUENCE)
_SPACINGS = (
    tags.PIXEL_SPACING,
    tags.IMAGER_PIXEL_SPACING,
    tags.NOMINAL_SCANNED_PIXEL_SPACING,
)


def frame_poses(values: Values, run: FrameRun) -> tuple[Pose, ...]:
    """Return one pose per frame where the header gives them, else one for the file."""
    pose = _top_level(values)
    if run.format.mosaic_slices and run.count == run.format.mosaic_slices:
        tile = run.format.rows, run.format.columns
        return tuple(mosaic_poses(values, pose, run.format.mosaic_slices, tile))
    offsets = values.decimals(tags.GRID_FRAME_OFFSET_VECTOR)
    if len(offsets) == run.count > 1 and pose.position and pose.orientation:
        return _offset(pose, offsets)
    if tags.PER_FRAME_FUNCTIONAL_GROUPS_SEQUENCE not in values:
        return (pose,)
    try:
        return _from_groups(values, pose)
    except Exception:  # noqa: BLE001 - a broken sequence costs the geometry, never the file
        return (pose,)


def _offset(pose: Pose, offsets: tuple[float, ...]) -> tuple[Pose, ...]:
    """Place the frames of an RT dose along the normal (PS3.3 C.8.8.3.2)."""
    first = np.asarray(pose.position, float)
    # absolute places along z start elsewhere than at 0; their differences are what counts
    steps = np.asarray(offsets) - offsets[0]
    points = first + np.outer(steps, normal(pose.orientation or ()))
    return tuple(replace(pose, position=(float(x), float(y), float(z))) for x, y, z in points)


def _top_level(values: Values) -> Pose:
    spacing = next((s for s in map(values.decimals, _SPACINGS) if len(s) == 2), None)
    orientation = values.decimals(tags.IMAGE_ORIENTATION_PATIENT)
    number = values.numeral(tags.INSTANCE_NUMBER)
    return Pose(
        position=_point(values.decimals(tags.IMAGE_POSITION_PATIENT)),
        orientation=orientation if len(orientation) == 6 else None,
        spacing=(spacing[0], spacing[1]) if spacing and min(spacing) > 0 else None,
        thickness=values.decimal(tags.SLICE_THICKNESS),
        spacing_between=values.decimal(tags.SPACING_BETWEEN_SLICES),
        frame_of_reference=values.text(tags.FRAME_OF_REFERENCE_UID),
        instance_number=number,
        times=(
            values.numeral(tags.TEMPORAL_POSITION_IDENTIFIER),
            acquisition_time(values),
            values.decimal(tags.TRIGGER_TIME),
            number,
        ),
    )


def acquisition_time(values: Values) -> float | None:
    """Return when the acquisition began, as a number that orders: yyyymmddHHMMSS.ffffff."""
    moment = values.text(tags.ACQUISITION_DATE_TIME).split("+")[0].split("-")[0]
    if not moment and values.text(tags.ACQUISITION_TIME):
        date = values.text(tags.ACQUISITION_DATE) or "0"
        moment = date + values.text(tags.ACQUISITION_TIME).replace(":", "")
    try:
        return float(moment)
    except ValueError:
        return None


def _from_groups(values: Values, pose: Pose) -> tuple[Pose, ...]:
    dataset = _sequences(values)
    shared = dataset.get("SharedFunctionalGroupsSequence") or [Dataset()]
    base = _with_groups(pose, shared[0])
    frames = dataset.PerFrameFunctionalGroupsSequence
    return tuple(_with_groups(base, groups) for groups in frames)


def _sequences(values: Values) -> Dataset:
    part10 = values.part10
    raw = b"".join(values.data[e.start : e.end] for e in part10.elements if e.tag in _GROUPS)
    with warnings.catch_warnings(), disable_value_validation():
        warnings.simplefilter("ignore")
        return read_dataset(BytesIO(raw), part10.is_implicit, not part10.is_big_endian)


def _with_groups(pose: Pose, groups: Dataset) -> Pose:
    found: dict[str, object] = {}
    for item in _items(groups, "PlanePositionSequence"):
        found["position"] = _point(_floats(item.get("ImagePositionPatient")))
    for item in _items(groups, "PlaneOrientationSequence"):
        orientation = _floats(item.get("ImageOrientationPatient"))
        found["orientation"] = orientation if len(orientation) == 6 else None
    for item in _items(groups, "PixelMeasuresSequence"):
        spacing = _floats(item.get("PixelSpacing"))
        found["spacing"] = spacing if len(spacing) == 2 and min(spacing) > 0 else pose.spacing
        found["thickness"] = _first(item.get("SliceThickness")) or pose.thickness
        between = _first(item.get("SpacingBetweenSlices"))
        found["spacing_between"] = between or pose.spacing_between
    for item in _items(groups, "FrameContentSequence"):
        temporal = _first(item.get("TemporalPositionIndex"))
        acquired = item.get("FrameAcquisitionDateTime") or item.get("FrameReferenceDateTime")
        moment = float(str(acquired).split("+")[0].split("-")[0]) if acquired else None
        found["times"] = (temporal, moment, *pose.times[2:])
    return replace(pose, **found)  # type: ignore[arg-type]  # keys are fields, values checked above


def _items(groups: Dataset, keyword: str) -> Iterable[Dataset]:
    found: Iterable[Dataset] = groups.get(keyword) or ()
    return found


def _floats(value: object) -> tuple[float, ...]:
    """Return numbers as `Values.decimals` does: all of them finite, or none."""
    values = value if isinstance(value, Iterable) else () if value is None else (value,)
    found = tuple(map(float, values))
    return found if all(map(math.isfinite, found)) else ()


def _first(value: object) -> float | None:
    found = _floats(value)
    return found[0] if found else None


def _point(found: tuple[float, ...]) -> Point | None:
    return (found[0], found[1], found[2]) if len(found) == 3 else None
