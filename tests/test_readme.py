"""The README is held to the code: what it lists is what there is."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from dicomzarr_watch.operate.logs import Event

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text("utf-8")
SOURCES = {path: path.read_text("utf-8") for path in (ROOT / "dicomzarr_watch").rglob("*.py")}


def test_the_readme_lists_every_event_with_its_meaning_and_no_other() -> None:
    listed = dict(re.findall(r"^\| `([a-z]+\.[a-z]+)` \| (.+) \|$", README, re.MULTILINE))
    assert listed == {event.value: event.meaning for event in Event}


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


def test_ci_runs_the_readmes_own_test_command() -> None:
    (command,) = re.findall(r"^    (python3 -m venv .*pytest)$", README, re.MULTILINE)
    assert command.endswith("'.[test]' && .venv/bin/pytest")
    assert 'grep -E "^    python3 -m venv .*pytest$" README.md' in (ROOT / ".ci/run").read_text()
