"""An inbox that raises no events, or is unmounted, mounted over, read-only: nothing is concluded.

An output that is unmounted: nothing is written to what is under it.

What is mounted is another folder bound to the inbox's place, as a network mount would be.
"""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest
from daemon_process import COMMAND, PATIENCE_S, Daemon, once, running
from drops import brought_back, contents, document, late_slice, made
from judged import Tally, judgement
from mounts import change, is_mounted, mounted, unmount

pytestmark = pytest.mark.integration

WATCHES: Final = 20
SETTINGS: Final[dict[str, Any]] = {"settle_s": 0.2, "poll_s": 0.5, "identifiers": "plain"}
WITH_FEW_WATCHES: Final = (
    *("unshare", "--user", "--map-root-user", "sh", "-c"),
    f'echo {WATCHES} > /proc/sys/user/max_inotify_watches && exec "$@"',
    *("sh", *COMMAND),
)


def bind(source: Path, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "--bind", source, folder], check=True)


@contextmanager
def bound(source: Path, folder: Path) -> Iterator[None]:
    bind(source, folder)
    try:
        yield
    finally:
        while is_mounted(folder):
            unmount(folder)


@contextmanager
def passed_through(source: Path, folder: Path) -> Iterator[None]:
    """Mount a file system that sees what happens underneath it, and raises no events of it."""
    for place in (source, folder):
        place.mkdir(parents=True)
    subprocess.run(["bindfs", source, folder], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


@contextmanager
def service_manager() -> Iterator[socket.socket]:
    """Listen as systemd does, at a name without a file."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind("")
        listener.settimeout(PATIENCE_S)
        yield listener


def added(drop: Path, number: int) -> None:
    """Put a drop into place, whole."""
    staged = drop.parent.with_name("added") / drop.name
    made(staged, series_uid=f"1.2.{number}")
    staged.rename(drop)


def test_folders_beyond_the_watch_limit_are_found_by_the_listing(
    tmp_path: Path, tally: Tally
) -> None:
    for number in range(3 * WATCHES):
        made(tmp_path / "inbox" / "a" / f"{number}", 1, series_uid=f"1.2.{number}")
    with running(tmp_path, command=WITH_FEW_WATCHES, **SETTINGS) as daemon:
        daemon.wait("drop.finished", archived=3 * WATCHES)
        for number in range(3 * WATCHES):
            late_slice(tmp_path / "inbox" / "a" / f"{number}", series_uid=f"1.2.{number}")
        daemon.wait("drop.finished", archived=6 * WATCHES)
        assert daemon.stop() == 0
    tally("mounts", 1, judgement(daemon.inbox, daemon.output))


def test_an_inbox_that_raises_no_events_is_listed(tmp_path: Path, tally: Tally) -> None:
    with passed_through(tmp_path / "server" / "inbox", tmp_path / "inbox"):
        with running(tmp_path, **SETTINGS) as daemon:
            for number in range(3):
                added(tmp_path / "server" / "inbox" / f"{number}", number)
                daemon.wait("drop.finished", drop=f"{number}")
            assert daemon.stop() == 0
        tally("mounts", 1, judgement(daemon.inbox, daemon.output))


def test_a_read_only_inbox_is_all_the_daemon_needs(tmp_path: Path, tally: Tally) -> None:
    server = tmp_path / "server" / "inbox"
    made(server / "a")
    with bound(server, tmp_path / "inbox"):
        change(tmp_path / "inbox", "bind,ro")
        assert once(tmp_path, **SETTINGS)[0] == 0
        tally("mounts", 1, judgement(tmp_path / "inbox", tmp_path / "output"))


def test_nothing_is_concluded_from_an_inbox_that_is_unmounted_for_a_while(
    tmp_path: Path, tally: Tally
) -> None:
    server = tmp_path / "server" / "inbox"
    server.mkdir(parents=True)
    with bound(server, tmp_path / "inbox"), running(tmp_path, **SETTINGS) as daemon:
        before = finished(daemon, server / "a", 1)
        unmount(daemon.inbox)
        daemon.wait("inbox.replaced")
        looked_again(daemon, 2)
        assert document(daemon.output / "a" / "drop.json") == before
        bind(server, daemon.inbox)
        finished(daemon, server / "b", 3)
        assert daemon.stop() == 0
        assert document(daemon.output / "a" / "drop.json") == before
    tally("mounts", 1, judgement(server, daemon.output))


def test_nothing_is_concluded_from_an_inbox_that_is_not_mounted_at_the_start(
    tmp_path: Path, tally: Tally
) -> None:
    server = tmp_path / "server" / "inbox"
    server.mkdir(parents=True)
    with bound(server, tmp_path / "inbox"), service_manager() as manager:
        with running(tmp_path, **SETTINGS) as daemon:
            before = finished(daemon, server / "a", 1)
            assert daemon.stop() == 0
        unmount(daemon.inbox)
        address = f"@{manager.getsockname()[1:].decode()}"
        with running(tmp_path, NOTIFY_SOCKET=address, **SETTINGS) as daemon:
            assert manager.recv(100) == b"READY=1"  # it has seen that there is nothing
            manager.close()
            looked_again(daemon, 2)
            assert document(daemon.output / "a" / "drop.json") == before
            bind(server, daemon.inbox)
            finished(daemon, server / "b", 3)
            assert daemon.stop() == 0
        tally("mounts", 1, judgement(server, daemon.output))


def test_nothing_is_concluded_from_an_inbox_that_something_else_is_mounted_over(
    tmp_path: Path, tally: Tally
) -> None:
    with running(tmp_path, **SETTINGS) as daemon:
        before = finished(daemon, daemon.inbox / "a", 1)
        with mounted(daemon.inbox):
            daemon.wait("inbox.replaced")
            looked_again(daemon, 2)
            assert document(daemon.output / "a" / "drop.json") == before
        daemon.wait("inbox.replaced", count=2)
        finished(daemon, daemon.inbox / "b", 3)
        assert daemon.stop() == 0
        assert document(daemon.output / "a" / "drop.json") == before
    tally("mounts", 1, judgement(tmp_path / "inbox", daemon.output))


def test_nothing_is_archived_into_what_is_under_an_output_that_is_unmounted_for_a_while(
    tmp_path: Path,
) -> None:
    server, output = tmp_path / "server" / "output", tmp_path / "output"
    server.mkdir(parents=True)
    with bound(server, output), running(tmp_path, after_success="delete", **SETTINGS) as daemon:
        finished(daemon, daemon.inbox / "a", 1)
        daemon.wait("originals.cleared")
        unmount(output)
        files = made(daemon.inbox / "b", series_uid="1.2.2")
        assert daemon.wait("output.paused")["code"] == "output-gone"
        daemon.wait("job.queued", drop="b")
        assert list(output.iterdir()) == []
        assert contents(daemon.inbox / "b") == files
        bind(server, output)
        daemon.wait("output.resumed")
        daemon.wait("originals.cleared", drop="b")
        assert daemon.stop() == 0
        assert brought_back(output / "b") == files
    assert list(output.iterdir()) == []


def finished(daemon: Daemon, drop: Path, number: int) -> Any:
    """Add a drop and return its account."""
    added(drop, number)
    daemon.wait("drop.finished", drop=drop.name)
    return document(daemon.output / drop.name / "drop.json")


def looked_again(daemon: Daemon, number: int) -> None:
    """Wait until the daemon has looked at what is in the inbox's place, and come to a result."""
    made(daemon.place / "other" / "x", series_uid=f"1.2.{number}")
    subprocess.run(["cp", "-r", daemon.place / "other" / "x", daemon.inbox / "x"], check=True)
    daemon.wait("drop.finished", drop="x")
    assert brought_back(daemon.output / "x") == contents(daemon.place / "other" / "x")
