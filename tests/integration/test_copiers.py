"""The ways in which files really come: one whole result for every series, and no other.

Copiers are slowed down where they can be, so that the daemon looks at what they do many times.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
from daemon_process import PATIENCE_S, Daemon, running
from drops import brought_back, contents, fates, made, receipts

pytestmark = pytest.mark.integration

COUNT: Final = 40
PIXELS: Final = np.random.default_rng(3).integers(0, 4096, (128, 96), dtype=np.uint16)
SETTINGS: Final[dict[str, Any]] = {"settle_s": 1.0, "poll_s": 0.5, "identifiers": "plain"}
SLOW: Final = "--bwlimit=400"
Copier = Callable[[Path, Path], object]


def source(place: Path, **keywords: Any) -> Path:
    """Make a series of a megabyte, as it lies with its sender."""
    made(place, COUNT, pixels=PIXELS, **keywords)
    return place


def run(*command: str | Path, cwd: Path | None = None) -> None:
    subprocess.run(command, cwd=cwd, check=True, stdout=subprocess.DEVNULL, timeout=PATIENCE_S)


def rsync(*options: str) -> Copier:
    return lambda folder, drop: run("rsync", "-a", *options, f"{folder}/", f"{drop}/")


def hard_linked(folder: Path, drop: Path) -> None:
    run("cp", "-al", folder, drop)


def renamed(folder: Path, drop: Path) -> None:
    """Copy under a hidden name, then rename, as careful senders do."""
    hidden = drop.with_name(f".{drop.name}")
    run("cp", "-r", folder, hidden)
    hidden.rename(drop)


def unzipped(folder: Path, drop: Path) -> None:
    archive = folder.with_suffix(".zip")
    run("zip", "-qr", archive, ".", cwd=folder)
    run("unzip", "-q", archive, "-d", drop)


def disordered(folder: Path, drop: Path) -> None:
    """Copy piece by piece, all files at once and in no order, and give them times long past."""
    drop.mkdir()
    pieces = [(path, n) for path in sorted(folder.iterdir()) for n in range(4)]
    pieces.sort(key=lambda piece: (hash(piece[1]), piece[0].name[::-1]))
    for path, n in pieces:
        size = path.stat().st_size
        start, end = (size * part // 4 for part in (n, n + 1))
        with (drop / path.name).open("ab") as stream:
            os.pwrite(stream.fileno(), path.read_bytes()[start:end], start)
        os.utime(drop / path.name, (1e9, 1e9))


def allocated(folder: Path, drop: Path) -> None:
    """Take up the room of every file first, as Explorer does, then fill it."""
    drop.mkdir()
    for path in sorted(folder.iterdir()):
        with (drop / path.name).open("wb", buffering=0) as stream:
            os.posix_fallocate(stream.fileno(), 0, path.stat().st_size)
            stream.write(path.read_bytes())


COPIERS: Final[dict[str, Copier]] = {
    "rsync": rsync(SLOW),
    "rsync in place": rsync(SLOW, "--inplace"),
    "rsync, all names at the end": rsync(SLOW, "--delay-updates"),
    "rsync of what is there in part": rsync(SLOW, "--partial", "--append"),
    "cp": lambda folder, drop: run("cp", "-r", folder, drop),
    "cp with times": lambda folder, drop: run("cp", "-a", folder, drop),
    "hard links": hard_linked,
    "a rename": renamed,
    "unzip": unzipped,
    "no order, old times": disordered,
    "allocated first": allocated,
}


@pytest.mark.parametrize("name", COPIERS)
def test_whoever_copies_a_series_gets_one_whole_result(tmp_path: Path, name: str) -> None:
    folder = source(tmp_path / "sender")
    with running(tmp_path, **SETTINGS) as daemon:
        COPIERS[name](folder, daemon.inbox / "a")
        judged(daemon, "a", contents(folder))


def test_what_is_copied_to_a_server_is_found_without_events(tmp_path: Path) -> None:
    folder, server = source(tmp_path / "sender"), tmp_path / "server"
    (tmp_path / "inbox").mkdir()
    server.mkdir()
    run("bindfs", server, tmp_path / "inbox")
    try:
        with running(tmp_path, **SETTINGS) as daemon:
            rsync(SLOW)(folder, server / "a")
            judged(daemon, "a", contents(folder))
    finally:
        run("umount", tmp_path / "inbox")


def test_a_series_that_comes_in_two_drops_at_once_is_archived_in_both(tmp_path: Path) -> None:
    folder = source(tmp_path / "sender")
    with running(tmp_path, **SETTINGS) as daemon:
        command = ["rsync", "-a", SLOW, f"{folder}/"]
        senders = [subprocess.Popen([*command, daemon.inbox / drop]) for drop in "ab"]
        assert [sender.wait(PATIENCE_S) for sender in senders] == [0, 0]
        for drop in "ab":
            daemon.wait("drop.finished", drop=drop, archived=COUNT)
        assert daemon.stop() == 0
    for drop in "ab":
        assert len(daemon.all("job.done", drop=drop, revision=1)) == 1
        assert brought_back(daemon.output / drop) == contents(folder)
    assert len(daemon.all("job.done")) == 2


def test_a_copier_that_stops_within_a_file_is_waited_for(tmp_path: Path) -> None:
    folder = source(tmp_path / "sender")
    with running(tmp_path, **SETTINGS) as daemon:
        shutil.copytree(folder, daemon.inbox / "a", ignore=shutil.ignore_patterns("0020.dcm"))
        content = (folder / "0020.dcm").read_bytes()
        with (daemon.inbox / "a" / "0020.dcm").open("wb", buffering=0) as stream:
            stream.write(content[: len(content) // 2])
            assert daemon.wait("series.held")["waits_for"] == "truncated"
            assert daemon.all("job.queued") == []
            stream.write(content[len(content) // 2 :])
        judged(daemon, "a", contents(folder))


def test_a_copier_that_stops_within_an_allocated_file_gets_a_revision(tmp_path: Path) -> None:
    """Nothing tells a hole from pixels of zero: what was there first stays beside it, and is told.

    `ready_marker`, or a longer `settle_s`, is for senders that do so.
    """
    folder = source(tmp_path / "sender")
    content = (folder / "0020.dcm").read_bytes()
    half = len(content) // 2
    with running(tmp_path, **SETTINGS) as daemon:
        shutil.copytree(folder, daemon.inbox / "a", ignore=shutil.ignore_patterns("0020.dcm"))
        with (daemon.inbox / "a" / "0020.dcm").open("wb", buffering=0) as stream:
            os.posix_fallocate(stream.fileno(), 0, len(content))
            stream.write(content[:half])
            daemon.wait("job.done", revision=1)
            stream.write(content[half:])
        daemon.wait("job.done", revision=2)
        daemon.wait("drop.finished", archived=COUNT)
        assert daemon.stop() == 0
    first = content[:half] + bytes(len(content) - half)
    back = brought_back(daemon.output / "a")
    assert back == contents(folder) | {"0020.dcm~1": first}


@pytest.fixture
def share(tmp_path: Path, inside: list[str]) -> Iterator[tuple[list[str], str]]:
    """Give the words that run a command where an SMB server serves the inbox, and its address."""
    for name in ("inbox", "samba"):
        (tmp_path / name).mkdir()
    samba = tmp_path / "samba"
    settings = "".join(
        f"{kind} directory = {samba}\n" for kind in ("lock", "state", "cache", "pid")
    )
    (samba / "smb.conf").write_text(
        f"[global]\n{settings}private dir = {samba}\nncalrpc dir = {samba}/rpc\n"
        f"log file = {samba}/log\nserver role = standalone server\nsmb ports = 4450\n"
        "map to guest = bad user\nguest account = root\ndisable spoolss = yes\n"
        f"[inbox]\npath = {tmp_path}/inbox\nguest ok = yes\nread only = no\n"
    )
    server = subprocess.Popen(
        [*inside, "smbd", "--foreground", "-s", samba / "smb.conf"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield inside, "//127.0.0.1/inbox"
    finally:
        server.terminate()
        server.wait(PATIENCE_S)


def test_an_smb_client_gets_one_whole_result(tmp_path: Path, share: tuple[list[str], str]) -> None:
    folder = source(tmp_path / "sender")
    inside, address = share
    client = [*inside, "smbclient", address, "-p", "4450", "-N", "-c"]
    with running(tmp_path, **SETTINGS) as daemon:
        listens(client)
        put = f"prompt off; recurse on; mkdir a; cd a; lcd {folder}; mput *"
        run(*client, put)
        judged(daemon, "a", contents(folder))


def listens(client: list[str]) -> None:
    """Ask until the server answers."""
    until_s = time.monotonic() + PATIENCE_S
    while subprocess.run([*client, "ls"], capture_output=True, check=False).returncode:
        assert time.monotonic() < until_s, "smbd does not answer"


def judged(daemon: Daemon, drop: str, files: dict[str, bytes]) -> None:
    """Hold what became of a drop against what was sent: all of it at the first attempt, once."""
    daemon.wait("drop.finished", drop=drop, archived=len(files))
    assert daemon.stop() == 0
    (job,) = daemon.all("job.done")
    (receipt,) = receipts(daemon.output / drop)
    assert (job["code"], job["revision"], job["attempt"]) == ("done", 1, 1)
    assert len(daemon.all("job.started")) == len(daemon.all("job.queued")) == 1
    assert receipt["counts"]["files"] == len(files)
    assert brought_back(daemon.output / drop) == files
    told = fates(daemon.output / drop)
    assert {path for path, fate in told.items() if fate == "archived"} == {
        f"{drop}/{name}" for name in files
    }
    assert not list(daemon.output.rglob(".*"))
