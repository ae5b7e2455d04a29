from __future__ import annotations

import errno
import os
import socket
from array import array
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from inbox_files import after_listing, before_listing, identity, listed, put, unlistable, unseen

from dicomzarr_watch.archive.claim import LOCK
from dicomzarr_watch.archive.disk import PROBE, STAGING
from dicomzarr_watch.archive.publish import EVIDENCE
from dicomzarr_watch.identity import Identity, Place
from dicomzarr_watch.intake.listing import LOOSE, OURS, Entry, drop_of, is_temporary, listing


def paths(inbox: Path) -> list[str]:
    return [entry.path for entry in listed(inbox).entries]


def test_every_file_is_listed_at_any_depth_in_order(tmp_path: Path) -> None:
    for name in ("b/2.dcm", "b/1.dcm", "a/deep/er/x", "loose"):
        put(tmp_path / name)
    (tmp_path / "empty").mkdir()
    assert paths(tmp_path) == ["a/deep/er/x", "b/1.dcm", "b/2.dcm", "loose"]


def test_a_file_is_listed_in_the_state_that_it_is_in(tmp_path: Path) -> None:
    path = put(tmp_path / "a" / "1.dcm", b"12345")
    os.utime(path, ns=(7, 123_456_789_012_345_678))
    (entry,) = listed(tmp_path).entries
    found = path.stat()
    assert entry.identity == Identity(5, 123_456_789_012_345_678, found.st_ctime_ns, found.st_ino)


@pytest.mark.parametrize("time_ns", [10**19, -(10**19), (1 << 63) - 1, 1 << 63])
def test_numbers_beyond_64_bits_are_told_apart_all_the_same(time_ns: int) -> None:
    """Some file systems keep times beyond the year 2262, and inodes of 64 bits without sign."""
    states = [
        os.stat_result(
            (0o100644, inode, 1, 1, 0, 0, 5, 0, 0, 0), {"st_mtime_ns": t, "st_ctime_ns": 1}
        )
        for t in (time_ns, time_ns + 1)
        for inode in (7, (1 << 64) - 1)
    ]
    found = {Identity.of(state) for state in states}
    assert len(found) == 4
    assert len({array("q", one).tobytes() for one in found}) == 4


def test_a_folder_that_is_as_it_was_is_the_very_same_as_before(tmp_path: Path) -> None:
    for name in ("a/1", "a/2", "b/1", "b/deep/1", "c/1", "d/1", "loose"):
        put(tmp_path / name)
    before = listed(tmp_path)
    (tmp_path / "a" / "2").unlink()
    os.utime(tmp_path / "b" / "deep" / "1", ns=(5, 5))
    put(tmp_path / "c" / "2")
    after = listing(tmp_path, before.drops)
    assert after is not None
    again = listed(tmp_path)
    assert (after.entries, after.place) == (again.entries, again.place)
    same = {
        folder.path
        for name, drop in after.drops.items()
        for folder in drop.values()
        if folder is before.drops.get(name, {}).get(folder.path)
    }
    assert same == {"", "b", "d"}


def test_a_listing_says_which_folder_it_was_whatever_its_path(tmp_path: Path) -> None:
    one, two, link = tmp_path / "one", tmp_path / "two", tmp_path / "link"
    one.mkdir()
    two.mkdir()
    link.symlink_to(one)
    found = one.stat()
    assert listed(link).place == Place.of(found) == listed(one).place
    assert listed(two).place != listed(one).place


def test_symbolic_links_are_not_followed_wherever_they_lead(tmp_path: Path) -> None:
    outside = put(tmp_path / "outside" / "secret.dcm")
    inbox = tmp_path / "inbox"
    inside = put(inbox / "drop" / "1.dcm")
    links = {
        "to_file": outside,
        "to_folder": outside.parent,
        "to_file_inside": inside,
        "to_itself": inbox,
        "to_nothing": tmp_path / "none",
    }
    for name, target in links.items():
        (inbox / "drop" / name).symlink_to(target)
    assert paths(inbox) == ["drop/1.dcm"]


def test_what_is_no_regular_file_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path / "drop" / "1.dcm")
    os.mkfifo(tmp_path / "drop" / "pipe")
    monkeypatch.chdir(tmp_path / "drop")  # the address of a socket must be short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
        assert paths(tmp_path) == ["drop/1.dcm"]


