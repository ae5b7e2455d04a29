"""watchdog as an alarm clock: it says that something happened, and nearly never what.

What it says is which folders were moved into the inbox in whole, as no listing can tell that.
Only this module imports watchdog. The event filter leaves out opens, reads and writes: without it
the daemon's own reads can overflow the kernel's queue. What an event is lost for, the next listing
finds.
"""

from __future__ import annotations

import logging
import os
import threading
import warnings
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Final

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
from watchdog.observers.api import BaseObserver
from watchdog.observers.inotify import InotifyObserver
from watchdog.utils import BaseThread

from dicomzarr_watch.intake.listing import is_temporary

TOPS_MOST: Final = 10_000
"""So many events of folders are kept until they are asked for; of others nothing is said."""

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
        self._handler = _Handler(str(folder), wake)
        self._observer: BaseObserver | None = None
        self._threads: frozenset[BaseThread] = frozenset()

    @property
    def is_healthy(self) -> bool:
        """Whether the observer and every thread under it are alive, the kernel's reader too."""
        observer = self._observer
        return observer is not None and all(
            thread.is_alive() for thread in (observer, *observer.emitters, *self._threads)
        )

    def moved(self) -> frozenset[str]:
        """Return the folders that came into the watched one by a rename since the last call.

        That is from elsewhere, or from a temporary name. Of one that was gone or made again since,
        nothing is said.
        """
        came: set[str] = set()
        while self._handler.tops:
            name, is_moved = self._handler.tops.popleft()
            (came.add if is_moved else came.discard)(name)
        return frozenset(came)

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
            # without full events, what is moved in is only said to be made
            observer = InotifyObserver(generate_full_events=True)
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
    """Runs in a thread of watchdog's; tops: folders straight below, and whether they moved in."""

    def __init__(self, folder: str, wake: Callable[[], None]) -> None:
        self.tops: deque[tuple[str, bool]] = deque(maxlen=TOPS_MOST)
        self._folder = folder
        self._wake = wake

    def on_any_event(self, event: FileSystemEvent) -> None:
        if event.is_directory:
            source, target = self._top(event.src_path), self._top(event.dest_path)
            is_moved = isinstance(event, DirMovedEvent)
            if source:
                self.tops.append((source, False))
            if target and is_moved:
                is_from_elsewhere = not event.src_path or is_temporary(source)
                self.tops.append((target, is_from_elsewhere))
        self._wake()

    def _top(self, path: str | bytes) -> str:
        """Return the name of a folder straight below the watched one, empty for any other."""
        folder, _, name = os.fsdecode(path).rpartition("/")
        return name if folder == self._folder else ""


def _threads() -> frozenset[BaseThread]:
    """Return watchdog's threads; it does not say which of them belong to an observer."""
    return frozenset(t for t in threading.enumerate() if isinstance(t, BaseThread))


def quieten() -> None:
    """Keep watchdog's own log lines and warnings back: they name paths."""
    logging.getLogger("watchdog").setLevel(logging.CRITICAL)
    warnings.filterwarnings("ignore", "Callback with id", RuntimeWarning)
