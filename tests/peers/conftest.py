"""Real DICOM, converted once for all that look at it."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from archive_cases import Archived

from dicomzarr_watch.archive.convert import convert
from dicomzarr_watch.archive.work import Level
from dicomzarr_watch.batch import batch

FOLDERS = (
    "assorted",
    "ct-gantry-tilt-philips",
    "ct-mixed-sizes-philips",
    "ct-variable-spacing-ge",
    "mr-enhanced",
    "mr-fmri-ge",
    "mr-fmri-mosaic-siemens",
    "mr-fmri-philips",
    "mr-t1-siemens",
)

Converted = Callable[[str], tuple[Archived, ...]]


@pytest.fixture(scope="session")
def converted(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Converted:
    """Give the series of a folder of the corpus, verified by SimpleITK as well."""
    output = tmp_path_factory.mktemp("converted")

    @cache
    def series_of(folder: str) -> tuple[Archived, ...]:
        works = batch([corpus / folder], output, level=Level.INDEPENDENT).works
        receipts = [convert(work) for work in works]
        return tuple(Archived(corpus / folder, r, output / folder / r.folder) for r in receipts)

    return series_of


@pytest.fixture(params=FOLDERS)
def folder(request: pytest.FixtureRequest, corpus: Path) -> str:
    name: str = request.param
    assert (corpus / name).is_dir()
    return name
