"""What systemd is told, by its notification protocol (sd_notify): a datagram a message."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from contextlib import suppress


class Notifier:
    """Talks to the service manager if there is one."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._address = environment.get("NOTIFY_SOCKET", "")

    @property
    def is_heard(self) -> bool:
        """Whether there is a service manager."""
        return bool(self._address)

    def ready(self) -> None:
        """Say that start-up is over."""
        self._send("READY=1")

    def alive(self, status: str) -> None:
        """Say that every part makes progress, and what is going on."""
        self._send(f"WATCHDOG=1\nSTATUS={status}")

    def stopping(self) -> None:
        """Say that the end has begun."""
        self._send("STOPPING=1")

    def _send(self, message: str) -> None:
        if not self._address:
            return
        # a name in the abstract namespace is written with an @
        address = self._address.replace("@", "\0", 1) if self._address[0] == "@" else self._address
        # a service manager that does not listen is no reason to stop, nor is a lack of open files
        with (
            suppress(OSError),
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender,
        ):
            sender.connect(address)
            sender.send(message.encode())
