"""Bytes that are on disk when a call returns, and the private place they are staged in."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Collection, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, Self

from dicomzarr_watch import libc, private

STAGING: Final = ".staging"
PROBE: Final = ".probe"
SYNCS_AT_ONCE: Final = 4
LARGE_BYTES: Final = 1 << 20

_SYNCS: Final = ThreadPoolExecutor(SYNCS_AT_ONCE, "sync")
"""Kept, as starting threads takes longer than putting a small archive on disk."""

_TRIES: Final = 100


@contextmanager
def staging(output: Path, drop: str, folder: str) -> Iterator[Path]:
    """Give a private, empty folder on the output's file system; whatever stays in it goes."""
    place = output / STAGING / drop / folder
    shutil.rmtree(place, ignore_errors=True)
    _make_anew(place)
    private.make_folder(output / STAGING)  # below it, modes are those of what is published
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)
        _remove_if_empty(place.parent)


def _make_anew(place: Path) -> None:
    """Make a folder, although others who leave take away those above it that are empty."""
    for _ in range(_TRIES):
        with suppress(FileNotFoundError):
            place.mkdir(parents=True)
            return
    place.mkdir(parents=True)


def clear_staging(output: Path) -> None:
    """Remove what a killed conversion left; only while none is under way."""
    shutil.rmtree(output / STAGING, ignore_errors=True)


def write_durably(path: Path, data: bytes) -> None:
    """Replace a small file as a whole."""
    part = path.with_name(f".{path.name}.part")
    write_seen(part, data)
    sync(part)
    part.replace(path)
    sync(path.parent)


def write_seen(path: Path, data: bytes) -> None:
    """Write a small file and read it again; raises OSError if it is not what was written."""
    path.write_bytes(data)
    if path.read_bytes() != data:
        raise OSError(errno.EIO, os.strerror(errno.EIO), os.fspath(path))


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
    shares = [found[n::SYNCS_AT_ONCE] for n in range(SYNCS_AT_ONCE)]
    _all_done([_SYNCS.submit(_sync_all, share) for share in shares])


def _sync_all(paths: Iterable[Path]) -> None:
    for path in paths:
        sync(path)


def _all_done(under_way: Collection[Future[None]]) -> None:
    wait(under_way)
    for future in under_way:
        future.result()


class Syncing:
    """Puts files on disk, a few at a time, while other work goes on."""

    def __init__(self) -> None:
        self._under_way: list[Future[None]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        wait([future for future in self._under_way if not future.cancel()])

    def put(self, path: Path) -> None:
        """Have a file that has been written put on disk; any thread may ask for it."""
        self._under_way.append(_SYNCS.submit(sync, path))

    def put_large(self, path: Path) -> None:
        """Have it put on disk if that takes a while; small ones go faster together, at the end."""
        if path.stat().st_size >= LARGE_BYTES:
            self.put(path)

    def wait(self) -> None:
        """Return when all files that were put are on disk; raises what the system refused."""
        _all_done(self._under_way)
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
    libc.renameat2(one, other, libc.RENAME_EXCHANGE)


def rename_anew(one: Path, other: Path) -> None:
    """Rename to a name that nobody has; raises FileExistsError, or OSError where that cannot be."""
    libc.renameat2(one, other, libc.RENAME_NOREPLACE)


def _remove_if_empty(folder: Path) -> None:
    try:
        folder.rmdir()
        folder.parent.rmdir()
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT):
            raise
