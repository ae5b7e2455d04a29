"""Copies that somebody made in the output, as a ledger that is made anew finds them."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from archive_cases import sources
from drops import made
from inbox_files import identity

from dicomzarr_watch.archive.convert import convert
from dicomzarr_watch.archive.work import Work
from dicomzarr_watch.daemon.rebuilding import known
from dicomzarr_watch.ledger.account import account, as_json
from dicomzarr_watch.ledger.jobs import Job, State
from dicomzarr_watch.ledger.rows import FileRow
from dicomzarr_watch.ledger.store import Ledger

REJECTED = Job(1, "a", "1.2", "f" * 64, 1, 100, State.REJECTED, code="x")
FILE = FileRow("a/0.dcm", "a", identity(), "dicom", "1.2", job=1)


def published(place: Path) -> Path:
    """Archive a series as the drop `a`, and return its result."""
    made(place / "inbox" / "a", 2)
    work = Work("a", sources(place / "inbox" / "a"), place / "output")
    return place / "output" / "a" / convert(work).folder


def accounted(output: Path, drop: str, *jobs: Job) -> None:
    """Write down what became of a drop with one file."""
    (output / drop).mkdir(parents=True)
    found = account(drop, [replace(FILE, drop=drop)], {job.id: job for job in jobs})
    (output / drop / "drop.json").write_bytes(as_json(found))


def rebuilt(place: Path) -> tuple[list[tuple[str, str]], list[tuple[str, str, str]]]:
    """Return drop and folder of the jobs of a new ledger, and of each file path, drop, folder."""
    ledger = Ledger.own(place / "state", lambda: known(place / "output", 0.0))
    try:
        jobs = {job.id: job for job in ledger.jobs.select()}
        drops = dict.fromkeys(job.drop for job in jobs.values())
        files = [file for drop in drops for file in ledger.files.of_drop(drop)]
        return (
            [(job.drop, job.folder) for job in jobs.values()],
            [(f.path, f.drop, jobs[f.job or 0].folder) for f in files],
        )
    finally:
        ledger.close()


@pytest.mark.parametrize("name", ["{}.bak", "Copy of {}"])
def test_a_copy_of_a_result_is_not_taken_for_another(tmp_path: Path, name: str) -> None:
    result = published(tmp_path)
    expected = rebuilt(tmp_path)
    shutil.rmtree(tmp_path / "state")
    shutil.copytree(result, result.with_name(name.format(result.name)))
    assert rebuilt(tmp_path) == expected
    assert expected[0] == [("a", result.name)]


def test_copies_of_a_result_that_is_not_there_any_more_say_what_was_archived(
    tmp_path: Path,
) -> None:
    result = published(tmp_path)
    for name in ("one", "other"):
        shutil.copytree(result, result.with_name(name))
    shutil.rmtree(result)
    jobs, files = rebuilt(tmp_path)
    assert jobs == [("a", "one"), ("a", "other")]
    assert {folder for _, _, folder in files} == {"one"}
    assert len(files) == 2


@pytest.mark.parametrize("copy", ["a.bak", "0"])
def test_a_copy_of_a_drop_says_nothing_of_the_drop_that_it_names(tmp_path: Path, copy: str) -> None:
    accounted(tmp_path / "output", "a", REJECTED)
    expected = rebuilt(tmp_path)
    shutil.rmtree(tmp_path / "state")
    shutil.copytree(tmp_path / "output" / "a", tmp_path / "output" / copy)
    assert rebuilt(tmp_path) == expected == ([("a", "")], [("a/0.dcm", "a", "")])


def test_the_results_in_a_copy_of_a_drop_are_a_drop_of_its_name(tmp_path: Path) -> None:
    result = published(tmp_path)
    accounted(tmp_path / "output", "b")
    (tmp_path / "output" / "b" / "drop.json").rename(result.with_name("drop.json"))
    assert rebuilt(tmp_path)[0] == [("a", result.name)]


def test_what_is_remembered_twice_is_known_once(tmp_path: Path) -> None:
    accounted(tmp_path / "output", "a", REJECTED, replace(REJECTED, id=2))
    assert rebuilt(tmp_path) == ([("a", "")], [("a/0.dcm", "a", "")])


def test_a_result_whose_documents_are_not_ours_is_passed_over(tmp_path: Path) -> None:
    result = published(tmp_path)
    said = json.loads((result / "series.json").read_bytes())
    said["files"][0]["name"] = None
    (result / "series.json").write_text(json.dumps(said))
    assert rebuilt(tmp_path) == ([], [])
