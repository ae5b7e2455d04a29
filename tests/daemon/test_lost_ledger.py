"""A ledger that is damaged or deleted under a daemon at work: it ends, and says what to do.

The next start makes the ledger anew; nothing is lost, and nothing converted twice.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Final

import pytest
from daemon_process import FAULTY, Daemon, held_at, once, running
from drops import brought_back, dropped, late_slice, made, receipts
from inbox_files import identity
from judged import judgement

from dicomzarr_watch.ledger.rows import FileRow
from dicomzarr_watch.ledger.store import Ledger

FILE: Final = FileRow("old/0", "old", identity(), "not-dicom")
ROWS: Final = 40_000
"""So many files that SQLite, which keeps 2 MB in memory, has to read most of their pages anew."""


def large(state: Path) -> None:
    """Make a ledger that knows of many files, all of them gone, in one drop."""
    rows = [replace(FILE, path=f"old/{n:06}") for n in range(ROWS)]
    with closing(Ledger.own(state)) as ledger:
        ledger.record(rows, [(row.path, row.drop) for row in rows])


def noise(ledger: Path) -> None:
    size = ledger.stat().st_size
    with ledger.open("r+b") as stream:
        stream.write(Random(3).randbytes(size))  # noqa: S311 - always the same


def emptied(ledger: Path) -> None:
    os.truncate(ledger, 0)


@pytest.mark.integration
@pytest.mark.parametrize("happen", [noise, emptied])
def test_a_ledger_that_is_damaged_under_the_daemon_is_made_anew_by_the_next_start(
    tmp_path: Path, happen: Callable[[Path], None]
) -> None:
    large(tmp_path / "state")
    files = {"a": made(tmp_path / "inbox" / "a", 3)}
    with running(tmp_path) as daemon:
        daemon.wait("drop.finished", archived=3)
        happen(daemon.state / "ledger.sqlite")
        files["old"] = dropped(daemon, "old", series_uid="1.2.3")  # whose account asks for all rows
        assert daemon.end() == 1
    aside, *_ = sorted(daemon.state.glob("ledger.sqlite.*"))
    failed(daemon, "ledger-damaged", aside.name)
    goes_on(daemon, files)


def failed(daemon: Daemon, code: str, *words: str) -> None:
    """Hear one line that says what happened and what to do."""
    (told,) = [event for event in daemon.events if event["level"] in ("warning", "error")]
    assert (told["event"], told["code"]) == ("daemon.failed", code)
    assert all(word in told["told"] for word in (*words, "start the daemon"))


def goes_on(daemon: Daemon, files: dict[str, dict[str, bytes]]) -> None:
    """Start once more, with another drop and a late slice, and judge what came of it all."""
    files = files | {"c": made(daemon.inbox / "c", 2, series_uid="1.2.4")}
    files["a"] = files["a"] | {"late.dcm": late_slice(daemon.inbox / "a")}
    code, after = once(daemon.place)
    assert code == 0
    assert len(after.all("ledger.rebuilt")) == 1
    done = [*daemon.all("job.done", code="done"), *after.all("job.done", code="done")]
    assert len(done) == len({(job["drop"], job["revision"]) for job in done})
    for drop, expected in files.items():
        assert brought_back(daemon.output / drop) == expected
        assert [r["revision"] for r in receipts(daemon.output / drop)] == [1 + (drop == "a")]
    assert judgement(daemon.inbox, daemon.output).is_clean


def alone(ledger: Path) -> None:
    ledger.unlink()


def with_its_folder(ledger: Path) -> None:
    shutil.rmtree(ledger.parent)


@pytest.mark.integration
@pytest.mark.parametrize("happen", [alone, with_its_folder])
def test_a_ledger_that_is_deleted_while_a_job_is_under_way_ends_the_daemon(
    tmp_path: Path, happen: Callable[[Path], None]
) -> None:
    faults = tmp_path / "faults"
    faults.mkdir()
    with running(tmp_path, command=FAULTY, FAULTS=faults) as daemon:
        files = {"a": dropped(daemon, "a")}
        daemon.wait("drop.finished")
        os.mkfifo(faults / "gate")
        files["b"] = dropped(daemon, "b", series_uid="1.2.3")
        with held_at(faults / "gate") as let_go:
            happen(daemon.state / "ledger.sqlite")
            let_go()
            assert daemon.end() == 1
    failed(daemon, "ledger-gone")
    goes_on(daemon, files)
