"""The bundles of an inbox over time: what came out of each, and where its copies are.

What came out of a bundle is there as long as the bundle is there in the state that it was
unpacked in: it is listed like what stands in a folder. Copies are there only while there is work.
"""

from __future__ import annotations

import shutil
from collections import defaultdict
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

from dicomzarr_watch.identity import Identity
from dicomzarr_watch.intake.bundle import INSIDE, Form, form, outermost
from dicomzarr_watch.intake.listing import Entry, Folder
from dicomzarr_watch.intake.peek import Peek
from dicomzarr_watch.intake.roll import Limits
from dicomzarr_watch.intake.unpack import Unpacked, Unpacking, put_away, unpacked
from dicomzarr_watch.kind import Kind

_ANY_STATE: Final = Identity(0, 0, 0, 0)
"""Where copies and lists are does not depend on it."""


class Bundles:
    """What is known of bundles; place: the folder of all copies and lists, a private one."""

    def __init__(self, inbox: Path, place: Path, limits: Limits) -> None:
        self._inbox = inbox
        self._place = place
        self._limits = limits
        self._folders: dict[str, tuple[Identity, tuple[Folder, ...]]] = {}
        self._read: tuple[tuple[str, Identity] | None, dict[str, Peek]] = None, {}
        self._asked: dict[str, set[str]] = defaultdict(set)

    def unpacking(self, bundle: Entry) -> Unpacking:
        """Return what is to be done to have a bundle's copies there."""
        self._asked[bundle.drop].add(bundle.path)
        return self._task(bundle.path, bundle.identity)

    def place(self, file: Entry) -> tuple[Path, Unpacking | None]:
        """Return where a file's bytes are, and what must be unpacked for them to be there."""
        bundle, _, name = file.path.partition(INSIDE)
        if not name:
            return self._inbox / file.path, None
        identity, _ = self._folders[bundle]
        task = self.unpacking(Entry(bundle, identity))
        return task.copy(name), task

    def is_unpacked(self, bundle: Entry) -> bool:
        """Tell whether it is known what came out of a bundle in this state."""
        return self._known(bundle) is not None

    def folders(self, bundle: Entry) -> tuple[Folder, ...]:
        """Return what came out of a bundle, as folders behind its path; nothing if not known.

        A member is in another state if it says so, or if its bundle is in another one.
        """
        return self._known(bundle) or ()

    def peek(self, path: str) -> Peek:
        """Return what the header of a member said, by its path in the inbox."""
        bundle = outermost(path)
        identity, _ = self._folders[bundle]
        if self._read[0] != (bundle, identity):
            found = unpacked(self._task(bundle, identity)) or ()
            peeks = {f"{bundle}{INSIDE}{one.name}": one.peek for one in found}
            self._read = (bundle, identity), peeks
        return self._read[1].get(path, Peek(Kind.UNREADABLE))

    def forget(self, path: str) -> None:
        """Let go of all that is there of a bundle that is gone."""
        self._folders.pop(path, None)
        self._read = None, {}
        task = self._task(path)
        with suppress(OSError):  # what stays there does no harm
            task.list_file.unlink()
            put_away(task.folder)

    def put_away(self, drop: str) -> None:
        """Remove the copies that were made of a drop's bundles; no work on it may be under way."""
        for path in self._asked.pop(drop, ()):
            with suppress(OSError):
                put_away(self._task(path).folder)

    def clear(self) -> None:
        """Remove all copies, whole or not; no work at all may be under way."""
        self._asked.clear()
        for path in self._place.glob("*"):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            elif path.suffix != ".json":
                with suppress(OSError):
                    path.unlink()

    def _known(self, bundle: Entry) -> tuple[Folder, ...] | None:
        known = self._folders.get(bundle.path)
        if known is not None and known[0] == bundle.identity:
            return known[1]
        found = unpacked(self._task(bundle.path, bundle.identity))
        if found is None:
            return None
        folders = _folders(bundle, found)
        self._folders[bundle.path] = bundle.identity, folders
        return folders

    def _task(self, path: str, identity: Identity = _ANY_STATE) -> Unpacking:
        how = form(path) or Form.ZIP  # only what is called like a bundle is ever asked for
        return Unpacking(self._inbox, path, how, identity, self._place, self._limits)


def _folders(bundle: Entry, found: Iterable[Unpacked]) -> tuple[Folder, ...]:
    """Sort members into folders; each in a state that is its own and its bundle's."""
    folders: dict[str, Folder] = {}
    of = bundle.identity
    for one in found:
        path, _, name = f"{bundle.path}{INSIDE}{one.name}".rpartition("/")
        folder = folders.setdefault(path, Folder(path))
        folder.names.append(name)
        folder.states.extend((one.size, one.mtime_ns, of.ctime_ns, of.inode))
    return tuple(folders.values())
