"""Real file systems that are full, out of inodes or read-only; and what is on disk when."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
from daemon_process import COMMAND, begun, once, running
from drops import brought_back, contents, dropped, fates, late_slice, made
from judged import Tally, judgement
from mounts import BALLAST, change, fill, mounted
from supervised import RENAME, SYNC, Call, Fault, killed, passed, supervised
from syscalls import PASS, Verdict

pytestmark = pytest.mark.integration

RENAME_EXCHANGE: Final = 2
SMALL: Final = "size=1m"
FEW_INODES: Final = "nr_inodes=30"
SETTINGS: Final[dict[str, Any]] = {"settle_s": 0.2, "retry_max_s": 0.5, "max_attempts": 1}


@dataclass(frozen=True)
class Trouble:
    """How an output is mounted, comes to take nothing, is mended, and what is said of it."""

    name: str
    options: str
    spoil: Callable[[Path], object]
    mend: Callable[[Path], object]
    code: str = "no-space"


TROUBLES: Final = (
    Trouble("full", SMALL, fill, lambda output: (output / BALLAST).unlink()),
    Trouble("enlarged", SMALL, fill, lambda output: change(output, "size=8m")),
    Trouble("no inodes", FEW_INODES, Path.iterdir, lambda o: change(o, "nr_inodes=9000")),
    Trouble(
        "read-only", SMALL, lambda o: change(o, "ro"), lambda o: change(o, "rw"), "output-error"
    ),
)


@pytest.mark.parametrize("trouble", TROUBLES, ids=lambda trouble: trouble.name)
def test_an_output_that_takes_nothing_pauses_the_daemon_until_it_does(
    tmp_path: Path, tally: Tally, trouble: Trouble
) -> None:
    output = tmp_path / "output"
    with mounted(output, trouble.options), running(tmp_path, **SETTINGS) as daemon:
        trouble.spoil(output)
        files = [dropped(daemon, drop) for drop in "ab"]
        paused = daemon.wait("output.paused")
        daemon.wait("job.started", count=5)
        assert (paused["code"], daemon.all("job.done")) == (trouble.code, [])
        trouble.mend(output)
        daemon.wait("output.resumed")
        daemon.wait("drop.finished", count=2)
        assert daemon.stop() == 0
        assert [brought_back(output / drop) for drop in "ab"] == files
        (output / BALLAST).unlink(missing_ok=True)
        tally("refusals", 1, judgement(daemon.inbox, output))
    assert [len(daemon.all(f"output.{word}")) for word in ("paused", "resumed")] == [1, 1]
    assert [job["attempt"] for job in daemon.all("job.done")] == [1, 1]


def test_a_full_state_ends_the_daemon_and_is_started_with_again(
    tmp_path: Path, tally: Tally
) -> None:
    with mounted(tmp_path / "state", SMALL) as state, running(tmp_path, **SETTINGS) as daemon:
        dropped(daemon, "a")
        daemon.wait("drop.finished")
        ballast = fill(state)
        dropped(daemon, "b")
        assert daemon.wait("daemon.failed")["code"] == "state-or-inbox-failed"
        assert daemon.end() == 1
        ballast.unlink()
        assert once(tmp_path, **SETTINGS)[0] == 0
    tally("refusals", 1, judgement(daemon.inbox, daemon.output))


def test_a_log_that_cannot_be_written_stops_nothing(tmp_path: Path, tally: Tally) -> None:
    made(tmp_path / "inbox" / "a")
    with begun(tmp_path, "--once", log_file="/dev/full", **SETTINGS) as daemon:
        assert (daemon.end(), daemon.text) == (0, "")
    tally("refusals", 1, judgement(daemon.inbox, daemon.output))


def test_a_log_that_nobody_reads_any_more_stops_nothing(tmp_path: Path, tally: Tally) -> None:
    made(tmp_path / "inbox" / "a")
    with begun(tmp_path, "--once", **SETTINGS) as daemon:
        assert daemon.process.stderr is not None
        daemon.process.stderr.close()
        assert daemon.process.wait() == 0
    tally("refusals", 1, judgement(daemon.inbox, daemon.output))


# --- on disk before it is seen ---


def _calls(place: Path) -> list[Call]:
    """Convert a drop and return the calls that make names and sync, in their order."""
    with supervised(place) as supervisor:
        command = (*COMMAND, "convert", str(place / "a"), "--output", str(place / "output"))
        supervisor.run(*command)
    return [call for call in supervisor.calls if call.kind in (RENAME, SYNC)]


def _visible(calls: list[Call]) -> tuple[int, Path]:
    """Return which of the calls makes a series visible, and the series."""
    ((number, call),) = (
        (n, call) for n, call in enumerate(calls) if call.kind == RENAME and call.where == "output"
    )
    return number, Path(call.path)


def test_all_of_a_result_is_synced_before_its_name_is_visible(tmp_path: Path) -> None:
    """Promise 2: done means done."""
    made(tmp_path / "a")
    calls = _calls(tmp_path)
    number, series = _visible(calls)
    before, after = (
        {call.path for call in part if call.kind == SYNC}
        for part in (calls[:number], calls[number:])
    )
    staged = f"output/.staging/{series.relative_to('output')}/new"
    files = {f"{staged}/{name}" for name in contents(tmp_path / series)}
    folders = {
        f"{staged}/{path.relative_to(tmp_path / series)}"
        for path in (tmp_path / series).rglob("*/")
    }
    assert before >= files | folders | {staged}
    assert after >= {str(series.parent), "output"}


def test_a_revision_takes_the_place_of_the_old_one_in_one_step(tmp_path: Path) -> None:
    """Promise 2: there is no moment without an archive, where the system can swap two names."""
    made(tmp_path / "a")
    _calls(tmp_path)
    late_slice(tmp_path / "a")
    calls = _calls(tmp_path)
    number, series = _visible(calls)
    assert (calls[number].name, calls[number].arguments[4]) == ("renameat2", RENAME_EXCHANGE)
    assert brought_back(tmp_path / series.parent) == contents(tmp_path / "a")


def test_a_result_that_is_found_is_put_on_disk_as_well(tmp_path: Path) -> None:
    """One who was killed behind the rename has shown it, and no more."""
    made(tmp_path / "a")
    _, series = _visible(_calls(tmp_path))
    again = _calls(tmp_path)
    assert {call.kind for call in again} == {SYNC}
    assert {call.path for call in again} >= {str(series.parent), "output"}


def _accounted(place: Path, fault: Fault = passed) -> list[Call]:
    """Run a daemon over a drop without results; return its calls about names in the output."""
    with supervised(place) as supervisor:
        supervisor.set(fault)
        settings = SETTINGS | {"command": supervisor.command(*COMMAND)}
        with begun(place, "--once", **settings) as daemon:
            daemon.end()
    calls = [call for call in supervisor.calls if not call.is_child]
    return [call for call in calls if call.kind in (RENAME, SYNC) and call.where == "output"]


def test_the_account_of_a_drop_is_on_disk_with_the_folder_that_was_made_for_it(
    tmp_path: Path,
) -> None:
    (tmp_path / "inbox" / "a").mkdir(parents=True)
    (tmp_path / "inbox" / "a" / "notes.txt").write_text("not an image")
    shown = []

    def kill_behind_the_rename(call: Call) -> Verdict:
        if call.kind == RENAME and call.path == "output/a/drop.json":
            shown.append(call)
        elif call.kind == SYNC and call.path.startswith("output") and shown:
            return killed(call)
        return PASS

    calls = _accounted(tmp_path, kill_behind_the_rename)
    assert [call.path for call in calls[-2:]] == ["output/a/drop.json", "output/a"]
    assert fates(tmp_path / "output" / "a") == {"a/notes.txt": "ignored"}
    for _ in "killed", "not reported again":
        found, calls = calls, _accounted(tmp_path)
    assert [call.path for call in found] == ["output/a", "output"]
    assert calls == []
