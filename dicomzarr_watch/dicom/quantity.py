"""What a stored value measures: the units after its rescale and, for PET, the factor to SUV.

Nothing is applied to the values. The factor is that of body weight, in g/ml per unit of the
rescaled value, by the vendor-neutral rules that QIBA publishes for PET; where an element they need
is not there, the reason is said instead.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from dicomzarr_watch.dicom import tags
from dicomzarr_watch.dicom.values import Values

_CT: Final = "1.2.840.10008.5.1.4.1.1.2"
_PET: Final = "1.2.840.10008.5.1.4.1.1.128"
_PHILIPS: Final = (0x70530010, "Philips PET Private Group")
_PHILIPS_SUV: Final = 0x70531000
_PHILIPS_ACTIVITY: Final = 0x70531009
_GE: Final = (0x00090010, "GEMS_PETD_01")
_GE_SCAN_DATE_TIME: Final = 0x0009100D
_DAY: Final = timedelta(days=1)
_MOMENT: Final = re.compile(r"(\d{10,14})\d*(?:\.\d*)?([+-]\d{4})?")
"""A date and time (PS3.5 6.2); minutes and seconds may be left out, as may the offset from UTC."""


@dataclass(frozen=True, slots=True)
class Tracer:
    """What a PET instance says of its dose; None where it says nothing that can be used.

    weight_kg, dose_bq, half_life_s: as named. injected_at may lack its day (then it is that of
    year 1). reference_s, duration_s: from the start of the scan to the moment that the values are
    of, and how long was counted. to_suv, to_bq_ml: the maker's own factors of a rescaled value.
    suv_type: what values that are SUV already are by.
    """

    decay_correction: str = ""
    corrections: tuple[str, ...] = ()
    weight_kg: float | None = None
    dose_bq: float | None = None
    half_life_s: float | None = None
    injected_at: datetime | None = None
    series_at: datetime | None = None
    acquired_at: datetime | None = None
    scanned_at: datetime | None = None
    reference_s: float | None = None
    duration_s: float | None = None
    suv_type: str = ""
    to_suv: float | None = None
    to_bq_ml: float | None = None


@dataclass(frozen=True, slots=True)
class Quantity:
    """units: as the header has them, such as HU or BQML; empty where it says nothing.

    is_by_table: whether a Modality LUT says what stored values mean, in place of a rescale.
    """

    units: str = ""
    tracer: Tracer | None = None
    is_by_table: bool = False


NOTHING_SAID: Final = Quantity()


def quantity(values: Values) -> Quantity:
    """Return what the stored values of an instance measure once they are rescaled."""
    sop_class = values.text(tags.SOP_CLASS_UID)
    said = (
        *(values.text(t) for t in (tags.UNITS, tags.DOSE_UNITS, tags.RESCALE_TYPE)),
        _of_frames(values),
    )
    # CT says its units only where they are not Hounsfield's (PS3.3 C.8.2.1)
    is_ct = sop_class == _CT and tags.RESCALE_SLOPE in values
    units = next(filter(None, said), "HU" if is_ct else "")
    tracer = _tracer(values) if sop_class == _PET else None
    return Quantity(units, tracer, tags.MODALITY_LUT_SEQUENCE in values)


def rescale(values: Values) -> tuple[float, float] | None:
    """Return slope and intercept; one alone stands, as other readers have it."""
    slope, intercept = (values.decimal(t) for t in (tags.RESCALE_SLOPE, tags.RESCALE_INTERCEPT))
    if slope is None and intercept is None:
        return None
    return 1.0 if slope is None else slope, intercept or 0.0


def _of_frames(values: Values) -> str:
    """Return the units that functional groups say for all frames, or else for the first one."""
    sequences = tags.SHARED_FUNCTIONAL_GROUPS_SEQUENCE, tags.PER_FRAME_FUNCTIONAL_GROUPS_SEQUENCE
    with suppress(ValueError):  # a broken sequence costs the units, not the file
        for groups in filter(None, (next(values.items(tag), None) for tag in sequences)):
            for item in groups.items(tags.PIXEL_VALUE_TRANSFORMATION_SEQUENCE):
                return item.text(tags.RESCALE_TYPE)
    return ""


def suv_factors(quantities: Sequence[Quantity]) -> list[float] | str:
    """Return a factor for each instance of one image, in its order, or why there are none."""
    tracers = [q.tracer for q in quantities if q.tracer]
    if not tracers or len(tracers) < len(quantities):
        return "not PET"
    acquired = [t.acquired_at for t in tracers if t.acquired_at]
    earliest = min(acquired, default=None)
    found: list[float] = []
    for q, tracer in zip(quantities, tracers, strict=True):
        factor = _factor(q.units, tracer, earliest)
        if isinstance(factor, str):
            return factor
        found.append(factor)
    return found


def _factor(units: str, tracer: Tracer, earliest: datetime | None) -> float | str:
    if units == "GML":
        is_by_weight = tracer.suv_type in ("", "BW")  # PS3.3 C.8.9.1
        return 1.0 if is_by_weight else "SUV by something else than body weight"
    if not {"ATTN", "DECY"} <= set(tracer.corrections):
        return "not corrected for attenuation and decay"
    if units == "CNTS" and tracer.to_suv:
        return tracer.to_suv
    if units == "CNTS" and tracer.to_bq_ml:
        dose = _dose(tracer, earliest)
        return dose if isinstance(dose, str) else tracer.to_bq_ml * dose
    return _dose(tracer, earliest) if units == "BQML" else "units that have no SUV"


def _dose(tracer: Tracer, earliest: datetime | None) -> float | str:
    """Return g per Bq: the body's weight over the dose that was left at the reference time."""
    if not tracer.weight_kg or not tracer.dose_bq:
        return "no weight or no dose"
    if tracer.decay_correction == "ADMN":
        return 1000 * tracer.weight_kg / tracer.dose_bq
    if tracer.decay_correction != "START":
        return "no reference time for the decay"
    scanned_at = _scan_start(tracer, earliest)
    if not tracer.half_life_s or not tracer.injected_at or not scanned_at:
        return "no half life or no time of injection"
    decay_s = _since_injection(tracer.injected_at, scanned_at).total_seconds()
    if decay_s < 0 or tracer.half_life_s < 0:
        return "injected after the scan"
    left = tracer.dose_bq * 2 ** (-decay_s / tracer.half_life_s)
    return 1000 * tracer.weight_kg / left if left else "no dose left"


