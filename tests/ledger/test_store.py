from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from inbox_files import identity, outcome, present

from dicomzarr_watch.errors import StopError
from dicomzarr_watch.identity import Identity
from dicomzarr_watch.ledger.jobs import DAEMON_LOST, MOST_LOSSES, Job, Patience, State, ended
from dicomzarr_watch.ledger.rows import ArrivingRow, FileRow
from dicomzarr_watch.ledger.schema import SCHEMA_VERSION
from dicomzarr_watch.ledger.store import Ledger, is_owned
from dicomzarr_watch.outcome import Ended

PATIENCE = Patience(max_attempts=2, retry_max_s=8.0, jitter=0.5)
FILE = FileRow("drop/1.dcm", "drop", identity(), "dicom", "1.2", True)
GONE = [(FILE.path, FILE.drop)]


@contextmanager
def owned(state: Path) -> Iterator[Ledger]:
    ledger = Ledger.own(state)
    try:
        yield ledger
    finally:
        ledger.close()


# --- files ---


def test_a_file_that_changed_has_not_gone_through_its_job_any_more(tmp_path: Path) -> None:
    with owned(tmp_path) as ledger:
        archived(ledger, FILE)
        ledger.record([replace(FILE, identity=identity(size=101))])
        assert [row.job for row in present(ledger)] == [None]


def test_promise_1_a_file_that_comes_back_as_it_was_is_still_archived(tmp_path: Path) -> None:
    """A drop that is moved out and in again, or a mount that is away for a while."""
    with owned(tmp_path) as ledger:
        job = archived(ledger, FILE)
        ledger.record([], GONE)
        assert present(ledger) == []
        ledger.record([FILE])
        assert present(ledger) == [replace(FILE, job=job.id)]


def test_what_only_the_archive_has_of_a_series_is_weighed(tmp_path: Path) -> None:
    with owned(tmp_path) as ledger:
        archived(ledger, FILE)
        others = (FILE.drop, "1.3"), ("other", FILE.series_uid)
        weighed = [ledger.files.carried_bytes(FILE.drop, FILE.series_uid)]
        ledger.record([replace(FILE, path="drop/2.dcm")], [*GONE, ("drop/2.dcm", FILE.drop)])
        weighed.append(ledger.files.carried_bytes(FILE.drop, FILE.series_uid))
        assert weighed == [0, FILE.identity.size]
        assert [ledger.files.carried_bytes(*other) for other in others] == [0, 0]


def archived(ledger: Ledger, file: FileRow) -> Job:
    """Take a series of one file through its job."""
    ledger.record([file])
    job = ledger.jobs.offer(file.drop, file.series_uid, "x", 1, file.identity.size)
    assert job is not None
    done = ended(ledger.jobs.claim(job), outcome(Ended.DONE), 0.0, PATIENCE)
    return ledger.conclude(done, [(file.path, file.identity)])


def test_a_file_that_changed_meanwhile_did_not_go_through_the_job_that_ends(tmp_path: Path) -> None:
    changed = replace(FILE, identity=identity(size=101))
    with owned(tmp_path) as ledger:
        ledger.record([FILE])
        job = ledger.jobs.offer(FILE.drop, FILE.series_uid, "x", 1, 100)
        assert job is not None
        job = ledger.jobs.claim(job)
        ledger.record([changed])
        done = ended(job, outcome(Ended.DONE), 0.0, PATIENCE)
        ledger.conclude(done, [(FILE.path, FILE.identity)])
        assert present(ledger) == [changed]


