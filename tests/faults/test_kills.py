"""Killed over and over at instants that no one chose."""

from __future__ import annotations

import secrets
import shutil
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from daemon_process import once
from disturbed import end_state, filled, killed
from judged import Tally, judgement

SERIES = 24
KILLS = 30
"""In one round, from an empty output to one that is finished."""


@pytest.mark.parametrize(
    "rounds",
    [pytest.param(2, marks=pytest.mark.integration), pytest.param(34, marks=pytest.mark.long)],
)
def test_kills_of_the_daemon_or_a_child_lead_to_the_same_result(
    tmp_path: Path, tally: Tally, rounds: int
) -> None:
    assert disturb(filled(tmp_path / "inbox", SERIES), tmp_path, tally, rounds) == SERIES


@pytest.mark.long
def test_kills_while_real_series_are_archived_lead_to_the_same_result(
    tmp_path: Path, tally: Tally, corpus: Path
) -> None:
    assert disturb(corpus, tmp_path, tally, rounds=34)


def disturb(inbox: Path, tmp_path: Path, tally: Tally, rounds: int) -> int:
    """Archive an inbox over and over, killed at random instants, and judge what came of it.

    Returns how many series there are.
    """
    code, undisturbed = once(tmp_path / "undisturbed", inbox=inbox)
    assert code == 0
    expected = end_state(undisturbed.output)
    series = len(expected["receipts"])
    seed = secrets.randbits(32)
    moments = Random(seed)  # noqa: S311 - to be repeated with the seed
    for n in range(rounds):
        place = tmp_path / f"{n}"
        daemon, odd = killed(place, inbox, moments, times=KILLS, series=series)
        found = end_state(daemon.output)
        assert found == expected, f"seed {seed}, round {n}"
        assert [receipt["revision"] for receipt in found["receipts"]] == [1] * series
        whole = judgement(inbox, daemon.output)
        tally("kills", KILLS, replace(whole, half_visible=(*odd, *whole.half_visible)))
        shutil.rmtree(place)
    return series
