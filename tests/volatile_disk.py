"""A disk with a cache that a power cut empties; needs root, FUSE and a loop device.

As a script, `volatile_disk.py IMAGE FILE`: show an image as a file, and hold what is written to it
in memory until a flush, as the cache of a disk does. A file system on a loop device over that file
asks for a flush where its rules want one, such as in fsync. The script reads lines, the odds of a
sector in the cache and the name of a file, and writes there what a power cut at this instant would
leave. The numbers are those of Linux; fuse(4) and its header tell of them.
"""

from __future__ import annotations

import ctypes
import errno
import os
import selectors
import stat
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Final

SECTOR: Final = 4096
"""What a disk writes as a whole."""
MOUNTED: Final = b"mounted\n"
WRITTEN: Final = b"written\n"
PATIENCE_S: Final = 60

_IN: Final = struct.Struct("=IIQQIIII")
"""struct fuse_in_header: length, call, number, node, user, group, process, more."""
_OUT: Final = struct.Struct("=IiQ")
"""struct fuse_out_header: length, negative error, number."""
_INIT_OUT: Final = struct.Struct("=4I2H2I2H32x")
"""struct fuse_init_out: version, read-ahead, flags, queue, largest write, time, pages."""
_ATTRIBUTES: Final = struct.Struct("=QII6Q10I")
"""struct fuse_attr_out: valid for; inode, size, blocks, times; nanoseconds, mode and the rest."""
_OPENED: Final = struct.Struct("=QII")
_PLACE: Final = struct.Struct("=QQI")
"""What reads and writes begin with: handle, offset, size."""
_WRITE_BYTES: Final = 40
"""struct fuse_write_in; what is written stands behind it."""
_UNANSWERED: Final = frozenset({2, 36, 42})
"""FORGET, INTERRUPT, BATCH_FORGET."""
_FLAGS: Final = 1 << 5 | 1 << 22
"""FUSE_BIG_WRITES and FUSE_MAX_PAGES."""
_MOST_BYTES: Final = 1 << 20
_LONG_S: Final = 3600


class Disk:
    """What is on the platter, and what is only in the cache, by sector."""

    def __init__(self, image: bytes) -> None:
        self._durable = bytearray(image)
        self._cached: dict[int, bytearray] = {}
        self.size = len(image)

    def read(self, offset: int, size: int) -> bytes:
        first, last = offset // SECTOR, -(-(offset + size) // SECTOR)
        found = b"".join(self._cached.get(n) or self._sector(n) for n in range(first, last))
        return found[offset - first * SECTOR :][:size]

    def write(self, offset: int, data: bytes) -> None:
        while data:
            number, at = divmod(offset, SECTOR)
            piece = data[: SECTOR - at]
            sector = self._cached.setdefault(number, self._sector(number))
            sector[at : at + len(piece)] = piece
            offset, data = offset + len(piece), data[len(piece) :]

    def flush(self) -> None:
        self._put(self._durable, self._cached)
        self._cached.clear()

    def after_cut(self, odds: float, chance: Random) -> bytes:
        """Return what was flushed, with some sectors of what was not, in no order."""
        left = bytearray(self._durable)
        self._put(left, [n for n in self._cached if chance.random() < odds])
        return bytes(left)

    def _sector(self, number: int) -> bytearray:
        return self._durable[number * SECTOR : (number + 1) * SECTOR]

    def _put(self, image: bytearray, numbers: Iterable[int]) -> None:
        for number in numbers:
            image[number * SECTOR : (number + 1) * SECTOR] = self._cached[number]


