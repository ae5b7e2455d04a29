"""A ledger that cannot be used is set aside whole, and a new one knows what it is told."""

from __future__ import annotations

import sqlite3
import stat
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from inbox_files import identity, present

from dicomzarr_watch.errors import StopError
from dicomzarr_watch.ledger.damage import damage
from dicomzarr_watch.ledger.jobs import Job, State
from dicomzarr_watch.ledger.rows import FileRow
from dicomzarr_watch.ledger.schema import OLDEST
from dicomzarr_watch.ledger.store import Ledger

FILE = FileRow("drop/1.dcm", "drop", identity(), "dicom", "1.2", job=7)
JOB = Job(7, "drop", "1.2", "x", 1, 100, State.DONE, 1, code="done", folder="CT-1", revision=2)


def filled(state: Path) -> bytes:
    """Make a ledger of many pages and return its bytes."""
    ledger = Ledger.own(state)
    ledger.record(replace(FILE, path=f"drop/{n:05}.dcm") for n in range(2000))
    ledger.close()
    return (state / "ledger.sqlite").read_bytes()


def no_database(content: bytes) -> bytes:
    return b"x" * len(content)


def cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


def random_pages(content: bytes) -> bytes:
    random = Random(1)  # noqa: S311 - the same pages in every run
    pages = [content[at : at + 4096] for at in range(0, len(content), 4096)]
    for number in random.sample(range(1, len(pages)), 5):
        pages[number] = random.randbytes(4096)
    return b"".join(pages)


def without_header(content: bytes) -> bytes:
    return bytes(100) + content[100:]


@pytest.mark.parametrize("happen", [no_database, cut, random_pages, without_header])
def test_a_damaged_ledger_is_set_aside_and_made_anew(
    tmp_path: Path, happen: Callable[[bytes], bytes]
) -> None:
    broken = happen(filled(tmp_path))
    (tmp_path / "ledger.sqlite").write_bytes(broken)
    ledger = Ledger.own(tmp_path, lambda: [([JOB], [FILE])])
    assert (ledger.jobs.select(), present(ledger)) == ([JOB], [FILE])
    assert ledger.damage is not None
    code, name = ledger.damage
    assert code in ("ledger-damaged", "no-database")
    assert (tmp_path / name).read_bytes() == broken
    assert ledger.rebuilt == {"drops": 1, "jobs": 1, "files": 1}
    ledger.close()
    assert damage(tmp_path / "ledger.sqlite") == ""
    assert stat.S_IMODE((tmp_path / "ledger.sqlite").stat().st_mode) == 0o600


def test_who_only_looks_is_told_of_damage_and_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "ledger.sqlite").write_bytes(no_database(filled(tmp_path)))
    with pytest.raises(StopError) as error:
        Ledger.read(tmp_path)
    assert error.value.code == "ledger-damaged"
    assert damage(tmp_path / "ledger.sqlite") == "no-database"


def test_a_ledger_of_a_version_that_nobody_knows_any_more_is_made_anew(tmp_path: Path) -> None:
    filled(tmp_path)
    with closing(sqlite3.connect(tmp_path / "ledger.sqlite")) as connection:
        connection.execute(f"PRAGMA user_version = {OLDEST - 1}")
    ledger = Ledger.own(tmp_path, lambda: [([JOB], [FILE])])
    assert ledger.damage is not None
    assert ledger.damage[0] == "ledger-version"
    assert ledger.jobs.select() == [JOB]
    ledger.close()


def test_a_new_ledger_knows_all_that_it_is_told_or_is_still_to_be_made(tmp_path: Path) -> None:
    def interrupted() -> list[tuple[list[Job], list[FileRow]]]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Ledger.own(tmp_path, interrupted)
    ledger = Ledger.own(tmp_path, lambda: [([JOB], [FILE])])
    assert ledger.jobs.select() == [JOB]
    ledger.close()
    ledger = Ledger.own(tmp_path, interrupted)  # which is asked no more
    assert (ledger.jobs.select(), ledger.damage, ledger.rebuilt) == ([JOB], None, {})
    ledger.close()


def test_a_job_whose_number_is_taken_has_another_one_with_its_files(tmp_path: Path) -> None:
    other = replace(JOB, drop="other"), replace(FILE, path="other/1.dcm", drop="other")
    loose = replace(JOB, id=-1, drop="third"), replace(FILE, path="t/1", drop="third", job=-1)
    told = [([JOB], [FILE]), *(([job], [file]) for job, file in (other, loose))]
    ledger = Ledger.own(tmp_path, lambda: told)
    numbers = {job.drop: job.id for job in ledger.jobs.select()}
    assert numbers["drop"] == 7
    assert len(set(numbers.values())) == 3
    assert {file.drop: file.job for file in present(ledger)} == numbers
    ledger.close()
