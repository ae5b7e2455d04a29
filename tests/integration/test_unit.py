"""The unit that starts the daemon, and starts it again."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from daemon_process import HAMPERED, once
from disturbed import encoded
from drops import brought_back, contents, made

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]
UNIT = ROOT / "systemd" / "dicomzarr-watch.service"
PROC = "mount -t proc -o subset=pid,hidepid=invisible proc /proc"
CONFINED = ("unshare", "--mount", "--net", "sh", "-c", f'{PROC} && exec "$@"', "sh", *HAMPERED)


def analyzed(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = ["systemd-analyze", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_systemd_understands_every_line_of_the_unit(tmp_path: Path) -> None:
    command = Path(sys.executable).with_name("dicomzarr-watch")
    text, count = re.subn(r"(?m)^(ExecStart=)\S+", rf"\1{command}", UNIT.read_text())
    assert count == 1
    unit = tmp_path / UNIT.name
    unit.write_text(text)
    found = analyzed("verify", unit)
    assert (found.returncode, found.stderr) == (0, "")


def test_the_readme_says_how_much_of_the_system_the_service_is_exposed_to() -> None:
    told = analyzed("security", "--offline=true", UNIT).stdout
    level = re.search(r"Overall exposure level .*: ([0-9.]+)", told)
    assert level
    assert f"an exposure of {level[1]}" in (ROOT / "README.md").read_text("utf-8")


def test_the_daemon_works_as_the_unit_confines_it(tmp_path: Path) -> None:
    """What can be had of it without systemd; a network and other processes are not there."""
    native, rle = made(tmp_path / "inbox" / "native"), tmp_path / "inbox" / "encoded"
    encoded(rle, 3)
    settings = {"command": CONFINED, "HAMPER": "execution", "verify": "independent"}
    code, daemon = once(tmp_path, **settings)
    assert code == 0
    assert brought_back(daemon.output / "native") == native
    assert brought_back(daemon.output / "encoded") == contents(rle)
