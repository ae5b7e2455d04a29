"""The pose of every frame: from the top level, or from the functional groups of PS3.3 C.7.6.16."""

from __future__ import annotations

import math
from collections.abc import Container, Iterable
from dataclasses import replace
from typing import Final

import numpy as np
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from dicomzarr_watch.dicom import tags
from dicomzarr_watch.dicom.frames import FrameRun
from dicomzarr_watch.dicom.geometry import normal
from dicomzarr_watch.dicom.nested import dataset
from dicomzarr_watch.dicom.pose import Meaning, Moment, Point, Pose, plausible
from dicomzarr_watch.dicom.siemens import mosaic_poses
from dicomzarr_watch.dicom.values import Values

_GROUPS = (tags.SHARED_FUNCTIONAL_GROUPS_SEQUENCE, tags.PER_FRAME_FUNCTIONAL_GROUPS_SEQUENCE)
_SPACINGS = (
    tags.PIXEL_SPACING,
    tags.IMAGER_PIXEL_SPACING,
    tags.NOMINAL_SCANNED_PIXEL_SPACING,
)


IMAGE_TYPE_VALUES: Final = 3
"""Further values of the image type are the maker's own (PS3.3 C.7.6.1.1.2)."""

_DIFFUSION: Final = (
    (0x00189087, 0x00189089, ""),
    (0x0019100C, 0x0019100E, "SIEMENS MR HEADER"),
    (0x00431039, 0x00000000, "GEMS_PARM_01"),
    (0x20011003, 0x00000000, "Philips Imaging DD 001"),
    (0x00651009, 0x00651037, "Image Private Header"),
)
"""Elements of b-value and direction, with the private creator of a maker's own."""

_MEANINGS: Final = (
    ("image type", "MRImageFrameTypeSequence", "FrameType"),
    ("image type", "CTImageFrameTypeSequence", "FrameType"),
    ("image type", "PETFrameTypeSequence", "FrameType"),
    ("complex component", "MRImageFrameTypeSequence", "ComplexImageComponent"),
    ("echo", "MREchoSequence", "EffectiveEchoTime"),
    ("reconstruction kernel", "CTReconstructionSequence", "ConvolutionKernel"),
    ("tube voltage", "CTXRayDetailsSequence", "KVP"),
    ("optical path", "OpticalPathIdentificationSequence", "OpticalPathIdentifier"),
    ("segment", "SegmentIdentificationSequence", "ReferencedSegmentNumber"),
)


def frame_poses(values: Values, run: FrameRun) -> tuple[Pose, ...]:
    """Return one pose per frame where the header gives them, else one for the file."""
    return tuple(map(plausible, _frame_poses(values, run)))


def _frame_poses(values: Values, run: FrameRun) -> tuple[Pose, ...]:
    pose = plausible(_top_level(values))
    if run.format.mosaic_slices and run.count == run.format.mosaic_slices:
        tile = run.format.rows, run.format.columns
        return tuple(mosaic_poses(values, pose, run.format.mosaic_slices, tile))
    offsets = values.decimals(tags.GRID_FRAME_OFFSET_VECTOR)
    if len(offsets) == run.count > 1 and pose.position and pose.orientation:
        return _offset(pose, offsets)
    if tags.PER_FRAME_FUNCTIONAL_GROUPS_SEQUENCE not in values:
        return (pose,)
    try:
        return _from_groups(values, pose, run.count)
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
    times = (
        values.numeral(tags.TEMPORAL_POSITION_IDENTIFIER),
        acquisition_time(values),
        values.decimal(tags.TRIGGER_TIME),
    )
    return Pose(
        position=_point(values.decimals(tags.IMAGE_POSITION_PATIENT)),
        orientation=orientation if len(orientation) == 6 else None,
        spacing=(spacing[0], spacing[1]) if spacing and min(spacing) > 0 else None,
        thickness=values.decimal(tags.SLICE_THICKNESS),
        spacing_between=values.decimal(tags.SPACING_BETWEEN_SLICES),
        frame_of_reference=values.text(tags.FRAME_OF_REFERENCE_UID),
        instance_number=number,
        meaning=meaning(values),
        times=(*map(_moment, times), diffusion(values), _moment(number)),
    )


def meaning(values: Values) -> Meaning:
    """Return what sets an instance's values apart within its series."""
    said = {
        "series number": values.text(tags.SERIES_NUMBER),
        "image type": "\\".join(values.texts(tags.IMAGE_TYPE)[:IMAGE_TYPE_VALUES]),
        "complex component": values.text(tags.COMPLEX_IMAGE_COMPONENT),
        "echo": values.text(tags.ECHO_NUMBERS),
        "reconstruction kernel": values.text(tags.CONVOLUTION_KERNEL),
        "tube voltage": values.text(tags.KVP),
    }
    return tuple(sorted((name, value) for name, value in said.items() if value))


def diffusion(values: Values) -> Moment | None:
    """Return the b-value and, where it is said, the direction; standard or private elements."""
    for b_value, direction, creator in _DIFFUSION:
        if b_value not in values:
            continue
        found = values.decimals(b_value) or values.doubles(b_value)
        block = b_value & 0xFFFF0000 | b_value >> 8 & 0xFF
        if found and (not creator or values.text(block) == creator):
            # GE adds 1e9 to mark something else in the same number
            return (found[0] % 1e6, *(values.doubles(direction) or values.decimals(direction)))
    return None


