"""An output is told from another one in its place."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from daemon_process import once
from drops import made

from dicomzarr_watch.daemon.mark import Mark


@pytest.fixture
def output(tmp_path: Path) -> Path:
    (tmp_path / "output").mkdir()
    return tmp_path / "output"


@pytest.fixture
def mark(output: Path) -> Mark:
    mark = Mark(output)
    assert mark.lack() is None
    return mark


def code(mark: Mark) -> str:
    lack = mark.lack()
    return lack.code if lack else ""


def nothing(_: Path) -> None:
    """Leave the output away."""


def empty(output: Path) -> None:
    output.mkdir()


def another(output: Path) -> None:
    output.mkdir()
    Mark(output).lack()


@pytest.mark.parametrize(
    ("stand_in", "said"),
    [(nothing, "output-gone"), (empty, "output-gone"), (another, "output-replaced")],
)
def test_an_output_is_away_until_it_is_back(
    output: Path, mark: Mark, stand_in: Callable[[Path], None], said: str
) -> None:
    kept = output.rename(output.with_name("kept"))
    stand_in(output)
    before = sorted(output.parent.rglob("*"))
    assert [code(mark), code(mark)] == [said, said]
    assert sorted(output.parent.rglob("*")) == before  # nothing was made there
    shutil.rmtree(output, ignore_errors=True)
    kept.rename(output)
    assert code(mark) == ""


def test_an_output_that_is_mounted_under_another_number_is_the_same(
    output: Path, mark: Mark
) -> None:
    shutil.copytree(output, output.with_name("again"))  # which has another inode
    shutil.rmtree(output)
    assert code(mark) == "output-gone"
    output.with_name("again").rename(output)
    assert code(mark) == ""


def test_a_mark_that_somebody_took_away_is_made_again(output: Path, mark: Mark) -> None:
    shutil.rmtree(output / ".staging")
    assert [code(mark), code(mark)] == ["", ""]
    assert (output / ".staging").exists()


def test_an_output_that_takes_no_mark_is_there_all_the_same(output: Path) -> None:
    (output / ".staging").write_text("no folder")
    mark = Mark(output)
    assert [code(mark), code(mark)] == ["", ""]


@pytest.mark.integration
def test_an_output_without_any_of_what_was_done_is_told_of_at_the_start(tmp_path: Path) -> None:
    made(tmp_path / "inbox" / "a")
    assert once(tmp_path)[1].all("check.failed", code="output-empty") == []
    shutil.rmtree(tmp_path / "output")
    assert once(tmp_path)[1].all("check.failed", code="output-empty")
