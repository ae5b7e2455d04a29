"""Killed while originals leave the inbox: each is there as it was, or the archive gives it back.

That holds at any instant, and in the end all of them are where they belong.
"""

from __future__ import annotations

import secrets
import shutil
import signal
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from itertools import count
from pathlib import Path
from random import Random
from typing import Any, Final

import pytest
from daemon_process import COMMAND, FAULTY, begun, once
from disturbed import encoded, filled, killed
from drops import brought_back, contents, document, made
from judged import Judgement, Tally, half_visible, is_dicom, judgement
from supervised import Call, at, supervised
from supervised import killed as killed_at

SERIES: Final = 24
KILLS: Final = 30
EARLY: Final = (
    *("daemon.started", "watch.started", "series.arriving", "job.queued", "job.started"),
    *("transcode", "headers", "plan", "write", "verify", "metadata", "publish"),
)
LATE: Final = (
    *("job.done", "drop.finished", "originals.cleared", "folders.removed", "daemon.stopped"),
)
IN_CI: Final = 40
"""Of so many calls one is tried, another one in every run."""
WAYS: Final = ("delete", "move")


class Originals:
    """What a producer has put into inboxes, and how it is to leave them."""

    def __init__(self, inbox: Path, how: str) -> None:
        self.inbox = inbox
        self.how = how
        self.files = contents(inbox)
        self.dicom = {path: data for path, data in self.files.items() if is_dicom(path, data)}

    def put(self, place: Path) -> dict[str, Any]:
        """Make a place whose inbox has them; return the settings that clear it."""
        shutil.copytree(self.inbox, place / "inbox")
        moved = {"move_to": place / "moved"} if self.how == "move" else {}
        return {"settle_s": 0.1, "retry_max_s": 0.1, "after_success": self.how, **moved}

    def missing(self, place: Path) -> list[str]:
        """Name those that are neither in the inbox nor come back; right at any instant."""
        here = {path: _content(place / "inbox" / path) for path in self.files}
        gone = [path for path, data in self.files.items() if here[path] != data]
        drops = {path: path.partition("/") for path in gone}
        back = {drop: brought_back(place / "output" / drop) for drop, _, _ in drops.values()}
        return [
            path
            for path, (drop, _, name) in drops.items()
            if back[drop].get(name) != self.files[path]
        ]

    def judged(self, place: Path, missing: Iterable[str], odd: Iterable[str]) -> Judgement:
        """Judge a place where all is over; missing, odd: what was found wrong before."""
        stay = self.files.keys() - self.dicom.keys()
        assert contents(place / "inbox") == {path: self.files[path] for path in stay}
        assert contents(place / "moved") == (self.dicom if self.how == "move" else {})
        rows = [r for a in place.glob("output/*/drop.json") for r in document(a)["files"]]
        done = {"delete": "deleted", "move": "moved"}[self.how]
        assert {r["path"] for r in rows if r.get("original") == done} == self.dicom.keys()
        found = judgement(self.inbox, place / "output")
        lost, half = (*missing, *found.lost), (*odd, *found.half_visible)
        return replace(found, lost=lost, half_visible=half)


def _content(path: Path) -> bytes | None:
    with suppress(FileNotFoundError):
        return path.read_bytes()
    return None


@pytest.mark.parametrize(
    "rounds",
    [pytest.param(1, marks=pytest.mark.integration), pytest.param(6, marks=pytest.mark.long)],
)
@pytest.mark.parametrize("how", WAYS)
def test_kills_at_random_moments_lose_no_original(
    tmp_path: Path, tally: Tally, rounds: int, how: str
) -> None:
    originals = Originals(filled(tmp_path / "inbox", SERIES), how)
    moments = Random(seed := secrets.randbits(32))  # noqa: S311 - to be repeated with the seed
    for n in range(rounds):
        place = tmp_path / f"{n}"
        settings = originals.put(place)
        missing: list[str] = []
        _, odd = killed(
            place,
            place / "inbox",
            moments,
            times=KILLS,
            series=SERIES,
            look=lambda: missing.extend(originals.missing(place)),  # noqa: B023 - called here
            **settings,
        )
        assert not missing, f"seed {seed}, round {n}"
        tally("originals", KILLS, originals.judged(place, missing, odd))


@pytest.fixture(scope="module", params=WAYS)
def few(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Originals:
    """Two series, one of them encoded, and a file that is no DICOM."""
    inbox = tmp_path_factory.mktemp("few") / "inbox"
    made(inbox / "a" / "1", 3)
    encoded(inbox / "a" / "2", 2, series_uid="1.2.2", SeriesNumber=2)
    (inbox / "a" / "notes.txt").write_text("not an image")
    return Originals(inbox, request.param)


@pytest.mark.parametrize(
    "step",
    [
        *(pytest.param(step, marks=pytest.mark.integration) for step in LATE),
        *(pytest.param(step, marks=pytest.mark.long) for step in EARLY),
    ],
)
def test_a_kill_at_a_named_step_loses_no_original(
    tmp_path: Path, tally: Tally, few: Originals, step: str
) -> None:
    (tmp_path / "step").write_text(step)
    place = tmp_path / "place"
    settings = few.put(place) | {"workers": 1}
    with begun(place, "--once", **settings, command=FAULTY, FAULTS=tmp_path) as daemon:
        code = daemon.end()
    assert not (tmp_path / "step").exists()
    tally("originals", 1, finished(few, place, settings, code))


def finished(originals: Originals, place: Path, settings: dict[str, Any], code: int) -> Judgement:
    """Look at what a daemon has left that ended so, go on if it was killed, and judge."""
    missing, odd = originals.missing(place), half_visible(place / "output")
    if code:
        assert code == -signal.SIGKILL
        code, _ = once(place, **settings)
    assert code == 0
    return originals.judged(place, missing, odd)


@pytest.mark.parametrize(
    "every",
    [pytest.param(IN_CI, marks=pytest.mark.integration), pytest.param(1, marks=pytest.mark.long)],
)
@pytest.mark.parametrize("is_child", [False, True], ids=["daemon", "child"])
def test_a_kill_before_a_call_loses_no_original(
    tmp_path: Path, tally: Tally, few: Originals, is_child: bool, every: int
) -> None:
    """From the first account on, as nothing goes before that; test_steps has what comes before."""
    for number in count(secrets.randbelow(every), every):
        place = tmp_path / f"{number}"
        settings = few.put(place) | {"workers": 1}
        asked: list[Call] = []
        with supervised(place) as supervisor:
            which, meant = range(number, number + 1), after_account(is_child)
            supervisor.set(at(which, killed_at, of=meant, asked=asked))
            command = supervisor.command(*COMMAND)
            with begun(place, "--once", **settings, command=command) as daemon:
                code = daemon.end()
        found = finished(few, place, settings, code)
        if not asked:
            break  # there are no more
        tally("originals", 1, found)
        shutil.rmtree(place)


def after_account(is_child: bool) -> Callable[[Call], bool]:
    """Tell of calls whether they are the daemon's, or its children's, and come after drop.json."""
    is_accounted = False

    def is_meant(call: Call) -> bool:
        nonlocal is_accounted
        is_accounted |= "drop.json" in call.path
        return is_accounted and call.is_child is is_child

    return is_meant
