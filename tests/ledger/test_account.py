from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from inbox_files import identity

from dicomzarr_watch.identity import Identity
from dicomzarr_watch.kind import Kind
from dicomzarr_watch.ledger.account import Fate, account, as_json, fate, remembered
from dicomzarr_watch.ledger.jobs import ACTIVE, Job, State
from dicomzarr_watch.ledger.rows import FileRow

FOLDER = "CT-1-0123abcd"


def file(kind: str = Kind.DICOM, job: int | None = None, *, is_present: bool = True) -> FileRow:
    path = f"drop/{kind}-{job}-{is_present}"
    gone_at = None if is_present else 10.0
    return FileRow(path, "drop", identity(size=7), kind, job=job, gone_at=gone_at)


def job(state: State, code: str = "") -> Job:
    number = list(State).index(state) + 1
    return Job(number, "drop", "1.2", "f", 1, 7, state, code=code, folder=FOLDER, revision=2)


@pytest.mark.parametrize(
    ("kind", "of_job", "outcome"),
    [
        (Kind.DICOM, None, (Fate.WAITING, "")),
        (Kind.DICOM, job(State.QUEUED), (Fate.WAITING, "")),
        (Kind.DICOM, job(State.QUEUED, "no-space"), (Fate.WAITING, "no-space")),
        (Kind.DICOM, job(State.RUNNING), (Fate.WAITING, "")),
        (Kind.DICOM, job(State.WITHDRAWN, "source-changed"), (Fate.WAITING, "source-changed")),
        (Kind.DICOM, job(State.DONE), (Fate.ARCHIVED, "")),
        (Kind.DICOM, job(State.DONE, "unchanged"), (Fate.ARCHIVED, "")),
        (
            Kind.DICOM,
            job(State.REJECTED, "verification-failed"),
            (Fate.REJECTED, "verification-failed"),
        ),
        (Kind.NOT_DICOM, None, (Fate.IGNORED, "not-dicom")),
        (Kind.TEMPORARY, None, (Fate.IGNORED, "temporary-name")),
        (Kind.UNREADABLE, None, (Fate.REJECTED, "unreadable")),
        # what a file is now counts, not what one of its name was before
        (Kind.NOT_DICOM, job(State.DONE), (Fate.IGNORED, "not-dicom")),
        (Kind.UNREADABLE, job(State.DONE), (Fate.REJECTED, "unreadable")),
    ],
)
def test_a_file_has_the_outcome_of_its_kind_or_of_its_job(
    kind: Kind, of_job: Job | None, outcome: tuple[Fate, str]
) -> None:
    assert fate(file(kind), of_job) == outcome


JOBS = {found.id: found for found in map(job, State)}
files = st.builds(
    file, st.sampled_from(Kind), st.sampled_from([None, 99, *JOBS]), is_present=st.booleans()
)


@given(st.lists(files, unique_by=lambda found: found.path))
def test_promise_1_every_file_has_exactly_one_outcome(rows: list[FileRow]) -> None:
    """No file of the drop is missing, none stands twice, and the counts are those of the files."""
    document = account("drop", rows, JOBS)
    assert [row["path"] for row in document["files"]] == [row.path for row in rows]
    outcomes = [row["outcome"] for row in document["files"]]
    assert all(Fate(outcome).value == outcome for outcome in outcomes)
    assert document["counts"] == {found: outcomes.count(found) for found in set(outcomes)}
    assert list(document["counts"]) == sorted(document["counts"])


@given(st.lists(files, unique_by=lambda found: found.path))
def test_on_disk_each_file_has_a_line(rows: list[FileRow]) -> None:
    document = account("drop", rows, JOBS)
    text = as_json(document)
    assert json.loads(text) == document
    assert text.count(b"\n") == 7 + len(JOBS) + 1 + len(rows) + bool(rows)


