"""What the tests of this folder count, for the table in the README."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from judged import Judgement, Tally

COLUMNS = ("lost", "doubled", "half_visible", "left")


@pytest.fixture
def tally(request: pytest.FixtureRequest) -> Tally:
    """Give the function that writes down what a test counted, and fails it if a promise broke."""
    counts: Path | None = request.config.getoption("--counts")

    def count(row: str, times: int, found: Judgement) -> None:
        odd = {column: len(getattr(found, column)) for column in COLUMNS}
        if counts is not None:
            line = {"row": row, "times": times, "files": found.files} | odd
            with counts.open("a") as stream:
                stream.write(json.dumps(line) + "\n")
        assert found.is_clean, found
        assert times > 0

    return count
