"""A bundle's members as files of ours, in a private folder, and a list of what they are.

The rule: all of a bundle or nothing. Copies are filled into a folder under another name and the
list is written last, so that what is there is whole, whatever ended the process. Copies go when
their work is done, and are made again when they are needed; the list stays. Copies bear names of
ours, made of a hash: no name that somebody else chose reaches the file system.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Final

from dicomzarr_watch import lockfile, private
from dicomzarr_watch.errors import from_state_error
from dicomzarr_watch.identity import Identity
from dicomzarr_watch.intake.bundle import Form, form
from dicomzarr_watch.intake.members import members
from dicomzarr_watch.intake.peek import Peek, Peeks
from dicomzarr_watch.intake.roll import Limits, MemberKind, Roll, too_deep
from dicomzarr_watch.kind import Kind
from dicomzarr_watch.source import opened

_TIMES_NS: Final = (-(1 << 62), 1 << 62)


@dataclass(frozen=True, slots=True)
class Unpacking:
    """A bundle to unpack. path: in the inbox. place: the folder of all copies and lists."""

    inbox: Path
    path: str
    form: Form
    identity: Identity
    place: Path
    limits: Limits

    @property
    def folder(self) -> Path:
        """Where the copies are."""
        return self.place / _hashed(self.path)

    @property
    def list_file(self) -> Path:
        return self.folder.with_suffix(".json")

    def copy(self, name: str) -> Path:
        """Return where the copy of a member is; name: its path below the bundle."""
        return self.folder / _hashed(name)


@dataclass(frozen=True, slots=True)
class Unpacked:
    """A member that came out; name: its path below the bundle."""

    name: str
    size: int
    mtime_ns: int
    peek: Peek


def unpacked(task: Unpacking) -> list[Unpacked] | None:
    """Return what came out of a bundle in this state; None if that is not known."""
    try:
        said = json.loads(task.list_file.read_bytes())
        if said["identity"] != list(task.identity):
            return None
        return [
            Unpacked(name, size, mtime_ns, Peek(Kind(kind), *of_peek))
            for name, size, mtime_ns, kind, *of_peek in said["members"]
        ]
    except (OSError, ValueError, KeyError, TypeError):
        return None  # it is not durable: a power cut may leave any bytes


def unpack(task: Unpacking) -> int:
    """See that a bundle's copies and its list are there; return how many files came out.

    Others may ask for the same at the same time. Raises RejectError with a code of the bundle's,
    SourceChangedError, or RetryError for what the system refuses; then neither is there.
    """
    if task.limits.depth < 1:
        raise too_deep(task.limits.depth)
    try:
        private.make_folder(task.place)
        with _alone(task):
            known = unpacked(task)
            if known is None or not task.folder.is_dir():
                known = _unpacked_anew(task)
        return len(known)
    except OSError as error:
        raise from_state_error(error) from error


def put_away(folder: Path) -> None:
    """Remove the copies of a bundle; none of its work may be under way."""
    part = folder.with_suffix(".part")  # half a folder under its own name would be taken as whole
    shutil.rmtree(part, ignore_errors=True)
    with suppress(FileNotFoundError):
        folder.rename(part)
    shutil.rmtree(part, ignore_errors=True)


def _unpacked_anew(task: Unpacking) -> list[Unpacked]:
    """Unpack; a list of this very state stays as it is if that fails."""
    put_away(task.folder)
    part = task.folder.with_suffix(".part")
    private.make_folder(part)
    try:
        with opened(task.inbox / task.path, task.identity) as file:
            unpacker = _Unpacker(part, task.limits, Roll(task.limits, task.identity.size))
            found = list(unpacker.files(file, task.form))
        _write_list(task, found)
        part.rename(task.folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return found


@dataclass(frozen=True, slots=True)
class _Unpacker:
    """Writes copies into a folder."""

    folder: Path
    limits: Limits
    roll: Roll
    peek: Peeks = field(default_factory=Peeks)

    def files(self, file: BinaryIO, how: Form, within: str = "") -> Iterator[Unpacked]:
        """Yield the files in a bundle, and those of the bundles in it, as their copies are made.

        within: the path of the bundle below that of the inbox.
        """
        for member, pieces in members(how, file, self.roll.spend, self.limits.members):
            name = self.roll.admit(member, within)
            if member.kind is not MemberKind.FILE:
                continue
            mtime_ns = min(max(member.mtime_ns, _TIMES_NS[0]), _TIMES_NS[1])
            copy = self.folder / _hashed(name)
            _write(copy, pieces, mtime_ns)
            found = self.peek(copy)
            inner = form(name) if found.kind is Kind.NOT_DICOM else None
            if inner is not None:
                found = Peek(Kind.UNPACKED)
                self.roll.enter(name)
            yield Unpacked(name, member.size, mtime_ns, found)
            if inner is not None:
                with copy.open("rb") as stream:
                    yield from self.files(stream, inner, name)
                copy.unlink()


def _write(copy: Path, pieces: Iterable[bytes], mtime_ns: int) -> None:
    private.make_file(copy, is_new=True)
    with copy.open("wb") as stream:
        for piece in pieces:
            stream.write(piece)
    os.utime(copy, ns=(mtime_ns, mtime_ns))


def _write_list(task: Unpacking, found: Iterable[Unpacked]) -> None:
    rows = [[one.name, one.size, one.mtime_ns, *one.peek] for one in found]
    said = {"identity": task.identity, "members": rows}
    part = task.folder.with_suffix(".json.part")
    private.make_file(part)
    part.write_text(json.dumps(said))
    part.replace(task.list_file)


@contextmanager
def _alone(task: Unpacking) -> Iterator[None]:
    """Let nobody else unpack the same bundle meanwhile."""
    descriptor = lockfile.take(task.folder.with_suffix(".lock"), patience_s=math.inf)
    assert descriptor is not None  # it waits for ever
    try:
        yield
    finally:
        os.close(descriptor)


def _hashed(name: str) -> str:
    return hashlib.sha256(os.fsencode(name)).hexdigest()[:32]
