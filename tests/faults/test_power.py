"""The power is cut: what the disk had not been told to keep is gone, or only some of it is there.

It is cut below a disk, whose cache is lost, or of a whole machine, whose memory is. Inbox, state
and output are on that disk.
"""

from __future__ import annotations

import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any, Final

import pytest
from daemon_process import COMMAND, Daemon, Fields, begun, once, running
from disturbed import end_state, filled
from drops import document, late_slice, receipts
from judged import Tally, half_visible, judgement
from virtual_machine import SLOWNESS, machine
from volatile_disk import formatted, steady, volatile

from dicomzarr_watch.archive.disk import write_durably

pytestmark = pytest.mark.vm

SERIES: Final = 48
CUTS: Final = 10
DISK_BYTES: Final = 128 << 20
WORKERS: Final = 2
MOMENT_S: Final = 0.08
"""The longest that a cut waits when jobs are under way; a small one takes half of that."""
PATIENCE_S: Final = 600
SETTINGS: Final[dict[str, Any]] = {
    "settle_s": 0.2,
    "identifiers": "plain",
    "max_attempts": CUTS,
    "workers": WORKERS,
}

Cut = Callable[[Path, Path, int, Random], list[Fields]]
"""Runs the daemon on an image, seen at a place, and cuts the power while it works.

Takes how many series are not done yet. The image is then what the cut left; returned is what the
daemon told of as done.
"""


def below_the_disk(image: Path, place: Path, undone: int, chance: Random) -> list[Fields]:
    left = image.with_suffix(".left")
    with volatile(image, place) as cut, running(place, **SETTINGS) as daemon:
        work(daemon, undone, chance)
        done = daemon.all("job.done")
        cut(left, chance.choice([0.0, chance.random()]))
        daemon.kill()
    left.replace(image)
    return done


def of_the_machine(root: Path) -> Cut:
    """Return a cut in a machine that has the kernel of a folder."""

    def cut(image: Path, place: Path, undone: int, chance: Random) -> list[Fields]:
        command = (*machine(root, image, place), *COMMAND)
        with begun(place, command=command, **SETTINGS) as daemon:
            work(daemon, undone, chance, SLOWNESS)
            daemon.kill()
        return daemon.all("job.done")

    return cut


def work(daemon: Daemon, undone: int, chance: Random, slowness: int = 1) -> None:
    """Let more jobs begin than there are workers, so that some are done, and go on for a while."""
    wanted = min(WORKERS + 1 + chance.randrange(2), undone)
    daemon.wait("daemon.started", within_s=PATIENCE_S)
    daemon.until(lambda: len(daemon.all("job.started")) >= wanted, "jobs", PATIENCE_S)
    time.sleep(chance.random() * MOMENT_S * slowness)  # nothing is waited for: it is random


@pytest.fixture(params=["power", "machine"])
def row(request: pytest.FixtureRequest) -> str:
    """Name the row of the table of faults."""
    found: str = request.param
    return found


@pytest.fixture
def cut(row: str, pytestconfig: pytest.Config) -> Cut:
    return below_the_disk if row == "power" else of_the_machine(pytestconfig.getoption("--kernel"))


@pytest.mark.parametrize("is_revision", [False, True], ids=["new", "revised"])
def test_what_is_visible_after_a_power_cut_verifies(
    tmp_path: Path, tally: Tally, row: str, cut: Cut, is_revision: bool
) -> None:
    image, place = formatted(tmp_path / "disk.img", DISK_BYTES), tmp_path / "place"
    undisturbed = tmp_path / "undisturbed"
    with steady(image, place):
        inbox = filled(place / "inbox", SERIES)
        if is_revision:
            once(place, **SETTINGS)
            once(undisturbed, inbox=inbox, **SETTINGS)
            for n in range(SERIES):
                late_slice(inbox / f"{n // 2}" / f"{n}", series_uid=f"1.2.{n}", SeriesNumber=n)
        _, daemon = once(undisturbed, inbox=inbox, **SETTINGS)
    expected = end_state(daemon.output)
    seed = secrets.randbits(32)
    chance = Random(seed)  # noqa: S311 - to be repeated with the seed
    odd: list[str] = []
    told: list[Fields] = []
    undone = SERIES
    for _ in range(CUTS):
        told += cut(image, place, undone, chance)
        with steady(image, place):
            odd += looked_at(place / "output", told)
            undone = SERIES - len(finished(place / "output", 1 + is_revision))
    with steady(image, place):
        code, daemon = once(place, **SETTINGS)
        assert code == 0
        assert end_state(daemon.output) == expected, f"seed {seed}"
        found = judgement(inbox, daemon.output)
        tally(row, CUTS, replace(found, half_visible=(*odd, *found.half_visible)))


def looked_at(output: Path, told: Iterable[Fields]) -> tuple[str, ...]:
    """Return what is visible after a cut and not whole; the log's word for a result counts."""
    if any(output.glob("[!.]*/*/done.json")):
        verified = subprocess.run([*COMMAND, "verify", output], capture_output=True, check=False)
        assert verified.returncode == 0, verified.stdout
    for job in told:
        receipt = output / job["drop"] / job["folder"] / "done.json"
        assert receipt.exists(), job
        assert document(receipt)["revision"] >= job["revision"], job
    return half_visible(output)


def finished(output: Path, revision: int) -> list[Any]:
    """Return the receipts of what is there in its last revision."""
    found = (receipt for drop in output.glob("[!.]*") for receipt in receipts(drop))
    return [receipt for receipt in found if receipt["revision"] == revision]


def test_the_disk_keeps_what_it_was_told_to_keep_and_forgets_the_rest(tmp_path: Path) -> None:
    image, left, place = formatted(tmp_path / "0.img", 16 << 20), tmp_path / "1", tmp_path / "place"
    with volatile(image, place) as cut:
        write_durably(place / "kept", b"x" * 9999)
        (place / "forgotten").write_bytes(b"x" * 9999)
        cut(left, 0.0)
    with steady(left, place):
        assert (place / "kept").read_bytes() == b"x" * 9999
        assert not (place / "forgotten").exists()


WRITER: Final = """
import sys
from pathlib import Path
from dicomzarr_watch.archive.disk import write_durably
place = Path(sys.argv[1])
write_durably(place / "kept", b"x" * 9999)
(place / "forgotten").write_bytes(b"x" * 9999)
print("written", flush=True)
sys.stdin.read()
"""


def test_so_does_the_machine(tmp_path: Path, pytestconfig: pytest.Config) -> None:
    image, place = formatted(tmp_path / "0.img", 16 << 20), tmp_path / "place"
    place.mkdir()
    words = machine(pytestconfig.getoption("--kernel"), image, place)
    with subprocess.Popen(
        [*words, sys.executable, "-c", WRITER, place], stderr=subprocess.PIPE
    ) as process:
        assert process.stderr is not None
        said = process.stderr.readline()
        process.kill()
        assert said == b"written\n"
    with steady(image, place):
        assert (place / "kept").read_bytes() == b"x" * 9999
        assert not (place / "forgotten").exists()
