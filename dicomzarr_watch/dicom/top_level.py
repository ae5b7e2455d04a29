"""What the top level of a header says of where and when its frames were taken, and of what."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from dicomzarr_watch.dicom import tags
from dicomzarr_watch.dicom.pose import Meaning, Moment, Point, Pose
from dicomzarr_watch.dicom.values import Values

_SPACINGS = (
    tags.PIXEL_SPACING,
    tags.IMAGER_PIXEL_SPACING,
    tags.NOMINAL_SCANNED_PIXEL_SPACING,
    tags.IMAGE_PLANE_PIXEL_SPACING,
)

_IMAGE_TYPE_VALUES: Final = 3
"""Further values of the image type are the maker's own (PS3.3 C.7.6.1.1.2)."""
_CONTRASTS: Final = frozenset({"WATER", "WATER_FRACTION", "FAT", "FAT_FRACTION"}) | {
    *("IN_PHASE", "IP", "OUT_PHASE", "OPP_PHASE", "OP"),
    *("ADC", "EADC", "FA", "TRACE", "TRACEW"),
    *("T1", "T2", "T2_STAR", "R2", "R2_STAR"),
}
"""Words that makers put there for what the values are; others are of how they were corrected."""

_PHASES: Final = (
    tags.NOMINAL_PERCENTAGE_OF_CARDIAC_PHASE,
    tags.NOMINAL_PERCENTAGE_OF_RESPIRATORY_PHASE,
)
_DATE: Final = len("yyyymmdd")
_NO_DATE: Final = "0" * _DATE

_GE_COMPLEX: Final = (0x0043102F, 0x00430010, "GEMS_PARM_01")
_GE_COMPONENTS: Final[dict[int | None, str]] = {
    0: "MAGNITUDE",
    1: "PHASE",
    2: "REAL",
    3: "IMAGINARY",
}

_DIFFUSION: Final = (
    (0x00189087, b"FD", 0x00189089, ""),
    (0x0019100C, b"IS", 0x0019100E, "SIEMENS MR HEADER"),
    (0x00431039, b"IS", 0x00000000, "GEMS_PARM_01"),
    (0x20011003, b"FL", 0x00000000, "Philips Imaging DD 001"),
    (0x00651009, b"FD", 0x00651037, "Image Private Header"),
)
"""Elements of b-value, with its usual VR, and direction; the private creator of a maker's own."""


def top_level(values: Values) -> Pose:
    """Return what the top level says of all frames."""
    number = values.numeral(tags.INSTANCE_NUMBER)
    return replace(
        values.part(_lasting),
        position=point(values.decimals(tags.IMAGE_POSITION_PATIENT)),
        instance_number=number,
        times=(
            moment(values.numeral(tags.TEMPORAL_POSITION_IDENTIFIER)),
            values.part(acquisition_time),
            moment(values.decimal(tags.TRIGGER_TIME)),
            values.part(diffusion),
            values.part(phase),
            None,
            None,
            moment(values.numeral(tags.ACQUISITION_NUMBER)),
            None,
            moment(number),
        ),
    )


def _lasting(values: Values) -> Pose:
    """Return what is mostly the same in all files of a series."""
    spacing = next((s for s in map(values.decimals, _SPACINGS) if len(s) == 2), None)
    return Pose(
        orientation=cosines(values.decimals(tags.IMAGE_ORIENTATION_PATIENT)),
        spacing=(spacing[0], spacing[1]) if spacing and min(spacing) > 0 else None,
        thickness=values.decimal(tags.SLICE_THICKNESS),
        spacing_between=values.decimal(tags.SPACING_BETWEEN_SLICES),
        frame_of_reference=values.text(tags.FRAME_OF_REFERENCE_UID),
        meaning=meaning(values),
        concatenation=(
            values.text(tags.CONCATENATION_UID),
            values.number(tags.CONCATENATION_FRAME_OFFSET_NUMBER, b"UL") or 0,
        ),
    )


