"""A file of the producer, opened in the state that it was found in, or parts of it as it is now.

A link in the place of a file is never followed. One in the place of a folder is not followed to
move or delete anything; it may be to read, as what is opened must be the very file that was listed,
in its state. Excerpts may be of another file, which shows as soon as that is opened.
"""

from __future__ import annotations

import errno
import fcntl
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING, Self

from dicomzarr_watch.errors import (
    RejectError,
    RetryError,
    SourceChangedError,
    from_source_error,
)
from dicomzarr_watch.identity import Identity

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer


def _open_no_link(path: Path | str, flags: int) -> int:
    """Open a file as `open` does, but not a link's target; a pipe does not make it wait."""
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)


class Excerpts:
    """Parts of a file, in whatever state it is; all of it raises OSError only."""

    __slots__ = ("_descriptor",)

    def __init__(self, path: Path | str) -> None:
        self._descriptor = _open_no_link(path, os.O_RDONLY)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)

    @property
    def size(self) -> int:
        return os.lseek(self._descriptor, 0, os.SEEK_END)

    def read(self, offset: int, count: int) -> bytes:
        """Return so many bytes from an offset; fewer only at the end of the file."""
        return os.pread(self._descriptor, count, offset)


@contextmanager
def folder_below(root: Path, path: str) -> Iterator[int]:
    """Give a folder below a root as a descriptor; raises OSError if a link leads to it.

    path: relative to the root, parts joined by `/`; empty for the root itself.
    """
    flags = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
    found = os.open(root, flags)
    try:
        for part in filter(None, path.split("/")):
            above, found = found, os.open(part, flags | os.O_NOFOLLOW, dir_fd=found)
            os.close(above)
        yield found
    finally:
        os.close(found)


class _SourceFile(FileIO):
    """A file whose read errors are told apart from those of what is written."""

    def read(self, size: int | None = -1, /) -> bytes:
        try:
            return super().read(-1 if size is None else size) or b""
        except OSError as error:
            raise from_source_error(error) from error

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        try:
            return super().readinto(buffer) or 0
        except OSError as error:
            raise from_source_error(error) from error


@contextmanager
def at_rest(path: Path, identity: Identity, *, is_local: bool) -> Iterator[None]:
    """Have a file in the state it was found in, that nobody has open for writing.

    is_local: whether this machine alone knows who has it open. It tells that of the files of one's
    own and, to root, of all. Raises SourceChangedError, or RetryError for what somebody writes to.
    """
    descriptor = _open_no_link(path, os.O_RDONLY)
    try:
        if is_local and _is_written_to(descriptor):
            raise RetryError(
                "original-in-use",
                expected="an original that nobody has open for writing",
                found="one that somebody has",
                todo="nothing if that comes to its end; else end the program that has it open",
            )
        if Identity.of(path.lstat()) != identity:
            raise SourceChangedError("source-changed", found="another file of its name")
        yield
    finally:
        os.close(descriptor)


def _is_written_to(descriptor: int) -> bool:
    """Tell whether somebody has a file open for writing; if the system does not say, nobody has.

    A lease for reading (fcntl(2)) is not to be had then. It goes as the descriptor is closed; who
    opens the file in between waits for that, and we are told of it by a signal that does no harm.
    """
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


@contextmanager
def opened(path: Path, identity: Identity) -> Iterator[FileIO]:
    """Open a file for reading; raises if it is not in the state it was found in.

    Raises SourceChangedError before or after the reading, RetryError for what the system refuses.
    """
    try:
        stream = _SourceFile(os.fspath(path), opener=_open_no_link)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ELOOP):
            raise SourceChangedError("source-changed", found="no file") from error
        raise from_source_error(error) from error
    with stream:
        _check(stream, identity)
        try:
            yield stream
        except RejectError:
            _check(stream, identity)  # what changes meanwhile is not to blame for what was read
            raise
        _check(stream, identity)


def _check(stream: FileIO, identity: Identity) -> None:
    if Identity.of(os.fstat(stream.fileno())) != identity:
        raise SourceChangedError("source-changed", found="another state of a file")
