"""A scanner's way in: storescp writes into the inbox, under final names, while the daemon watches.

storescp listens on all addresses, so both ends live in a network namespace of their own.
"""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from daemon_process import PATIENCE_S, running
from drops import brought_back, contents, made, receipts

pytestmark = pytest.mark.integration

PORT = "11112"
# without it each message waits for the acknowledgement of the one before
ENVIRONMENT = os.environ | {"TCP_NODELAY": "1"}


@pytest.mark.parametrize("series", [1, 2])
def test_what_storescp_writes_is_archived_series_by_series(
    tmp_path: Path, inside: list[str], series: int
) -> None:
    pixels = np.arange(128 * 96, dtype=np.uint16).reshape(128, 96)
    for n in range(series):
        made(tmp_path / "scanner" / f"{n}", 60, pixels=pixels, series_uid=f"1.2.{n}")
    with running(tmp_path, settle_s=2.0) as daemon:
        folder = daemon.inbox / "scanner"
        folder.mkdir()
        receiver = subprocess.Popen([*inside, "storescp", "-od", folder, PORT], env=ENVIRONMENT)
        try:
            _wait_until_it_listens(inside)
            sender = [
                *inside,
                "storescu",
                "+sd",
                "+r",
                "127.0.0.1",
                PORT,
                str(tmp_path / "scanner"),
            ]
            subprocess.run(sender, env=ENVIRONMENT, check=True, timeout=PATIENCE_S)
        finally:
            receiver.terminate()
            receiver.wait(PATIENCE_S)
        daemon.wait("job.done", count=series)
        daemon.wait("drop.finished")
        assert daemon.stop() == 0
    written = contents(folder)
    assert len(written) == 60 * series
    assert len(daemon.all("job.done")) == series
    found = receipts(daemon.output / "scanner")
    assert [(r["revision"], r["counts"]["files"]) for r in found] == [(1, 60)] * series
    assert brought_back(daemon.output / "scanner") == written


def _wait_until_it_listens(inside: list[str]) -> None:
    until_s = time.monotonic() + PATIENCE_S
    echo = [*inside, "echoscu", "127.0.0.1", PORT]
    while subprocess.run(echo, env=ENVIRONMENT, capture_output=True, check=False).returncode:
        assert time.monotonic() < until_s, "storescp does not answer"