def meaning(values: Values) -> Meaning:
    """Return what sets an instance's values apart within its series."""
    said = {
        "series number": values.text(tags.SERIES_NUMBER),
        "image type": image_type(values.texts(tags.IMAGE_TYPE)),
        "complex component": values.text(tags.COMPLEX_IMAGE_COMPONENT) or _ge_component(values),
        "echo": values.text(tags.ECHO_NUMBERS),
        # not each maker numbers echoes, and some number all of them 1
        "echo time": _plain(values.decimal(tags.ECHO_TIME), digits=4),
        "reconstruction kernel": values.text(tags.CONVOLUTION_KERNEL),
        "tube voltage": _plain(values.decimal(tags.KVP)),
        "view": _view(values),
    }
    return tuple(sorted((name, value) for name, value in said.items() if value))


def image_type(said: Sequence[str], most: int = _IMAGE_TYPE_VALUES) -> str:
    """Return what an image or frame type says of the values."""
    return "\\".join((*said[:most], *(word for word in said[most:] if word in _CONTRASTS)))


def _ge_component(values: Values) -> str:
    """Return the complex component that GE numbers in an element of its own."""
    tag, block, creator = _GE_COMPLEX
    if tag not in values or values.text(block) != creator:
        return ""
    return _GE_COMPONENTS.get(values.number(tag, b"SS"), "")


def _view(values: Values) -> str:
    """Return the view of a projection; what has a place needs no name for it."""
    said = map(values.text, (tags.IMAGE_LATERALITY, tags.VIEW_POSITION))
    found = " ".join(filter(None, said))
    # the place is asked for last: it is another in each file, and what asks for it is made anew
    return found if found and tags.IMAGE_POSITION_PATIENT not in values else ""


def _plain(number: float | None, digits: int = 6) -> str:
    return "" if number is None else f"{number:.{digits}g}"


def diffusion(values: Values) -> Moment | None:
    """Return the b-value and, where it is said, the direction; standard or private elements."""
    for b_value, usual_vr, direction, creator in _DIFFUSION:
        if b_value not in values:
            continue
        found = values.numbers(b_value, usual_vr)
        block = b_value & 0xFFFF0000 | b_value >> 8 & 0xFF
        if found and (not creator or values.text(block) == creator):
            # GE adds 1e9 to mark something else in the same number
            return (found[0] % 1e6, *values.numbers(direction, b"FD"))
    return None


def moment(value: float | None) -> Moment | None:
    """Return a single number as a moment."""
    return None if value is None else (float(value),)


def phase(values: Values) -> Moment | None:
    """Return the percentage of a cycle at which a frame was taken."""
    said = (values.numbers(tag, b"FL")[:1] for tag in _PHASES)
    return next(filter(None, said), None)


def acquisition_time(values: Values) -> Moment | None:
    """Return when the acquisition began."""
    said = values.text(tags.ACQUISITION_DATE_TIME)
    if not said and values.text(tags.ACQUISITION_TIME):
        date = values.text(tags.ACQUISITION_DATE) or _NO_DATE
        said = date + values.text(tags.ACQUISITION_TIME).replace(":", "")
    return date_time(said)


def date_time(said: str) -> Moment | None:
    """Return a date and a time of day as numbers: yyyymmdd and HHMMSS.ffffff, without an offset."""
    local = said.split("+", maxsplit=1)[0].split("-", maxsplit=1)[0]
    try:
        found = float(local[:_DATE]), float(local[_DATE:] or 0)
    except ValueError:
        return None
    return found if all(map(math.isfinite, found)) else None


def point(found: tuple[float, ...]) -> Point | None:
    """Return three numbers as a place; None if they are not three."""
    return (found[0], found[1], found[2]) if len(found) == 3 else None


def cosines(found: tuple[float, ...]) -> tuple[float, ...] | None:
    """Return six numbers as the directions of a row and a column; None if they are not six."""
    return found if len(found) == 6 else None
