"""series.json is what its JSON Schema, which ships in the package, says."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from archive_cases import slices
from dicom_files import pydicom_files
from jsonschema import Draft202012Validator

from dicomzarr_watch.archive.convert import convert
from dicomzarr_watch.archive.work import Level
from dicomzarr_watch.batch import batch

SCHEMA = json.loads(files("dicomzarr_watch").joinpath("schemas/series.schema.json").read_text())
NAMES = ("MR_small_RLE.dcm", "SC_rgb_small_odd.dcm", "liver_1frame.dcm", "rtdose.dcm", "rtplan.dcm")


def problems(document: dict[str, Any]) -> list[str]:
    return [error.json_path for error in Draft202012Validator(SCHEMA).iter_errors(document)]


def documents(folder: Path, output: Path) -> list[dict[str, Any]]:
    found = []
    for work in batch([folder], output, level=Level.OFF).works:
        place = output / work.drop / convert(work).folder / "series.json"
        found.append(json.loads(place.read_bytes()))
    return found


def test_the_schema_is_one() -> None:
    Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("name", NAMES)
def test_series_json_is_valid(tmp_path: Path, name: str) -> None:
    (path,) = (p for p in pydicom_files() if p.name == name)
    folder = tmp_path / "drop"
    folder.mkdir()
    (folder / name).write_bytes(path.read_bytes())
    for document in documents(folder, tmp_path / "out"):
        assert problems(document) == []


def test_what_is_missing_or_too_much_is_noticed(tmp_path: Path) -> None:
    slices(tmp_path / "drop")
    (document,) = documents(tmp_path / "drop", tmp_path / "out")
    assert problems(document) == []
    assert problems(document | {"more": 1}) == ["$"]
    assert problems({k: v for k, v in document.items() if k != "images"}) == ["$"]
    document["images"][0]["geometry"]["origin"].pop()
    assert problems(document) == ["$.images[0].geometry.origin"]
