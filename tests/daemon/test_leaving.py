from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from inbox_files import identity

from dicomzarr_watch.daemon.leaving import MOST_BYTES, MOST_FILES, Leaver, leaving, portions
from dicomzarr_watch.kind import Kind
from dicomzarr_watch.ledger.jobs import Job, State
from dicomzarr_watch.ledger.rows import FileRow
from dicomzarr_watch.outcome import UNPACKED

JOBS = {
    number: Job(number, "d", uid, "f", 1, 7, state, code=code, folder=folder)
    for number, uid, state, code, folder in (
        (1, "1.2", State.DONE, "done", "CT-1"),
        (2, "1.3", State.DONE, "unchanged", "CT-2"),
        (3, "1.4", State.REJECTED, "verification-failed", ""),
        (4, " d.zip", State.DONE, UNPACKED, ""),
        (5, "1.2", State.QUEUED, "", ""),
    )
}
ARCHIVED = FileRow("d/1.dcm", "d", identity(), Kind.DICOM, "1.2", job=1)
BUNDLE = FileRow("d.zip", "d", identity(), Kind.BUNDLE, " d.zip", job=4)
MEMBER = replace(ARCHIVED, path="d.zip//ct/1.dcm")
OTHER = replace(ARCHIVED, path="d.zip//mr/1.dcm", series_uid="1.3", job=2)


def paths(*files: FileRow, busy: tuple[str, ...] = ()) -> tuple[list[str], list[str]]:
    """Return who may leave, and which bundles stay for good."""
    found = leaving(files, JOBS, lambda uid: uid in busy)
    return [leaver.file.path for leaver in found.leavers], [file.path for file in found.staying]


@pytest.mark.parametrize(
    ("change", "may_leave"),
    [
        ({}, True),
        ({"job": 2}, True),
        ({"job": None}, False),
        ({"job": 3}, False),
        ({"job": 5}, False),
        ({"job": 99}, False),
        ({"gone_at": 7.0}, False),
        ({"kind": Kind.NOT_DICOM}, False),
        ({"kind": Kind.UNREADABLE}, False),
        ({"kind": Kind.TEMPORARY}, False),
        ({"kind": Kind.MARKER}, False),
        ({"series_uid": ""}, True),
    ],
)
def test_only_a_file_that_is_archived_and_there_may_leave(
    change: dict[str, Any], may_leave: bool
) -> None:
    assert bool(paths(replace(ARCHIVED, **change))[0]) is may_leave


def test_nothing_leaves_of_a_series_that_something_is_under_way_of() -> None:
    other = replace(ARCHIVED, path="d/2.dcm", series_uid="1.3", job=2)
    assert paths(ARCHIVED, other, busy=("1.2",)) == (["d/2.dcm"], [])


def test_a_file_must_be_held_by_the_series_that_it_went_through() -> None:
    found = leaving([ARCHIVED, replace(ARCHIVED, path="d/2", job=2)], JOBS, lambda _: False)
    assert [leaver.held[0][1] for leaver in found.leavers] == ["CT-1", "CT-2"]


def test_a_bundle_leaves_with_all_that_came_out_of_it() -> None:
    inner = replace(MEMBER, path="d.zip//in.zip", kind=Kind.UNPACKED, series_uid="", job=None)
    (leaver,) = leaving([BUNDLE, MEMBER, OTHER, inner], JOBS, lambda _: False).leavers
    assert leaver == Leaver(BUNDLE, ((MEMBER, "CT-1"), (OTHER, "CT-2")))
    assert leaver.is_bundle
    assert leaver.files == [BUNDLE, MEMBER, OTHER]


@pytest.mark.parametrize(
    "member",
    [
        replace(OTHER, kind=Kind.NOT_DICOM, series_uid="", job=None),
        replace(OTHER, kind=Kind.TEMPORARY, series_uid="", job=None),
        replace(OTHER, job=3),
        replace(OTHER, job=None),
    ],
)
def test_a_bundle_stays_with_one_member_that_is_not_archived(member: FileRow) -> None:
    assert paths(BUNDLE, MEMBER, member) == ([], ["d.zip"])


def test_a_bundle_of_which_nothing_came_stays() -> None:
    assert paths(BUNDLE) == ([], ["d.zip"])


@pytest.mark.parametrize("uid", ["1.2", "1.3", " d.zip"])
def test_over_a_bundle_nothing_is_said_while_something_is_under_way(uid: str) -> None:
    assert paths(BUNDLE, MEMBER, OTHER, busy=(uid,)) == ([], [])


def test_members_do_not_leave_by_themselves() -> None:
    assert paths(MEMBER, OTHER) == ([], [])


sizes = st.integers(0, 2 * MOST_BYTES)


@given(st.lists(st.tuples(sizes, st.booleans()), max_size=30))
def test_portions_hold_everybody_once_and_are_small(made: list[tuple[int, bool]]) -> None:
    leavers = []
    for n, (size, is_bundle) in enumerate(made):
        file = replace(ARCHIVED, path=f"d/{n}", identity=identity(size=size))
        held = MEMBER if is_bundle else file
        leavers.append(Leaver(file, ((held, "CT-1"),)))
    found = list(portions(leavers))
    assert sorted(one.file.path for portion in found for one in portion) == sorted(
        one.file.path for one in leavers
    )
    for portion in found:
        assert 0 < len(portion) <= MOST_FILES
        assert sum(one.file.identity.size for one in portion[:-1]) < MOST_BYTES
        assert len(portion) == 1 or not any(one.is_bundle for one in portion)
