from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from inbox_files import OTHER_UID, SERIES_UID, CountingPeek, dicom, put, unlistable

from dicomzarr_watch.intake.arrival import Rules, SeriesKey
from dicomzarr_watch.intake.inbox import (
    UNREADABLE_AGAIN_MOST_S,
    UNREADABLE_AGAIN_S,
    Inbox,
    Known,
    Sight,
)
from dicomzarr_watch.intake.listing import Entry
from dicomzarr_watch.intake.peek import Kind

RULES = Rules(settle_s=10.0, truncated_hold_s=60.0)
NEVER = float("inf")
NOTHING: frozenset[str] = frozenset()
DROP = frozenset({"drop"})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "inbox"
    folder.mkdir()
    return folder


@pytest.fixture
def peek() -> CountingPeek:
    return CountingPeek()


@pytest.fixture
def inbox(folder: Path, peek: CountingPeek) -> Inbox:
    return Inbox(folder, RULES, peek=peek)


def waits(sight: Sight) -> dict[tuple[str, str], str]:
    return {(a.key.drop, a.key.uid): a.waits_for for a in sight.arrivals}


def files(sight: Sight) -> dict[tuple[str, str], list[str]]:
    return {(a.key.drop, a.key.uid): sorted(f.path for f in a.files) for a in sight.arrivals}


def changed(sight: Sight) -> dict[str, Kind]:
    return {known.entry.path: known.peek.kind for known in sight.changed}


def test_an_empty_inbox_is_there_and_nothing_is_waited_for(inbox: Inbox) -> None:
    sight = inbox.look(0.0)
    assert sight.place is not None
    assert (sight.arrivals, sight.changed, sight.gone) == ((), (), ())
    assert (sight.fresh, sight.due_s) == (NOTHING, NEVER)


def test_only_what_is_new_or_changed_is_peeked_at(
    inbox: Inbox, folder: Path, peek: CountingPeek
) -> None:
    put(folder / "drop" / "1.dcm")
    put(folder / "drop" / "2.dcm")
    assert changed(inbox.look(0.0)) == {"drop/1.dcm": Kind.DICOM, "drop/2.dcm": Kind.DICOM}
    assert peek.taken() == ["1.dcm", "2.dcm"]
    assert inbox.look(1.0).changed == ()
    assert peek.taken() == []
    put(folder / "drop" / "2.dcm", dicom(OTHER_UID))
    put(folder / "drop" / "3.dcm")
    assert list(changed(inbox.look(2.0))) == ["drop/2.dcm", "drop/3.dcm"]
    assert peek.taken() == ["2.dcm", "3.dcm"]


def test_a_file_that_changes_its_series_changes_both(inbox: Inbox, folder: Path) -> None:
    put(folder / "drop" / "1.dcm")
    put(folder / "drop" / "2.dcm")
    inbox.look(0.0)
    assert waits(inbox.look(10.0)) == {("drop", SERIES_UID): ""}
    put(folder / "drop" / "2.dcm", dicom(OTHER_UID))
    sight = inbox.look(11.0)
    assert waits(sight) == {("drop", SERIES_UID): "settle", ("drop", OTHER_UID): "settle"}
    assert files(sight)["drop", OTHER_UID] == ["drop/2.dcm"]


def test_files_are_sorted_into_series_by_drop_and_uid(inbox: Inbox, folder: Path) -> None:
    put(folder / "a" / "1.dcm", dicom(SERIES_UID))
    put(folder / "a" / "deep" / "2.dcm", dicom(SERIES_UID))
    put(folder / "a" / "3.dcm", dicom(OTHER_UID))
    put(folder / "b" / "4.dcm", dicom(SERIES_UID))
    put(folder / "5.dcm", dicom(SERIES_UID))
    put(folder / "a" / "DICOMDIR", dicom(""))
    put(folder / "a" / "readme.txt", b"hello")
    put(folder / "a" / "6.dcm.part", dicom(SERIES_UID))
    sight = inbox.look(0.0)
    assert files(sight) == {
        ("a", ""): ["a/DICOMDIR"],
        ("a", SERIES_UID): ["a/1.dcm", "a/deep/2.dcm"],
        ("a", OTHER_UID): ["a/3.dcm"],
        ("b", SERIES_UID): ["b/4.dcm"],
        ("_loose", SERIES_UID): ["5.dcm"],
    }
    assert changed(sight)["a/readme.txt"] is Kind.NOT_DICOM
    assert changed(sight)["a/6.dcm.part"] is Kind.TEMPORARY


def test_an_unfinished_copy_is_not_opened_before_it_has_its_name(
    inbox: Inbox, folder: Path, peek: CountingPeek
) -> None:
    part = put(folder / "drop" / "1.dcm.part")
    assert changed(inbox.look(0.0)) == {"drop/1.dcm.part": Kind.TEMPORARY}
    assert peek.taken() == []
    part.rename(part.with_suffix(""))
    sight = inbox.look(1.0)
    assert (changed(sight), sight.gone) == ({"drop/1.dcm": Kind.DICOM}, ("drop/1.dcm.part",))


