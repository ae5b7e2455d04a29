from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--corpus",
        type=Path,
        default=ROOT.parent / "shared" / "data",
        help="folder with real DICOM, a folder a study; tests that need it skip without",
    )