@pytest.mark.parametrize(
    "name",
    [
        b"\xff\xfe.dcm",
        b"M\xfcller",
        b"two\nlines",
        b"back\\slash",
        b" ",
        b"n" * 255,
        "é".encode() * 127,
    ],
    ids=["bytes", "latin-1", "newline", "backslash", "blank", "255", "255-utf-8"],
)
def test_any_name_of_the_file_system_is_listed_and_leads_back(tmp_path: Path, name: bytes) -> None:
    put(tmp_path / os.fsdecode(name) / os.fsdecode(name), b"x")
    (entry,) = listed(tmp_path).entries
    assert os.fsencode(entry.path) == name + b"/" + name
    assert (tmp_path / entry.path).read_bytes() == b"x"
    assert (entry.drop, entry.name) == (os.fsdecode(name), os.fsdecode(name))


ours = st.sampled_from(OURS)
our_tops = st.tuples(ours, st.binary(max_size=245)).map(
    lambda of: os.fsdecode(of[0].encode() + of[1].translate(bytes.maketrans(b"\0/", b"ab")))
)
long_tops = st.tuples(ours, st.integers(240, 245)).map(lambda of: of[0] + "é" * (of[1] // 2))


@given(st.sets(our_tops | long_tops, max_size=5))
@example({LOOSE, LOOSE + "_", LOOSE + "x" * 249, LOOSE + "x" * 248 + "_", LOOSE + "x" * 248})
@example({".staging", ".staging_", ".evidence"})
def test_folders_called_like_ours_are_drops_of_their_own(tops: set[str]) -> None:
    drops = {drop_of(top) for top in tops}
    assert len(drops) == len(tops)
    assert not drops & set(OURS)
    assert all(len(os.fsencode(drop)) <= 255 for drop in drops)


def test_an_inbox_that_is_not_there_is_no_empty_inbox(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert listing(tmp_path / "none") is None
    assert listing(put(tmp_path / "file")) is None
    assert listed(tmp_path / "empty").entries == ()


def test_an_inbox_that_may_not_be_listed_is_no_empty_inbox(tmp_path: Path) -> None:
    put(tmp_path / "drop" / "1.dcm")
    with unlistable(tmp_path):
        assert listing(tmp_path) is None


def test_an_inbox_that_is_exchanged_while_it_is_read_says_nothing(tmp_path: Path) -> None:
    inbox = tmp_path / "inbox"
    put(inbox / "drop" / "1.dcm")

    def exchange() -> None:
        inbox.rename(tmp_path / "gone")
        inbox.mkdir()

    with before_listing(inbox / "drop", exchange):  # a mount that goes at just this moment
        assert listing(inbox) is None


def test_an_inbox_that_goes_before_it_is_read_is_no_empty_inbox(tmp_path: Path) -> None:
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    with before_listing(inbox, inbox.rmdir):
        assert listing(inbox) is None


def test_a_folder_that_may_not_be_listed_is_named_and_the_rest_is_listed(tmp_path: Path) -> None:
    put(tmp_path / "a" / "1.dcm")
    put(tmp_path / "b" / "closed" / "2.dcm")
    put(tmp_path / "b" / "3.dcm")
    with unlistable(tmp_path / "b" / "closed"):
        found = listed(tmp_path)
    assert found.unreadable == ("b/closed",)
    assert [e.path for e in found.entries] == ["a/1.dcm", "b/3.dcm"]


def test_below_a_folder_that_may_not_be_listed_all_is_as_before(tmp_path: Path) -> None:
    for name in ("b/closed/2.dcm", "b/closed/deep/3.dcm", "b/closed_not/4.dcm", "b/5.dcm"):
        put(tmp_path / name)
    before = listed(tmp_path)
    (tmp_path / "b" / "closed_not" / "4.dcm").unlink()
    with unlistable(tmp_path / "b" / "closed"):
        found = listing(tmp_path, before.drops)
    assert found is not None
    assert [e.path for e in found.entries] == ["b/5.dcm", "b/closed/2.dcm", "b/closed/deep/3.dcm"]


def test_a_folder_that_goes_while_the_inbox_is_read_is_just_gone(tmp_path: Path) -> None:
    put(tmp_path / "a" / "1.dcm")
    (tmp_path / "b").mkdir()
    with before_listing(tmp_path / "b", (tmp_path / "b").rmdir):
        found = listed(tmp_path)
    assert (found.unreadable, [e.path for e in found.entries]) == ((), ["a/1.dcm"])


def test_a_file_that_goes_while_the_inbox_is_read_is_just_gone(tmp_path: Path) -> None:
    put(tmp_path / "a" / "1.dcm")
    path = put(tmp_path / "a" / "2.dcm")
    with after_listing(tmp_path / "a", path.unlink):
        found = listed(tmp_path)
    assert (found.unreadable, [e.path for e in found.entries]) == ((), ["a/1.dcm"])


@pytest.mark.parametrize(
    ("path", "is_marked"),
    [
        ("drop/1.dcm", False),
        ("drop/.1.dcm", True),
        (".drop/1.dcm", True),
        ("drop/.hidden/deep/1.dcm", True),
        ("drop/1.dcm.part", True),
        ("drop/1.dcm.PART", True),
        ("drop/1.partial", True),
        ("drop/1.tmp", True),
        ("drop/1.temp", True),
        ("drop/1.filepart", True),
        ("drop/1.crdownload", True),
        ("drop/.1.dcm.swp", True),
        ("drop/1.dcm~", True),
        ("drop.part/1.dcm", True),
        ("drop/part", False),
        ("drop/1.part.dcm", False),
        ("drop/~1.dcm", False),
    ],
)
def test_hidden_and_unfinished_names_are_listed_and_marked(
    tmp_path: Path, path: str, *, is_marked: bool
) -> None:
    put(tmp_path / path)
    (entry,) = listed(tmp_path).entries
    assert (entry.path, entry.is_temporary) == (path, is_marked)
    assert any(map(is_temporary, path.split("/"))) is is_marked


@pytest.mark.parametrize(
    ("path", "drop", "name"),
    [
        ("drop/1.dcm", "drop", "1.dcm"),
        ("drop/deep/er/1.dcm", "drop", "deep/er/1.dcm"),
        ("1.dcm", LOOSE, "1.dcm"),
        ("_loose", LOOSE, "_loose"),
        ("_loose/1.dcm", "_loose_", "1.dcm"),
        ("_loose_/1.dcm", "_loose__", "1.dcm"),
        ("_lose/1.dcm", "_lose", "1.dcm"),
        (".staging/1.dcm", ".staging_", "1.dcm"),
    ],
)
def test_a_drop_is_the_top_folder_and_loose_files_make_up_one(
    path: str, drop: str, name: str
) -> None:
    entry = Entry(path, identity())
    assert (entry.drop, entry.name) == (drop, name)


def test_ours_are_the_names_that_stand_in_an_output() -> None:
    """The two rooms do not know each other."""
    assert set(OURS) == {LOOSE, STAGING, EVIDENCE, PROBE, LOCK}


parts = st.one_of(
    st.sampled_from(("_loose", "_loose_", "_loose__", "_loosely", ".staging", "a")),
    st.text("_loseay", min_size=1, max_size=8),
)
entry_paths = st.lists(parts, min_size=1, max_size=3).map("/".join)


@given(st.lists(entry_paths, unique=True, max_size=6))
@example(["1", "_loose/1", "_loose_/1", "_loose__/1"])
def test_no_two_files_share_drop_and_name(found: list[str]) -> None:
    entries = [Entry(path, identity()) for path in found]
    assert len({(e.drop, e.name) for e in entries}) == len(entries)
    tops = {path.partition("/")[0] if "/" in path else None for path in found}
    assert len({e.drop for e in entries}) == len(tops)


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO, errno.ESTALE])
@pytest.mark.parametrize("folder", ["a/b", "a", ""])
def test_a_folder_with_a_file_that_cannot_be_looked_at_is_named_and_as_before(
    tmp_path: Path, folder: str, number: int
) -> None:
    own, other = tmp_path / folder / "1.dcm", tmp_path / folder / "2.dcm"
    below = put(tmp_path / folder / "below" / "3.dcm")
    put(own)
    put(other)
    before = listed(tmp_path)
    below.unlink()
    other.unlink()
    put(tmp_path / folder / "4.dcm")
    put(tmp_path / folder / "below" / "5.dcm")
    with unseen(own, number):
        found = listing(tmp_path, before.drops)
        anew = listed(tmp_path)
    assert found is not None
    assert found.unreadable == anew.unreadable == (folder,)
    names = {str(Path(e.path).relative_to(folder)) for e in found.entries}
    assert names == {"1.dcm", "2.dcm", "below/5.dcm"}
    assert [Path(e.path).name for e in anew.entries] == ["5.dcm"]


@pytest.mark.parametrize("number", [errno.ENOENT, errno.ENOTDIR])
def test_a_file_of_which_the_system_says_that_it_is_not_there_is_gone(
    tmp_path: Path, number: int
) -> None:
    put(tmp_path / "a" / "1.dcm")
    put(tmp_path / "a" / "2.dcm")
    before = listed(tmp_path)
    with unseen(tmp_path / "a" / "2.dcm", number):
        found = listing(tmp_path, before.drops)
    assert found is not None
    assert (found.unreadable, [e.path for e in found.entries]) == ((), ["a/1.dcm"])
