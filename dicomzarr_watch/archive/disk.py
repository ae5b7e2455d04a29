"""Bytes that are on disk when a call returns, and the private place they are staged in."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Self

STAGING: Final = ".staging"
PROBE: Final = ".probe"
SYNCS_AT_ONCE: Final = 8

_AT_FDCWD: Final = -100
_NOREPLACE: Final = 1
_EXCHANGE: Final = 2


@contextmanager
def staging(output: Path, drop: str, folder: str) -> Iterator[Path]:
    """Give a private, empty folder on the output's file system; whatever stays in it goes."""
    place = output / STAGING / drop / folder
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)
        _remove_if_empty(place.parent)


def clear_staging(output: Path) -> None:
    """Remove what a killed conversion left; only while none is under way."""
    shutil.rmtree(output / STAGING, ignore_errors=True)


def write_durably(path: Path, data: bytes) -> None:
    """Replace a small file as a whole."""
    part = path.with_name(f".{path.name}.part")
    with part.open("wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())
    part.replace(path)
    sync(path.parent)


def takes_files(folder: Path) -> bool:
    """Tell whether a folder can be written to, by doing so."""
    probe = folder / PROBE
    try:
        write_durably(probe, b"?")
        probe.unlink()
    except OSError:
        return False
    return True


def make_durable(folder: Path) -> None:
    """Put a folder with all its files and folders on disk.

    Several at a time: the system writes its journal once for all that wait for it.
    """
    found = [Path(root, name) for root, _, names in os.walk(folder) for name in (*names, "")]
    with ThreadPoolExecutor(SYNCS_AT_ONCE, "sync") as pool:
        deque(pool.map(sync, found), maxlen=0)


class Syncing:
    """Puts files on disk, a few at a time, while other work goes on."""

    def __init__(self, at_once: int = 1) -> None:
        self._pool = ThreadPoolExecutor(at_once, "sync")
        self._under_way: list[Future[None]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def put(self, path: Path) -> None:
        """Have a file that has been written put on disk; any thread may ask for it."""
        self._under_way.append(self._pool.submit(sync, path))

    def wait(self) -> None:
        """Return when all files that were put are on disk; raises what the system refused."""
        for future in self._under_way:
            future.result()
        self._under_way.clear()


def sync(path: Path) -> None:
    """Put one file, or the names in one folder, on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def swap_names(one: Path, other: Path) -> None:
    """Swap two names in one step; raises OSError where the system or the file system cannot."""
    _renameat2(one, other, _EXCHANGE)


def rename_anew(one: Path, other: Path) -> None:
    """Rename to a name that nobody has; raises FileExistsError, or OSError where that cannot be."""
    _renameat2(one, other, _NOREPLACE)


def _renameat2(one: Path, other: Path, flags: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "renameat2"):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    paths = os.fsencode(one), os.fsencode(other)
    if libc.renameat2(_AT_FDCWD, paths[0], _AT_FDCWD, paths[1], flags):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _remove_if_empty(folder: Path) -> None:
    try:
        folder.rmdir()
        folder.parent.rmdir()
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT):
            raise
