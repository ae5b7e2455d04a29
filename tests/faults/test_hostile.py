"""Names, kinds of files, identifiers and archives that lead elsewhere: refused, or contained.

Every case puts something into the inbox. All are dropped at once, so that none may keep another
from being done.
"""

from __future__ import annotations

import os
import shutil
import socket
import stat
import subprocess
from collections import Counter
from collections.abc import Callable
from contextlib import chdir
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
from bundle_files import bundled, entry, squeezed, tar_file
from daemon_process import COMMAND, once, running
from drops import brought_back, contents, document, dropped, fates, made, states
from hostile_bundles import HOSTILE, LIMITS
from judged import Tally, is_dicom, judgement

from dicomzarr_watch.intake.bundle import Form

pytestmark = pytest.mark.integration

LONGEST: Final = 255
LONG_PATH: Final = 3500
SETTINGS: Final[dict[str, Any]] = {"settle_s": 0.2, "poll_s": 0.5}


@dataclass(frozen=True)
class Place:
    """Where a case may put things. drop: a folder of its own. outside: what is none of ours."""

    inbox: Path
    drop: Path
    outside: Path
    uid: str

    def slices(self, folder: Path, count: int = 1, **facts: Any) -> list[Path]:
        return [folder / name for name in made(folder, count, **{"series_uid": self.uid} | facts)]


Put = Callable[[Place], object]

