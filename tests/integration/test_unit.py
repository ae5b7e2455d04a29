"""The unit that starts the daemon, and starts it again."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.integration

UNIT = Path(__file__).parents[2] / "systemd" / "dicomzarr-watch.service"


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
