"""When jobs wait for the output, and how long."""

from __future__ import annotations

from pathlib import Path

import pytest
import structlog

from dicomzarr_watch.config import Identifiers, load
from dicomzarr_watch.daemon.pause import Pause
from dicomzarr_watch.errors import NO_SPACE
from dicomzarr_watch.operate.logs import Log
from dicomzarr_watch.outcome import Ended, Outcome

NOW = 1_700_000_000.0
FULL = Outcome(Ended.RETRY, NO_SPACE)


@pytest.fixture
def pause(tmp_path: Path) -> Pause:
    folders = {"inbox": tmp_path / "inbox", "output": tmp_path / "output"}
    settings = load(environment={}, flags=folders | {"retry_max_s": 300})
    log = Log(structlog.wrap_logger(structlog.ReturnLogger()), b"key", Identifiers.HASHED)
    return Pause(settings, log)


def test_pauses_double_up_to_the_longest(pause: Pause) -> None:
    for tries in range(12):
        pause.begin(FULL, NOW)
        longest = min(300.0, 2.0**tries)
        assert longest / 2 <= pause.due_in_s(NOW) <= longest
        assert pause.due_in_s(NOW + longest) == 0


def test_a_clock_that_is_set_back_makes_no_pause_longer(pause: Pause) -> None:
    pause.begin(FULL, NOW)
    assert pause.due_in_s(NOW - 3600) == 0
    pause.begin(FULL, NOW - 3600)
    assert 0 < pause.due_in_s(NOW - 3600) <= 2
