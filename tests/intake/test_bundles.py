from __future__ import annotations

import os
from pathlib import Path

import pytest
from bundle_files import bundled
from inbox_files import OTHER_UID, SERIES_UID, dicom, put, remembered

from dicomzarr_watch.identity import Identity
from dicomzarr_watch.intake.arrival import Rules, SeriesKey
from dicomzarr_watch.intake.bundle import Form, is_of_bundle, series_uid
from dicomzarr_watch.intake.bundles import Bundles
from dicomzarr_watch.intake.inbox import Inbox, Known, Sight
from dicomzarr_watch.intake.listing import Entry, drop_of, drop_of_file, listing
from dicomzarr_watch.intake.peek import Peek
from dicomzarr_watch.intake.roll import Limits
from dicomzarr_watch.intake.unpack import unpack
from dicomzarr_watch.kind import Kind

LIMITS = Limits(members=100, bytes=1 << 20, ratio=100, depth=2)
RULES = Rules(settle_s=10.0, truncated_hold_s=60.0)
FILES = {"1.dcm": dicom(), "a/2.dcm": dicom(), "a/3.dcm": dicom(OTHER_UID), "a/b/4": b"none"}
BUNDLE = SeriesKey("study", series_uid("study.zip"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    put(tmp_path / "inbox" / "study.zip", bundled(Form.ZIP, FILES))
    return tmp_path / "inbox"


@pytest.fixture
def bundles(folder: Path) -> Bundles:
    return Bundles(folder, folder.parent / "copies", LIMITS)


def found_in(folder: Path, path: str) -> Entry:
    return Entry(path, Identity.of((folder / path).stat()))


def unpack_in(bundles: Bundles, folder: Path, path: str = "study.zip") -> None:
    unpack(bundles.unpacking(found_in(folder, path)))


def listed(folder: Path, bundles: Bundles) -> dict[str, str]:
    """Return the drop of each path."""
    found = listing(folder, None, bundles.folders)
    assert found is not None
    return {entry.path: entry.drop for entry in found.entries}


def looked(inbox: Inbox, now_s: float, moved: tuple[str, ...] = ()) -> list[Sight]:
    """Look and read to the end."""
    sights = [inbox.look(now_s, moved)]
    while not sights[-1].is_all_read:
        sights.append(inbox.read(2))
    return sights


def waits(sights: list[Sight]) -> dict[SeriesKey, str]:
    return {a.key: a.waits_for for sight in sights for a in sight.arrivals}


def seen(sights: list[Sight]) -> list[Known]:
    return [known for sight in sights for known in sight.changed]


# --- names ---


@pytest.mark.parametrize(
    ("path", "drop", "name"),
    [
        ("study.zip", "study", "study.zip"),
        ("Study.Tar.GZ", "Study", "Study.Tar.GZ"),
        ("study.zip//1.dcm", "study", "1.dcm"),
        ("study.zip//a/1.dcm", "study", "a/1.dcm"),
        ("study.zip//a/in.tar//b/1.dcm", "study", "a/in.tar/b/1.dcm"),
        ("study/a.zip", "study", "a.zip"),
        ("study/a.zip//1.dcm", "study", "a.zip/1.dcm"),
        ("study.zip/1.dcm", "study.zip", "1.dcm"),
        ("1.dcm", "_loose", "1.dcm"),
        ("_loose.zip", "_loose_", "_loose.zip"),
        ("_loose.zip//1.dcm", "_loose_", "1.dcm"),
    ],
)
def test_a_bundle_straight_in_the_inbox_is_a_drop(path: str, drop: str, name: str) -> None:
    entry = Entry(path, Identity(1, 1, 1, 1))
    assert (entry.drop, entry.name) == (drop, name)
    assert drop_of_file(path) == drop
    if path.rpartition("/")[0]:
        assert drop_of(path.rpartition("/")[0]) == drop


def test_what_stands_for_a_bundle_is_no_uid_and_names_one_bundle_only() -> None:
    names = ["a", "A", "a/b", "a%2Fb", "caf\udce9", "café", " ", "\n"]
    paths = [f"{name}.zip" for name in names]
    uids = [series_uid(path) for path in paths]
    assert len(set(uids)) == len(paths)
    assert all(uid.isascii() and is_of_bundle(uid) for uid in uids)
    assert not is_of_bundle(SERIES_UID)
    assert not is_of_bundle("")


# --- what came out ---


def test_nothing_came_out_of_what_was_not_unpacked(folder: Path, bundles: Bundles) -> None:
    assert listed(folder, bundles) == {"study.zip": "study"}
    assert not bundles.is_unpacked(found_in(folder, "study.zip"))


def test_what_came_out_is_listed_behind_its_bundle(folder: Path, bundles: Bundles) -> None:
    unpack_in(bundles, folder)
    assert listed(folder, bundles) == {
        "study.zip": "study",
        **{f"study.zip//{name}": "study" for name in FILES},
    }
    assert bundles.is_unpacked(found_in(folder, "study.zip"))


def test_folders_that_are_the_same_are_the_same_objects(folder: Path, bundles: Bundles) -> None:
    unpack_in(bundles, folder)
    first = listing(folder, None, bundles.folders)
    assert first is not None
    again = listing(folder, first.drops, bundles.folders)
    assert again is not None
    for path, found in again.drops["study"].items():
        assert first.drops["study"][path] is found


@pytest.mark.parametrize("is_same_size", [True, False])
def test_nothing_came_out_of_a_bundle_in_another_state(
    folder: Path, bundles: Bundles, *, is_same_size: bool
) -> None:
    unpack_in(bundles, folder)
    assert len(listed(folder, bundles)) == 5
    content = (folder / "study.zip").read_bytes()
    put(folder.parent / "new", content if is_same_size else content + b"x").rename(
        folder / "study.zip"
    )
    assert listed(folder, bundles) == {"study.zip": "study"}


def test_members_are_in_another_state_if_their_bundle_is(folder: Path, bundles: Bundles) -> None:
    unpack_in(bundles, folder)
    first = bundles.folders(found_in(folder, "study.zip"))
    os.utime(folder / "study.zip", ns=(1, 1))
    unpack_in(bundles, folder)
    second = bundles.folders(found_in(folder, "study.zip"))
    assert [f.names for f in first] == [f.names for f in second]
    assert all(a.states != b.states for a, b in zip(first, second, strict=True))


def test_headers_are_told_from_the_list_and_bytes_from_the_copies(
    folder: Path, bundles: Bundles
) -> None:
    unpack_in(bundles, folder)
    listed(folder, bundles)
    assert bundles.peek("study.zip//a/3.dcm").series_uid == OTHER_UID
    assert bundles.peek("study.zip//a/b/4") == Peek(Kind.NOT_DICOM)
    assert bundles.peek("study.zip//none") == Peek(Kind.UNREADABLE)
    identity = Identity(1, 1, 1, 1)
    path, task = bundles.place(Entry("study.zip//a/3.dcm", identity))
    assert path.read_bytes() == FILES["a/3.dcm"]
    assert task == bundles.unpacking(found_in(folder, "study.zip"))
    assert bundles.place(Entry("x/1.dcm", identity)) == (folder / "x" / "1.dcm", None)


def test_copies_are_put_away_by_drop_and_the_lists_stay(folder: Path, bundles: Bundles) -> None:
    put(folder / "other.tar", bundled(Form.TAR, FILES))
    for path in ("study.zip", "other.tar"):
        unpack_in(bundles, folder, path)
    study, other = (
        bundles.unpacking(found_in(folder, path)) for path in ("study.zip", "other.tar")
    )
    bundles.put_away("study")
    assert (study.folder.exists(), other.folder.exists()) == (False, True)
    bundles.clear()
    assert {path.suffix for path in (folder.parent / "copies").iterdir()} == {".json"}
    assert len(listed(folder, bundles)) == 10


def test_of_a_bundle_that_is_gone_nothing_is_kept(folder: Path, bundles: Bundles) -> None:
    unpack_in(bundles, folder)
    listed(folder, bundles)
    bundles.forget("study.zip")
    bundles.clear()
    assert list((folder.parent / "copies").iterdir()) == []
    assert listed(folder, bundles) == {"study.zip": "study"}


def test_clearing_where_nothing_is_does_no_harm(bundles: Bundles) -> None:
    bundles.clear()
    bundles.put_away("study")


# --- in an inbox, over time ---


def test_a_bundle_settles_like_a_series_and_so_does_what_came_out(
    folder: Path, bundles: Bundles
) -> None:
    inbox = Inbox(folder, RULES, bundles=bundles)
    assert waits(looked(inbox, 0.0)) == {BUNDLE: "settle"}
    assert not inbox.is_quiet("study")
    assert waits(looked(inbox, 10.0)) == {BUNDLE: ""}
    assert inbox.is_complete(BUNDLE)
    unpack_in(bundles, folder)
    ones, others = SeriesKey("study", SERIES_UID), SeriesKey("study", OTHER_UID)
    sights = looked(inbox, 20.0)
    assert waits(sights) == {ones: "settle", others: "settle"}
    assert {known.entry.path: known.peek.kind for known in seen(sights)} == {
        "study.zip//1.dcm": Kind.DICOM,
        "study.zip//a/2.dcm": Kind.DICOM,
        "study.zip//a/3.dcm": Kind.DICOM,
        "study.zip//a/b/4": Kind.NOT_DICOM,
    }
    assert waits(looked(inbox, 30.0)) == {ones: "", others: ""}
    assert (inbox.tally(ones) or inbox.tally(others)) is not None
    assert inbox.is_quiet("study")


def test_what_came_out_need_not_settle_again_if_it_is_all_of_its_drop(
    folder: Path, bundles: Bundles
) -> None:
    inbox = Inbox(folder, RULES, bundles=bundles)
    looked(inbox, 0.0)
    looked(inbox, 10.0)
    unpack_in(bundles, folder)
    assert set(waits(looked(inbox, 10.5, ("study.zip/",))).values()) == {"settle"}
    assert set(waits(looked(inbox, 11.0)).values()) == {""}


def test_what_came_out_settles_with_a_folder_of_the_same_drop(
    folder: Path, bundles: Bundles
) -> None:
    inbox = Inbox(folder, RULES, bundles=bundles)
    looked(inbox, 0.0)
    looked(inbox, 10.0)
    unpack_in(bundles, folder)
    put(folder / "study" / "9.dcm")
    looked(inbox, 10.5, ("study.zip/",))
    assert set(waits(looked(inbox, 11.0)).values()) == {"settle"}


def test_a_bundle_that_grows_waits_on_and_what_came_out_before_is_gone(
    folder: Path, bundles: Bundles
) -> None:
    inbox = Inbox(folder, RULES, bundles=bundles)
    looked(inbox, 0.0)
    unpack_in(bundles, folder)
    looked(inbox, 10.0)
    with (folder / "study.zip").open("ab") as stream:
        stream.write(b"more")
    sights = looked(inbox, 11.0)
    assert waits(sights) == {BUNDLE: "settle"}
    assert set(sights[0].gone) == {f"study.zip//{name}" for name in FILES}
    assert {key for sight in sights for key in sight.over} == {
        SeriesKey("study", SERIES_UID),
        SeriesKey("study", OTHER_UID),
    }


def test_after_a_restart_nothing_is_news(folder: Path, bundles: Bundles) -> None:
    inbox = Inbox(folder, RULES, bundles=bundles)
    unpack_in(bundles, folder)
    known = seen(looked(inbox, 0.0))
    looked(inbox, 10.0)
    keys = (BUNDLE, SeriesKey("study", SERIES_UID), SeriesKey("study", OTHER_UID))
    complete = {key: tally.fingerprint for key in keys if (tally := inbox.tally(key))}
    assert len(complete) == 3
    fresh = Bundles(folder, folder.parent / "copies", LIMITS)
    inbox = Inbox(folder, RULES, map(remembered, known), complete=complete, bundles=fresh)
    (sight,) = looked(inbox, 0.0)
    assert (sight.arrivals, sight.over, sight.changed, sight.gone) == ((), (), (), ())


def test_dicom_that_is_called_like_a_bundle_is_dicom(folder: Path, bundles: Bundles) -> None:
    put(folder / "study.zip", dicom())
    inbox = Inbox(folder, RULES, bundles=bundles)
    assert waits(looked(inbox, 0.0)) == {SeriesKey("study", SERIES_UID): "settle"}


def test_a_bundle_on_its_way_to_another_name_is_left_alone(folder: Path, bundles: Bundles) -> None:
    (folder / "study.zip").rename(folder / ".study.zip")
    inbox = Inbox(folder, RULES, bundles=bundles)
    (known,) = seen(looked(inbox, 0.0))
    assert known.peek.kind is Kind.TEMPORARY


def test_hidden_names_in_a_bundle_are_on_their_way_nowhere(folder: Path, bundles: Bundles) -> None:
    put(folder / "study.zip", bundled(Form.ZIP, {".hidden/1.part": dicom()}))
    unpack_in(bundles, folder)
    inbox = Inbox(folder, RULES, bundles=bundles)
    kinds = {known.entry.path: known.peek.kind for known in seen(looked(inbox, 0.0))}
    assert kinds["study.zip//.hidden/1.part"] is Kind.DICOM


def test_without_bundles_they_are_files_like_others_and_with_them_again_read(
    folder: Path, bundles: Bundles
) -> None:
    known = seen(looked(Inbox(folder, RULES), 0.0))
    assert [one.peek.kind for one in known] == [Kind.NOT_DICOM]
    again = seen(looked(Inbox(folder, RULES, map(remembered, known), bundles=bundles), 0.0))
    assert [one.peek.kind for one in again] == [Kind.BUNDLE]


def test_a_marker_completes_a_bundle_in_its_drop(folder: Path, bundles: Bundles) -> None:
    (folder / "study.zip").rename(put(folder / "drop" / "done.txt").with_name("a.zip"))
    inbox = Inbox(folder, RULES, bundles=bundles, marker="done.txt")
    key = SeriesKey("drop", series_uid("drop/a.zip"))
    assert waits(looked(inbox, 0.0)) == {key: "settle"}
    assert waits(looked(inbox, 0.25)) == {key: ""}
