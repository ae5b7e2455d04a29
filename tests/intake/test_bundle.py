from __future__ import annotations

import os
from pathlib import PurePosixPath

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dicomzarr_watch.errors import RejectError
from dicomzarr_watch.intake.bundle import INSIDE, Form, form, outermost, stem
from dicomzarr_watch.intake.roll import (
    DENSE_BYTES,
    PATH_MOST_BYTES,
    Limits,
    Member,
    MemberKind,
    Roll,
    member_name,
)
from dicomzarr_watch.libc import NAME_MOST_BYTES

LIMITS = Limits(members=10, bytes=1 << 20, ratio=100, depth=2)


def file(name: str, size: int = 1) -> Member:
    return Member(name, MemberKind.FILE, size)


def folder(name: str) -> Member:
    return Member(name, MemberKind.FOLDER)


def refused(roll: Roll, member: Member, within: str = "") -> str:
    with pytest.raises(RejectError) as error:
        roll.admit(member, within)
    return error.value.code


# --- by the name of the file ---


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("study.zip", (Form.ZIP, "study")),
        ("Study.ZIP", (Form.ZIP, "Study")),
        ("study.tar", (Form.TAR, "study")),
        ("study.tar.gz", (Form.TAR_GZ, "study")),
        ("study.tgz", (Form.TAR_GZ, "study")),
        ("study.tar.zst", (Form.TAR_ZST, "study")),
        ("a.b.tzst", (Form.TAR_ZST, "a.b")),
        ("a.zip.zip", (Form.ZIP, "a.zip")),
        ("study.gz", (None, "study.gz")),
        ("zip", (None, "zip")),
        ("study.zip.dcm", (None, "study.zip.dcm")),
        ("", (None, "")),
    ],
)
def test_a_bundle_is_known_by_its_name(name: str, expected: tuple[Form | None, str]) -> None:
    assert (form(name), stem(name)) == expected


def test_a_path_leads_into_the_bundle_of_the_inbox_whatever_lies_in_that() -> None:
    assert outermost("study.zip//ct/1.dcm") == "study.zip"
    assert outermost("a/b.tar//c.zip//1.dcm") == "a/b.tar"
    assert outermost("study.zip/ct/1.dcm") == ""


# --- names of members ---

bits = st.sampled_from(
    ["a", "..", ".", "", "...", "/", "\\", "C:", "\0", "\n", "ä", "\udcff", "x" * 200, "-rf", " "]
)
names = st.lists(bits, max_size=8).map("".join) | st.lists(bits, max_size=6).map("/".join)


@given(names)
@example("a/../../b")
@example("./\\")
@example("./C:")
@example("/etc/passwd")
@example("x" * 256)
@example("\udcff" * 256)
def test_a_name_that_is_taken_stays_below_its_bundle_and_can_be_a_file(name: str) -> None:
    try:
        found = member_name(name)
    except RejectError as error:
        assert error.code in ("archive-unsafe-name", "archive-name-too-long")  # noqa: PT017
        return
    parts = found.split("/") if found else []
    assert not {"", ".", ".."} & set(parts)
    assert not PurePosixPath(found).is_absolute()
    assert "\0" not in found
    assert INSIDE not in found
    assert all(len(os.fsencode(part)) <= NAME_MOST_BYTES for part in parts)
    assert len(os.fsencode(found)) <= PATH_MOST_BYTES
    assert [part for part in name.split("/") if part not in ("", ".")] == parts
    assert member_name(found) == found


@given(st.lists(st.text("abä\n \\.", min_size=1, max_size=5), min_size=1, max_size=4))
def test_an_honest_name_is_taken_as_it_is(parts: list[str]) -> None:
    foreign = "/".join(parts).replace("\\", "/")
    if {"..", "."} & {*parts, *foreign.split("/")} or foreign.startswith("/"):
        return
    assert member_name("/".join(parts)) == "/".join(parts)


@pytest.mark.parametrize(
    "name",
    [
        "../1.dcm",
        "a/../../1.dcm",
        "a/..",
        "..",
        "/1.dcm",
        "//1.dcm",
        "..\\1.dcm",
        "a\\..\\..\\1.dcm",
        "\\1.dcm",
        "\\\\host\\share\\1.dcm",
        "C:\\1.dcm",
        "c:/1.dcm",
        "1.dcm\0.txt",
    ],
)
def test_a_name_that_leads_elsewhere_is_refused_on_every_system(name: str) -> None:
    assert refused(Roll(LIMITS, 100), file(name)) == "archive-unsafe-name"
    assert refused(Roll(LIMITS, 100), folder(name)) == "archive-unsafe-name"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("./1.dcm", "1.dcm"),
        ("a//b/./1.dcm", "a/b/1.dcm"),
        ("a/", "a"),
        ("...", "..."),
        ("a:b", "a:b"),
        ("caf\udce9", "caf\udce9"),
        ("\n", "\n"),
        ("x" * 255, "x" * 255),
    ],
)
def test_odd_names_are_names(name: str, expected: str) -> None:
    assert Roll(LIMITS, 100).admit(file(name)) == expected


@pytest.mark.parametrize("name", ["x" * 256, "ä" * 128, "a/" * 1024 + "b"])
def test_a_name_that_no_file_could_bear_is_refused(name: str) -> None:
    assert refused(Roll(LIMITS, 100), file(name)) == "archive-name-too-long"


def test_a_bundle_may_have_itself_as_a_folder_but_not_as_a_file() -> None:
    assert Roll(LIMITS, 100).admit(folder("./")) == ""
    assert refused(Roll(LIMITS, 100), file("./")) == "archive-unsafe-name"
    assert refused(Roll(LIMITS, 100), file("")) == "archive-unsafe-name"


