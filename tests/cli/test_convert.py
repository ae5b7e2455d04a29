"""`convert`: what stands in some folders now."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

import pytest
from command_line import Ask, Converted
from dicom_files import pydicom_files
from drops import brought_back, contents, late_slice, made, states

from dicomzarr_watch.archive.claim import alone, claimed
from dicomzarr_watch.dicom import pixels


def test_folders_are_converted_series_by_series(ask: Ask, tmp_path: Path) -> None:
    files = made(tmp_path / "a", 3, series_uid="1.2.3")
    made(tmp_path / "b", 2, series_uid="1.2.4", SeriesNumber=2)
    before = states(tmp_path / "a")
    answer = ask("convert", tmp_path / "a", tmp_path / "b", "--output", tmp_path / "output")
    assert answer.code == 0
    first, second = answer.out.splitlines()
    assert first.startswith(str(tmp_path / "output" / "a" / "CT-1-"))
    assert "revision 1, 3 files, 1 images" in first
    assert "revision 1, 2 files, 1 images" in second
    assert brought_back(tmp_path / "output" / "a") == files
    assert states(tmp_path / "a") == before


def test_the_answer_for_a_program_is_the_receipts(ask: Ask, tmp_path: Path) -> None:
    made(tmp_path / "a", 2)
    (tmp_path / "a" / "notes.txt").write_text("not an image")
    answer = ask("convert", tmp_path / "a", "--output", tmp_path / "output", "--json")
    (series,) = answer.json["series"]
    assert (series["drop"], series["state"], series["revision"]) == ("a", "done", 1)
    assert series["counts"]["files"] == 2
    assert answer.json["ignored"] == [{"name": "notes.txt", "code": "not-dicom"}]


def test_converting_twice_changes_nothing_and_says_so(ask: Ask, tmp_path: Path) -> None:
    made(tmp_path / "a")
    command = ("convert", tmp_path / "a", "--output", tmp_path / "output")
    ask(*command)
    before = states(tmp_path / "output" / "a")
    again = ask(*command)
    assert (again.code, "unchanged" in again.out) == (0, True)
    (series,) = ask(*command, "--json").json["series"]
    assert (series["revision"], series["is_unchanged"]) == (1, True)
    assert states(tmp_path / "output" / "a") == before


def test_more_files_make_a_revision(ask: Ask, tmp_path: Path) -> None:
    command = ("convert", tmp_path / "a", "--output", tmp_path / "output")
    files = made(tmp_path / "a", 2)
    ask(*command)
    shutil.rmtree(tmp_path / "a")
    late = late_slice(tmp_path / "a" / "other")
    assert "revision 2, 3 files" in ask(*command).out
    assert brought_back(tmp_path / "output" / "a") == files | {"other/late.dcm": late}


def test_a_decoder_that_ends_its_process_does_not_end_the_command(
    ask: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fatal(_: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    (tmp_path / "a").mkdir()
    source = next(p for p in pydicom_files() if p.name == "SC_rgb_jpeg_dcmtk.dcm")
    shutil.copy(source, tmp_path / "a")
    monkeypatch.setattr(pixels, "get_decoder", fatal)
    answer = ask("convert", tmp_path / "a", "--output", tmp_path / "output", "--json")
    assert answer.code == 0
    (series,) = answer.json["series"]
    assert [finding["code"] for finding in series["findings"]] == ["not-decodable"]
    assert brought_back(tmp_path / "output" / "a") == {source.name: source.read_bytes()}


def test_a_single_file_is_a_source(ask: Ask, tmp_path: Path) -> None:
    files = made(tmp_path / "a", 2)
    answer = ask("convert", tmp_path / "a" / "0001.dcm", "--output", tmp_path / "output")
    assert answer.code == 0
    assert brought_back(tmp_path / "output" / "a") == {"0001.dcm": files["0001.dcm"]}


def test_the_rebuilt_files_are_left_where_they_are_asked_for(ask: Ask, tmp_path: Path) -> None:
    files = made(tmp_path / "a")
    kept = tmp_path / "kept"
    command = ("convert", tmp_path / "a", "--output", tmp_path / "output")
    assert ask(*command, "--keep-reconstructed", kept).code == 0
    assert {Path(name).name: data for name, data in contents(kept).items()} == files


def test_files_that_are_no_dicom_are_left_alone(ask: Ask, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "notes.txt").write_text("not an image")
    answer = ask("convert", tmp_path / "a", "--output", tmp_path / "output")
    assert (answer.code, answer.out) == (0, "left alone: 1 not-dicom\n")
    assert answer.err == "dicomzarr-watch: no DICOM found\n"


def test_a_source_that_is_not_there_is_named(ask: Ask, tmp_path: Path) -> None:
    answer = ask("convert", tmp_path / "none", "--output", tmp_path / "output")
    assert answer.code == 1
    assert "no-source: expected a folder or file; found none" in answer.err
    assert str(tmp_path / "none") in answer.err


def test_a_series_that_cannot_be_converted_does_not_hold_up_the_rest(
    ask: Ask, converted: Converted, tmp_path: Path
) -> None:
    taken = converted.store("one", 1).parent
    (taken / "done.json").unlink()
    made(tmp_path / "new" / "three", 2, series_uid="1.2.6")
    sources = (converted.drops / "one", tmp_path / "new" / "three")
    answer = ask("convert", *sources, "--output", converted.output, "--json")
    assert answer.code == 1
    assert [series["state"] for series in answer.json["series"]] == ["rejected", "done", "done"]
    assert answer.json["series"][0]["code"] == "output-taken"
    assert "output-taken" in answer.err


def test_an_output_that_is_no_folder_is_a_problem_told(ask: Ask, tmp_path: Path) -> None:
    made(tmp_path / "a")
    (tmp_path / "output").touch()
    answer = ask("convert", tmp_path / "a", "--output", tmp_path / "output")
    assert answer.code == 1
    assert answer.err.startswith("dicomzarr-watch: output-")


def test_missing_arguments_are_a_matter_of_usage(ask: Ask, tmp_path: Path) -> None:
    assert ask("convert", tmp_path).code == 2
    assert ask("convert", "--output", tmp_path).code == 2
    assert ask("convert", tmp_path, "--output", tmp_path, "--verify", "maybe").code == 2


def test_an_output_that_a_daemon_has_is_left_to_it(ask: Ask, tmp_path: Path) -> None:
    made(tmp_path / "a")
    command = ("convert", tmp_path / "a", "--output", tmp_path / "output")
    with claimed(tmp_path / "output"):
        answer = ask(*command)
    assert (answer.code, answer.out) == (1, "")
    assert "output-in-use" in answer.err
    with claimed(tmp_path / "output", is_shared=True):  # another conversion
        assert ask(*command).code == 0
    assert [path.name for path in (tmp_path / "output").iterdir()] == ["a"]


def test_conversions_into_one_drop_wait_for_each_other(ask: Ask, tmp_path: Path) -> None:
    made(tmp_path / "a")
    (tmp_path / "output").mkdir()
    with alone(tmp_path / "output", "a"):
        signal.setitimer(signal.ITIMER_REAL, 1.0)  # it would wait for ever
        before = signal.signal(signal.SIGALRM, signal.default_int_handler)
        answer = ask("convert", tmp_path / "a", "--output", tmp_path / "output")
        signal.signal(signal.SIGALRM, before)
    assert answer.code != 0
    assert list((tmp_path / "output").iterdir()) == []
