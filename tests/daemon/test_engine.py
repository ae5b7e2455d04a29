"""Children that go wrong: what the engine says of them, and that they never outlive it."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue

import odd_engine
import pytest
from daemon_process import deadline
from odd_engine import MUCH_BYTES, outcome

from dicomzarr_watch.engine import local
from dicomzarr_watch.outcome import Ended, Outcome

SCRIPT = (sys.executable, odd_engine.__file__)


@pytest.mark.parametrize(
    ("act", "ended", "code", "told"),
    [
        ("raise", Ended.CRASHED, "internal-error", "ValueError at odd_engine.py:"),
        ("out of memory", Ended.CRASHED, "out-of-memory", "MemoryError at odd_engine.py:"),
        ("leave", Ended.CRASHED, "worker-died", "exit code 4"),
        ("exit", Ended.CRASHED, "worker-died", "exit code 3"),
        ("crash", Ended.CRASHED, "worker-died", "signal SIGSEGV"),
        ("be killed", Ended.CRASHED, "worker-died", "signal SIGKILL"),
        ("be gone", Ended.CHANGED, "source-changed", "source-changed: found no file"),
        ("be unreadable", Ended.RETRY, "source-unreadable", "source-unreadable: expected"),
        ("be refused", Ended.REJECTED, "over-a-limit", "over-a-limit"),
        ("stop", Ended.CRASHED, "settings-wrong", "settings-wrong"),
    ],
)
def test_a_child_that_goes_wrong_is_an_outcome(
    tmp_path: Path, act: str, ended: Ended, code: str, told: str
) -> None:
    found = outcome(act, tmp_path)
    assert (found.ended, found.code) == (ended, code)
    assert found.told.startswith(told)
    assert "patient" not in found.told


def test_what_an_error_says_is_told_to_nobody_who_did_not_ask(tmp_path: Path) -> None:
    found = outcome("raise", tmp_path)
    assert (found.private, dict(found.summary)) == ("the name of a patient", {})


@pytest.mark.parametrize(
    ("act", "memory_bytes", "ended"),
    [
        ("take much", MUCH_BYTES, Ended.CRASHED),
        ("take much", 2 * MUCH_BYTES, Ended.CHANGED),
        ("take much", 0, Ended.CHANGED),
        ("set much aside", MUCH_BYTES, Ended.CHANGED),
    ],
)
def test_a_child_takes_no_more_memory_than_it_may(
    tmp_path: Path, act: str, memory_bytes: int, ended: Ended
) -> None:
    found = outcome(act, tmp_path, memory_bytes=memory_bytes)
    code = "out-of-memory" if ended is Ended.CRASHED else "source-changed"
    assert (found.ended, found.code) == (ended, code)


def test_a_child_that_hangs_runs_into_the_time_limit(tmp_path: Path) -> None:
    (tmp_path / "begun").touch()
    found = outcome("hang", tmp_path, timeout_s=1.0)
    assert (found.ended, found.code) == (Ended.CRASHED, "timed-out")
    assert found.told == "ended after 1 s"
    assert (tmp_path / "begun").read_bytes() == b"\n"


def test_capacity_counts_what_was_submitted_until_its_result_is_taken(tmp_path: Path) -> None:
    wakes: SimpleQueue[bool] = SimpleQueue()
    engine = odd_engine.engine(tmp_path, lambda: wakes.put(True), timeout_s=60.0)
    try:
        assert (engine.capacity, engine.results()) == (2, [])
        engine.submit(1, odd_engine.work("exit", tmp_path))
        assert engine.capacity == 1
        wakes.get(timeout=60)
        assert engine.capacity == 1
        ((number, _),) = engine.results()
        assert (number, engine.capacity) == (1, 2)
    finally:
        engine.close()


@contextmanager
def _engine(place: Path, *, timeout_s: float = 60.0) -> Iterator[Callable[[str], Outcome]]:
    """Give an engine as the function that has it do a job, and wait."""
    wakes: SimpleQueue[bool] = SimpleQueue()
    engine = odd_engine.engine(place, lambda: wakes.put(True), timeout_s=timeout_s)

    def done(act: str) -> Outcome:
        engine.tend(is_expecting=False)
        engine.submit(7, odd_engine.work(act, place))
        wakes.get(timeout=60)
        ((_, found),) = engine.results()
        return found

    try:
        yield done
    finally:
        engine.close()


def _signed(place: Path) -> list[int]:
    return [int(line) for line in (place / "signed").read_text().splitlines()]


def test_a_child_that_does_well_is_kept_for_the_next_job(tmp_path: Path) -> None:
    with _engine(tmp_path) as done:
        assert {done("sign").code for _ in range(5)} == {"source-changed"}
    assert len(_signed(tmp_path)) == 5
    assert len(set(_signed(tmp_path))) == 1


@pytest.mark.integration
@pytest.mark.parametrize("act", ["raise", "exit", "be killed", "hang"])
def test_what_ends_a_child_is_the_end_of_no_other_job(tmp_path: Path, act: str) -> None:
    (tmp_path / "begun").touch()
    with _engine(tmp_path, timeout_s=5.0 if act == "hang" else 60.0) as done:
        found = [done(what).ended for what in ("sign", act, "sign", act, "sign")]
    crashed, well = Ended.CRASHED, Ended.CHANGED
    assert found == [well, crashed, well, crashed, well]
    assert len(set(_signed(tmp_path))) == 3


def test_a_child_that_dies_while_it_waits_costs_no_job_an_attempt(tmp_path: Path) -> None:
    with _engine(tmp_path) as done:
        assert done("sign").ended is Ended.CHANGED
        os.kill(_signed(tmp_path)[0], signal.SIGKILL)
        _take_lock(tmp_path)
        assert done("sign").ended is Ended.CHANGED
    assert len(set(_signed(tmp_path))) == 2


def test_a_child_that_cannot_start_costs_no_job_an_attempt(tmp_path: Path) -> None:
    """A disk without room for its lock; here something else has the name."""
    with _engine(tmp_path) as done:
        (tmp_path / "children.lock").unlink()
        (tmp_path / "children.lock").mkdir()
        found = done("sign")
        assert (found.ended, found.code) == (Ended.RETRY, "no-child")
        assert "EISDIR" in found.told
        (tmp_path / "children.lock").rmdir()
        assert done("sign").ended is Ended.CHANGED


def test_a_child_that_has_grown_large_gives_its_memory_back(tmp_path: Path) -> None:
    with _engine(tmp_path) as done:
        found = [done(act).ended for act in ("grow", "sign")]
    assert found == [Ended.CHANGED] * 2
    assert len(set(_signed(tmp_path))) == 2


@pytest.mark.integration
def test_without_work_children_go_and_the_next_job_is_done_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with _engine(tmp_path) as done:
        assert done("sign").ended is Ended.CHANGED
        monkeypatch.setattr(local, "IDLE_S", -1.0)
        for count in (2, 3):  # each time nothing of the engine is left before the job
            assert done("sign").ended is Ended.CHANGED
            assert len(set(_signed(tmp_path))) == count


def test_nothing_that_a_library_prints_gets_out_of_a_child(tmp_path: Path) -> None:
    found = subprocess.run(
        [*SCRIPT, "print", str(tmp_path)], capture_output=True, check=True, timeout=60
    )
    assert (found.stdout, found.stderr) == (b"source-changed\n", b"")


def test_children_end_when_the_engine_is_closed(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "begun")
    engine = odd_engine.engine(tmp_path, lambda: None, timeout_s=60.0)
    engine.submit(1, odd_engine.work("hang", tmp_path))
    _wait_for_begin(tmp_path)
    with deadline():
        engine.close()
    _take_lock(tmp_path)


@pytest.mark.parametrize("end", [subprocess.Popen.kill, subprocess.Popen.terminate])
def test_children_end_when_their_daemon_is_killed_whatever_they_are_doing(
    tmp_path: Path, end: Callable[[subprocess.Popen[bytes]], None]
) -> None:
    os.mkfifo(tmp_path / "begun")
    with subprocess.Popen([*SCRIPT, "hang", str(tmp_path)]) as process:
        _wait_for_begin(tmp_path)
        end(process)
    _take_lock(tmp_path)
    odd_engine.engine(tmp_path, lambda: None, timeout_s=60.0).close()


def _wait_for_begin(place: Path) -> None:
    with deadline():
        assert (place / "begun").read_bytes() == b"\n"


def _take_lock(place: Path) -> None:
    """Take the lock that every child holds while it lives."""
    descriptor = os.open(place / "children.lock", os.O_RDWR)
    try:
        with deadline(10.0):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
    finally:
        os.close(descriptor)


@pytest.mark.parametrize("library", ["numpy", "pydicom", "zarr", "SimpleITK"])
def test_what_jobs_are_done_with_is_in_the_memory_of_children_alone(library: str) -> None:
    looked = f"import sys, dicomzarr_watch.cli; sys.exit({library!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", looked], check=False).returncode == 0