# --- members together ---


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (file("a"), file("a")),
        (file("a/b"), file("./a//b")),
        (file("a"), file("a/b")),
        (file("a/b"), file("a")),
        (file("a"), folder("a")),
        (folder("a"), file("a")),
        (file("a"), folder("a/b/c")),
        (file("a/b/c/d"), file("a/b")),
    ],
)
def test_no_name_stands_for_two_files_or_for_a_file_and_a_folder(
    one: Member, other: Member
) -> None:
    roll = Roll(LIMITS, 100)
    roll.admit(one)
    assert refused(roll, other) == "archive-name-twice"


def test_folders_may_be_named_again_and_again() -> None:
    roll = Roll(LIMITS, 100)
    found = [roll.admit(m) for m in (folder("a/"), file("a/1"), folder("a"), file("a/b/2"))]
    assert found == ["a", "a/1", "a", "a/b/2"]


@given(st.lists(st.lists(st.sampled_from("abc"), min_size=1, max_size=3), max_size=8))
def test_what_is_admitted_can_stand_in_one_folder(paths: list[list[str]]) -> None:
    roll = Roll(LIMITS, 100)
    taken: set[str] = set()
    for parts in paths:
        name = "/".join(parts)
        clashes = any(
            name == other or name.startswith(f"{other}/") or other.startswith(f"{name}/")
            for other in taken
        )
        if clashes:
            assert refused(roll, file(name)) == "archive-name-twice"
            return
        taken.add(roll.admit(file(name)))


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (MemberKind.LINK, "archive-link"),
        (MemberKind.DEVICE, "archive-device"),
        (MemberKind.SPARSE, "archive-sparse"),
        (MemberKind.UNKNOWN, "archive-odd-member"),
    ],
)
def test_only_files_and_folders_are_taken(kind: MemberKind, code: str) -> None:
    assert refused(Roll(LIMITS, 100), Member("a", kind)) == code


def test_what_needs_a_password_is_refused() -> None:
    locked = Member("a", MemberKind.FILE, 1, is_encrypted=True)
    assert refused(Roll(LIMITS, 100), locked) == "archive-encrypted"


# --- limits ---


def test_there_may_be_so_many_members_and_no_more() -> None:
    roll = Roll(LIMITS, 100)
    for number in range(10):
        roll.admit(file(str(number)) if number % 2 else folder(str(number)))
    assert refused(roll, file("one more")) == "archive-too-many"


def test_a_size_over_the_limit_is_refused_before_a_byte_is_read() -> None:
    assert refused(Roll(LIMITS, 100), file("a", (1 << 20) + 1)) == "archive-too-large"
    assert refused(Roll(LIMITS, 100), file("a", -1)) == "archive-too-large"


def test_what_came_out_counts_whatever_was_said() -> None:
    roll = Roll(LIMITS, 100)
    roll.admit(file("a", 1))
    roll.spend(1 << 20)
    with pytest.raises(RejectError, match="archive-too-large"):
        roll.spend(1)
    assert refused(roll, file("b", 0)) == "archive-too-large"


def test_a_bundle_that_is_dense_beyond_belief_is_refused_but_not_a_small_one() -> None:
    limits = Limits(members=10, bytes=1 << 40, ratio=100, depth=1)
    found = [limits.allowance(size) for size in (10, 1 << 30, 1 << 35)]
    assert [(allowed, error.code) for allowed, error in found] == [
        (DENSE_BYTES, "archive-too-dense"),
        (100 << 30, "archive-too-dense"),
        (1 << 40, "archive-too-large"),
    ]
    roll = Roll(limits, 1 << 30)
    roll.spend(100 << 30)
    with pytest.raises(RejectError, match="archive_max_ratio = 100"):
        roll.spend(1)


@given(st.integers(0, 1 << 50), st.integers(1, 1 << 50), st.floats(1, 1e6))
def test_no_limit_is_ever_passed(size: int, most: int, ratio: float) -> None:
    allowed, error = Limits(members=1, bytes=most, ratio=ratio, depth=1).allowance(size)
    assert allowed <= most
    assert allowed <= max(DENSE_BYTES, ratio * size)
    assert allowed in (most, max(DENSE_BYTES, int(ratio * size)))
    assert error.code == ("archive-too-large" if allowed == most else "archive-too-dense")


def test_bundles_in_a_bundle_share_its_limits_and_keep_their_names_apart() -> None:
    roll = Roll(LIMITS, 100)
    inner = roll.admit(file("in/a.zip"))
    roll.enter(inner)
    assert roll.admit(file("1.dcm"), inner) == "in/a.zip//1.dcm"
    assert roll.admit(file("1.dcm")) == "1.dcm"
    assert refused(roll, file("1.dcm"), inner) == "archive-name-twice"
    assert refused(roll, file("in/a.zip/1.dcm")) == "archive-name-twice"
    for number in range(5):
        roll.admit(file(str(number)), inner)
    assert refused(roll, file("one more"), inner) == "archive-too-many"


@pytest.mark.parametrize(("path", "depth"), [("a.zip", 2), ("a.zip//b.zip", 3)])
def test_bundles_lie_in_one_another_no_deeper_than_they_may(path: str, depth: int) -> None:
    Roll(Limits(10, 10, 10, depth), 100).enter(path)
    with pytest.raises(RejectError, match=f"archive-too-deep.*archive_depth = {depth - 1}"):
        Roll(Limits(10, 10, 10, depth - 1), 100).enter(path)
