"""Killed over and over at instants that no one chose."""

from __future__ import annotations

import secrets
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
    inbox = filled(tmp_path / "inbox", SERIES)
    _, undisturbed = once(tmp_path / "undisturbed", inbox=inbox)
    expected = end_state(undisturbed.output)
    seed = secrets.randbits(32)
    moments = Random(seed)  # noqa: S311 - to be repeated with the seed
    for n in range(rounds):
        place = tmp_path / f"{n}"
        daemon, odd = killed(place, inbox, moments, times=KILLS, series=SERIES)
        found = end_state(daemon.output)
        assert found == expected, f"seed {seed}, round {n}"
        assert [receipt["revision"] for receipt in found["receipts"]] == [1] * SERIES
        whole = judgement(inbox, daemon.output)
        tally("kills", KILLS, replace(whole, half_visible=(*odd, *whole.half_visible)))
