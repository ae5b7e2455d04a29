"""File systems of a test's own, mounted for as long as it lasts; needs root."""

from __future__ import annotations

import errno
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

BALLAST = ".ballast"


@contextmanager
def mounted(folder: Path, options: str = "size=8m") -> Iterator[Path]:
    """Mount a file system in memory; what is mounted over it in the meantime goes as well."""
    folder.mkdir(parents=True, exist_ok=True)
    mount(folder, options)
    try:
        yield folder
    finally:
        while is_mounted(folder):
            unmount(folder)


def is_mounted(folder: Path) -> bool:
    """Tell whether something is mounted there, be it of the same file system as what is around."""
    mounts = Path("/proc/self/mounts").read_text().splitlines()
    return str(folder) in {line.split(" ")[1] for line in mounts}


def mount(folder: Path, options: str = "size=8m") -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], check=True)


def change(folder: Path, options: str) -> None:
    """Change a file system that is mounted: read-only or not, larger."""
    subprocess.run(["mount", "-o", f"remount,{options}", folder], check=True)


def unmount(folder: Path) -> None:
    """Unmount it, even if somebody still has files of it open."""
    subprocess.run(["umount", "--lazy", folder], check=True)


def fill(folder: Path) -> Path:
    """Write a file until the disk is full, and return it."""
    path = folder / BALLAST
    with path.open("wb", buffering=0) as stream:
        try:
            while stream.write(bytes(4096)):
                pass
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
    return path
