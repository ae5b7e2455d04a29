"""Killed over and over at instants that no one chose; and the unit that starts it again."""

from __future__ import annotations

import re
import secrets
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest
from daemon_process import once
from disturbed import end_state, filled, killed

pytestmark = pytest.mark.integration

SERIES = 40
UNIT = Path(__file__).parents[2] / "systemd" / "dicomzarr-watch.service"


def test_ten_kills_at_random_instants_lead_to_the_same_result(tmp_path: Path) -> None:
    inbox = filled(tmp_path / "inbox", SERIES)
    _, undisturbed = once(tmp_path / "undisturbed", inbox=inbox)
    seed = secrets.randbits(32)
    moments = Random(seed)  # noqa: S311 - to be repeated with the seed
    daemon = killed(tmp_path / "disturbed", inbox, moments, times=10, series=SERIES)
    found = end_state(daemon.output)
    assert found == end_state(undisturbed.output), f"seed {seed}"
    assert [receipt["revision"] for receipt in found["receipts"]] == [1] * SERIES


def test_systemd_understands_every_line_of_the_unit(tmp_path: Path) -> None:
    command = Path(sys.executable).with_name("dicomzarr-watch")
    text, count = re.subn(r"(?m)^(ExecStart=)\S+", rf"\1{command}", UNIT.read_text())
    assert count == 1
    unit = tmp_path / UNIT.name
    unit.write_text(text)
    found = subprocess.run(
        ["systemd-analyze", "verify", unit], capture_output=True, text=True, check=False
    )
    assert (found.returncode, found.stderr) == (0, "")
