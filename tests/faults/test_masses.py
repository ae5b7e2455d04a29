"""More files than events can tell of: every one is accounted for."""

from __future__ import annotations

import signal
from collections import Counter
from pathlib import Path
from typing import Final

import pytest
from daemon_process import Daemon, running
from drops import made
from judged import Tally, judgement

DROPS: Final = 10
FOLDERS: Final = 10
SLICES: Final = 3
PATIENCE_S: Final = 1200.0
SETTINGS: Final = {"settle_s": 1.0, "identifiers": "plain"}


def amounts(in_ci: int, at_length: int) -> list[object]:
    return [
        pytest.param(in_ci, marks=pytest.mark.integration),
        pytest.param(at_length, marks=pytest.mark.long),
    ]


@pytest.mark.parametrize("files", amounts(20_000, 50_000))
def test_files_that_come_while_the_daemon_is_stopped_are_found(
    tmp_path: Path, tally: Tally, files: int
) -> None:
    """The kernel keeps 16,384 events for it, and drops the rest."""
    with running(tmp_path, **SETTINGS) as daemon:
        daemon.signal(signal.SIGSTOP)
        written(daemon.inbox, files)
        daemon.signal(signal.SIGCONT)
        all_accounted_for(daemon, files)
        assert daemon.stop() == 0
    tally("masses", files, judgement(daemon.inbox, daemon.output))


@pytest.mark.parametrize("files", amounts(20_000, 200_000))
def test_files_that_come_all_at_once_are_found(tmp_path: Path, tally: Tally, files: int) -> None:
    with running(tmp_path, **SETTINGS) as daemon:
        written(daemon.inbox, files)
        all_accounted_for(daemon, files)
        assert daemon.stop() == 0
    tally("masses", files, judgement(daemon.inbox, daemon.output))


def written(inbox: Path, files: int) -> None:
    """Write so many files: in every folder a small series, and else what is no DICOM."""
    for number in range(DROPS * FOLDERS):
        folder = inbox / f"{number % DROPS}" / f"{number}"
        made(folder, SLICES, series_uid=f"1.2.{number}", SeriesNumber=number)
        for other in range(SLICES, files // (DROPS * FOLDERS)):
            (folder / f"{other}.txt").write_bytes(b"no image")


def all_accounted_for(daemon: Daemon, files: int) -> None:
    """Wait until the accounts of all drops have all of their files, and none waits."""
    wanted = dict.fromkeys(map(str, range(DROPS)), files // DROPS)

    def is_so() -> bool:
        found = Counter[str]()
        for told in daemon.all("drop.finished"):
            found[told["drop"]] = told.get("archived", 0) + told.get("ignored", 0)
        return found == wanted

    daemon.until(is_so, "an account of every file", PATIENCE_S)
