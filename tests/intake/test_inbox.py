from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from inbox_files import (
    OTHER_UID,
    SERIES_UID,
    CountingPeek,
    dicom,
    put,
    remembered,
    unlistable,
    unseen,
)

from dicomzarr_watch.intake.arrival import Rules, SeriesFile, SeriesKey, tally
from dicomzarr_watch.intake.inbox import (
    UNREADABLE_AGAIN_MOST_S,
    UNREADABLE_AGAIN_S,
    Inbox,
    Known,
    Sight,
)
from dicomzarr_watch.intake.listing import Entry
from dicomzarr_watch.kind import Kind

RULES = Rules(settle_s=10.0, truncated_hold_s=60.0)
NEVER = float("inf")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "inbox"
    folder.mkdir()
    return folder


@pytest.fixture
def peek() -> CountingPeek:
    return CountingPeek()


@pytest.fixture
def inbox(folder: Path, peek: CountingPeek) -> Watched:
    return Watched(folder, RULES, peek=peek)


class Watched(Inbox):
    """An inbox that is read to the end after each look, by one who writes down what he is told."""

    def __init__(
        self, folder: Path, rules: Rules, *, known: Iterable[Known] = (), **keywords: Any
    ) -> None:
        self.noted = {one.entry.path: one for one in known}
        super().__init__(folder, rules, map(remembered, self.noted.values()), **keywords)

    def look(self, now_s: float, moved: Collection[str] = ()) -> Sight:
        sight = super().look(now_s, moved)
        if sight.place is None:
            return sight
        judged, changed, over = sight.arrivals, sight.changed, sight.over
        gone, unreadable = sight.gone, sight.unreadable
        while not sight.is_all_read:
            sight = self.read(1)
            judged, changed, over = (
                judged + sight.arrivals,
                changed + sight.changed,
                over + sight.over,
            )
        for path in gone:
            del self.noted[path]
        self.noted |= {one.entry.path: one for one in changed}
        place, due_s = sight.place, sight.due_s
        return Sight(place, judged, over, changed, gone, unreadable, True, due_s)

    def files(self) -> dict[tuple[str, str], list[str]]:
        """Return the files of each series, as they were told and as they are summed up."""
        found: dict[tuple[str, str], list[SeriesFile]] = {}
        for one in self.noted.values():
            if one.peek.kind is Kind.DICOM:
                file = SeriesFile(one.entry.path, one.entry.identity, one.peek.is_truncated)
                found.setdefault((one.entry.drop, one.peek.series_uid), []).append(file)
        for key, files in found.items():
            assert self.tally(SeriesKey(*key)) == tally(files)
        return {key: sorted(file.path for file in files) for key, files in found.items()}


def waits(sight: Sight) -> dict[tuple[str, str], str]:
    return {(a.key.drop, a.key.uid): a.waits_for for a in sight.arrivals}


def changed(sight: Sight) -> dict[str, Kind]:
    return {known.entry.path: known.peek.kind for known in sight.changed}


def test_an_empty_inbox_is_there_and_nothing_is_waited_for(inbox: Watched) -> None:
    sight = inbox.look(0.0)
    assert sight.place is not None
    assert (sight.arrivals, sight.changed, sight.gone) == ((), (), ())
    assert (inbox.is_settled, sight.due_s) == (True, NEVER)


