"""The README's recipe, carried out on a machine that systemd boots."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from drops import made
from mounts import mounted, unmount

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]
NOT_COPIED = shutil.ignore_patterns(".git", ".venv", ".*_cache", "build", "__pycache__")
SERVICE = """\
[Unit]
After=multi-user.target
[Service]
{environment}
StandardOutput=append:/root/told
StandardError=append:/root/told
ExecStart=/bin/bash -eux /root/walk
ExecStopPost=/bin/systemctl poweroff
"""
WALK = """\
cd /root/checkout
{recipe}
cp -r /root/drop /srv/dicomzarr/inbox/
within() {{ timeout 60 bash -c "until $1; do sleep 0.1; done"; }}
within 'test -e /srv/dicomzarr/archive/drop/drop.json'
{asked}
dicomzarr-watch verify /srv/dicomzarr/archive
kill -KILL $(systemctl show --value -p MainPID dicomzarr-watch)
within 'systemctl show -p NRestarts dicomzarr-watch | grep =1'
within 'systemctl status dicomzarr-watch | grep "1 done"'
systemctl stop dicomzarr-watch
systemctl show --value -p Result dicomzarr-watch | grep -x success
touch /root/walked
"""


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Path]:
    """Give the root of a machine that is this one, but for what is written to it."""
    with mounted(tmp_path / "disk", "size=3g") as disk:
        for name in ("written", "work", "root"):
            (disk / name).mkdir()
        layers = f"lowerdir=/,upperdir={disk / 'written'},workdir={disk / 'work'}"
        root = disk / "root"
        subprocess.run(["mount", "-t", "overlay", "-o", layers, "overlay", root], check=True)
        try:
            yield root
        finally:
            unmount(root)


def boot(root: Path) -> None:
    """Boot the machine and wait until it is off; there need be no systemd outside of it."""
    command = ["systemd-nspawn", "--boot", f"--directory={root}", "--register=no", "--keep-unit"]
    subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=True, timeout=300)


def commands(text: str) -> str:
    return "\n".join(re.findall(r"^    (.+)$", text, re.MULTILINE))


def test_the_recipe_makes_a_service_that_archives_and_comes_back(machine: Path) -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    recipe, asked = re.split(r"\n\nWho drops files", readme[readme.index("**systemd.**") :])
    shutil.copytree(ROOT, machine / "root" / "checkout", ignore=NOT_COPIED)
    made(machine / "root" / "drop")
    asked = asked[: asked.index("**Copying")]
    walk = WALK.format(recipe=commands(recipe), asked=commands(asked))
    (machine / "root" / "walk").write_text(walk)
    # how this machine's pip finds packages
    found = {k: v for k, v in os.environ.items() if k.startswith("PIP_") or k.endswith("_proxy")}
    environment = "\n".join(f'Environment="{name}={value}"' for name, value in found.items())
    units = machine / "etc" / "systemd" / "system"
    (units / "walk.service").write_text(SERVICE.format(environment=environment))
    wanted = units / "multi-user.target.wants"
    wanted.mkdir(exist_ok=True)
    (wanted / "walk.service").symlink_to("../walk.service")
    boot(machine)
    assert (machine / "root" / "walked").exists(), (machine / "root" / "told").read_text()
