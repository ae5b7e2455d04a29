from __future__ import annotations

import pytest
from archive_cases import CASES, Archived, Case, made


@pytest.fixture(scope="session", params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    name: str = request.param
    return CASES[name]


@pytest.fixture(scope="session")
def series(case: Case, tmp_path_factory: pytest.TempPathFactory) -> Archived:
    """One series of the table, converted; to be looked at only."""
    return made(tmp_path_factory.mktemp("series"), case.write)
