"""The system refuses a call, or does half of it: at every call of its kind, on every disk."""

from __future__ import annotations

import errno
import resource
import secrets
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, Final

import pytest
from daemon_process import COMMAND, Daemon, begun, once, running
from disturbed import descendants
from drops import dropped, made
from judged import Tally, judgement
from supervised import (
    MAKE,
    REMOVE,
    RENAME,
    SYNC,
    WRITE,
    Call,
    Fault,
    Supervisor,
    at,
    failed,
    halved,
    passed,
    supervised,
    untrue,
)

FOR_A_WHILE: Final = 3
"""How many calls in turn are refused where a refusal does not come and go."""
SETTINGS: Final[dict[str, Any]] = {"settle_s": 0.1, "poll_s": 0.5, "retry_max_s": 0.1}
UNNAMED: Final = ""
"""What is said before there is a log."""
SAID: Final = ("inbox.missing", "job.retry", "drop.finished")
MOST_OPENED: Final = 8


@dataclass(frozen=True)
class Refusal:
    """What can happen to a kind of call. calls: to how many of them in turn."""

    kind: str
    name: str
    fault: Fault
    calls: int = 1

    def __str__(self) -> str:
        return f"{self.kind}-{self.name}"


def error(kind: str, name: str, calls: int = 1) -> Refusal:
    return Refusal(kind, name, failed(getattr(errno, name)), calls)


REFUSALS: Final = (
    error(WRITE, "ENOSPC", FOR_A_WHILE),
    error(WRITE, "EIO"),
    Refusal(WRITE, "half", halved),
    error(SYNC, "ENOSPC", FOR_A_WHILE),
    error(SYNC, "EIO"),
    error(RENAME, "EROFS", FOR_A_WHILE),
    error(RENAME, "EIO"),
    error(MAKE, "ENOSPC", FOR_A_WHILE),
    error(MAKE, "EROFS", FOR_A_WHILE),
    error(MAKE, "EMFILE"),
    error(REMOVE, "EROFS", FOR_A_WHILE),
    error(REMOVE, "EIO"),
)
UNTRUE: Final = Refusal(WRITE, "untrue", untrue)


def amounts(in_ci: int) -> list[Any]:
    """How many calls of a kind are tried with each refusal; if not all, others in every run."""
    return [
        pytest.param(in_ci, marks=pytest.mark.integration, id="some"),
        pytest.param(1_000_000, marks=pytest.mark.long, id="every"),
    ]


@pytest.fixture(scope="module")
def counted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Call, ...]:
    """Return the calls of one small drop, from an empty place to its account."""
    place = tmp_path_factory.mktemp("counted")
    made(place / "inbox" / "a")
    with supervised(place) as supervisor:
        assert once(place, command=supervisor.command(*COMMAND), **SETTINGS)[0] == 0
    return tuple(supervisor.calls)


@pytest.mark.parametrize("amount", amounts(2))
@pytest.mark.parametrize("is_child", [False, True], ids=["daemon", "child"])
def test_an_output_that_refuses_a_call_is_waited_for(
    tmp_path: Path, counted: tuple[Call, ...], tally: Tally, is_child: bool, amount: int
) -> None:
    """Who is lied to finds out as it reads what it wrote, and writes it anew."""

    def is_asked(call: Call) -> bool:
        return call.is_child is is_child and call.where in ("staging", "output")

    times = 0
    with supervised(tmp_path) as supervisor:
        command = supervisor.command(*COMMAND)
        patience = {"identifiers": "plain", "max_attempts": 1}
        with running(tmp_path, command=command, **SETTINGS, **patience) as daemon:
            for refusal in (*REFUSALS, UNTRUE):
                for number in some(counted, refusal, is_asked, amount):
                    refused = refuse(supervisor, refusal, number, is_asked)
                    drop = f"{refusal}-{number}"
                    dropped(daemon, drop, series_uid=f"1.2.{times}")
                    daemon.wait("drop.finished", drop=drop, archived=3)
                    times += bool(refused)
            supervisor.set(passed)
            assert daemon.stop() == 0
    assert daemon.all("job.rejected") == []
    assert len(daemon.all("output.paused")) == len(daemon.all("output.resumed"))
    verify(daemon.output)
    tally("refusals", times, judgement(daemon.inbox, daemon.output))