def test_of_a_series_there_are_the_dicom_files_in_the_inbox(tmp_path: Path) -> None:
    rows = [
        replace(FILE, path="drop/2.dcm"),
        FILE,
        replace(FILE, path="drop/other", series_uid="1.9"),
        replace(FILE, path="drop/none", series_uid="", kind="not-dicom"),
        replace(FILE, path="drop/bare", series_uid=""),
        replace(FILE, path="elsewhere/1.dcm", drop="elsewhere"),
        replace(FILE, path="drop/gone"),
    ]
    with owned(tmp_path) as ledger:
        ledger.record(rows, [("drop/gone", "drop")])
        found = [
            [row.path for row in ledger.files.of_series("drop", uid)] for uid in ("1.2", "", "1.3")
        ]
    assert found == [["drop/1.dcm", "drop/2.dcm"], ["drop/bare"], []]


@pytest.mark.parametrize("name", [b"\xff\xfe", b"two\nlines", b"n" * 255, b"'; DROP TABLE files"])
def test_any_name_of_the_file_system_is_kept_as_it_is(tmp_path: Path, name: bytes) -> None:
    path = os.fsdecode(name + b"/" + name)
    row = replace(FILE, path=path, drop=os.fsdecode(name))
    with owned(tmp_path) as ledger:
        archived(ledger, row)
        assert list(ledger.files.of_drop(row.drop)) == [replace(row, job=1)]
        assert [job.drop for job in ledger.jobs.select(drop=row.drop)] == [row.drop]
        ledger.record([], [(path, row.drop)])
        assert present(ledger) == []


def test_the_numbers_of_a_file_are_kept_to_the_last_bit(tmp_path: Path) -> None:
    largest = (1 << 63) - 1
    row = replace(FILE, identity=Identity(largest, largest, -1, largest))
    with owned(tmp_path) as ledger:
        ledger.record([row])
        assert present(ledger) == [row]


# --- who has it ---


def test_a_state_folder_has_one_daemon(tmp_path: Path) -> None:
    with owned(tmp_path / "state"):
        assert is_owned(tmp_path / "state")
        with pytest.raises(StopError) as error:
            Ledger.own(tmp_path / "state")
        assert error.value.code == "state-in-use"
        Ledger.read(tmp_path / "state").close()
    assert not is_owned(tmp_path / "state")
    with owned(tmp_path / "state"):
        assert is_owned(tmp_path / "state")


def test_the_state_folder_is_for_its_owner_alone(tmp_path: Path) -> None:
    with owned(tmp_path / "deep" / "state"):
        assert (tmp_path / "deep" / "state").stat().st_mode & 0o077 == 0
        assert (tmp_path / "deep" / "state" / "lock").stat().st_mode & 0o077 == 0


def test_one_who_only_looks_cannot_write(tmp_path: Path) -> None:
    with owned(tmp_path):
        reader = Ledger.read(tmp_path)
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            reader.record([FILE])
        reader.close()


def test_where_no_daemon_was_there_is_nothing_to_look_at(tmp_path: Path) -> None:
    with pytest.raises(StopError) as error:
        Ledger.read(tmp_path)
    assert error.value.code == "no-ledger"
    assert str(tmp_path) not in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_a_ledger_whose_daemon_ended_as_it_began_is_none_and_is_made_anew(tmp_path: Path) -> None:
    sqlite3.connect(tmp_path / "ledger.sqlite").execute(
        "PRAGMA journal_mode=WAL"
    ).connection.close()
    with pytest.raises(StopError) as error:
        Ledger.read(tmp_path)
    assert error.value.code == "no-ledger"
    with owned(tmp_path) as ledger:
        assert ledger.jobs.select() == []


@pytest.mark.parametrize("opened", [Ledger.own, Ledger.read])
def test_another_versions_ledger_is_left_alone(tmp_path: Path, opened: object) -> None:
    assert callable(opened)
    with owned(tmp_path) as ledger:
        archived(ledger, FILE)
    with sqlite3.connect(tmp_path / "ledger.sqlite") as connection:
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    connection.close()
    with pytest.raises(StopError) as error:
        opened(tmp_path)
    assert error.value.code == "ledger-version"
    assert not is_owned(tmp_path)


