"""Where log lines go: each is taken whole or not at all."""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from dicomzarr_watch.identity import Place


class Stream(Protocol):
    """What takes lines."""

    def isatty(self) -> bool: ...
    def write(self, line: str, /) -> object: ...
    def flush(self) -> None: ...


class Lines:
    """What takes a line whole or not at all, and keeps nothing of one that is not taken.

    What a buffer keeps, multiprocessing flushes before it starts a child, and fails as that does.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def isatty(self) -> bool:
        return os.isatty(self._descriptor)

    def write(self, line: str, /) -> None:
        data = line.encode("utf-8", "backslashreplace")  # names need not be text
        while count := os.write(self._descriptor, data):
            if count == len(data):
                return
            found = os.fstat(self._descriptor)
            if stat.S_ISREG(found.st_mode):
                os.ftruncate(self._descriptor, found.st_size - count)
                os.lseek(self._descriptor, -count, os.SEEK_CUR)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            data = data[count:]

    def flush(self) -> None:
        """Do nothing: what is written is with the system."""


class LogFile(Lines):
    """A file that takes lines; where it was moved away, as for rotation, a new one of its name."""

    def __init__(self, path: Path) -> None:
        self._path = path
        super().__init__(self._opened())

    def write(self, line: str, /) -> None:
        with suppress(OSError):  # such as a full disk: the one that was moved takes the line
            if Place.at(self._path) != Place.of(os.fstat(self._descriptor)):
                fresh = self._opened()
                os.dup2(fresh, self._descriptor, inheritable=False)
                os.close(fresh)
        super().write(line)

    def _opened(self) -> int:
        return os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
