"""`status`, `demo` and the program itself."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from command_line import Ask
from daemon_process import COMMAND, FAULTY, clean_environment, once, running
from drops import dropped, made
from inbox_files import identity

from dicomzarr_watch import __version__
from dicomzarr_watch.ledger.rows import FileRow
from dicomzarr_watch.ledger.store import Ledger


def test_status_without_a_ledger_says_what_it_looked_for(ask: Ask, tmp_path: Path) -> None:
    answer = ask("status", "--state", tmp_path)
    assert answer.code == 1
    assert "no-ledger" in answer.err
    assert str(tmp_path) in answer.err


def test_status_says_that_the_output_is_away_and_nothing_when_it_is_back(
    ask: Ask, tmp_path: Path
) -> None:
    with running(tmp_path) as daemon:
        dropped(daemon, "a")
        daemon.wait("drop.finished")
        kept = daemon.output.rename(tmp_path / "kept")
        assert daemon.wait("output.paused")["code"] == "output-gone"
        assert ask("status", "--state", daemon.state).out.splitlines()[:2] == [
            "daemon: running",
            "paused: output-gone",
        ]
        assert not daemon.output.exists()
        kept.rename(daemon.output)
        daemon.wait("output.resumed")
        assert ask("status", "--state", daemon.state, "--json").json["paused"] == ""
        assert daemon.stop() == 0


def test_status_tells_what_is_arriving_and_what_is_done(ask: Ask, tmp_path: Path) -> None:
    with running(tmp_path, truncated_hold_s=3600) as daemon:
        dropped(daemon, "whole")
        daemon.wait("job.done")
        made(tmp_path / "made" / "cut", 2)
        last = tmp_path / "made" / "cut" / "0001.dcm"
        last.write_bytes(last.read_bytes()[:-7])
        (tmp_path / "made" / "cut").rename(daemon.inbox / "cut")
        daemon.wait("series.held")
        answer = ask("status", "--state", daemon.state)
        assert answer.out.splitlines() == [
            "daemon: running",
            "arriving: cut, 2 files, waits for truncated",
            "0 queued, 0 running, 1 done, 0 rejected, 0 withdrawn",
        ]
        assert daemon.stop() == 0
    found = ask("status", "--state", daemon.state, "--json").json
    assert found["running"] is False
    assert [(row["drop"], row["files"]) for row in found["arriving"]] == [("cut", 2)]
    assert found["jobs"]["done"] == 1


def test_status_names_what_was_rejected(ask: Ask, tmp_path: Path) -> None:
    made(tmp_path / "inbox" / "bad", 1, series_uid="1.2.3")
    (tmp_path / "crash").touch()
    once(tmp_path, command=FAULTY, FAULTS=tmp_path, max_attempts=1)
    answer = ask("status", "--state", tmp_path / "state")
    assert answer.out.splitlines()[-1] == "rejected: job 1, bad, attempts-used-up"
    (row,) = ask("status", "--state", tmp_path / "state", "--json").json["rejected"]
    assert row == {"job": 1, "drop": "bad", "series": "1.2.3", "code": "attempts-used-up"}


@pytest.mark.parametrize("command", [("status",), ("list",), ("explain", "a/00000.dcm")])
def test_a_ledger_whose_pages_are_damaged_is_named_and_nothing_else_said(
    ask: Ask, tmp_path: Path, command: tuple[str, ...]
) -> None:
    ledger = Ledger.own(tmp_path)
    ledger.record(FileRow(f"a/{n:05}.dcm", "a", identity(), "dicom", "1.2") for n in range(2000))
    ledger.jobs.offer("a", "1.2", "x", 2000, 100)
    ledger.close()
    path = tmp_path / "ledger.sqlite"
    content = path.read_bytes()
    path.write_bytes(content[:8192] + b"x" * (len(content) - 8192))
    answer = ask(*command, "--state", tmp_path)
    assert (answer.code, answer.out) == (1, "")
    assert answer.err.startswith("dicomzarr-watch: ledger-damaged: ")


def test_a_ledger_that_cannot_be_read_is_told_without_a_traceback(ask: Ask, tmp_path: Path) -> None:
    (tmp_path / "ledger.sqlite").mkdir()
    answer = ask("status", "--state", tmp_path)
    assert (answer.code, answer.out) == (1, "")
    assert answer.err.count("\n") == 1


def test_status_finds_the_state_folder_in_the_settings(ask: Ask, tmp_path: Path) -> None:
    made(tmp_path / "inbox" / "a")
    once(tmp_path)
    file = tmp_path / "settings.toml"
    file.write_text(f'state = "{tmp_path / "state"}"\n')
    assert ask("status", "--config", file, "--json").json["jobs"]["done"] == 1


def test_the_demo_shows_that_every_file_comes_back(tmp_path: Path) -> None:
    found = subprocess.run(
        [*COMMAND, "demo"],
        env=clean_environment() | {"TMPDIR": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=90,
    )
    assert (found.returncode, found.stdout.splitlines()[-1]) == (
        0,
        "24 of 24 files came back byte for byte.",
    )
    assert "job.done" in found.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_version_and_the_help_are_answers(ask: Ask) -> None:
    assert ask("--version").out == f"{__version__}\n"
    assert ask("--help").code == 0
    assert ask("run", "--help").code == 0


def test_no_command_and_an_unknown_one_are_matters_of_usage(ask: Ask) -> None:
    assert ask().code == 2
    assert ask("convince").code == 2
