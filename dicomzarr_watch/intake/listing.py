"""What stands in the inbox now: every regular file below it, and what could not be looked at.

What came out of a zip or tar file stands where that stands, behind a double slash.
Symbolic links are not followed and sockets, devices and pipes passed over. Hidden and temporary
names are listed but marked: they are on their way to another name. Files are kept in columns, a
folder each: a million of them are to fit in memory, and to be compared in no time.
"""

from __future__ import annotations

import hashlib
import os
import stat
from array import array
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

from dicomzarr_watch.identity import Identity, Place
from dicomzarr_watch.intake.bundle import INSIDE, form, stem
from dicomzarr_watch.libc import NAME_MOST_BYTES

LOOSE: Final = "_loose"
"""The drop of files that lie straight in the inbox."""

OURS: Final = (LOOSE, ".staging", ".evidence", ".probe", ".lock")
"""What stands in an output beside drops; folders of the inbox may be called so as well."""

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


class Entry(NamedTuple):
    """One file; path relative to the inbox, parts joined by `/`."""

    path: str
    identity: Identity

    @property
    def drop(self) -> str:
        """The top-level folder or bundle, or LOOSE; if called like OURS, with an underscore."""
        return drop_of_file(self.path)

    @property
    def name(self) -> str:
        """The path within the drop."""
        return self.plain_path.partition("/")[2] or self.path

    @property
    def plain_path(self) -> str:
        """The path as if bundles were folders."""
        return self.path.replace(INSIDE, "/")

    @property
    def root(self) -> str:
        """The folder or bundle straight in the inbox that it is in; empty if it is in none."""
        top, slash, _ = self.path.partition("/")
        return top if slash else ""

    @property
    def is_temporary(self) -> bool:
        """Whether a part of the path says that the file is not meant to be taken yet."""
        return any(map(is_temporary, self.path.partition(INSIDE)[0].split("/")))


@dataclass(slots=True)
class Folder:
    """The files straight in one folder, in no order; not to be changed once it is listed.

    path: relative to the inbox, empty for the inbox itself. states: four numbers for each of the
    names, those of its Identity.
    """

    path: str
    names: list[str] = field(default_factory=list)
    states: array[int] = field(default_factory=lambda: array("q"))

    def identity(self, number: int) -> Identity:
        return Identity(*self.states[4 * number : 4 * number + 4])

    def path_of(self, number: int) -> str:
        name = self.names[number]
        return f"{self.path}/{name}" if self.path else name

    def entry(self, number: int) -> Entry:
        return Entry(self.path_of(number), self.identity(number))


Drops = dict[str, dict[str, Folder]]
"""The folders that have files, by their path, of each drop."""


@dataclass(frozen=True, slots=True)
class Listing:
    """One look.

    unreadable: folders that could not be listed, and those with files that could not be looked at.
    What an earlier listing found below the former, and straight in the latter, is given again.
    """

    place: Place
    drops: Drops
    unreadable: tuple[str, ...] = ()

    @property
    def entries(self) -> tuple[Entry, ...]:
        """All files, by path."""
        folders = (folder for drop in self.drops.values() for folder in drop.values())
        found = (folder.entry(n) for folder in folders for n in range(len(folder.names)))
        return tuple(sorted(found, key=lambda e: e.path))


def is_temporary(name: str) -> bool:
    """Tell whether a file or folder name is hidden or that of an unfinished copy."""
    return name.startswith(".") or name.lower().endswith(_TEMPORARY_ENDINGS)


def drop_of_file(path: str) -> str:
    """Return the drop that a file of the inbox belongs to."""
    folder, slash, name = path.rpartition("/")
    if not slash and form(name):
        folder = f"{name}/"  # it is what comes out of it
    return drop_of(folder)


def drop_of(folder: str) -> str:
    """Return the drop that a folder belongs to, be it one of the inbox or in a bundle."""
    top, slash, below = folder.partition("/")
    if not top:
        return LOOSE
    if slash and (not below or below.startswith("/")):
        top = stem(top)
    return _apart_from_ours(top) if top.startswith(OURS) else top


def _apart_from_ours(name: str) -> str:
    """Add an underscore; where a folder's name has no room for it, a hash in place of its end."""
    raw = os.fsencode(name)
    if len(raw) < NAME_MOST_BYTES:
        return f"{name}_"
    digest = hashlib.sha256(raw).hexdigest()[:8]
    return raw[: NAME_MOST_BYTES - 9].decode(errors="ignore") + "~" + digest


Inside = Callable[[Entry], Iterable[Folder]]
"""Returns the folders of what came out of a bundle, if anything has."""


def listing(
    inbox: Path, before: Drops | None = None, inside: Inside = lambda _: ()
) -> Listing | None:
    """List the inbox; None if it is not there, which says nothing about its files.

    before: what an earlier listing found. Folders that are the same are given as these objects.
    """
    try:
        found = inbox.stat()
        if not stat.S_ISDIR(found.st_mode):
            return None
        walk = _Walk(inbox, before or {}, inside)
        walk.go()
        after = inbox.stat()
    except OSError:
        return None
    place = Place.of(found)
    if place != Place.of(after):
        return None  # exchanged while it was read
    return Listing(place, walk.drops, tuple(walk.unreadable))


class _Walk:
    """One way through the inbox."""

    def __init__(self, inbox: Path, before: Drops, inside: Inside) -> None:
        self.drops: Drops = {}
        self.unreadable: list[str] = []
        self._inbox = os.fspath(inbox)
        self._before = before
        self._inside = inside

    def go(self) -> None:
        """Look into every folder; raises OSError if the inbox itself cannot be listed."""
        todo = [""]
        while todo:
            path = todo.pop()
            before = self._before.get(drop_of(path), {})
            try:
                folder, below, is_whole = self._listed(path)
            except OSError as error:
                if not path:
                    raise
                if isinstance(error, FileNotFoundError):
                    continue  # gone since its parent was read
                self.unreadable.append(path)
                self._keep({p: f for p, f in before.items() if f"{p}/".startswith(f"{path}/")})
                continue
            todo += below
            if not is_whole:
                self.unreadable.append(path)
                folder = before.get(path) or Folder(path)
            if folder.names:
                self._keep_folder(folder)
            for number, name in enumerate(folder.names):
                if form(name):
                    for within in self._inside(folder.entry(number)):
                        self._keep_folder(within)

    def _keep_folder(self, folder: Folder) -> None:
        known = self._before.get(drop_of(folder.path), {}).get(folder.path)
        self._keep({folder.path: known if known == folder else folder})

    def _keep(self, folders: Mapping[str, Folder]) -> None:
        for path, folder in folders.items():
            self.drops.setdefault(drop_of(path), {})[path] = folder

    def _listed(self, path: str) -> tuple[Folder, list[str], bool]:
        """Return the files in a folder, the folders in it, and whether those are all there are."""
        folder, below, is_whole = Folder(path), [], True
        with os.scandir(f"{self._inbox}/{path}") as found:
            children = list(found)
        for child in children:
            try:
                if child.is_dir(follow_symlinks=False):
                    below.append(f"{path}/{child.name}" if path else child.name)
                    continue
                state = child.stat(follow_symlinks=False)
            except (FileNotFoundError, NotADirectoryError):
                continue  # gone since its folder was read
            except OSError:
                is_whole = False
                continue
            if stat.S_ISREG(state.st_mode):
                folder.names.append(child.name)
                folder.states.extend(Identity.of(state))
        return folder, below, is_whole