def answer(disk: Disk, call: int, said: bytes) -> bytes | None:
    """Do what the kernel asks of the only file there is; None for what is not to be had."""
    match call:
        case 3:  # GETATTR
            mode = stat.S_IFREG | 0o600
            rest = (0, 0, 0, mode, 1, 0, 0, 0, SECTOR, 0)
            return _ATTRIBUTES.pack(_LONG_S, 0, 0, 1, disk.size, disk.size // 512, 0, 0, 0, *rest)
        case 14:  # OPEN
            return _OPENED.pack(0, 0, 0)
        case 15:  # READ
            _, offset, size = _PLACE.unpack_from(said)
            return disk.read(offset, size)
        case 16:  # WRITE
            _, offset, size = _PLACE.unpack_from(said)
            disk.write(offset, said[_WRITE_BYTES:])
            return struct.pack("=II", size, 0)
        case 20:  # FSYNC
            disk.flush()
            return b""
        case 18 | 25:  # RELEASE, FLUSH: of a handle, not of a disk
            return b""
        case 26:  # INIT
            pages = _MOST_BYTES // SECTOR
            return _INIT_OUT.pack(7, 31, _MOST_BYTES, _FLAGS, 0, 0, _MOST_BYTES, 1, pages, 0)
        case _:
            return None


def serve(disk: Disk, kernel: int) -> None:
    """Answer the kernel until the file is unmounted, and cut as often as we are told to."""
    chance = Random()  # noqa: S311 - nothing is to be kept secret
    with selectors.DefaultSelector() as waiting:
        waiting.register(kernel, selectors.EVENT_READ)
        waiting.register(sys.stdin, selectors.EVENT_READ)
        while True:
            ready = {key.fd for key, _ in waiting.select()}
            if kernel in ready:
                try:
                    asked = os.read(kernel, 2 * _MOST_BYTES)
                except OSError as error:
                    if error.errno == errno.ENODEV:
                        return
                    raise
                _, call, number, *_ = _IN.unpack_from(asked)
                if call not in _UNANSWERED:
                    found = answer(disk, call, asked[_IN.size :])
                    refused = 0 if found is not None else -errno.ENOSYS
                    found = found or b""
                    os.write(kernel, _OUT.pack(_OUT.size + len(found), refused, number) + found)
            elif line := sys.stdin.readline():
                odds, _, path = line.rstrip("\n").partition(" ")
                Path(path).write_bytes(disk.after_cut(float(odds), chance))
                os.write(1, WRITTEN)
            else:
                waiting.unregister(sys.stdin)


def mount(file: Path, kernel: int) -> None:
    """Have the kernel ask us for what is in a file."""
    libc = ctypes.CDLL(None, use_errno=True)
    options = f"fd={kernel},rootmode={stat.S_IFREG | 0o600:o},user_id=0,group_id=0"
    if libc.mount(b"disk", os.fsencode(file), b"fuse", 0, options.encode()):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


# --- for tests ---

Cut = Callable[[Path, float], None]
"""Writes the image that a power cut leaves; odds: of sectors that were not flushed."""


def formatted(image: Path, size: int) -> Path:
    """Make the image of an empty disk."""
    image.touch()
    os.truncate(image, size)
    subprocess.run(["mkfs.ext4", "-q", "-F", "-b", str(SECTOR), image], check=True)
    return image


@contextmanager
def steady(image: Path, folder: Path) -> Iterator[None]:
    """Mount an image as it is; all that is written is in it afterwards."""
    folder.mkdir(exist_ok=True)
    subprocess.run(["mount", "-o", "loop", image, folder], check=True)
    try:
        yield
    finally:
        unmount(folder)


def unmount(folder: Path) -> None:
    """Unmount a folder as soon as the last process lets go of it; one that was killed does soon."""
    until_s = time.monotonic() + PATIENCE_S
    while (
        found := subprocess.run(["umount", folder], capture_output=True, check=False)
    ).returncode:
        assert time.monotonic() < until_s, found.stderr


@contextmanager
def volatile(image: Path, folder: Path) -> Iterator[Cut]:
    """Mount an image on a disk with a cache; the image itself stays as it is."""
    file = image.with_suffix(".disk")
    file.touch()
    command: list[str | Path] = [sys.executable, __file__, image, file]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        assert server.stdout.readline() == MOUNTED

        def cut(left: Path, odds: float) -> None:
            assert server.stdin is not None
            assert server.stdout is not None
            server.stdin.write(f"{odds} {left}\n".encode())
            server.stdin.flush()
            assert server.stdout.readline() == WRITTEN

        try:
            with steady(file, folder):
                yield cut
        finally:
            subprocess.run(["umount", "--lazy", file], check=True)
            server.terminate()  # it has ended, unless something keeps the folder in use


if __name__ == "__main__":
    device = os.open("/dev/fuse", os.O_RDWR)
    mount(Path(sys.argv[2]), device)
    os.write(1, MOUNTED)
    serve(Disk(Path(sys.argv[1]).read_bytes()), device)