def test_only_what_is_new_or_changed_is_peeked_at(
    inbox: Watched, folder: Path, peek: CountingPeek
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


def test_a_file_that_changes_its_series_changes_both(inbox: Watched, folder: Path) -> None:
    put(folder / "drop" / "1.dcm")
    put(folder / "drop" / "2.dcm")
    inbox.look(0.0)
    assert waits(inbox.look(10.0)) == {("drop", SERIES_UID): ""}
    put(folder / "drop" / "2.dcm", dicom(OTHER_UID))
    sight = inbox.look(11.0)
    assert waits(sight) == {("drop", SERIES_UID): "settle", ("drop", OTHER_UID): "settle"}
    assert inbox.files()["drop", OTHER_UID] == ["drop/2.dcm"]


def test_files_are_sorted_into_series_by_drop_and_uid(inbox: Watched, folder: Path) -> None:
    put(folder / "a" / "1.dcm", dicom(SERIES_UID))
    put(folder / "a" / "deep" / "2.dcm", dicom(SERIES_UID))
    put(folder / "a" / "3.dcm", dicom(OTHER_UID))
    put(folder / "b" / "4.dcm", dicom(SERIES_UID))
    put(folder / "5.dcm", dicom(SERIES_UID))
    put(folder / "a" / "DICOMDIR", dicom(""))
    put(folder / "a" / "readme.txt", b"hello")
    put(folder / "a" / "6.dcm.part", dicom(SERIES_UID))
    sight = inbox.look(0.0)
    assert inbox.files() == {
        ("a", ""): ["a/DICOMDIR"],
        ("a", SERIES_UID): ["a/1.dcm", "a/deep/2.dcm"],
        ("a", OTHER_UID): ["a/3.dcm"],
        ("b", SERIES_UID): ["b/4.dcm"],
        ("_loose", SERIES_UID): ["5.dcm"],
    }
    assert changed(sight)["a/readme.txt"] is Kind.NOT_DICOM
    assert changed(sight)["a/6.dcm.part"] is Kind.TEMPORARY


def test_an_unfinished_copy_is_not_opened_before_it_has_its_name(
    inbox: Watched, folder: Path, peek: CountingPeek
) -> None:
    part = put(folder / "drop" / "1.dcm.part")
    assert changed(inbox.look(0.0)) == {"drop/1.dcm.part": Kind.TEMPORARY}
    assert peek.taken() == []
    part.rename(part.with_suffix(""))
    sight = inbox.look(1.0)
    assert (changed(sight), sight.gone) == ({"drop/1.dcm": Kind.DICOM}, ("drop/1.dcm.part",))


def test_a_series_is_complete_after_it_settled_and_its_drop_is_not_quiet_until_then(
    inbox: Watched, folder: Path
) -> None:
    put(folder / "drop" / "1.dcm")
    key = SeriesKey("drop", SERIES_UID)
    assert inbox.look(0.0).due_s == 10.0
    assert (inbox.is_quiet("drop"), inbox.is_complete(key)) == (False, False)
    assert waits(inbox.look(9.75)) == {("drop", SERIES_UID): "settle"}
    assert (inbox.is_quiet("drop"), inbox.is_complete(key)) == (False, False)
    third = inbox.look(10.0)
    assert (waits(third), third.due_s) == ({("drop", SERIES_UID): ""}, NEVER)
    assert (inbox.is_quiet("drop"), inbox.is_complete(key)) == (True, True)
    assert (inbox.is_settled, inbox.look(11.0).arrivals) == (True, ())


def test_a_drop_of_no_dicom_is_not_quiet_at_once_either(inbox: Watched, folder: Path) -> None:
    put(folder / "drop" / "readme.txt", b"hello")
    first = inbox.look(0.0)
    assert (first.arrivals, first.due_s, inbox.is_quiet("drop")) == ((), 10.0, False)
    assert (inbox.look(10.0).due_s, inbox.is_quiet("drop")) == (NEVER, True)


def test_it_is_looked_again_when_the_first_series_can_be_complete(
    inbox: Watched, folder: Path
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
    inbox: Watched, folder: Path
) -> None:
    path = put(folder / "drop" / "1.dcm")
    put(folder / "drop" / "2.dcm")
    inbox.look(0.0)
    assert waits(inbox.look(10.0)) == {("drop", SERIES_UID): ""}
    path.unlink()
    sight = inbox.look(11.0)
    assert (sight.gone, inbox.is_quiet("drop")) == (("drop/1.dcm",), False)
    assert waits(sight) == {("drop", SERIES_UID): "settle"}
    shutil.rmtree(folder / "drop")
    sight = inbox.look(12.0)
    assert (sight.gone, sight.arrivals) == (("drop/2.dcm",), ())
    assert sight.over == (SeriesKey("drop", SERIES_UID),)
    assert inbox.tally(sight.over[0]) is None
    assert inbox.look(13.0).gone == ()


def test_a_missing_inbox_says_nothing_of_its_files(inbox: Watched, folder: Path) -> None:
    put(folder / "drop" / "1.dcm")
    inbox.look(0.0)
    away = folder.rename(folder.with_name("away"))
    assert inbox.look(5.0) == Sight(None)
    away.rename(folder)
    sight = inbox.look(10.0)
    assert (sight.changed, sight.gone) == ((), ())
    assert waits(sight) == {("drop", SERIES_UID): ""}


def test_nothing_is_concluded_below_a_folder_that_may_not_be_listed(
    inbox: Watched, folder: Path, peek: CountingPeek
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
    assert inbox.files() == {("drop", SERIES_UID): ["drop/closed/1.dcm"]}
    assert (inbox.look(2.0).gone, peek.taken()) == ((), [])


def test_a_file_that_cannot_be_looked_at_is_not_gone(
    inbox: Watched, folder: Path, peek: CountingPeek
) -> None:
    path = put(folder / "drop" / "1.dcm")
    put(folder / "drop" / "2.dcm")
    inbox.look(0.0)
    peek.taken()
    with unseen(path):
        sight = inbox.look(1.0)
    assert (sight.unreadable, sight.gone) == (("drop",), ())
    assert inbox.files() == {("drop", SERIES_UID): ["drop/1.dcm", "drop/2.dcm"]}
    assert (inbox.look(2.0).gone, peek.taken()) == ((), [])


def test_an_unreadable_file_is_tried_again_with_longer_pauses_and_then_found(
    folder: Path, peek: CountingPeek
) -> None:
    put(folder / "drop" / "1.dcm")
    peek.refused = {"1.dcm"}
    inbox = Watched(folder, Rules(settle_s=0.0, truncated_hold_s=0.0), peek=peek)
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
    inbox: Watched, folder: Path, peek: CountingPeek
) -> None:
    path = put(folder / "drop" / "1.dcm")
    peek.refused = {"1.dcm"}
    inbox.look(0.0)
    peek.refused = set()
    os.utime(path, ns=(5, 5))
    assert changed(inbox.look(0.25)) == {"drop/1.dcm": Kind.DICOM}


def test_an_unreadable_file_that_goes_is_not_waited_for(
    inbox: Watched, folder: Path, peek: CountingPeek
) -> None:
    path = put(folder / "drop" / "1.dcm")
    peek.refused = {"1.dcm"}
    inbox.look(0.0)
    path.unlink()
    assert inbox.look(1.0).due_s == 11.0
    assert inbox.look(11.0).due_s == NEVER


def test_an_unreadable_file_that_cannot_be_seen_is_no_reason_to_look_at_once(
    inbox: Watched, folder: Path, peek: CountingPeek
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
    before = Watched(folder, RULES).look(0.0)
    put(folder / "drop" / "3.dcm")
    inbox = Watched(folder, RULES, known=before.changed, peek=peek)
    sight = inbox.look(1000.0)
    assert (peek.taken(), list(changed(sight))) == (["3.dcm"], ["drop/3.dcm"])
    assert inbox.files() == {("drop", SERIES_UID): [f"drop/{n}.dcm" for n in (1, 2, 3)]}
    assert sight.arrivals[0].tally.truncated == 1


def test_what_was_known_and_went_while_nobody_looked_is_gone(folder: Path) -> None:
    path = put(folder / "drop" / "1.dcm")
    before = Watched(folder, RULES).look(0.0)
    path.unlink()
    inbox = Watched(folder, RULES, known=before.changed)
    assert inbox.look(0.0).gone == ("drop/1.dcm",)


def test_an_empty_inbox_at_the_start_says_nothing_of_what_was_in_it(folder: Path) -> None:
    """It may be the place of a mount that is missing."""
    path = put(folder / "drop" / "1.dcm")
    before = Watched(folder, RULES).look(0.0)
    path.unlink()
    path.parent.rmdir()
    inbox = Watched(folder, RULES, known=before.changed)
    assert inbox.look(0.0).gone == ()
    assert inbox.look(1.0).gone == ()
    put(folder / "drop" / "1.dcm")
    inbox.look(2.0)
    assert inbox.files() == {("drop", SERIES_UID): ["drop/1.dcm"]}


def test_what_was_unreadable_before_is_tried_after_the_start(
    folder: Path, peek: CountingPeek
) -> None:
    put(folder / "drop" / "1.dcm")
    peek.refused = {"1.dcm"}
    before = Watched(folder, RULES, peek=peek).look(0.0)
    inbox = Watched(folder, RULES, known=before.changed, peek=peek)
    assert inbox.look(100.0).due_s == 100.0 + UNREADABLE_AGAIN_S
    peek.refused = set()
    sight = inbox.look(100.0 + UNREADABLE_AGAIN_S)
    assert changed(sight) == {"drop/1.dcm": Kind.DICOM}
    inbox.look(200.0)
    assert inbox.is_settled


def test_a_disturbed_series_settles_anew_and_no_other(inbox: Watched, folder: Path) -> None:
    put(folder / "a" / "1.dcm")
    put(folder / "b" / "1.dcm")
    inbox.look(0.0)
    inbox.disturb(SeriesKey("a", SERIES_UID))
    inbox.disturb(SeriesKey("never", "seen"))
    sight = inbox.look(10.0)
    assert waits(sight) == {("a", SERIES_UID): "settle", ("b", SERIES_UID): ""}
    assert sight.due_s == 20.0
    assert waits(inbox.look(20.0))["a", SERIES_UID] == ""


def test_names_that_are_not_text_are_followed_like_any(inbox: Watched, folder: Path) -> None:
    name = os.fsdecode(b"M\xfcller\n.dcm")
    put(folder / name / name)
    sight = inbox.look(0.0)
    assert inbox.files() == {(name, SERIES_UID): [f"{name}/{name}"]}
    assert sight.changed[0].entry == Entry(f"{name}/{name}", sight.changed[0].entry.identity)
    inbox.look(1.0)


def test_what_was_complete_before_still_is_if_it_is_as_it_was(folder: Path) -> None:
    for drop in "ab":
        put(folder / drop / "1.dcm")
    before = Watched(folder, RULES)
    known = before.look(0.0).changed
    keys = [SeriesKey(drop, SERIES_UID) for drop in "ab"]
    marks = {key: found.fingerprint for key in keys if (found := before.tally(key))}
    put(folder / "b" / "2.dcm")
    inbox = Watched(folder, RULES, known=known, complete=marks | {SeriesKey("c", "1"): "x"})
    assert [inbox.is_complete(key) for key in keys] == [True, True]
    sight = inbox.look(1000.0)
    assert waits(sight) == {("b", SERIES_UID): "settle"}
    assert [inbox.is_complete(key) for key in keys] == [True, False]


def test_what_was_not_complete_before_settles_anew(folder: Path) -> None:
    put(folder / "a" / "1.dcm")
    known = Watched(folder, RULES).look(0.0).changed
    inbox = Watched(folder, RULES, known=known)
    assert waits(inbox.look(1000.0)) == {("a", SERIES_UID): "settle"}
    assert waits(inbox.look(1010.0)) == {("a", SERIES_UID): ""}


def test_a_backlog_is_read_piece_by_piece_and_a_drop_is_judged_when_it_is_read(
    folder: Path, peek: CountingPeek
) -> None:
    for drop in ("a", "b"):
        for n in range(3):
            put(folder / drop / f"{n}.dcm")
    inbox = Inbox(folder, RULES, peek=peek)
    sight = inbox.look(0.0)
    assert (sight.arrivals, sight.is_all_read, peek.taken()) == ((), False, [])
    judged: list[dict[str, int]] = []
    for _ in range(4):
        sight = inbox.read(2)
        assert len(sight.changed) == len(peek.taken()) == (2 if len(judged) < 3 else 0)
        judged.append({a.key.drop: a.tally.files for a in sight.arrivals})
    assert judged[0] == {}
    assert len([found for found in judged if found]) == 2
    assert judged[1] | judged[2] | judged[3] == {"a": 3, "b": 3}
    assert sight.is_all_read


def test_reading_ends_when_it_is_enough_and_goes_on_where_it_was(
    folder: Path, peek: CountingPeek
) -> None:
    for n in range(3):
        put(folder / "a" / f"{n}.dcm")
    inbox = Inbox(folder, RULES, peek=peek)
    inbox.look(0.0)
    counts = [len(inbox.read(9, lambda: len(peek.asked) % 2 == 0).changed) for _ in range(3)]
    assert counts == [2, 1, 0]
    assert peek.taken() == ["0.dcm", "1.dcm", "2.dcm"]


def test_reading_on_is_no_second_look(folder: Path) -> None:
    """What a look found unchanged may change before the next; only another listing tells."""
    put(folder / "a" / "1.dcm")
    inbox = Inbox(folder, Rules(settle_s=0.0, truncated_hold_s=0.0))
    inbox.look(0.0)
    while not (sight := inbox.read(1)).is_all_read:
        pass
    assert waits(sight) == {("a", SERIES_UID): "settle"}
    assert inbox.read(1).arrivals == ()
    assert waits(inbox.look(0.0)) == {("a", SERIES_UID): ""}


def test_files_that_go_before_they_are_read_are_not_waited_for(
    folder: Path, peek: CountingPeek
) -> None:
    for n in range(3):
        put(folder / "a" / f"{n}.dcm")
    inbox = Inbox(folder, RULES, peek=peek)
    inbox.look(0.0)
    inbox.read(1)
    shutil.rmtree(folder / "a")
    sight = inbox.look(1.0)
    assert len(sight.gone) == 3
    assert inbox.read(9).is_all_read
    assert len(peek.taken()) == 1
    inbox.look(11.0)
    assert inbox.is_settled


def test_a_look_while_a_backlog_is_read_finds_what_has_come_meanwhile(
    folder: Path, peek: CountingPeek
) -> None:
    for n in range(3):
        put(folder / "a" / f"{n}.dcm")
    inbox = Inbox(folder, RULES, peek=peek)
    inbox.look(0.0)
    inbox.read(1)
    put(folder / "a" / "new.dcm")
    put(folder / "b" / "1.dcm")
    inbox.look(1.0)
    while not inbox.read(2).is_all_read:
        pass
    assert peek.taken() == ["0.dcm", "1.dcm", "1.dcm", "2.dcm", "new.dcm"]
    found = [inbox.tally(SeriesKey(drop, SERIES_UID)) for drop in "ab"]
    assert [one and one.files for one in found] == [4, 1]


def test_of_another_folder_in_its_place_nothing_is_concluded_about_what_is_gone(
    inbox: Watched, folder: Path
) -> None:
    put(folder / "drop" / "1.dcm")
    inbox.look(0.0)
    folder.rename(folder.with_name("away"))
    folder.mkdir()
    replaced = inbox.look(1.0)
    assert (replaced.place is not None, replaced.arrivals, replaced.gone) == (True, (), ())
    folder.rmdir()
    folder.with_name("away").rename(folder)
    inbox.look(2.0)
    assert inbox.files() == {("drop", SERIES_UID): ["drop/1.dcm"]}
    (folder / "drop" / "1.dcm").unlink()
    assert inbox.look(3.0).gone == ("drop/1.dcm",)


def test_of_a_drop_that_another_folder_has_as_well_what_it_lacks_is_gone(
    inbox: Watched, folder: Path
) -> None:
    for name in ("drop/1.dcm", "drop/2.dcm", "other/1.dcm"):
        put(folder / name)
    inbox.look(0.0)
    folder.rename(folder.with_name("old"))
    put(folder / "drop" / "2.dcm")
    put(folder / "drop" / "3.dcm")
    assert inbox.look(1.0).gone == ("drop/1.dcm",)
    put(folder / "other" / "2.dcm")
    assert inbox.look(2.0).gone == ("other/1.dcm",)
    names = ["drop/2.dcm", "drop/3.dcm"]
    assert inbox.files() == {("drop", SERIES_UID): names, ("other", SERIES_UID): ["other/2.dcm"]}


@pytest.mark.parametrize("is_known", [False, True])
def test_what_went_while_a_mount_was_missing_is_gone_when_it_is_back(
    folder: Path, *, is_known: bool
) -> None:
    for name in ("drop/1.dcm", "drop/2.dcm", "other/1.dcm"):
        put(folder / name)
    inbox = Watched(folder, RULES)
    before = inbox.look(0.0).changed
    folder.rename(folder.with_name("away"))
    folder.mkdir()
    if is_known:  # the daemon starts without the mount
        inbox = Watched(folder, RULES, known=before)
    for n in (1.0, 2.0):
        assert inbox.look(n).gone == ()
        put(folder / "elsewhere" / "1.dcm")  # somebody does not see that it is missing
    inbox.noted.pop("elsewhere/1.dcm")
    shutil.rmtree(folder)
    folder.with_name("away").rename(folder)
    (folder / "drop" / "1.dcm").unlink()
    put(folder / "drop" / "3.dcm")
    with unlistable(folder / "other"):
        assert inbox.look(3.0).gone == ()
    assert inbox.look(4.0).gone == ("drop/1.dcm",)
    names = ["drop/2.dcm", "drop/3.dcm"]
    assert inbox.files() == {("drop", SERIES_UID): names, ("other", SERIES_UID): ["other/1.dcm"]}
    assert inbox.look(5.0).gone == ()


# --- what need not settle ---


@pytest.fixture
def marked(folder: Path) -> Watched:
    return Watched(folder, RULES, marker=".ready")


def test_a_marker_completes_its_drop_after_two_looks(marked: Watched, folder: Path) -> None:
    put(folder / "drop" / "1.dcm")
    put(folder / "drop" / "deep" / "2.dcm", dicom(OTHER_UID)[:-1])
    put(folder / "other" / "1.dcm")
    marked.look(0.0)
    assert set(waits(marked.look(1.0)).values()) == {"settle"}
    put(folder / "drop" / ".ready", b"")
    sight = marked.look(2.0)
    assert waits(sight)["drop", SERIES_UID] == "settle"
    assert sight.due_s == 2.0
    sight = marked.look(2.25)
    assert waits(sight) == {
        ("drop", SERIES_UID): "",
        ("drop", OTHER_UID): "",
        ("other", SERIES_UID): "settle",
    }
    assert marked.is_quiet("drop")
    assert not marked.is_quiet("other")


def test_a_marker_is_ignored_and_says_so(marked: Watched, folder: Path) -> None:
    put(folder / "drop" / ".ready")
    assert changed(marked.look(0.0)) == {"drop/.ready": Kind.MARKER}
    assert marked.is_quiet("drop")


def test_a_file_that_comes_with_the_marker_is_waited_for(marked: Watched, folder: Path) -> None:
    put(folder / "drop" / ".ready", b"")
    put(folder / "drop" / "1.dcm")
    marked.look(0.0)
    put(folder / "drop" / "2.dcm")
    assert waits(marked.look(0.25)) == {("drop", SERIES_UID): "settle"}
    assert waits(marked.look(0.5)) == {("drop", SERIES_UID): ""}
    assert marked.files() == {("drop", SERIES_UID): ["drop/1.dcm", "drop/2.dcm"]}


@pytest.mark.parametrize("is_restarted", [False, True])
def test_a_marker_that_stands_there_since_the_last_time_says_nothing(
    marked: Watched, folder: Path, is_restarted: bool
) -> None:
    put(folder / "drop" / ".ready", b"")
    put(folder / "drop" / "1.dcm")
    marked.look(0.0)
    assert waits(marked.look(0.25)) == {("drop", SERIES_UID): ""}
    key, inbox = SeriesKey("drop", SERIES_UID), marked
    if is_restarted:
        known, found = marked.noted.values(), marked.tally(key)
        assert found is not None
        complete = {key: found.fingerprint}
        inbox = Watched(folder, RULES, known=known, complete=complete, marker=".ready")
    inbox.look(1.0)
    put(folder / "drop" / "2.dcm", dicom()[:-1])  # somebody has begun to send again
    inbox.look(2.0)
    assert waits(inbox.look(2.25)) == {("drop", SERIES_UID): "settle"}
    put(folder / "drop" / ".ready", b"again")
    inbox.look(3.0)
    assert waits(inbox.look(3.25)) == {("drop", SERIES_UID): ""}


@pytest.mark.parametrize("place", ["drop/deep/.ready", ".ready", "drop/x.ready"])
def test_a_marker_elsewhere_is_none(marked: Watched, folder: Path, place: str) -> None:
    put(folder / "drop" / "1.dcm")
    put(folder / "2.dcm")
    put(folder / place)
    assert Kind.MARKER not in changed(marked.look(0.0)).values()
    assert "" not in waits(marked.look(1.0)).values()


def test_without_a_setting_no_file_is_a_marker(inbox: Watched, folder: Path) -> None:
    put(folder / "drop" / "1.dcm")
    put(folder / "drop" / ".ready")
    assert changed(inbox.look(0.0))["drop/.ready"] is Kind.TEMPORARY
    assert waits(inbox.look(1.0)) == {("drop", SERIES_UID): "settle"}


def test_a_folder_that_was_moved_in_is_complete_when_two_looks_after_that_agree(
    inbox: Watched, folder: Path
) -> None:
    put(folder / "drop" / "1.dcm")
    put(folder / "other" / "1.dcm")
    inbox.look(0.0)
    sight = inbox.look(1.0, ["drop"])
    assert waits(sight) == {("drop", SERIES_UID): "settle", ("other", SERIES_UID): "settle"}
    assert sight.due_s == 1.0
    assert waits(inbox.look(1.25))["drop", SERIES_UID] == ""


def test_a_folder_that_still_changes_was_not_moved_in_whole(inbox: Watched, folder: Path) -> None:
    put(folder / "drop" / "1.dcm")
    inbox.look(0.0, ["drop"])
    put(folder / "drop" / "2.dcm")
    assert waits(inbox.look(0.25)) == {("drop", SERIES_UID): "settle"}
    assert waits(inbox.look(0.5)) == {("drop", SERIES_UID): "settle"}
    assert waits(inbox.look(10.25)) == {("drop", SERIES_UID): ""}


def test_what_comes_later_into_a_folder_that_was_moved_in_settles(
    inbox: Watched, folder: Path
) -> None:
    put(folder / "drop" / "1.dcm")
    inbox.look(0.0, ["drop"])
    assert waits(inbox.look(0.25)) == {("drop", SERIES_UID): ""}
    put(folder / "drop" / "2.dcm")
    inbox.look(1.0)
    assert waits(inbox.look(1.25)) == {("drop", SERIES_UID): "settle"}


def test_a_folder_that_takes_long_to_read_is_hurried_until_it_is_read(folder: Path) -> None:
    inbox = Inbox(folder, RULES)
    for n in range(3):
        put(folder / "drop" / str(n))
    inbox.look(0.0, ["drop"])
    assert not inbox.read(1).is_all_read
    inbox.look(0.25)
    inbox.look(0.5)
    sight = inbox.read(10)
    assert (sight.is_all_read, waits(sight)) == (True, {("drop", SERIES_UID): "settle"})
    assert waits(inbox.look(0.75)) == {("drop", SERIES_UID): ""}


def test_a_gap_is_asked_for_when_all_else_is_well(folder: Path) -> None:
    asked = []

    def has_gap(key: SeriesKey) -> bool:
        asked.append(key)
        return True

    inbox = Watched(folder, replace(RULES, gap_hold_s=30.0), has_gap=has_gap)
    put(folder / "drop" / "1.dcm")
    inbox.look(0.0)
    assert asked == []
    assert waits(inbox.look(10.0)) == {("drop", SERIES_UID): "gap"}
    assert waits(inbox.look(20.0)) == {("drop", SERIES_UID): "gap"}
    assert waits(inbox.look(30.0)) == {("drop", SERIES_UID): ""}
    assert asked == [SeriesKey("drop", SERIES_UID)]