AS_IN_VERSION_3 = """
DROP INDEX jobs_by_state;
DROP INDEX jobs_by_drop;
ALTER TABLE jobs DROP COLUMN turn;
CREATE INDEX jobs_by_state ON jobs (state, due_at);
CREATE INDEX jobs_by_drop ON jobs (drop_name, state);
ALTER TABLE files ADD COLUMN is_present INTEGER NOT NULL DEFAULT 1;
UPDATE files SET is_present = gone_at IS NULL;
ALTER TABLE files DROP COLUMN gone_at;
ALTER TABLE files DROP COLUMN cleared;
PRAGMA user_version = 3;
"""


def test_the_ledger_of_version_3_is_taken_over_with_all_that_it_says(tmp_path: Path) -> None:
    gone = replace(FILE, path="drop/0.dcm")
    with owned(tmp_path) as ledger:
        job = archived(ledger, FILE)
        ledger.record([gone])
        ledger.record([], [(gone.path, gone.drop)], now=7.0)
    with closing(sqlite3.connect(tmp_path / "ledger.sqlite")) as connection:
        connection.executescript(AS_IN_VERSION_3)
    with pytest.raises(StopError) as error:
        Ledger.read(tmp_path)
    assert (error.value.code, error.value.found) == ("ledger-version", "3")
    with owned(tmp_path) as ledger:
        first, second = ledger.files.of_drop("drop")
        assert second == replace(FILE, job=job.id)
        assert first.gone_at is not None
        assert replace(first, gone_at=None) == gone
        assert ledger.jobs.select() == [job]
        assert ledger.drops.unreported == {"drop"}
        ledger.record([gone])


def test_when_a_file_went_is_kept_until_it_is_back(tmp_path: Path) -> None:
    with owned(tmp_path) as ledger:
        archived(ledger, FILE)
        ledger.record([], GONE, now=7.0)
        ledger.record([], GONE, now=8.0)
        assert [row.gone_at for row in ledger.files.of_drop("drop")] == [7.0]
        ledger.record([FILE])
        assert [row.gone_at for row in ledger.files.of_drop("drop")] == [None]


# --- what is on disk ---


def test_what_is_written_is_on_disk_when_a_call_returns(tmp_path: Path) -> None:
    """WAL, and an fsync at every commit: pragmas are requests, so what holds is asked for."""
    with owned(tmp_path) as ledger:
        assert ledger._database.one("PRAGMA journal_mode") == "wal"
        assert ledger._database.one("PRAGMA synchronous") == 2


def test_what_arrives_is_kept_until_it_is_waited_for_no_more(tmp_path: Path) -> None:
    row, other = ArrivingRow("drop", "1.2", "settle", 3), ArrivingRow("drop", "1.3", "settle", 1)
    held = replace(row, waits_for="truncated", files=4)
    with owned(tmp_path) as ledger:
        ledger.drops.note_arriving([row, other])
        assert ledger.drops.arriving() == (row, other)
        ledger.drops.note_arriving([held, replace(other, waits_for="")])
        assert ledger.drops.arriving() == (held,)
    with owned(tmp_path) as ledger:
        assert ledger.drops.arriving() == ()  # who starts has seen nothing arrive yet


def test_what_is_told_together_is_written_at_once_or_not_at_all(tmp_path: Path) -> None:
    with owned(tmp_path) as ledger:
        reader = Ledger.read(tmp_path)
        with ledger.together():
            ledger.record([FILE])
            ledger.jobs.offer("drop", "1.2", "x", 1, 100)
            assert (present(reader), reader.jobs.select()) == ([], [])
        assert (len(present(reader)), len(reader.jobs.select())) == (1, 1)

        def told_and_interrupted() -> None:
            with ledger.together():
                ledger.jobs.claim(ledger.jobs.select()[0])
                with ledger.together():
                    ledger.record([], GONE)
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            told_and_interrupted()
        assert (len(present(reader)), reader.jobs.select()[0].state) == (1, State.QUEUED)
        reader.close()


