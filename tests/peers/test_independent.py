"""SimpleITK as a witness of real series: it agrees, or it is said why it cannot be asked."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from archive_cases import Archived

pytestmark = pytest.mark.integration

REASONS = (
    "64-bit samples",
    "SimpleITK cannot read it",
    "SimpleITK converts MONOCHROME1",
    "SimpleITK converts PALETTE COLOR",
    "SimpleITK converts YBR_FULL",
    "SimpleITK converts YBR_ICT",
    "SimpleITK converts YBR_RCT",
    "SimpleITK does not lay out tiles",
    "SimpleITK reads multi-frame geometry from the first frame",
    "unused bits carry data",
)


def test_every_image_agrees_or_says_why_it_is_not_comparable(
    folder: str, converted: Callable[[str], tuple[Archived, ...]]
) -> None:
    for series in converted(folder):
        told = series.receipt.verified["independent"]
        assert told["differ"] == {}
        assert set(told["not_comparable"].values()) <= set(REASONS)
        heard = sorted([*told["agree"], *told["not_comparable"]])
        assert heard == sorted(image.array.path for image in series.store.images)
        assert not [f for f in series.receipt.findings if f.code == "view-did-not-verify"]


def test_the_plain_series_are_all_compared(
    converted: Callable[[str], tuple[Archived, ...]],
) -> None:
    plain = ("ct-gantry-tilt-philips", "mr-fmri-ge", "mr-fmri-philips", "mr-t1-siemens")
    compared = {
        name: [s.receipt.verified["independent"] for s in converted(name)] for name in plain
    }
    assert all(not told["not_comparable"] for series in compared.values() for told in series)
    assert all(any(told["agree"] for told in series) for series in compared.values())
