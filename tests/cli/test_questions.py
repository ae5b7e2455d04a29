"""`list`, `explain` and `retry`: what became of a job or a file, and once more."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from command_line import Ask
from daemon_process import FAULTY, deadline, once, running
from drops import brought_back, dropped, made

# minutes in all, and the fast suite is to stay under two
pytestmark = pytest.mark.integration

UID = "1.2.826.0.1.3680043.8.498.77"


def given_up(place: Path) -> Path:
    """Return the state folder of a daemon that archived one drop and gave another up."""
    made(place / "inbox" / "good", 2, series_uid=UID)
    once(place)
    made(place / "inbox" / "bad", 3)
    (place / "inbox" / "good" / "notes.txt").write_text("no DICOM")
    (place / "crash").touch()
    once(place, command=FAULTY, FAULTS=place, max_attempts=1)
    (place / "crash").unlink()
    return place / "state"


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the state folder of such a daemon, to be asked only."""
    return given_up(tmp_path_factory.mktemp("asked"))


def test_jobs_are_listed_with_what_became_of_them(ask: Ask, state: Path) -> None:
    lines = ask("list", "--state", state).out.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("1 done: good, 2 files CT-1-")
    assert lines[1] == "2 rejected: bad, 3 files attempts-used-up"


@pytest.mark.parametrize(
    ("asked", "drops"),
    [
        ([], ["good", "bad"]),
        (["--only", "rejected"], ["bad"]),
        (["--only", "running"], []),
        (["--drop", "good"], ["good"]),
    ],
)
def test_some_jobs_are_picked(ask: Ask, state: Path, asked: list[str], drops: list[str]) -> None:
    found = ask("list", "--state", state, *asked, "--json").json
    assert [job["drop"] for job in found] == drops


@pytest.mark.parametrize(
    ("what", "facts"),
    [
        ("good/0000.dcm", {"outcome": "archived", "why": "it is archived and verified"}),
        ("/srv/inbox/good/0001.dcm", {"file": "good/0001.dcm", "series": UID}),
        ("good/notes.txt", {"outcome": "ignored", "why": "not-dicom"}),
        ("bad/0000.dcm", {"outcome": "rejected", "code": "attempts-used-up", "job": 2}),
        (UID, {"job": 1, "state": "done", "drop": "good"}),
        ("2", {"state": "rejected", "why": "it was given up; `retry` tries it again"}),
    ],
)
def test_a_file_a_series_or_a_job_is_explained(
    ask: Ask, state: Path, what: str, facts: dict[str, Any]
) -> None:
    (found,) = ask("explain", what, "--state", state, "--json").json
    assert facts.items() <= found.items()


def test_a_person_reads_lines(ask: Ask, state: Path) -> None:
    lines = ask("explain", "bad/0001.dcm", "--state", state).out.splitlines()
    assert [line for line in lines if "bad/0001.dcm" in line] == lines[:1] == ["bad/0001.dcm"]
    assert "  outcome: rejected" in lines
    assert "  why: it was given up; `retry` tries it again" in lines


@pytest.mark.parametrize("what", ["good", "good/0009.dcm", "1.2.3", "99", "/"])
def test_of_what_is_not_known_nothing_is_said(ask: Ask, state: Path, what: str) -> None:
    answer = ask("explain", what, "--state", state)
    assert (answer.code, answer.out) == (1, "")
    assert "nothing is known" in answer.err


def test_a_series_that_arrives_says_what_it_waits_for(ask: Ask, tmp_path: Path) -> None:
    with running(tmp_path, settle_s=3600) as daemon:
        dropped(daemon, "slow", series_uid=UID)
        daemon.wait("series.arriving")
        for what in (UID, "slow/0000.dcm"):
            with deadline():  # the ledger is written right after the log
                while not (answer := ask("explain", what, "--state", daemon.state, "--json").json):
                    pass
            (found,) = answer
            assert found["why"] == "it settles: no file of it may change for settle_s"


def test_a_rejected_job_is_tried_again_at_the_next_start(ask: Ask, tmp_path: Path) -> None:
    state = given_up(tmp_path)
    assert ask("retry", "2", "--state", state).out == "1 jobs to be tried again\n"
    code, daemon = once(tmp_path)
    assert code == 0
    (done,) = daemon.all("job.done")
    assert (done["job"], done["attempt"]) == (2, 1)
    assert len(brought_back(tmp_path / "output" / "bad")) == 3


def test_a_running_daemon_tries_again_when_it_is_asked_to(ask: Ask, tmp_path: Path) -> None:
    state = given_up(tmp_path)
    with running(tmp_path) as daemon:
        assert ask("retry", "--all", "--state", state).code == 0
        assert daemon.wait("job.done")["job"] == 2
        assert list((state / "requests").iterdir()) == []
        assert daemon.stop() == 0


@pytest.mark.parametrize(("asked", "err"), [(["1"], "job 1 is not rejected\n"), ([], "")])
def test_what_was_not_given_up_is_not_tried_again(
    ask: Ask, state: Path, asked: list[str], err: str
) -> None:
    answer = ask("retry", *asked, "--state", state)
    assert (answer.code, answer.err) == (1, err)
    assert answer.out == "0 jobs to be tried again\n"


def test_where_nothing_was_given_up_there_is_nothing_wrong(ask: Ask, tmp_path: Path) -> None:
    once(tmp_path)
    answer = ask("retry", "--all", "--state", tmp_path / "state")
    assert (answer.code, answer.out) == (0, "0 jobs to be tried again\n")
