from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from inbox_files import identity, outcome

from dicomzarr_watch.errors import StopError
from dicomzarr_watch.identity import Identity
from dicomzarr_watch.ledger.jobs import Job, Patience, State, ended
from dicomzarr_watch.ledger.store import SCHEMA_VERSION, ArrivingRow, FileRow, Ledger, is_owned
from dicomzarr_watch.outcome import Ended

PATIENCE = Patience(max_attempts=2, retry_max_s=8.0, jitter=0.5)
FILE = FileRow("drop/1.dcm", "drop", identity(), "dicom", "1.2", "1.2.3", "1.2.840", True)


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
        assert [row.job for row in ledger.files()] == [None]


def test_promise_1_a_file_that_comes_back_as_it_was_is_still_archived(tmp_path: Path) -> None:
    """A drop that is moved out and in again, or a mount that is away for a while."""
    with owned(tmp_path) as ledger:
        job = archived(ledger, FILE)
        ledger.record([], [FILE.path])
        assert list(ledger.files()) == []
        ledger.record([FILE])
        assert list(ledger.files()) == [replace(FILE, job=job.id)]


def archived(ledger: Ledger, file: FileRow) -> Job:
    """Take a series of one file through its job."""
    ledger.record([file])
    job = ledger.offer(file.drop, file.series_uid, "x", 1, file.identity.size)
    assert job is not None
    done = ended(ledger.claim(job), outcome(Ended.DONE), 0.0, PATIENCE)
    return ledger.settle(done, [file.path])


@pytest.mark.parametrize("name", [b"\xff\xfe", b"two\nlines", b"n" * 255, b"'; DROP TABLE files"])
def test_any_name_of_the_file_system_is_kept_as_it_is(tmp_path: Path, name: bytes) -> None:
    path = os.fsdecode(name + b"/" + name)
    row = replace(FILE, path=path, drop=os.fsdecode(name))
    with owned(tmp_path) as ledger:
        archived(ledger, row)
        assert list(ledger.files(row.drop)) == [replace(row, job=1)]
        assert [job.drop for job in ledger.jobs(drop=row.drop)] == [row.drop]
        ledger.record([], [path])
        assert list(ledger.files()) == []


def test_the_numbers_of_a_file_are_kept_to_the_last_bit(tmp_path: Path) -> None:
    largest = (1 << 63) - 1
    row = replace(FILE, identity=Identity(largest, largest, -1, largest))
    with owned(tmp_path) as ledger:
        ledger.record([row])
        assert list(ledger.files()) == [row]


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
        assert ledger.jobs() == []


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


# --- what is on disk ---


def test_what_is_written_is_on_disk_when_a_call_returns(tmp_path: Path) -> None:
    """WAL, and an fsync at every commit: pragmas are requests, so what holds is asked for."""
    with owned(tmp_path) as ledger:
        connection = ledger._connection
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert connection.execute("PRAGMA synchronous").fetchone() == (2,)


def test_what_arrives_is_written_when_it_differs_and_not_at_every_look(tmp_path: Path) -> None:
    row = ArrivingRow("drop", "1.2", "settle", 3)
    with owned(tmp_path) as ledger:
        reader = Ledger.read(tmp_path)
        versions = []
        for rows in ([row], [row], [replace(row, files=4)]):
            ledger.note_arriving(rows)
            assert reader.arriving() == tuple(rows)
            # which changes with every commit of another connection
            versions += reader._connection.execute("PRAGMA data_version").fetchone()
        reader.close()
    assert versions[0] == versions[1] != versions[2]


def test_a_failure_half_way_changes_nothing(tmp_path: Path) -> None:
    with owned(tmp_path) as ledger:
        ledger.record([FILE])

        def failing() -> Iterator[FileRow]:
            yield replace(FILE, path="drop/2.dcm")
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            ledger.record(failing(), [FILE.path])
        assert list(ledger.files()) == [FILE]
        ledger.record([], [FILE.path])
        assert list(ledger.files()) == []


CLAIMING = """
import sys
from pathlib import Path
from dicomzarr_watch.ledger.store import Ledger
ledger = Ledger.own(Path(sys.argv[1]))
ledger.claim(ledger.offer("drop", "1.2", "x", 1, 100))
print("claimed", flush=True)
sys.stdin.read()
"""


def test_promise_7_a_daemon_killed_between_claim_and_end_gives_the_attempt_back(
    tmp_path: Path,
) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", CLAIMING, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"claimed\n"
        assert is_owned(tmp_path)
        child.kill()
    reader = Ledger.read(tmp_path)
    # recorded before the attempt began, or nobody would know of it now
    assert [(job.state, job.attempts) for job in reader.jobs()] == [(State.RUNNING, 1)]
    reader.close()
    assert not is_owned(tmp_path)
    with owned(tmp_path) as ledger:
        assert [(job.state, job.attempts) for job in ledger.jobs()] == [(State.QUEUED, 0)]
        assert ledger.offer("drop", "1.2", "x", 1, 100) == ledger.jobs()[0]