NAMES: Final = (
    "line\nbreak",
    os.fsdecode(b"M\xfcller\xff"),
    "x" * LONGEST,
    "é" * (LONGEST // 2),
    " ",
    "-rf",
    "...",
    "a\\..\\..\\outside",
    "*?[a-z]",
    "\x01\x1b[31m\x7f",
    "\u202egnp.exe",
    "$(touch x)`touch x`;&|",
    "%2e%2e%2foutside%s%n",
    "drop.json",
    "series.zarr",
    "_loose",
    ".staging",
    ".evidence",
    f"_loose{'x' * (LONGEST - 6)}",
)


def drop_named(name: str) -> Put:
    return lambda at: at.slices(at.inbox / name)


def folder_named(name: str) -> Put:
    return lambda at: at.slices(at.drop / name)


def files_named(*names: str) -> Put:
    def put(at: Place) -> None:
        for path, name in zip(at.slices(at.drop, len(names)), names, strict=True):
            path.rename(at.drop / name)

    return put


def slices(**facts: Any) -> Put:
    return lambda at: at.slices(at.drop, 2, **facts)


def link(target: str) -> Put:
    return lambda at: (at.drop / "link").symlink_to(target)


def bind(at: Place) -> None:
    """Make a socket; the system takes no long path for it, but a name in the working folder."""
    with chdir(at.drop), socket.socket(socket.AF_UNIX) as unused:
        unused.bind("socket")


def times(at: Place) -> None:
    for path, when in zip(at.slices(at.drop, 2), (-(1 << 62), (1 << 63) - 1), strict=True):
        os.utime(path, ns=(0, when))


def modes(at: Place) -> None:
    for path, mode in zip(at.slices(at.drop, 2), (0o6777, 0o1444), strict=True):
        path.chmod(mode)


def deep(at: Place) -> None:
    folder = at.drop
    while len(os.fsencode(folder)) < LONG_PATH:
        folder /= "x" * 100
    at.slices(folder)


CASES: Final[dict[str, Put]] = {
    **{f"drop {name!r}": drop_named(name) for name in NAMES},
    **{f"folder {name!r}": folder_named(name) for name in NAMES},
    **{f"file {name!r}": files_named(name) for name in NAMES},
    "names that differ in case": files_named("a", "A"),
    "names that differ in how they are composed": files_named("\u00e9", "e\u0301"),
    "link to a file": link("../../outside/0000.dcm"),
    "link to a folder": link("../../outside"),
    "link to nothing": link("nothing"),
    "link to itself": link("link"),
    "link to all": link("/"),
    "hard link": lambda at: (at.drop / "link").hardlink_to(at.outside / "0000.dcm"),
    "pipe": lambda at: os.mkfifo(at.drop / "pipe"),
    "socket": bind,
    "device": lambda at: os.mknod(at.drop / "zero", stat.S_IFCHR | 0o666, os.makedev(1, 5)),
    "deep": deep,
    "times beyond time": times,
    "modes": modes,
    "UID that leads out": slices(series_uid="../../../outside"),
    "UID without end": slices(series_uid="1." * 3000 + "1"),
    "modality that leads out": slices(Modality="../../../outside", SeriesNumber="1"),
    "modality without end": slices(Modality="X" * 300),
}


BOMB: Final = "unfolding.tar.zst"
BOMB_BYTES: Final = 300 << 20
GOOD: Final = "good.zip"


@pytest.mark.filterwarnings("ignore:Invalid value|The value length")
def test_nothing_hostile_leads_out_or_keeps_others_from_being_done(
    tmp_path: Path, tally: Tally
) -> None:
    outside, inbox = tmp_path / "outside", tmp_path / "inbox"
    made(outside, 1, series_uid="1.3")
    for number, put in enumerate(CASES.values()):
        drop = inbox / f"{number}"
        drop.mkdir(parents=True)
        put(Place(inbox, drop, outside, f"1.2.{number}"))
    before = states(outside), states(inbox)
    code, daemon = once(tmp_path, **SETTINGS)
    assert (code, daemon.all("job.rejected"), daemon.all("output.paused")) == (0, [], [])
    assert (states(outside), states(inbox)) == before
    back = tmp_path / "back"
    subprocess.run([*COMMAND, "restore", daemon.output, back], check=True, capture_output=True)
    assert dicom_in(back) == dicom_in(inbox)
    assert {path.name for path in tmp_path.iterdir()} == {
        *("back", "inbox", "outside", "output", "state")
    }
    tally("hostile", len(CASES), judgement(inbox, daemon.output))


def test_hostile_archives_are_refused_and_write_nothing(tmp_path: Path, tally: Tally) -> None:
    good = {f"ct/{name}": data for name, data in made(tmp_path / "made" / "good").items()}
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    (inbox / GOOD).write_bytes(bundled(Form.ZIP, good))
    made(inbox / "beside", series_uid="1.2.4")
    codes = {GOOD: ""}
    for number, (name, content, why) in enumerate(HOSTILE.values()):
        path = f"{number}{name.removeprefix('a')}"
        (inbox / path).write_bytes(content)
        codes[path] = f"archive-{why}"
    before = states(inbox)
    limits = {
        "archive_depth": LIMITS.depth,
        "archive_max_members": LIMITS.members,
        "archive_max_bytes": LIMITS.bytes,
    }
    code, daemon = once(tmp_path, **SETTINGS, **limits)
    assert code == 1
    told = [document(path) for path in daemon.output.glob("*/drop.json")]
    rows = [row for account in told for row in account["files"] if row["path"] in codes]
    assert {row["path"]: row["code"] for row in rows} == codes
    assert states(inbox) == before
    assert {path.name for path in tmp_path.iterdir()} == {"inbox", "made", "output", "state"}
    assert not list((daemon.state / "unpacked").glob("*/"))
    assert {path.name for path in daemon.output.glob("*/*/")} == {
        path.parent.name for path in daemon.output.glob("*/*/done.json")
    }
    assert brought_back(daemon.output / "good") == good
    tally("hostile", len(HOSTILE), judgement(inbox, daemon.output))


def test_an_archive_that_unfolds_beyond_belief_is_refused(tmp_path: Path, tally: Tally) -> None:
    """It takes no more of the disk than any archive may."""
    (tmp_path / "inbox").mkdir()
    bomb = tar_file([entry("a", bytes(BOMB_BYTES))])
    (tmp_path / "inbox" / BOMB).write_bytes(squeezed(Form.TAR_ZST, bomb))
    code, daemon = once(tmp_path, **SETTINGS)
    assert code == 1
    assert daemon.all("job.rejected")[0]["code"] == "archive-too-dense"
    assert not list((daemon.state / "unpacked").glob("*/"))
    tally("hostile", 1, judgement(daemon.inbox, daemon.output))


def dicom_in(folder: Path) -> Counter[bytes]:
    """Count the contents that are DICOM and meant to be taken."""
    return Counter(data for path, data in contents(folder).items() if is_dicom(path, data))


def test_what_is_too_large_or_too_deep_to_look_at_is_passed_over(
    tmp_path: Path, tally: Tally
) -> None:
    """A path that is longer than the system takes, and a file that has a name and no bytes."""
    deepest = tmp_path / "inbox" / "deep"
    with running(tmp_path, identifiers="plain", **SETTINGS) as daemon:
        (daemon.inbox / "huge").mkdir()
        (daemon.inbox / "huge" / "file").touch()
        os.truncate(daemon.inbox / "huge" / "file", 1 << 40)
        nested(deepest, 30)
        assert daemon.wait("inbox.unreadable")["folders"] == 1
        files = dropped(daemon, "a")
        daemon.wait("drop.finished", drop="a", archived=len(files))
        daemon.wait("drop.finished", drop="huge", ignored=1)
        assert daemon.stop() == 0
    assert fates(daemon.output / "huge") == {"huge/file": "ignored"}
    shutil.rmtree(deepest)
    shutil.rmtree(daemon.inbox / "huge")
    tally("hostile", 2, judgement(daemon.inbox, daemon.output))


def nested(folder: Path, depth: int) -> None:
    """Nest folders of the longest name until no path leads to the last of them."""
    folder.mkdir()
    with chdir(folder):
        for _ in range(depth):
            Path("x" * LONGEST).mkdir()
            os.chdir("x" * LONGEST)