def _moment(value: float | None) -> Moment | None:
    return None if value is None else (float(value),)


def acquisition_time(values: Values) -> float | None:
    """Return when the acquisition began, as a number that orders: yyyymmddHHMMSS.ffffff."""
    moment = values.text(tags.ACQUISITION_DATE_TIME)
    if not moment and values.text(tags.ACQUISITION_TIME):
        date = values.text(tags.ACQUISITION_DATE) or "0"
        moment = date + values.text(tags.ACQUISITION_TIME).replace(":", "")
    return _as_number(moment)


def _as_number(moment: str) -> float | None:
    """Return a date and time as a number, without its offset from UTC."""
    try:
        found = float(moment.split("+", maxsplit=1)[0].split("-", maxsplit=1)[0])
    except ValueError:
        return None
    return found if math.isfinite(found) else None


def shared_pose(values: Values) -> Pose:
    """Return what the header says of all frames of a file; raises what broken sequences raise."""
    pose = plausible(_top_level(values))
    for item in values.items(tags.SHARED_FUNCTIONAL_GROUPS_SEQUENCE):
        pose = with_groups(pose, item, [e.tag for e in item.part10.elements])
    return pose


def with_groups(pose: Pose, item: Values, wanted: Container[int]) -> Pose:
    """Add what the functional groups of these tags in an item say; raises like `shared_pose`."""
    return _with_groups(pose, dataset(item, wanted))


def _from_groups(values: Values, pose: Pose, count: int) -> tuple[Pose, ...]:
    """Return the pose of every frame; of the first one if there are not as many as frames."""
    groups = dataset(values, _GROUPS)
    shared = groups.get("SharedFunctionalGroupsSequence") or [Dataset()]
    base = _with_groups(pose, shared[0])
    frames = groups.PerFrameFunctionalGroupsSequence
    frames = frames if len(frames) == count else frames[:1]
    return tuple(_with_groups(base, own) for own in frames)


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
    for item in _items(groups, "PixelValueTransformationSequence"):
        found["rescale"] = _pair(item, "RescaleSlope", "RescaleIntercept")
    for item in _items(groups, "FrameVOILUTSequence"):
        found["window"] = _pair(item, "WindowCenter", "WindowWidth")
    found["times"] = _times_of(groups, list(pose.times))
    found["meaning"] = _meaning_of(groups, dict(pose.meaning))
    return replace(pose, **found)  # type: ignore[arg-type]  # keys are fields, values checked above


def _times_of(groups: Dataset, times: list[Moment | None]) -> tuple[Moment | None, ...]:
    """Add what the functional groups of a frame say of its time, in the order of TIME_KEYS."""
    for item in _items(groups, "FrameContentSequence"):
        acquired = item.get("FrameAcquisitionDateTime") or item.get("FrameReferenceDateTime")
        times[0] = _moment(_first(item.get("TemporalPositionIndex"))) or times[0]
        times[1] = _moment(_as_number(str(acquired or ""))) or times[1]
    for item in _items(groups, "CardiacSynchronizationSequence"):
        times[2] = _moment(_first(item.get("NominalCardiacTriggerDelayTime"))) or times[2]
    for item in _items(groups, "MRDiffusionSequence"):
        direction = [
            float(value)
            for inner in _items(item, "DiffusionGradientDirectionSequence")
            for value in inner.DiffusionGradientOrientation
        ]
        b_value = _first(item.get("DiffusionBValue"))
        times[3] = (float(b_value), *direction) if b_value is not None else times[3]
    return tuple(times)


def _meaning_of(groups: Dataset, said: dict[str, str]) -> Meaning:
    """Add what the functional groups of a frame say to what the file says."""
    for name, sequence, keyword in _MEANINGS:
        for item in _items(groups, sequence):
            value = item.get(keyword)
            if value is not None:
                parts = list(value) if isinstance(value, MultiValue) else [value]
                said[name] = "\\".join(map(str, parts[:IMAGE_TYPE_VALUES]))
    return tuple(sorted(said.items()))


def _items(groups: Dataset, keyword: str) -> Iterable[Dataset]:
    found: Iterable[Dataset] = groups.get(keyword) or ()
    return found


def _floats(value: object) -> tuple[float, ...]:
    """Return numbers as `Values.decimals` does: all of them finite, or none."""
    values = value if isinstance(value, Iterable) else () if value is None else (value,)
    found = tuple(map(float, values))
    return found if all(map(math.isfinite, found)) else ()


def _pair(item: Dataset, one: str, other: str) -> tuple[float, float] | None:
    a, b = _first(item.get(one)), _first(item.get(other))
    return (a, b) if a is not None and b is not None else None


def _first(value: object) -> float | None:
    found = _floats(value)
    return found[0] if found else None


def _point(found: tuple[float, ...]) -> Point | None:
    return (found[0], found[1], found[2]) if len(found) == 3 else None
