"""The README is held to the code: what it lists is what there is."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from dicomzarr_watch.operate.logs import Event

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text("utf-8")
SOURCES = {path: path.read_text("utf-8") for path in (ROOT / "dicomzarr_watch").rglob("*.py")}


def test_the_readme_lists_every_event_with_its_meaning_and_no_other() -> None:
    listed = dict(re.findall(r"^\| `([a-z]+\.[a-z]+)` \| (.+) \|$", README, re.MULTILINE))
    assert listed == {event.value: event.meaning for event in Event}


def test_the_readme_lists_every_code_and_no_other() -> None:
    """A code is a literal of words joined by hyphens; there are few others of that form."""
    no_codes = {"utf-8", "latin-1", "dicomzarr-watch", "head-ct"}
    literals = {
        node.value
        for text in SOURCES.values()
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    codes = {text for text in literals if re.fullmatch("[a-z]+(-[a-z0-9]+)+", text)} - no_codes
    start, end = README.index("| where | codes |"), README.index("**Originals.**")
    listed = set(re.findall("`([a-z]+(?:-[a-z0-9]+)+)`", README[start:end]))
    assert listed == codes


@pytest.mark.parametrize("event", list(Event), ids=lambda event: event.value)
def test_every_event_is_logged_somewhere(event: Event) -> None:
    name = f"Event.{event.name}"
    assert any(name in text for path, text in SOURCES.items() if path.parent.name != "dicom")


def test_the_readme_lists_every_command_and_no_other() -> None:
    listed = set(re.findall(r"^\| `([a-z]+)[ `]", README, re.MULTILINE))
    told = subprocess.run(
        [sys.executable, "-m", "dicomzarr_watch", "--help"],
        capture_output=True,
        text=True,
        check=True,
        env={"COLUMNS": "200", "TERM": "dumb"},
    ).stdout
    known = set(re.findall(r"^│ ([a-z]+) ", told, re.MULTILINE))
    rooms = {"cli", "console", "daemon", "config", "errors"}
    assert known == listed - rooms


def test_the_map_names_every_module() -> None:
    rooms = re.findall(r"^\| `[a-z_]+[/`].*\|$", README, re.MULTILINE)
    for path in SOURCES:
        if not path.stem.startswith("__"):
            assert any(f"`{path.stem}`" in room for room in rooms), path.stem


def test_the_recipe_for_systemd_makes_all_that_the_unit_needs() -> None:
    unit = (ROOT / "systemd" / "dicomzarr-watch.service").read_text("utf-8")
    told = dict(re.findall(r"^([A-Za-z]+)=(\S+)", unit, re.MULTILINE))
    settings = tomllib.loads((ROOT / "config" / "dicomzarr-watch.toml").read_text("utf-8"))
    lines = re.findall(r"^    (.+)$", README, re.MULTILINE)
    (linked,) = (line for line in lines if line.startswith("ln -s "))
    command, place = linked.split()[2:]
    assert told["ExecStart"] == place + command.rpartition("/")[2]
    venv = command.removesuffix("/bin/dicomzarr-watch")
    assert f"python3 -m venv {venv} && {venv}/bin/pip install --quiet ." in lines
    (user,) = (line.split()[-1] for line in lines if line.startswith("useradd "))
    assert (told["User"], told["Group"]) == (user, user)
    (made,) = (line.split() for line in lines if line.startswith("install -d "))
    assert made[2:6] == ["-o", user, "-g", user]
    assert {told["ReadWritePaths"], settings["inbox"], settings["output"]} <= {*made[6:]}
    assert settings["state"] == f"/var/lib/{told['StateDirectory']}"


def test_ci_runs_the_readmes_own_test_command() -> None:
    (command,) = re.findall(r"^    (python3 -m venv .*pytest)$", README, re.MULTILINE)
    assert command.endswith("'.[test]' && .venv/bin/pytest")
    assert 'grep -E "^    python3 -m venv .*pytest$" README.md' in (ROOT / ".ci/run").read_text()
