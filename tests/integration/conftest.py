"""What tests with programs from the system share."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator

import pytest


@pytest.fixture
def inside() -> Iterator[list[str]]:
    """Give the words that run a command in a fresh network namespace, with a loopback alone."""
    name = f"dicomzarr-{os.getpid()}"
    words = ["ip", "netns", "exec", name]
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        subprocess.run([*words, "ip", "link", "set", "lo", "up"], check=True)
        yield words
    finally:
        subprocess.run(["ip", "netns", "delete", name], check=True)