def test_a_series_is_complete_after_it_settled_and_the_drop_is_fresh_until_then(
    inbox: Inbox, folder: Path
) -> None:
    put(folder / "drop" / "1.dcm")
    first = inbox.look(0.0)
    assert (first.fresh, first.due_s) == (DROP, 10.0)
    second = inbox.look(9.75)
    assert (waits(second), second.fresh) == ({("drop", SERIES_UID): "settle"}, DROP)
    third = inbox.look(10.0)
    assert (waits(third), third.fresh) == ({("drop", SERIES_UID): ""}, NOTHING)
    assert third.due_s == NEVER


def test_a_drop_of_no_dicom_is_fresh_as_well(inbox: Inbox, folder: Path) -> None:
    put(folder / "drop" / "readme.txt", b"hello")
    first = inbox.look(0.0)
    assert (first.arrivals, first.fresh, first.due_s) == ((), DROP, 10.0)
    assert inbox.look(10.0).fresh == NOTHING


def test_it_is_looked_again_when_the_first_series_can_be_complete(
    inbox: Inbox, folder: Path
) -> None:
    put(folder / "cut" / "1.dcm", dicom()[:-1])
    assert inbox.look(0.0).due_s == 10.0
    put(folder / "late" / "1.dcm")
    assert inbox.look(10.0).due_s == 20.0
    sight = inbox.look(20.0)
    assert waits(sight) == {("cut", SERIES_UID): "truncated", ("late", SERIES_UID): ""}
    assert sight.due_s == 60.0
    assert waits(inbox.look(60.0))["cut", SERIES_UID] == ""


def test_files_that_go_are_said_to_be_gone_and_their_series_settles_anew(
    inbox: Inbox, folder: Path
) -> None:
    path = put(folder / "drop" / "1.dcm")
    put(folder / "drop" / "2.dcm")
    inbox.look(0.0)
    assert waits(inbox.look(10.0)) == {("drop", SERIES_UID): ""}
    path.unlink()
    sight = inbox.look(11.0)
    assert (sight.gone, sight.fresh) == (("drop/1.dcm",), DROP)
    assert waits(sight) == {("drop", SERIES_UID): "settle"}
    shutil.rmtree(folder / "drop")
    sight = inbox.look(12.0)
    assert (sight.gone, sight.arrivals) == (("drop/2.dcm",), ())
    assert inbox.look(13.0).gone == ()


def test_a_missing_inbox_says_nothing_of_its_files(inbox: Inbox, folder: Path) -> None:
    put(folder / "drop" / "1.dcm")
    inbox.look(0.0)
    away = folder.rename(folder.with_name("away"))
    assert inbox.look(5.0) == Sight(None)
    away.rename(folder)
    sight = inbox.look(10.0)
    assert (sight.changed, sight.gone) == ((), ())
    assert waits(sight) == {("drop", SERIES_UID): ""}


def test_nothing_is_concluded_below_a_folder_that_may_not_be_listed(
    inbox: Inbox, folder: Path, peek: CountingPeek
) -> None:
    put(folder / "drop" / "closed" / "1.dcm")
    put(folder / "drop" / "closed_not" / "2.dcm")
    inbox.look(0.0)
    peek.taken()
    shutil.rmtree(folder / "drop" / "closed_not")
    with unlistable(folder / "drop" / "closed"):
        sight = inbox.look(1.0)
    assert sight.unreadable == ("drop/closed",)
    assert sight.gone == ("drop/closed_not/2.dcm",)
    assert files(sight) == {("drop", SERIES_UID): ["drop/closed/1.dcm"]}
    assert (inbox.look(2.0).gone, peek.taken()) == ((), [])


def test_an_unreadable_file_is_tried_again_with_longer_pauses_and_then_found(
    folder: Path, peek: CountingPeek
) -> None:
    put(folder / "drop" / "1.dcm")
    peek.refused = {"1.dcm"}
    inbox = Inbox(folder, Rules(settle_s=0.0, truncated_hold_s=0.0), peek=peek)
    sight = inbox.look(0.0)
    assert changed(sight) == {"drop/1.dcm": Kind.UNREADABLE}
    due_s, pauses = sight.due_s, [sight.due_s]
    for _ in range(9):
        peek.taken()
        assert inbox.look(due_s - 0.25).due_s == due_s
        assert peek.taken() == []
        sight = inbox.look(due_s)
        assert (peek.taken(), sight.changed) == (["1.dcm"], ())
        pauses.append(sight.due_s - due_s)
        due_s = sight.due_s
    assert pauses[0] == UNREADABLE_AGAIN_S
    assert pauses == [2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 300.0, 300.0]
    assert pauses[-1] == UNREADABLE_AGAIN_MOST_S
    peek.refused = set()
    sight = inbox.look(due_s)
    assert changed(sight) == {"drop/1.dcm": Kind.DICOM}
    assert waits(sight) == {("drop", SERIES_UID): "settle"}


