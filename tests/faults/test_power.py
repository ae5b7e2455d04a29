"""The power is cut: what the disk had not been told to keep is gone, or only some of it is there.

State and output are on a disk whose cache is lost; the inbox is elsewhere.
"""

from __future__ import annotations

import secrets
import subprocess
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any, Final

import pytest
from daemon_process import COMMAND, Fields, once, running
from disturbed import end_state, filled
from drops import late_slice
from judged import Tally, half_visible, judgement
from volatile_disk import formatted, steady, volatile

from dicomzarr_watch.archive.disk import write_durably

pytestmark = pytest.mark.vm

SERIES: Final = 24
CUTS: Final = 10
DISK_BYTES: Final = 128 << 20
SETTINGS: Final[dict[str, Any]] = {"settle_s": 0.2, "identifiers": "plain", "max_attempts": CUTS}


@pytest.mark.parametrize("is_revision", [False, True], ids=["new", "revised"])
def test_what_is_visible_after_a_power_cut_verifies(
    tmp_path: Path, tally: Tally, is_revision: bool
) -> None:
    inbox = filled(tmp_path / "inbox", SERIES)
    image = formatted(tmp_path / "0.img", DISK_BYTES)
    place, undisturbed = tmp_path / "place", tmp_path / "undisturbed"
    if is_revision:
        with steady(image, place):
            once(place, inbox=inbox, **SETTINGS)
        once(undisturbed, inbox=inbox, **SETTINGS)
        for n in range(SERIES):
            late_slice(inbox / f"{n // 2}" / f"{n}", series_uid=f"1.2.{n}", SeriesNumber=n)
    _, daemon = once(undisturbed, inbox=inbox, **SETTINGS)
    expected = end_state(daemon.output)
    seed = secrets.randbits(32)
    chance = Random(seed)  # noqa: S311 - to be repeated with the seed
    odd: list[str] = []
    done: list[Fields] = []
    for n in range(CUTS):
        left = tmp_path / f"{n + 1}.img"
        with volatile(image, place) as cut:
            odd += looked_at(place / "output", done)
            with running(place, inbox=inbox, **SETTINGS) as daemon:
                daemon.wait("job.started", count=1 + chance.randrange(3))
                time.sleep(chance.random() * 0.2)  # nothing is waited for: the instant is random
                done += daemon.all("job.done")
                cut(left, chance.choice([0.0, chance.random()]))
                daemon.kill()
        image.unlink()
        image = left
    with steady(image, place):
        odd += looked_at(place / "output", done)
        code, daemon = once(place, inbox=inbox, **SETTINGS)
        assert code == 0
        assert end_state(daemon.output) == expected, f"seed {seed}"
        found = judgement(inbox, daemon.output)
        tally("power", CUTS, replace(found, half_visible=(*odd, *found.half_visible)))


def looked_at(output: Path, done: Iterable[Fields]) -> tuple[str, ...]:
    """Return what is visible after a cut and not whole; the log's word for a result counts."""
    for job in done:
        assert (output / job["drop"] / job["folder"] / "done.json").exists(), job
    if any(output.glob("[!.]*/*/done.json")):
        verified = subprocess.run([*COMMAND, "verify", output], capture_output=True, check=False)
        assert verified.returncode == 0, verified.stdout
    return half_visible(output)


def test_the_disk_keeps_what_it_was_told_to_keep_and_forgets_the_rest(tmp_path: Path) -> None:
    image, left, place = formatted(tmp_path / "0.img", 16 << 20), tmp_path / "1", tmp_path / "place"
    with volatile(image, place) as cut:
        write_durably(place / "kept", b"x" * 9999)
        (place / "forgotten").write_bytes(b"x" * 9999)
        cut(left, 0.0)
    with steady(left, place):
        assert (place / "kept").read_bytes() == b"x" * 9999
        assert not (place / "forgotten").exists()
