from __future__ import annotations

import resource
import socket
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dicomzarr_watch.operate.systemd import Notifier

SAYINGS: list[tuple[Callable[[Notifier], None], bytes]] = [
    (lambda notifier: notifier.ready(), b"READY=1"),
    (lambda notifier: notifier.alive("1 running"), b"WATCHDOG=1\nSTATUS=1 running"),
    (lambda notifier: notifier.stopping(), b"STOPPING=1"),
]
sayings = pytest.mark.parametrize(("say", "message"), SAYINGS, ids=["ready", "alive", "stopping"])


@contextmanager
def service_manager(address: str) -> Iterator[socket.socket]:
    """Listen as systemd does."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(address)
        server.settimeout(10)
        yield server


@sayings
def test_the_service_manager_is_told(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    say: Callable[[Notifier], None],
    message: bytes,
) -> None:
    monkeypatch.chdir(tmp_path)  # the address of a socket must be short
    with service_manager("notify") as server:
        say(Notifier({"NOTIFY_SOCKET": "notify"}))
        assert server.recv(1000) == message


@sayings
def test_a_service_manager_may_listen_at_a_name_without_a_file(
    say: Callable[[Notifier], None], message: bytes
) -> None:
    name = uuid.uuid4().hex
    with service_manager(f"\0{name}") as server:
        say(Notifier({"NOTIFY_SOCKET": f"@{name}"}))
        assert server.recv(1000) == message


@pytest.mark.parametrize(
    "environment",
    [{}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "/nobody/listens"}, {"NOTIFY_SOCKET": "x" * 200}],
    ids=["none", "empty", "nobody", "too long"],
)
@pytest.mark.parametrize("say", [say for say, _ in SAYINGS])
def test_without_a_service_manager_nothing_happens(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    environment: dict[str, str],
    say: Callable[[Notifier], None],
) -> None:
    monkeypatch.chdir(tmp_path)
    with service_manager("notify") as server:
        say(Notifier(environment))
        server.setblocking(False)
        with pytest.raises(BlockingIOError):
            server.recv(1000)


@pytest.mark.parametrize("say", [say for say, _ in SAYINGS])
def test_too_few_open_files_are_no_reason_to_stop(say: Callable[[Notifier], None]) -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, before[1]))
    try:
        say(Notifier({"NOTIFY_SOCKET": "notify"}))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
