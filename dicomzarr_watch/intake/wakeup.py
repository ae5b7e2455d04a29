"""watchdog as an alarm clock: it says that something happened, never what.

Only this module imports watchdog. The event filter leaves out opens, reads and writes: without it
the daemon's own reads can overflow the kernel's queue. What an event is lost for, the next listing
finds.
"""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Callable
from pathlib import Path

from watchdog.events import (
    DirCreatedEvent,
    DirDeletedEvent,
    DirMovedEvent,
    FileClosedEvent,
    FileCreatedEvent,
    FileDeletedEvent,
    FileMovedEvent,
    FileSystemEvent,
    FileSystemEventHandler,
)
from watchdog.observers import Observer
from watchdog.observers.api import BaseObserver
from watchdog.utils import BaseThread

_EVENTS: list[type[FileSystemEvent]] = [
    DirCreatedEvent,
    DirDeletedEvent,
    DirMovedEvent,
    FileClosedEvent,
    FileCreatedEvent,
    FileDeletedEvent,
    FileMovedEvent,
]


class Wakeup:
    """Watches a folder and calls `wake` when something happens below it."""

    def __init__(self, folder: Path, wake: Callable[[], None]) -> None:
        self._folder = folder
        self._handler = _Handler(wake)
        self._observer: BaseObserver | None = None
        self._threads: frozenset[BaseThread] = frozenset()

    @property
    def is_healthy(self) -> bool:
        """Whether the observer and every thread under it are alive, the kernel's reader too."""
        observer = self._observer
        return observer is not None and all(
            thread.is_alive() for thread in (observer, *observer.emitters, *self._threads)
        )

    def start(self) -> bool:
        """Watch the folder anew; returns whether the system lets us, or events must do without."""
        self.stop()
        others = _threads()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they print watched paths, which may be patient data
            self._observer = self._observing()
        self._threads = _threads() - others
        return self._observer is not None

    def stop(self) -> None:
        """End the threads; safe to call at any time."""
        if self._observer is not None:
            self._observer.stop()
            self._observer.join()
            self._observer = None

    def _observing(self) -> BaseObserver | None:
        try:
            observer = Observer()
        except OSError:
            return None
        try:
            observer.schedule(
                self._handler, str(self._folder), recursive=True, event_filter=_EVENTS
            )
            observer.start()
        except OSError:
            observer.stop()  # one that has not started holds a thread and descriptors as well
            return None
        return observer


class _Handler(FileSystemEventHandler):
    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake

    def on_any_event(self, event: FileSystemEvent) -> None:  # noqa: ARG002 - what it was, listing tells
        self._wake()


def _threads() -> frozenset[BaseThread]:
    """Return watchdog's threads; it does not say which of them belong to an observer."""
    return frozenset(t for t in threading.enumerate() if isinstance(t, BaseThread))


def quieten() -> None:
    """Keep watchdog's own log lines back: they name paths."""
    logging.getLogger("watchdog").setLevel(logging.CRITICAL)
