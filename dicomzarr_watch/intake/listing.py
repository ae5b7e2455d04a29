"""What stands in the inbox now: every regular file below it, and what could not be looked at.

Symbolic links are not followed and sockets, devices and pipes passed over. Hidden and temporary
names are listed but marked: they are on their way to another name.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dicomzarr_watch.identity import Identity

LOOSE: Final = "_loose"
"""The drop of files that lie straight in the inbox."""

_TEMPORARY_ENDINGS: Final = (
    ".part",
    ".partial",
    ".tmp",
    ".temp",
    ".filepart",
    ".crdownload",
    ".swp",
    "~",
)


@dataclass(frozen=True, slots=True)
class Place:
    """Which folder the inbox is, whatever its path says: device and inode."""

    device: int
    inode: int


@dataclass(frozen=True, slots=True)
class Entry:
    """One file; path relative to the inbox, parts joined by `/`."""

    path: str
    identity: Identity

    @property
    def drop(self) -> str:
        """The top-level folder, or LOOSE; a folder that is called so has a further underscore."""
        top, slash, _ = self.path.partition("/")
        if not slash:
            return LOOSE
        return f"{top}_" if top.startswith(LOOSE) else top

    @property
    def name(self) -> str:
        """The path within the drop."""
        return self.path.partition("/")[2] or self.path

    @property
    def is_temporary(self) -> bool:
        """Whether a part of the path says that the file is not meant to be taken yet."""
        return any(is_temporary(part) for part in self.path.split("/"))


@dataclass(frozen=True, slots=True)
class Listing:
    """One look. unreadable: folders that could not be listed."""

    place: Place
    entries: tuple[Entry, ...]
    unreadable: tuple[str, ...] = ()


def is_temporary(name: str) -> bool:
    """Tell whether a file or folder name is hidden or that of an unfinished copy."""
    return name.startswith(".") or name.lower().endswith(_TEMPORARY_ENDINGS)


def listing(inbox: Path) -> Listing | None:
    """List the inbox; None if it is not there, which says nothing about its files."""
    try:
        found = inbox.stat()
        if not stat.S_ISDIR(found.st_mode):
            return None
        unreadable: list[str] = []
        entries = tuple(sorted(_walk(inbox, unreadable), key=lambda e: e.path))
        after = inbox.stat()
    except OSError:
        return None
    place = Place(found.st_dev, found.st_ino)
    if place != Place(after.st_dev, after.st_ino):
        return None  # exchanged while it was read
    return Listing(place, entries, tuple(unreadable))


def _walk(inbox: Path, unreadable: list[str]) -> Iterator[Entry]:
    folders = [""]
    while folders:
        folder = folders.pop()
        try:
            with os.scandir(inbox / folder) as found:
                children = list(found)
        except FileNotFoundError:
            if not folder:
                raise
            continue  # gone since its parent was read
        except OSError:
            if not folder:
                raise
            unreadable.append(folder)
            continue
        for child in children:
            path = f"{folder}/{child.name}" if folder else child.name
            if child.is_dir(follow_symlinks=False):
                folders.append(path)
            else:
                yield from _entry(child, path)


def _entry(child: os.DirEntry[str], path: str) -> Iterator[Entry]:
    try:
        found = child.stat(follow_symlinks=False)
    except OSError:
        return  # gone since its folder was read
    if stat.S_ISREG(found.st_mode):
        yield Entry(path, Identity.of(found))
