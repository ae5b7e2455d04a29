from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).parents[1]

# how busy a machine is says nothing of the code
settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("any machine")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--corpus",
        type=Path,
        default=ROOT.parent / "shared" / "data",
        help="folder with real DICOM, a folder a study; tests that need it skip without",
    )
    parser.addoption(
        "--counts",
        type=Path,
        help="file that tests/faults append what they counted to, for tests/faults/test_table.py",
    )
    parser.addoption(
        "--kernel",
        type=Path,
        default=Path("/"),
        help="folder that Debian's linux-image-amd64 was unpacked to, where it is not installed",
    )
    parser.addoption(
        "--soak-s",
        type=float,
        default=7200.0,
        help="how long the soak lasts",
    )


@pytest.fixture(scope="session")
def corpus(request: pytest.FixtureRequest) -> Path:
    """Give the folder of real DICOM."""
    found: Path = request.config.getoption("--corpus")
    if not found.is_dir():
        pytest.skip("needs real DICOM: --corpus DIR")
    return found
