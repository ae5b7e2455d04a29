"""Files that bear one SOP Instance UID are told apart by their bytes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from archive_cases import sources, uid
from dicom_files import write_slice

from dicomzarr_watch.archive.twins import Twins, twins
from dicomzarr_watch.archive.work import Source
from dicomzarr_watch.dicom.instance import Instance, read_header


def read(found: tuple[Source, ...]) -> list[Instance]:
    instances = []
    for source in found:
        with source.path.open("rb") as stream:
            instances.append(read_header(stream).instance)
    return instances


def compared(folder: Path) -> Twins:
    found = sources(folder)
    return twins(found, read(found))


def test_files_with_uids_of_their_own_have_nothing_to_do_with_each_other(tmp_path: Path) -> None:
    for n in range(3):
        write_slice(tmp_path / f"{n}.dcm", sop_uid=uid(n))
    assert compared(tmp_path) == Twins()


def test_the_same_bytes_under_several_names_are_copies_of_the_first(tmp_path: Path) -> None:
    for n in range(4):
        write_slice(tmp_path / f"{n}.dcm", sop_uid=uid(n % 2))
    assert compared(tmp_path) == Twins(copies={2: 1, 3: 1})


def test_files_whose_headers_say_the_same_are_told_apart_by_their_pixels(tmp_path: Path) -> None:
    for n, value in enumerate((7, 8, 7)):
        pixels = np.full((3, 4), value, np.uint16)
        write_slice(tmp_path / f"{n}.dcm", sop_uid=uid(0), pixels=pixels)
    assert compared(tmp_path) == Twins(copies={2: 1, 1: 2}, unlike=(0, 1))


def test_a_uid_that_a_whole_series_was_given_makes_no_copies(tmp_path: Path) -> None:
    for n in range(5):
        write_slice(tmp_path / f"{n}.dcm", sop_uid=uid(0), PatientID=str(n))
    assert compared(tmp_path) == Twins(unlike=tuple(range(5)))


def test_another_moment_at_the_same_place_is_no_copy(tmp_path: Path) -> None:
    for n in range(2):
        write_slice(tmp_path / f"{n}.dcm", sop_uid=uid(0), TemporalPositionIdentifier=n + 1)
    assert compared(tmp_path) == Twins(unlike=(0, 1))


def test_an_instance_sent_again_with_another_header_is_a_copy_at_its_place(tmp_path: Path) -> None:
    for n, name in enumerate(("first", "again", "elsewhere")):
        place = (0.0, 0.0, 2.5 * (n // 2))
        write_slice(tmp_path / f"{n}.dcm", sop_uid=uid(0), PatientID=name, position=place)
    assert compared(tmp_path) == Twins(copies={1: 1}, unlike=(0, 1, 2))


def test_files_whose_headers_differ_need_not_be_read_again(tmp_path: Path) -> None:
    for n in range(3):
        write_slice(tmp_path / f"{n}.dcm", sop_uid=uid(0), instance_number=n)
    found = sources(tmp_path)
    instances = read(found)
    for source in found:
        source.path.unlink()
    assert twins(found, instances) == Twins(unlike=(0, 1, 2))
