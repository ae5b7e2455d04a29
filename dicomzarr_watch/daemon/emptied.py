"""Folders of the inbox that our clearing left empty; they go once nobody has touched them a while.

The rule: only folders in which files of ours to clear stood, and those above them up to the drop's,
never the inbox. None that has changed within `settle_s`, by a clock of our own, so that a producer
who is about to write there finds it; what is not empty stays by the system's own word.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from dicomzarr_watch.source import folder_below

_Stamp = tuple[int, int, int]


class Emptied:
    """Folders that may be empty, each as it was last seen and since when it is so."""

    def __init__(self, inbox: Path, settle_s: float) -> None:
        self._inbox = inbox
        self._settle_s = settle_s
        self._seen: dict[str, tuple[_Stamp, float]] = {}

    @property
    def due_s(self) -> float:
        """When the next folder may go, on the monotonic clock; infinity if there is none."""
        above = self._above()
        last = (since for path, (_, since) in self._seen.items() if path not in above)
        return min(last, default=float("inf")) + self._settle_s

    def add(self, files: Iterable[str], now_s: float) -> None:
        """Take note of files that went, by their paths in the inbox."""
        folders = {path.rpartition("/")[0] for path in files} - {""}
        for folder in folders:
            for above in _upwards(folder):
                self._look(above, now_s)

    def remove(self, now_s: float) -> int:
        """Remove the folders that are empty and have settled; return how many."""
        count = 0
        for path in list(self._seen):
            self._look(path, now_s)
        above = self._above()
        for path in sorted(self._seen, key=lambda p: p.count("/"), reverse=True):
            if above[path] or now_s < self._seen[path][1] + self._settle_s:
                continue
            del self._seen[path]
            parent = path.rpartition("/")[0]
            above[parent] -= 1
            is_settled = parent in self._seen and self._stamp(parent) == self._seen[parent][0]
            with suppress(OSError):  # something is in it, or it went
                with folder_below(self._inbox, parent) as folder:
                    os.rmdir(path.rpartition("/")[2], dir_fd=folder)
                count += 1
                if is_settled and (changed := self._stamp(parent)):
                    self._seen[parent] = changed, self._seen[parent][1]  # the change was ours
        return count

    def _above(self) -> Counter[str]:
        """Count of each folder those straight in it that may go before."""
        return Counter(path.rpartition("/")[0] for path in self._seen)

    def _look(self, path: str, now_s: float) -> None:
        """Note how a folder is, and since when; forget one that is not there."""
        found = self._stamp(path)
        if found is None:
            self._seen.pop(path, None)
        elif path not in self._seen or self._seen[path][0] != found:
            self._seen[path] = found, now_s

    def _stamp(self, path: str) -> _Stamp | None:
        try:
            with folder_below(self._inbox, path) as folder:
                found = os.fstat(folder)
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns, found.st_ctime_ns


def _upwards(folder: str) -> Iterable[str]:
    """Yield a folder and those above it, below the inbox."""
    while folder:
        yield folder
        folder = folder.rpartition("/")[0]