def test_an_unreadable_file_that_changes_is_tried_at_once(
    inbox: Inbox, folder: Path, peek: CountingPeek
) -> None:
    path = put(folder / "drop" / "1.dcm")
    peek.refused = {"1.dcm"}
    inbox.look(0.0)
    peek.refused = set()
    os.utime(path, ns=(5, 5))
    assert changed(inbox.look(0.25)) == {"drop/1.dcm": Kind.DICOM}


def test_an_unreadable_file_that_goes_is_not_waited_for(
    inbox: Inbox, folder: Path, peek: CountingPeek
) -> None:
    path = put(folder / "drop" / "1.dcm")
    peek.refused = {"1.dcm"}
    inbox.look(0.0)
    path.unlink()
    assert inbox.look(1.0).due_s == 11.0
    assert inbox.look(11.0).due_s == NEVER


def test_an_unreadable_file_that_cannot_be_seen_is_no_reason_to_look_at_once(
    inbox: Inbox, folder: Path, peek: CountingPeek
) -> None:
    put(folder / "drop" / "1.dcm")
    peek.refused = {"1.dcm"}
    inbox.look(0.0)
    with unlistable(folder / "drop"):
        assert inbox.look(20.0).due_s > 20.0


def test_what_was_known_before_is_not_peeked_at_again(folder: Path, peek: CountingPeek) -> None:
    put(folder / "drop" / "1.dcm")
    put(folder / "drop" / "2.dcm", dicom()[:-1])
    put(folder / "drop" / "notes", b"hello")
    before = Inbox(folder, RULES).look(0.0)
    put(folder / "drop" / "3.dcm")
    inbox = Inbox(folder, RULES, before.changed, peek=peek)
    sight = inbox.look(1000.0)
    assert (peek.taken(), list(changed(sight))) == (["3.dcm"], ["drop/3.dcm"])
    assert files(sight) == {("drop", SERIES_UID): [f"drop/{n}.dcm" for n in (1, 2, 3)]}
    assert sight.arrivals[0].truncated == ("drop/2.dcm",)


def test_what_was_known_and_went_while_nobody_looked_is_gone(folder: Path) -> None:
    path = put(folder / "drop" / "1.dcm")
    before = Inbox(folder, RULES).look(0.0)
    path.unlink()
    assert Inbox(folder, RULES, before.changed).look(0.0).gone == ("drop/1.dcm",)


def test_what_was_unreadable_before_is_tried_after_the_start(
    folder: Path, peek: CountingPeek
) -> None:
    put(folder / "drop" / "1.dcm")
    peek.refused = {"1.dcm"}
    before = Inbox(folder, RULES, peek=peek).look(0.0)
    known: list[Known] = list(before.changed)
    inbox = Inbox(folder, RULES, known, peek=peek)
    assert inbox.look(100.0).due_s == 100.0 + UNREADABLE_AGAIN_S
    peek.refused = set()
    sight = inbox.look(100.0 + UNREADABLE_AGAIN_S)
    assert changed(sight) == {"drop/1.dcm": Kind.DICOM}
    assert sight.fresh == NOTHING  # it was read, it did not change


def test_a_disturbed_series_settles_anew_and_no_other(inbox: Inbox, folder: Path) -> None:
    put(folder / "a" / "1.dcm")
    put(folder / "b" / "1.dcm")
    inbox.look(0.0)
    inbox.disturb(SeriesKey("a", SERIES_UID))
    inbox.disturb(SeriesKey("never", "seen"))
    sight = inbox.look(10.0)
    assert waits(sight) == {("a", SERIES_UID): "settle", ("b", SERIES_UID): ""}
    assert sight.due_s == 20.0
    assert waits(inbox.look(20.0))["a", SERIES_UID] == ""


def test_names_that_are_not_text_are_followed_like_any(inbox: Inbox, folder: Path) -> None:
    name = os.fsdecode(b"M\xfcller\n.dcm")
    put(folder / name / name)
    sight = inbox.look(0.0)
    assert files(sight) == {(name, SERIES_UID): [f"{name}/{name}"]}
    assert sight.changed[0].entry == Entry(f"{name}/{name}", sight.changed[0].entry.identity)


def test_of_another_folder_in_its_place_nothing_is_concluded_about_what_is_gone(
    inbox: Inbox, folder: Path
) -> None:
    put(folder / "drop" / "1.dcm")
    inbox.look(0.0)
    folder.rename(folder.with_name("away"))
    folder.mkdir()
    replaced = inbox.look(1.0)
    assert (replaced.place is not None, replaced.arrivals, replaced.gone) == (True, (), ())
    folder.rmdir()
    folder.with_name("away").rename(folder)
    back = inbox.look(2.0)
    assert files(back) == {("drop", SERIES_UID): ["drop/1.dcm"]}
    (folder / "drop" / "1.dcm").unlink()
    assert inbox.look(3.0).gone == ("drop/1.dcm",)
