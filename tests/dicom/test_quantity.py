"""What the values measure: units, and the factor from a PET's rescaled values to SUV."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta
from io import BytesIO
from typing import Any

import pydicom
import pytest
from dicom_files import slice_dataset
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items
from pydicom.uid import MRImageStorage, PositronEmissionTomographyImageStorage

from dicomzarr_watch.dicom.frames import FrameRun
from dicomzarr_watch.dicom.instance import Instance, read_header
from dicomzarr_watch.dicom.quantity import Quantity, Tracer, suv_factors

HALF_LIFE_S = 6586.2
SCAN = datetime(2020, 5, 4, 10, 0, 0)  # noqa: DTZ001 - a scanner's clock
BQML = Tracer(
    decay_correction="START",
    corrections=("NORM", "DTIM", "ATTN", "SCAT", "DECY"),
    weight_kg=70.0,
    dose_bq=350e6,
    half_life_s=HALF_LIFE_S,
    injected_at=SCAN - timedelta(seconds=HALF_LIFE_S),
    series_at=SCAN,
    acquired_at=SCAN,
)
HALF_THE_DOSE = 70e3 / 175e6


def instance(**keywords: Any) -> Instance:
    raw = BytesIO()
    pydicom.dcmwrite(raw, slice_dataset(**keywords), enforce_file_format=True)
    return read_header(raw).instance


def pet(**keywords: Any) -> Instance:
    dose = Dataset()
    dose.RadionuclideTotalDose = "350000000"
    dose.RadionuclideHalfLife = str(HALF_LIFE_S)
    dose.RadiopharmaceuticalStartTime = "081014.0"
    facts: dict[str, Any] = {
        "SOPClassUID": PositronEmissionTomographyImageStorage,
        "Units": "BQML",
        "CorrectedImage": ["ATTN", "DECY"],
        "DecayCorrection": "START",
        "PatientWeight": "70",
        "SeriesDate": "20200504",
        "SeriesTime": "100000",
        "AcquisitionDate": "20200504",
        "AcquisitionTime": "100000.5",
        "RadiopharmaceuticalInformationSequence": Items([dose]),
    }
    return instance(**(facts | keywords))


def transformed(units: str) -> Items:
    """Make functional groups that say the units of the rescaled values."""
    rescaled, groups = Dataset(), Dataset()
    rescaled.RescaleType = units
    groups.PixelValueTransformationSequence = Items([rescaled])
    return Items([groups])


def test_of_two_doses_it_is_not_known_which_one_was_given() -> None:
    dose = Dataset()
    dose.RadionuclideTotalDose = ["1", "2"]
    found = pet(RadiopharmaceuticalInformationSequence=Items([dose])).quantity.tracer
    assert found is not None
    assert found.dose_bq is None


def factors(units: str, *tracers: Tracer) -> Sequence[float] | str:
    return suv_factors([Quantity(units, tracer) for tracer in tracers])


@pytest.mark.parametrize(
    ("keywords", "units"),
    [
        ({"RescaleSlope": "1", "RescaleIntercept": "-1024"}, "HU"),
        ({"RescaleSlope": "1", "RescaleIntercept": "0", "RescaleType": "US"}, "US"),
        ({}, ""),
        ({"SOPClassUID": MRImageStorage, "RescaleSlope": "2", "RescaleIntercept": "0"}, ""),
        ({"DoseUnits": "GY", "DoseGridScaling": "0.001"}, "GY"),
        ({"SharedFunctionalGroupsSequence": transformed("HU")}, "HU"),
        ({"PerFrameFunctionalGroupsSequence": transformed("US")}, "US"),
    ],
    ids=[
        "CT",
        "other than Hounsfield",
        "a CT without rescale",
        "MR",
        "dose",
        "all frames of an enhanced CT",
        "each frame of one",
    ],
)
def test_units_are_those_of_the_rescaled_values(keywords: dict[str, Any], units: str) -> None:
    found = instance(**keywords).quantity
    assert found == Quantity(units)
    assert suv_factors([found]) == "not PET"


def test_the_scaling_of_a_dose_is_its_rescale() -> None:
    assert instance(DoseUnits="GY", DoseGridScaling="0.001").rescale == (0.001, 0.0)


def test_a_pet_instance_says_its_tracer() -> None:
    found = pet().quantity
    assert found.units == "BQML"
    assert found.tracer == Tracer(
        decay_correction="START",
        corrections=("ATTN", "DECY"),
        weight_kg=70.0,
        dose_bq=350e6,
        half_life_s=HALF_LIFE_S,
        injected_at=datetime(1, 1, 1, 8, 10, 14),  # noqa: DTZ001 - of no day
        series_at=SCAN,
        acquired_at=SCAN,
    )
    assert suv_factors([found]) == pytest.approx([HALF_THE_DOSE], rel=1e-4)


@pytest.mark.parametrize(
    ("units", "tracer", "factor"),
    [
        ("BQML", BQML, HALF_THE_DOSE),
        ("BQML", replace(BQML, decay_correction="ADMN"), 70e3 / 350e6),
        ("GML", Tracer(), 1.0),
        ("GML", Tracer(suv_type="BW"), 1.0),
        ("CNTS", replace(BQML, to_suv=0.0003), 0.0003),
        ("CNTS", replace(BQML, to_bq_ml=2.0), 2 * HALF_THE_DOSE),
        ("BQML", replace(BQML, series_at=SCAN + timedelta(days=3)), HALF_THE_DOSE),
        (
            "BQML",
            replace(
                BQML,
                series_at=SCAN + timedelta(days=3),
                acquired_at=SCAN + timedelta(hours=1),
                scanned_at=SCAN,
            ),
            HALF_THE_DOSE,
        ),
        ("BQML", replace(BQML, acquired_at=None), HALF_THE_DOSE),
        (
            "BQML",
            replace(
                BQML,
                series_at=SCAN + timedelta(days=3),
                acquired_at=SCAN + timedelta(hours=1),
                reference_s=3600.0 + 2.5,
                duration_s=5.0,
            ),
            HALF_THE_DOSE,
        ),
    ],
    ids=[
        "decay to the start",
        "decay to the injection",
        "SUV already",
        "SUV by body weight already",
        "a maker's factor",
        "a maker's activity",
        "a series made later",
        "a series made later that says when it was scanned",
        "no time of acquisition",
        "a frame of a scan that says how long it had gone on",
    ],
)
def test_the_factor_follows_units_and_decay(units: str, tracer: Tracer, factor: float) -> None:
    assert factors(units, tracer) == pytest.approx([factor])


@pytest.mark.parametrize(
    ("units", "change", "why"),
    [
        ("PROPCPS", {}, "units that have no SUV"),
        ("GML", {"suv_type": "LBM"}, "SUV by something else than body weight"),
        ("CNTS", {}, "units that have no SUV"),
        ("BQML", {"corrections": ("DECY",)}, "not corrected for attenuation and decay"),
        ("BQML", {"weight_kg": None}, "no weight or no dose"),
        ("BQML", {"weight_kg": 0.0}, "no weight or no dose"),
        ("BQML", {"dose_bq": 0.0}, "no weight or no dose"),
        ("BQML", {"decay_correction": "NONE"}, "no reference time for the decay"),
        ("BQML", {"half_life_s": 0.0}, "no half life or no time of injection"),
        ("BQML", {"injected_at": None}, "no half life or no time of injection"),
        ("BQML", {"half_life_s": 1.0}, "no dose left"),
        ("BQML", {"injected_at": SCAN + timedelta(days=900)}, "injected after the scan"),
    ],
)
def test_without_what_it_takes_the_reason_is_said(
    units: str, change: dict[str, Any], why: str
) -> None:
    assert factors(units, replace(BQML, **change)) == why


def test_slices_scanned_later_have_the_factor_of_the_first_scan() -> None:
    made_later = replace(BQML, series_at=SCAN + timedelta(days=3))
    later = replace(made_later, acquired_at=SCAN + timedelta(seconds=HALF_LIFE_S))
    assert factors("BQML", later, made_later) == pytest.approx([HALF_THE_DOSE] * 2)


@pytest.mark.parametrize(
    ("injected", "zone", "expected"),
    [
        ("20200504100000+0000", "+0200", "2020-05-04T12:00:00"),
        ("20200504100000.5-0330", "-0500", "2020-05-04T08:30:00"),
        ("20200504100000+0000", None, "2020-05-04T10:00:00"),
        ("202005041000-0500", "-0500", "2020-05-04T10:00:00"),
        ("20200504100000", "+0200", "2020-05-04T10:00:00"),
        ("20200504100000+0000", "nowhere", None),
    ],
)
def test_an_injection_told_by_another_clock_is_told_by_that_of_the_scanner(
    injected: str, zone: str | None, expected: str | None
) -> None:
    dose = Dataset()
    dose.RadiopharmaceuticalStartDateTime = injected
    zones = {} if zone is None else {"TimezoneOffsetFromUTC": zone}
    found = pet(RadiopharmaceuticalInformationSequence=Items([dose]), **zones).quantity.tracer
    assert found is not None
    assert (found.injected_at and found.injected_at.isoformat()) == expected


@given(st.integers(0, 86_399), st.integers(1, 86_399))
def test_an_injection_without_its_day_was_less_than_a_day_before(
    scanned_s: int, before_s: int
) -> None:
    scan = datetime(2020, 5, 4) + timedelta(seconds=scanned_s)  # noqa: DTZ001
    known = replace(BQML, series_at=scan, acquired_at=scan, half_life_s=86_400.0)
    day = replace(known, injected_at=scan - timedelta(seconds=before_s))
    injected = (scan - timedelta(seconds=before_s)).time()
    no_day = replace(known, injected_at=datetime.combine(date.min, injected))
    expected = factors("BQML", day)
    assert not isinstance(expected, str)
    assert factors("BQML", no_day) == pytest.approx(expected, rel=1e-9, abs=0)


@pytest.mark.parametrize(
    "keywords",
    [
        {"RadiopharmaceuticalInformationSequence": None},
        {"RadiopharmaceuticalInformationSequence": Items([])},
        {"SeriesTime": "", "AcquisitionTime": ""},
        {"PatientWeight": None},
    ],
    ids=["no sequence", "an empty sequence", "no times", "no weight"],
)
def test_a_pet_that_says_too_little_is_read_all_the_same(keywords: dict[str, Any]) -> None:
    found = pet(**keywords)
    assert isinstance(suv_factors([found.quantity]), str)
    assert isinstance(found.frames, FrameRun)