def test_an_archived_file_says_where_it_is() -> None:
    rows = [file(job=done) for done in (job(State.DONE).id, job(State.REJECTED).id, None)]
    archived, rejected, waiting = account("drop", rows, JOBS)["files"]
    assert archived == {
        "path": rows[0].path,
        "size": 7,
        "outcome": "archived",
        "code": "",
        "kind": "dicom",
        "state": [1, 1, 1],
        "job": job(State.DONE).id,
        "series": FOLDER,
        "revision": 2,
    }
    assert rejected.keys() == waiting.keys() == archived.keys() - {"series", "revision"}


def test_a_file_that_left_is_still_accounted_for_and_said_to_have_left() -> None:
    done = job(State.DONE)
    left, stayed = account(
        "drop", [file(job=done.id, is_present=False), file(job=done.id)], {done.id: done}
    )["files"]
    assert (left["outcome"], left["present"]) == ("archived", False)
    assert left["gone_at"] == "1970-01-01T00:00:10+00:00"
    assert stayed.keys().isdisjoint({"present", "gone_at"})


@pytest.mark.parametrize(
    ("kind", "of_job", "outcome"),
    [
        (Kind.DICOM, None, (Fate.GONE, "")),
        (Kind.BUNDLE, None, (Fate.GONE, "")),
        (Kind.UNREADABLE, None, (Fate.GONE, "")),
        (Kind.DICOM, job(State.QUEUED), (Fate.GONE, "")),
        (Kind.DICOM, job(State.WITHDRAWN, "files-changed"), (Fate.GONE, "")),
        (Kind.DICOM, job(State.DONE), (Fate.ARCHIVED, "")),
        (Kind.BUNDLE, job(State.DONE), (Fate.UNPACKED, "")),
        (Kind.DICOM, job(State.REJECTED, "x"), (Fate.REJECTED, "x")),
        (Kind.NOT_DICOM, None, (Fate.IGNORED, "not-dicom")),
    ],
)
def test_a_file_that_left_before_it_was_archived_is_waited_for_no_more(
    kind: Kind, of_job: Job | None, outcome: tuple[Fate, str]
) -> None:
    assert fate(file(kind, is_present=False), of_job) == outcome


def test_a_drop_of_no_files_is_a_document_as_well() -> None:
    empty = {"schema": 1, "drop": "drop", "counts": {}, "jobs": [], "files": []}
    assert account("drop", [], {}) == empty


numbers = st.integers(-(1 << 63), (1 << 63) - 1)
found_files = st.builds(
    FileRow,
    path=st.text(min_size=1).map("drop/{}".format),
    drop=st.just("drop"),
    identity=st.builds(Identity, numbers, numbers, numbers, numbers),
    kind=st.sampled_from([kind.value for kind in Kind]),
    series_uid=st.just("1.2"),
    is_truncated=st.booleans(),
    instance_number=st.none() | st.integers(-100, 100),
    job=st.sampled_from([None, *JOBS]),
    gone_at=st.none() | st.integers(0, 1 << 32).map(float),
)


@given(st.lists(found_files, unique_by=lambda found: found.path))
def test_what_the_ledger_knew_is_read_back_from_drop_json(rows: list[FileRow]) -> None:
    """All but what waits, which is found again."""
    jobs, back = remembered(json.loads(as_json(account("drop", rows, JOBS))))
    over = {n: job for n, job in JOBS.items() if job.state not in ACTIVE}
    assert jobs == list(over.values())
    assert back == [
        row
        for row in rows
        if (row.job is None or row.job in over)
        and fate(row, JOBS.get(row.job or 0))[0] is not Fate.WAITING
    ]


def test_what_was_cleared_by_us_is_read_back() -> None:
    row = replace(file(job=job(State.DONE).id, is_present=False), cleared="deleted")
    document = account("drop", [replace(row, series_uid="1.2")], JOBS)
    assert remembered(document)[1][0].cleared == "deleted"
