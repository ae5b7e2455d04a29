"""Killed at exactly one point: at every step that has a name, and before every call on a file.

What is killed has one series to revise, with files that only the archive has, one that is encoded,
and files that are no DICOM.
"""

from __future__ import annotations

import secrets
import shutil
import signal
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import pytest
from daemon_process import COMMAND, FAULTY, begun, once
from disturbed import encoded, end_state
from drops import late_slice, made
from judged import Tally, half_visible, judgement
from supervised import Call, Supervisor, killed, passed, supervised

STAGES = ("previous", "transcode", "headers", "plan", "write", "verify", "metadata", "publish")
EVENTS = (
    "daemon.started",
    "watch.started",
    "series.arriving",
    "job.queued",
    "job.started",
    "job.done",
    "drop.finished",
    "daemon.stopped",
)
SETTINGS: Final[dict[str, Any]] = {"settle_s": 0.1, "workers": 1, "retry_max_s": 0.1}
IN_CI = 12
"""How many of the calls are tried of either process; another twelfth in every run."""


@dataclass(frozen=True)
class Work:
    """An inbox, an output and ledger as they are before, and what they come to undisturbed."""

    inbox: Path
    before: Path
    end: dict[str, Any]
    calls: tuple[Call, ...]

    def begun(self, place: Path) -> Path:
        """Make a place where the work is still to be done."""
        shutil.copytree(self.before, place)
        return place


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Work:
    place = tmp_path_factory.mktemp("work")
    inbox, before = place / "inbox", place / "before"
    made(inbox / "a" / "1", 3)
    once(before, inbox=inbox, **SETTINGS)
    (inbox / "a" / "1" / "0001.dcm").unlink()
    late_slice(inbox / "a" / "1")
    encoded(inbox / "a" / "2", 2, series_uid="1.2.2", SeriesNumber=2)
    (inbox / "a" / "notes.txt").write_text("not an image")
    shutil.copytree(before, place / "undisturbed")
    with supervised(place / "undisturbed") as supervisor:
        command = supervisor.command(*COMMAND)
        code, daemon = once(place / "undisturbed", command=command, inbox=inbox, **SETTINGS)
    assert code == 0
    assert len(daemon.all("job.done")) == 2
    return Work(inbox, before, end_state(daemon.output), tuple(supervisor.calls))


@pytest.mark.integration
@pytest.mark.parametrize("step", [*STAGES, *EVENTS])
def test_a_kill_at_a_named_step_leads_to_the_same_result(
    tmp_path: Path, work: Work, tally: Tally, step: str
) -> None:
    place = work.begun(tmp_path / "place")
    (tmp_path / "step").write_text(step)
    settings = SETTINGS | {"command": FAULTY, "FAULTS": tmp_path}
    with begun(place, "--once", inbox=work.inbox, **settings) as daemon:
        code = daemon.end()
    assert code == (-signal.SIGKILL if step in EVENTS else 0)
    assert not (tmp_path / "step").exists()
    converges(place, work, tally, code)


@pytest.mark.integration
@pytest.mark.parametrize("is_child", [False, True], ids=["daemon", "child"])
def test_kills_before_some_calls_lead_to_the_same_result(
    tmp_path: Path, work: Work, tally: Tally, is_child: bool
) -> None:
    numbers = range(len([c for c in work.calls if c.is_child is is_child]))
    every = len(numbers) // IN_CI
    killed_before(numbers[secrets.randbelow(every) :: every], tmp_path, work, tally, is_child)


@pytest.mark.long
@pytest.mark.parametrize("is_child", [False, True], ids=["daemon", "child"])
def test_kills_before_every_call_lead_to_the_same_result(
    tmp_path: Path, work: Work, tally: Tally, is_child: bool
) -> None:
    numbers = range(len([c for c in work.calls if c.is_child is is_child]))
    killed_before(numbers, tmp_path, work, tally, is_child)


def killed_before(
    numbers: Sequence[int], folder: Path, work: Work, tally: Tally, is_child: bool
) -> None:
    for number in numbers:
        place = work.begun(folder / f"{number}")
        with supervised(place) as supervisor:
            kill_before(supervisor, number, is_child)
            settings = SETTINGS | {"command": supervisor.command(*COMMAND)}
            with begun(place, "--once", inbox=work.inbox, **settings) as daemon:
                code = daemon.end()
        asked = [call for call in supervisor.calls if call.is_child is is_child]
        if len(asked) <= number:
            continue  # there are a few calls more or less in every run
        assert code == (0 if is_child else -signal.SIGKILL), asked[number]
        converges(place, work, tally, code)
        shutil.rmtree(place)


def kill_before(supervisor: Supervisor, number: int, is_child: bool) -> None:
    """Kill who asks for this call of the daemon, or of its children; once."""
    left = number

    def fault(call: Call) -> tuple[int, int, int]:
        nonlocal left
        if call.is_child is not is_child:
            return passed(call)
        left -= 1
        return killed(call) if left == -1 else passed(call)

    supervisor.set(fault)


def converges(place: Path, work: Work, tally: Tally, code: int) -> None:
    """Go on if the daemon was killed, and compare with what comes of it undisturbed."""
    odd = half_visible(place / "output")
    if code:
        code, _ = once(place, inbox=work.inbox, **SETTINGS)
    assert code == 0
    assert end_state(place / "output") == work.end
    found = judgement(work.inbox, place / "output")
    tally("steps", 1, replace(found, half_visible=(*odd, *found.half_visible)))
