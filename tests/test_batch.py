from __future__ import annotations

import os
from pathlib import Path

import pytest
from inbox_files import OTHER_UID, SERIES_UID, dicom, put, unlistable, unseen

from dicomzarr_watch.archive.work import Level, Work
from dicomzarr_watch.batch import Batch, batch
from dicomzarr_watch.errors import RejectError
from dicomzarr_watch.identity import Identity


def found(*places: Path) -> Batch:
    return batch(places, Path("/out"), level=Level.OFF, keep_reconstructed=Path("/rebuilt"))


def names(work: Work) -> tuple[str, list[str]]:
    return work.drop, [source.name for source in work.sources]


def test_a_folder_is_a_drop_and_its_series_are_works(tmp_path: Path) -> None:
    put(tmp_path / "drop" / "b.dcm", dicom(SERIES_UID))
    put(tmp_path / "drop" / "a" / "c.dcm", dicom(SERIES_UID))
    put(tmp_path / "drop" / "d.dcm", dicom(OTHER_UID))
    works = found(tmp_path / "drop").works
    assert [names(work) for work in works] == [("drop", ["a/c.dcm", "b.dcm"]), ("drop", ["d.dcm"])]


def test_a_work_says_what_is_to_be_done_with_files_in_the_state_they_are_in(
    tmp_path: Path,
) -> None:
    path = put(tmp_path / "drop" / "1.dcm")
    (work,) = found(tmp_path / "drop").works
    assert (work.output, work.verify, work.keep_reconstructed) == (
        Path("/out"),
        Level.OFF,
        Path("/rebuilt"),
    )
    assert work.threads >= 1
    (source,) = work.sources
    assert (source.path, source.identity) == (path, Identity.of(path.stat()))


@pytest.mark.parametrize("place", [".", "output", "output/rebuilt"])
def test_rebuilt_files_are_left_apart_from_results(tmp_path: Path, place: str) -> None:
    output = tmp_path / "output"
    with pytest.raises(RejectError, match="not-apart"):
        batch([], output, level=Level.EXACT, keep_reconstructed=tmp_path / place)


def test_files_in_no_series_are_named_with_their_kind(tmp_path: Path) -> None:
    put(tmp_path / "drop" / "1.dcm")
    put(tmp_path / "drop" / "deep" / "readme.txt", b"hello")
    put(tmp_path / "drop" / "2.dcm.part")
    put(tmp_path / "drop" / "closed" / "3.dcm")
    with unlistable(tmp_path / "drop" / "closed"):
        result = found(tmp_path / "drop")
    assert [names(work) for work in result.works] == [("drop", ["1.dcm"])]
    assert sorted(result.others) == [
        ("2.dcm.part", "temporary-name"),
        ("closed", "unreadable"),
        ("deep/readme.txt", "not-dicom"),
    ]


def test_a_folder_with_a_file_that_cannot_be_looked_at_is_named(tmp_path: Path) -> None:
    put(tmp_path / "drop" / "deep" / "1.dcm")
    path = put(tmp_path / "drop" / "2.dcm")
    with unseen(path):
        result = found(tmp_path / "drop")
    assert [names(work) for work in result.works] == [("drop", ["deep/1.dcm"])]
    assert result.others == ((".", "unreadable"),)


def test_places_are_kept_apart_by_their_names(tmp_path: Path) -> None:
    put(tmp_path / "b" / "1.dcm")
    put(tmp_path / "a" / "1.dcm")
    works = found(tmp_path / "b", tmp_path / "a").works
    assert [names(work) for work in works] == [("a", ["1.dcm"]), ("b", ["1.dcm"])]


def test_a_file_alone_is_in_the_drop_of_its_folder(tmp_path: Path) -> None:
    path = put(tmp_path / "drop" / "1.dcm")
    put(tmp_path / "drop" / "2.dcm")
    assert [names(work) for work in found(path).works] == [("drop", ["1.dcm"])]


@pytest.mark.parametrize(
    ("place", "drop"),
    [(".", "here"), ("..", "drop"), ("../../drop/here", "here"), ("../x.dcm", "drop")],
)
def test_a_drop_is_a_name_however_the_place_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, drop: str
) -> None:
    """A drop that were called `..` would be written beside the output."""
    put(tmp_path / "drop" / "x.dcm")
    put(tmp_path / "drop" / "here" / "1.dcm")
    monkeypatch.chdir(tmp_path / "drop" / "here")
    assert {work.drop for work in found(Path(place)).works} == {drop}


@pytest.mark.parametrize(
    ("name", "drop"), [(".staging", "_staging"), (".evidence", "_evidence"), ("...", "_..")]
)
def test_a_hidden_folder_is_a_drop_that_is_seen(tmp_path: Path, name: str, drop: str) -> None:
    path = put(tmp_path / name / "1.dcm")
    for place in (path, path.parent):
        assert [names(work) for work in found(place).works] == [(drop, ["1.dcm"])]


def test_a_file_is_taken_once_however_it_is_named(tmp_path: Path) -> None:
    path = put(tmp_path / "drop" / "1.dcm")
    notes = put(tmp_path / "drop" / "notes.txt", b"hello")
    again = tmp_path / "drop" / ".." / "drop"
    twice = found(path.parent, path, again / "1.dcm", again, notes)
    assert [names(work) for work in twice.works] == [("drop", ["1.dcm"])]
    assert twice.others == (("notes.txt", "not-dicom"),)


def test_files_of_one_name_from_folders_of_one_name_are_set_apart(tmp_path: Path) -> None:
    paths = [put(tmp_path / above / "ct" / "1.dcm") for above in "abc"]
    deep = put(tmp_path / "d" / "ct" / "1.dcm" / "2.dcm")
    (work,) = found(*paths, deep.parent.parent).works
    assert names(work) == ("ct", ["1.dcm", "1.dcm~2", "1.dcm~2~2", "1.dcm~2~2~2/2.dcm"])
    assert {source.path for source in work.sources} == {*paths, deep}


def test_files_without_a_series_uid_make_up_one_work(tmp_path: Path) -> None:
    put(tmp_path / "drop" / "DICOMDIR", dicom(""))
    put(tmp_path / "drop" / "broken", dicom("")[:150])
    (work,) = found(tmp_path / "drop").works
    assert names(work) == ("drop", ["DICOMDIR", "broken"])


def test_nothing_found_is_an_answer(tmp_path: Path) -> None:
    assert found(tmp_path) == found() == Batch((), ())


def test_a_place_that_is_not_there_is_refused_without_its_name(tmp_path: Path) -> None:
    with pytest.raises(RejectError) as error:
        found(tmp_path / "Doe^Jane")
    assert error.value.code == "no-source"
    assert "Doe" not in str(error.value)
    assert "Doe" in error.value.private


def test_a_pipe_is_no_place(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(RejectError):
        found(tmp_path / "pipe")


def test_two_folders_of_one_name_are_refused_and_one_named_twice_is_taken_once(
    tmp_path: Path,
) -> None:
    put(tmp_path / "one" / "scan" / "1.dcm")
    put(tmp_path / "other" / "scan" / "1.dcm")
    twice = found(tmp_path / "one" / "scan", tmp_path / "one" / ".." / "one" / "scan")
    assert [names(work) for work in twice.works] == [("scan", ["1.dcm"])]
    with pytest.raises(RejectError, match="same-name-twice"):
        found(tmp_path / "one" / "scan", tmp_path / "other" / "scan")