def test_a_drop_is_to_be_reported_until_it_has_been_as_it_is(tmp_path: Path) -> None:
    with owned(tmp_path) as ledger:
        job = archived(ledger, FILE)
        ledger.record([replace(FILE, path="other/1.dcm", drop="other")])
        assert ledger.drops.unreported == {"drop", "other"}
        ledger.drops.note_reported("drop")
        ledger.drops.note_reported("other")
        ledger.record([], [("other/1.dcm", "other")])
        assert ledger.drops.unreported == {"other"}
    with owned(tmp_path) as ledger:
        assert ledger.drops.unreported == {"other"}
        ledger.drops.note_reported("other")
        ledger.conclude(job, [])
        assert ledger.drops.unreported == {"drop"}
        ledger.drops.note_reported("drop")
    with owned(tmp_path) as ledger:  # the last was not on disk: reported once more, and no harm
        assert ledger.drops.unreported == {"drop"}


def test_jobs_that_are_due_come_in_the_order_in_which_they_are(tmp_path: Path) -> None:
    with owned(tmp_path) as ledger:
        jobs = [ledger.jobs.offer("drop", f"1.{n}", "x", 1, 100) for n in range(4)]
        late, soon, running, fresh = (job for job in jobs if job is not None)
        for job, now in ((late, 20.0), (soon, 10.0)):
            ledger.conclude(ended(ledger.jobs.claim(job), outcome(Ended.RETRY), now, PATIENCE), [])
        ledger.jobs.claim(running)
        assert [j.id for j in ledger.jobs.due(5.0)] == [fresh.id]
        assert [j.id for j in ledger.jobs.due(15.0)] == [fresh.id, soon.id]
        assert [j.id for j in ledger.jobs.due(99.0)] == [fresh.id, soon.id, late.id]
        # the clock was set back: nobody waits for longer than the longest pause
        assert [j.id for j in ledger.jobs.due(5.0, 10.0)] == [fresh.id, late.id]
        assert [j.id for j in ledger.jobs.due(-99.0, 10.0)] == [fresh.id, soon.id, late.id]
        assert ledger.jobs.next_due_at(5.0) == pytest.approx(10.75)
        assert ledger.jobs.next_due_at(15.0) == pytest.approx(20.75)
        assert ledger.jobs.next_due_at(99.0) == float("inf")
        assert (ledger.jobs.is_queued(most_tries=1), ledger.jobs.is_queued()) == (True, True)
        ledger.jobs.withdraw(fresh)
        assert (ledger.jobs.is_queued(most_tries=1), ledger.jobs.is_queued()) == (False, True)


def test_a_small_drop_does_not_wait_for_all_of_a_huge_one(tmp_path: Path) -> None:
    def offered(drop: str, count: int) -> None:
        for n in range(count):
            ledger.jobs.offer(drop, f"1.{n}", "x", 1, 100)

    def started(count: int) -> list[str]:
        found = []
        for _ in range(count):
            with closing(ledger.jobs.due(1.0)) as due:
                job = next(due)
            ledger.jobs.claim(job)
            found.append(job.drop)
        return found

    with owned(tmp_path) as ledger:
        offered("huge", 50)
        assert started(5) == ["huge"] * 5
        offered("small", 2)
        offered("other", 1)
        assert started(4) == ["small", "other", "huge", "small"]
        assert set(started(3)) == {"huge"}
    with owned(tmp_path) as ledger:  # and after the next start
        offered("late", 1)
        assert "late" in started(2)


def test_drops_of_one_series_come_in_the_order_in_which_they_came(tmp_path: Path) -> None:
    with owned(tmp_path) as ledger:
        for name in "cab":
            ledger.jobs.offer(name, "1.2", "x", 1, 100)
        assert [job.drop for job in ledger.jobs.due(1.0)] == ["c", "a", "b"]


