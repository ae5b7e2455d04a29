"""What stands for a UID is named if it can be, and never warned of."""

from __future__ import annotations

import logging
from pathlib import Path

import pydicom
import pytest
from archive_cases import archived, contents
from dicom_files import slice_dataset
from pydicom.uid import CTImageStorage

from dicomzarr_watch.archive.restore import restore
from dicomzarr_watch.dicom import uids

ODD = ("", "1.2.840.10ÿÿÿÿ5.1.4.1.1.2", "1.2\0(\0\2", "1." * 60, "Müller^Eva", "1..2")


def test_a_uid_of_the_standard_has_its_name() -> None:
    assert uids.name(CTImageStorage) == "CT Image Storage"


@pytest.mark.parametrize("text", ODD)
def test_another_text_is_its_own_name_and_nothing_is_said_of_it(
    text: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        assert uids.name(text) == text
    assert not caplog.records


def test_a_file_that_has_bytes_for_the_uid_of_its_class_comes_back(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "files" / "odd.dcm"
    path.parent.mkdir()
    dataset = slice_dataset()
    del dataset.PixelData  # what has no view is called by its class
    pydicom.dcmwrite(path, dataset, enforce_file_format=True)
    path.write_bytes(path.read_bytes().replace(b"008.5.1.4", b"\xff\xff\xff\xff5.1.4"))
    with caplog.at_level(logging.DEBUG):
        done = archived(path.parent, tmp_path / "output")
    restore(done.store, tmp_path / "back", done.store.files)
    assert contents(tmp_path / "back") == contents(path.parent)
    assert not [record for record in caplog.records if "Invalid value" in record.message]
