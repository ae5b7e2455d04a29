from __future__ import annotations

from pathlib import Path

import pytest

from dicomzarr_watch.daemon.emptied import Emptied


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    (tmp_path / "inbox" / "drop" / "a" / "b").mkdir(parents=True)
    return tmp_path / "inbox"


@pytest.fixture
def emptied(inbox: Path) -> Emptied:
    found = Emptied(inbox, 10.0)
    found.add(["drop/a/b/1.dcm", "drop/a/b/2.dcm", "loose.dcm"], 0.0)
    return found


def test_folders_go_up_to_the_drops_and_never_the_inbox(inbox: Path, emptied: Emptied) -> None:
    assert emptied.remove(10.0) == 3
    assert list(inbox.iterdir()) == []
    assert emptied.due_s == float("inf")


def test_a_folder_that_changes_has_to_settle_anew(inbox: Path, emptied: Emptied) -> None:
    assert emptied.due_s == 10.0
    assert emptied.remove(9.9) == 0
    (inbox / "drop" / "a" / "b" / "new").touch()
    (inbox / "drop" / "a" / "b" / "new").unlink()
    assert emptied.remove(10.0) == 0
    assert emptied.remove(19.9) == 0
    assert emptied.remove(20.0) == 3


def test_a_folder_that_is_made_anew_has_to_settle_anew(inbox: Path, emptied: Emptied) -> None:
    (inbox / "drop" / "a" / "b").rmdir()
    (inbox / "drop" / "a" / "b").mkdir()
    assert emptied.remove(10.0) == 0
    assert emptied.remove(20.0) == 3


def test_what_is_not_empty_stays_with_all_above_it(inbox: Path, emptied: Emptied) -> None:
    (inbox / "drop" / "notes.txt").touch()
    assert emptied.remove(10.0) == 2
    assert emptied.remove(20.0) == 0
    assert emptied.remove(40.0) == 0
    assert [path.name for path in (inbox / "drop").iterdir()] == ["notes.txt"]
    assert emptied.due_s == float("inf")


def test_folders_that_never_had_a_file_of_ours_stay(inbox: Path, emptied: Emptied) -> None:
    (inbox / "drop" / "coming").mkdir()
    emptied.remove(10.0)
    emptied.remove(20.0)
    assert [path.name for path in (inbox / "drop").iterdir()] == ["coming"]


def test_a_link_in_the_place_of_a_folder_leads_nowhere(inbox: Path, emptied: Emptied) -> None:
    (inbox / "drop" / "a").rename(inbox.parent / "outside")
    (inbox / "drop" / "a").symlink_to(inbox.parent / "outside")
    for now_s in (10.0, 20.0, 30.0):
        emptied.remove(now_s)
    assert (inbox.parent / "outside" / "b").is_dir()


def test_folders_that_went_by_themselves_are_forgotten(inbox: Path, emptied: Emptied) -> None:
    for folder in ("drop/a/b", "drop/a", "drop"):
        (inbox / folder).rmdir()
    assert emptied.remove(10.0) == 0
    assert emptied.due_s == float("inf")
