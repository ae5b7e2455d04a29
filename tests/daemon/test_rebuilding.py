"""A ledger that is lost or damaged is made anew; nothing is lost, and nothing converted twice."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest
from bundle_files import bundled
from daemon_process import COMMAND, Daemon, clean_environment, once
from drops import brought_back, late_slice, made, receipts, results

from dicomzarr_watch.intake.bundle import Form

# minutes in all, and the fast suite is to stay under two
pytestmark = pytest.mark.integration

ASKED = ("a/0000.dcm", "a/late.dcm", "b/notes.txt", "c/0000.dcm", "1.2.3", "1", "went/0000.dcm")


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A place where a daemon has done of everything something."""
    place = tmp_path_factory.mktemp("before")
    inbox = place / "inbox"
    made(inbox / "a", 3)
    made(inbox / "b", 2, series_uid="1.2.3")
    (inbox / "b" / "notes.txt").write_text("no image")
    made(inbox / "c", 2, series_uid="1.2.4")
    (place / "output" / "c" / "CT-1-cd5db5f5").mkdir(parents=True)
    (inbox / "bundle.zip").write_bytes(bundled(Form.ZIP, made(place / "made", 2)))
    once(place)
    for path in (inbox / "a").iterdir():
        path.unlink()
    late_slice(inbox / "a")
    once(place)
    return place


def asked(place: Path, *command: str) -> Any:
    told = subprocess.run(
        [*COMMAND, *command, "--state", str(place / "state"), "--json"],
        env=clean_environment(),
        capture_output=True,
        check=False,
        text=True,
    ).stdout
    return json.loads(told)


def answers(place: Path) -> dict[str, Any]:
    found = {f"explain {what}": asked(place, "explain", what) for what in ASKED}
    return found | {"list": asked(place, "list"), "status": asked(place, "status")}


def deleted(state: Path) -> None:
    for path in state.glob("ledger.sqlite*"):
        path.unlink()


def damaged(state: Path) -> None:
    path = state / "ledger.sqlite"
    content = bytearray(path.read_bytes())
    content[4096:] = Random(3).randbytes(len(content) - 4096)  # noqa: S311 - always the same
    path.write_bytes(content)


@pytest.mark.parametrize("happen", [deleted, damaged, shutil.rmtree])
def test_a_new_ledger_gives_the_same_answers_and_has_nothing_done_again(
    tmp_path: Path, before: Path, happen: Callable[[Path], None]
) -> None:
    place = moved(before, tmp_path / "place")
    expected, output = answers(place), results(place / "output")
    happen(place / "state")
    _, daemon = once(place, inbox=before / "inbox")
    is_all_lost = happen is shutil.rmtree  # then nobody knows what came out of bundles
    assert bool(daemon.all("job.started")) is is_all_lost
    assert {job["code"] for job in daemon.all("job.done")} <= {"unpacked"}
    assert len(daemon.all("ledger.damaged", level="warning")) == (happen is damaged)
    assert daemon.wait("ledger.rebuilt")["jobs"] == len(expected["list"])
    assert answers(place) == expected
    assert results(place / "output") == output
    assert len(list((place / "state").glob("ledger.sqlite.*"))) == (happen is damaged)


def moved(before: Path, place: Path) -> Path:
    """Copy a daemon's output and state; its inbox stays, as files keep their states there."""
    for name in ("output", "state"):
        shutil.copytree(before / name, place / name)
    return place


def without_accounts(output: Path) -> None:
    for path in output.glob("*/drop.json"):
        path.unlink()


def of_an_earlier_version(output: Path) -> None:
    for path in output.glob("*/drop.json"):
        said = json.loads(path.read_bytes())
        del said["jobs"]
        path.write_text(json.dumps(said))


@pytest.mark.parametrize("happen", [without_accounts, of_an_earlier_version])
def test_results_alone_keep_everything_from_being_converted_again(
    tmp_path: Path, before: Path, happen: Callable[[Path], None]
) -> None:
    place = moved(before, tmp_path / "place")
    shutil.rmtree(place / "state")
    happen(place / "output")
    back = brought_back(place / "output" / "a")
    _, daemon = once(place, inbox=before / "inbox", retry_max_s=0.1)
    assert {job["code"] for job in daemon.all("job.done")} <= {"unchanged", "unpacked"}
    assert brought_back(daemon.output / "a") == back
    assert [r["revision"] for r in receipts(daemon.output / "a")] == [2]
    (told,) = asked(place, "explain", "a/0000.dcm")
    assert (told["outcome"], told["present"], told["revision"]) == ("archived", False, 2)


def test_a_late_slice_makes_a_revision_as_before(tmp_path: Path) -> None:
    files = made(tmp_path / "inbox" / "a", 3)
    _, daemon = once(tmp_path)
    deleted(daemon.state)
    late = late_slice(tmp_path / "inbox" / "a")
    _, daemon = once(tmp_path)
    assert [(j["code"], j["revision"]) for j in daemon.all("job.done")] == [("done", 2)]
    assert brought_back(daemon.output / "a") == files | {"late.dcm": late}


def test_what_was_taken_from_the_output_is_not_thought_to_be_archived(tmp_path: Path) -> None:
    files = made(tmp_path / "inbox" / "a", 3)
    _, daemon = once(tmp_path)
    deleted(daemon.state)
    shutil.rmtree(next((daemon.output / "a").glob("CT-*")))
    _, daemon = once(tmp_path)
    assert brought_back(daemon.output / "a") == files


def test_a_first_start_says_nothing_of_a_ledger(tmp_path: Path) -> None:
    made(tmp_path / "inbox" / "a", 1)
    _, daemon = once(tmp_path)
    assert told_of_ledger(daemon) == []


def told_of_ledger(daemon: Daemon) -> list[str]:
    return [e["event"] for e in daemon.events if e["event"].startswith("ledger.")]