def _scan_start(tracer: Tracer, earliest: datetime | None) -> datetime | None:
    """Series made later than they were acquired do not bear the time of the scan."""
    series_at, acquired_at = tracer.series_at, tracer.acquired_at
    if series_at and (acquired_at is None or series_at <= acquired_at):
        return series_at
    return tracer.scanned_at or _counted_back(tracer) or earliest


def _counted_back(tracer: Tracer) -> datetime | None:
    """Return when the scan began by what a frame says of the moment that its values are of.

    That is when the tracer decayed at its mean rate while it was counted.
    """
    if not tracer.acquired_at or not tracer.half_life_s or tracer.half_life_s < 0:
        return None
    if not tracer.reference_s or not tracer.duration_s or tracer.duration_s < 0:
        return None
    rate = math.log(2) / tracer.half_life_s
    counted = rate * tracer.duration_s
    mean_s = math.log(counted / -math.expm1(-counted)) / rate
    return tracer.acquired_at + timedelta(seconds=mean_s - tracer.reference_s)


def _since_injection(injected_at: datetime, scanned_at: datetime) -> timedelta:
    """Return the time between; an injection without its day was within the day before the scan."""
    if injected_at.year > 1:
        return scanned_at - injected_at
    return (scanned_at - datetime.combine(scanned_at.date(), injected_at.time())) % _DAY


def _tracer(values: Values) -> Tracer:
    dose = _first_dose(values)
    is_philips, is_ge = (values.text(tag) == creator for tag, creator in (_PHILIPS, _GE))
    return Tracer(
        decay_correction=values.text(tags.DECAY_CORRECTION),
        corrections=values.texts(tags.CORRECTED_IMAGE),
        weight_kg=values.decimal(tags.PATIENT_WEIGHT),
        dose_bq=_only(dose.decimals(tags.RADIONUCLIDE_TOTAL_DOSE)),
        half_life_s=_only(dose.decimals(tags.RADIONUCLIDE_HALF_LIFE)),
        injected_at=_moment(
            dose.text(tags.RADIOPHARMACEUTICAL_START_DATE_TIME),
            values.text(tags.TIMEZONE_OFFSET_FROM_UTC),
        )
        or _moment("00010101" + (dose.text(tags.RADIOPHARMACEUTICAL_START_TIME) or "?")),
        series_at=_moment(values.text(tags.SERIES_DATE) + values.text(tags.SERIES_TIME)),
        acquired_at=_moment(
            values.text(tags.ACQUISITION_DATE) + values.text(tags.ACQUISITION_TIME)
        ),
        scanned_at=_moment(values.text(_GE_SCAN_DATE_TIME)) if is_ge else None,
        reference_s=_seconds(values.decimal(tags.FRAME_REFERENCE_TIME)),
        duration_s=_seconds(values.decimal(tags.ACTUAL_FRAME_DURATION)),
        suv_type=values.text(tags.SUV_TYPE),
        to_suv=values.decimal(_PHILIPS_SUV) if is_philips else None,
        to_bq_ml=values.decimal(_PHILIPS_ACTIVITY) if is_philips else None,
    )


def _first_dose(values: Values) -> Values:
    """Return what is said of the first dose; a broken sequence costs the factor, not the file."""
    with suppress(ValueError):
        for item in values.items(tags.RADIOPHARMACEUTICAL_INFORMATION_SEQUENCE):
            return item
    return values.only(())


def _only(found: tuple[float, ...]) -> float | None:
    """Return a single number; of several it is not known which one counts."""
    return found[0] if len(found) == 1 else None


def _seconds(milliseconds: float | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000


def _moment(text: str, here: str = "") -> datetime | None:
    """Return a DICOM date and time, to the second, or None.

    here: the offset from UTC of the scanner's other times; one that has another offset is told in
    theirs. Where nobody says it, all are taken for times of one clock.
    """
    found = _MOMENT.match(text)
    if not found:
        return None
    try:
        # the scanner's clock has no zone
        moment = datetime.strptime(found[1].ljust(14, "0"), "%Y%m%d%H%M%S")  # noqa: DTZ007
        return moment + _offset(here) - _offset(found[2]) if here and found[2] else moment
    except (ValueError, OverflowError):
        return None


def _offset(said: str) -> timedelta:
    """Return an offset from UTC, such as +0130; raises ValueError if it is none."""
    return timedelta(hours=int(said[:3]), minutes=int(said[0] + said[3:5]))