@pytest.mark.parametrize("amount", amounts(1))
def test_a_state_that_refuses_a_call_ends_the_daemon_and_nothing_else(
    tmp_path: Path, counted: tuple[Call, ...], tally: Tally, amount: int
) -> None:
    """The daemon does nothing without its ledger: it says so, and is to be started again."""

    def is_asked(call: Call) -> bool:
        return call.where == "state"

    made(tmp_path / "inbox" / "a")
    for refusal in REFUSALS:
        for number in some(counted, refusal, is_asked, amount):
            place = tmp_path / f"{refusal}-{number}"
            with supervised(place) as supervisor:
                refused = refuse(supervisor, refusal, number, is_asked)
                settings = SETTINGS | {"command": supervisor.command(*COMMAND)}
                with begun(place, "--once", inbox=tmp_path / "inbox", **settings) as daemon:
                    code = daemon.end()
            assert code == 0 or any(map(daemon.all, ("daemon.failed", "job.retry", "")))
            code, daemon = once(place, inbox=tmp_path / "inbox", **SETTINGS)
            assert code == 0
            tally("refusals", len(refused) > 0, judgement(tmp_path / "inbox", daemon.output))
            shutil.rmtree(place)


@pytest.mark.integration
@pytest.mark.parametrize("of_children", [False, True], ids=["daemon", "all"])
def test_too_few_open_files_are_waited_for(tmp_path: Path, tally: Tally, of_children: bool) -> None:
    with running(tmp_path, identifiers="plain", max_attempts=1, **SETTINGS) as daemon:
        dropped(daemon, "before")
        daemon.wait("drop.finished")
        for free in range(MOST_OPENED):
            before = len(daemon.events)
            processes = [daemon.process.pid]
            processes += descendants(daemon.process.pid) if of_children else []
            with few_descriptors(processes, free):
                dropped(daemon, f"{free}", series_uid=f"1.2.{free}")
                told(daemon, before)
            daemon.wait("drop.finished", drop=f"{free}", archived=3)
        assert daemon.stop() == 0
    assert daemon.all("job.rejected") == []
    tally("refusals", MOST_OPENED, judgement(daemon.inbox, daemon.output))


def told(daemon: Daemon, before: int) -> None:
    """Wait until something is said of a refusal, or that there was none."""
    daemon.until(lambda: any(e["event"] in SAID for e in daemon.events[before:]), "a word of it")


@contextmanager
def few_descriptors(processes: list[int], free: int) -> Iterator[None]:
    """Let processes open so many files more, and no further ones for a while."""
    before = [resource.prlimit(process, resource.RLIMIT_NOFILE) for process in processes]
    for process, (_, hard) in zip(processes, before, strict=True):
        taken = {int(path.name) for path in Path(f"/proc/{process}/fd").iterdir()}
        first = next(number for number in count() if number not in taken)
        resource.prlimit(process, resource.RLIMIT_NOFILE, (first + free, hard))
    yield
    for process, limits in zip(processes, before, strict=True):
        with suppress(ProcessLookupError):  # a child is not kept that could not do its job
            resource.prlimit(process, resource.RLIMIT_NOFILE, limits)


def some(
    counted: tuple[Call, ...], refusal: Refusal, is_asked: Callable[[Call], bool], amount: int
) -> range:
    """Choose so many of the calls that can be refused, or all if there are no more."""
    numbers = range(len([c for c in counted if c.kind == refusal.kind and is_asked(c)]))
    every = max(1, len(numbers) // amount)
    return numbers[secrets.randbelow(every) :: every]


def refuse(
    supervisor: Supervisor, refusal: Refusal, number: int, is_asked: Callable[[Call], bool]
) -> list[Call]:
    """Have a call of the kind be refused, counted from now; the list will say which it was."""
    refused: list[Call] = []
    numbers = range(number, number + refusal.calls)
    supervisor.set(
        at(
            numbers,
            refusal.fault,
            of=lambda call: call.kind == refusal.kind and is_asked(call),
            asked=refused,
        )
    )
    return refused


def verify(output: Path) -> None:
    """Have the command verify every store of an output."""
    found = subprocess.run([*COMMAND, "verify", output], capture_output=True, check=False)
    assert found.returncode == 0, found.stdout