@pytest.mark.parametrize(
    ("kind", "how", "is_present", "is_rejected"),
    [
        ("dicom", Ended.REJECTED, True, True),
        ("dicom", Ended.DONE, True, False),
        ("dicom", Ended.REJECTED, False, False),
        ("unreadable", Ended.DONE, True, True),
        ("unreadable", Ended.DONE, False, False),
        ("not-dicom", Ended.REJECTED, True, False),
    ],
)
def test_only_a_file_that_is_in_the_inbox_is_a_rejected_one(
    tmp_path: Path, kind: str, how: Ended, *, is_present: bool, is_rejected: bool
) -> None:
    with owned(tmp_path) as ledger:
        row = replace(FILE, kind=kind)
        ledger.record([row])
        job = ledger.jobs.offer("drop", "1.2", "x", 1, 100)
        assert job is not None
        after = ended(ledger.jobs.claim(job), outcome(how), 0.0, PATIENCE)
        ledger.conclude(after, [(row.path, row.identity)])
        ledger.record([], [] if is_present else GONE)
        assert ledger.files.has_rejected() is is_rejected


def test_a_failure_half_way_changes_nothing(tmp_path: Path) -> None:
    with owned(tmp_path) as ledger:
        ledger.record([FILE])

        def failing() -> Iterator[FileRow]:
            yield replace(FILE, path="drop/2.dcm")
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            ledger.record(failing(), GONE)
        assert present(ledger) == [FILE]
        ledger.record([], GONE)
        assert present(ledger) == []


CLAIMING = """
import sys
from pathlib import Path
from dicomzarr_watch.ledger.store import Ledger
ledger = Ledger.own(Path(sys.argv[1]))
ledger.jobs.claim(ledger.jobs.offer("drop", "1.2", "x", 1, 100))
print("claimed", flush=True)
sys.stdin.read()
"""


def test_promise_7_a_daemon_killed_between_claim_and_end_gives_the_attempt_back(
    tmp_path: Path,
) -> None:
    _lose_a_daemon(tmp_path)
    reader = Ledger.read(tmp_path)
    # recorded before the attempt began, or nobody would know of it now
    assert [(job.state, job.attempts) for job in reader.jobs.select()] == [(State.RUNNING, 1)]
    reader.close()
    assert not is_owned(tmp_path)
    with owned(tmp_path) as ledger:
        assert [(j.state, j.attempts, j.losses) for j in ledger.jobs.select()] == [
            (State.QUEUED, 0, 1)
        ]
        assert tuple(ledger.jobs.select()) == ledger.lost
        assert ledger.jobs.offer("drop", "1.2", "x", 1, 100) == ledger.jobs.select()[0]
    with owned(tmp_path) as ledger:
        assert ledger.lost == ()


def _lose_a_daemon(state: Path) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", CLAIMING, str(state)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"claimed\n"
        assert is_owned(state)
        child.kill()


def test_a_job_that_every_daemon_is_lost_over_is_rejected_with_its_files(tmp_path: Path) -> None:
    with owned(tmp_path) as ledger:
        ledger.record([FILE])
        job = ledger.jobs.offer(FILE.drop, FILE.series_uid, "x", 1, 100)
        assert job is not None
    for _ in range(MOST_LOSSES):
        with owned(tmp_path) as ledger:
            (job,) = ledger.jobs.select()
            ledger.jobs.claim(job)
    with owned(tmp_path) as ledger:
        assert [(j.state, j.code) for j in ledger.lost] == [(State.REJECTED, DAEMON_LOST)]
        assert [row.job for row in present(ledger)] == [job.id]
        assert ledger.drops.unreported == {"drop"}


def test_a_job_that_is_given_back_in_good_order_has_lost_no_daemon(tmp_path: Path) -> None:
    with owned(tmp_path) as ledger:
        job = ledger.jobs.offer("drop", "1.2", "x", 1, 100)
        assert job is not None
        assert ledger.jobs.give_back(ledger.jobs.claim(job)) == job
    with owned(tmp_path) as ledger:
        assert ledger.jobs.select() == [job]
