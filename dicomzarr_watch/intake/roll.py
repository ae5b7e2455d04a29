"""What may come out of a zip or tar file: decided member by member, before a byte is written.

The rule: a bundle is taken whole or not at all, and what comes out of it is a file with a name
that stays below it. Names of members are told, listed and restored; no file of ours ever bears
one. Knows neither files nor formats.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Protocol

from dicomzarr_watch.errors import RejectError
from dicomzarr_watch.intake.bundle import INSIDE
from dicomzarr_watch.libc import NAME_MOST_BYTES

PATH_MOST_BYTES: Final = 2048
"""Half of what the system allows: a member is restored below another folder."""
DENSE_BYTES: Final = 256 << 20
"""So much may come out of the smallest bundle: a few empty images compress a thousandfold."""

_DRIVE: Final = re.compile(r"[A-Za-z]:[/\\]")


class MemberKind(StrEnum):
    """What a member is."""

    FILE = "file"
    FOLDER = "folder"
    LINK = "link"
    DEVICE = "device"
    SPARSE = "sparse"
    UNKNOWN = "unknown"


_REFUSED: Final = {
    MemberKind.LINK: "archive-link",
    MemberKind.DEVICE: "archive-device",
    MemberKind.SPARSE: "archive-sparse",
    MemberKind.UNKNOWN: "archive-odd-member",
}


@dataclass(frozen=True, slots=True)
class Member:
    """What a bundle says of a member.

    name: as it stands there, bytes that are no text escaped as `os.fsdecode` does.
    """

    name: str
    kind: MemberKind
    size: int = 0
    mtime_ns: int = 0
    is_encrypted: bool = False


class Stream(Protocol):
    """What can be read bit by bit."""

    def read(self, count: int, /) -> bytes: ...


Members = Iterator[tuple[Member, Callable[[], Stream]]]
"""Members and how to open each; to be read before the next is asked for."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What may come out of one bundle of the inbox, bundles in it included.

    ratio: bytes out for a byte in. depth: how many bundles may lie in one another; 0: none is
    unpacked.
    """

    members: int
    bytes: int
    ratio: float
    depth: int

    def allowance(self, size: int) -> tuple[int, RejectError]:
        """Return how many bytes may come out of a bundle of so many, and what is raised of more."""
        dense = max(DENSE_BYTES, int(self.ratio * size))
        if dense < self.bytes:
            return dense, _over("archive-too-dense", "archive_max_ratio", self.ratio)
        return self.bytes, _over("archive-too-large", "archive_max_bytes", self.bytes)


class Roll:
    """What has come out of one bundle of the inbox so far; bundles in it share the roll."""

    def __init__(self, limits: Limits, size: int) -> None:
        """size: of the bundle, in bytes."""
        self._limits = limits
        self._left, self._too_much = limits.allowance(size)
        self._members = 0
        self._files: set[str] = set()
        self._folders: set[str] = set()

    def admit(self, member: Member, within: str = "") -> str:
        """Take a member in and return its path below the bundle of the inbox.

        within: the path of the bundle that it lies in, empty for that of the inbox. A folder has
        no path if it is the bundle itself. Raises RejectError with the code of what is wrong.
        """
        self._members += 1
        if self._members > self._limits.members:
            raise too_many(self._limits.members)
        if member.is_encrypted:
            raise _refused("archive-encrypted", "members without a password", "one with")
        if member.kind in _REFUSED:
            raise _refused(
                _REFUSED[member.kind], "files and folders", f"a {member.kind} among them"
            )
        if not 0 <= member.size <= self._left:
            raise self._too_much
        name = member_name(member.name)
        if not name and member.kind is MemberKind.FILE:
            raise _unsafe("no name")
        path = f"{within}{INSIDE}{name}" if within else name
        self._place(path, is_file=member.kind is MemberKind.FILE)
        return path

    def spend(self, count: int) -> None:
        """Count bytes that came out, whatever was said of them; raises RejectError if too many."""
        self._left -= count
        if self._left < 0:
            raise self._too_much

    def enter(self, path: str) -> None:
        """Go into a bundle that is a member; raises RejectError if it lies too deep."""
        if path.count(INSIDE) + 2 > self._limits.depth:
            raise too_deep(self._limits.depth)

    def _place(self, path: str, *, is_file: bool) -> None:
        """See that no name stands for two files, or for a file and a folder."""
        if path in self._files or (is_file and path in self._folders):
            raise _twice()
        (self._files if is_file else self._folders).add(path)
        above = path.rpartition("/")[0]
        while above and above not in self._folders and not above.endswith("/"):
            if above in self._files:
                raise _twice()
            self._folders.add(above)
            above = above.rpartition("/")[0]


def member_name(name: str) -> str:
    """Return a member's name as a path below its bundle, without empty parts and `.`.

    Raises RejectError if it leads elsewhere, on any system, or is longer than files' names can be.
    """
    parts = [part for part in name.split("/") if part not in ("", ".")]
    found = "/".join(parts)
    if "\0" in name:
        raise _unsafe("one with a NUL in it")
    if any(n.startswith(("/", "\\")) or _DRIVE.match(n) for n in (name, found)):
        raise _unsafe("one that is absolute")
    if ".." in found.replace("\\", "/").split("/"):
        raise _unsafe("one that leads out of it")
    longest = max((len(os.fsencode(part)) for part in parts), default=0)
    if longest > NAME_MOST_BYTES or len(os.fsencode(found)) > PATH_MOST_BYTES:
        raise _refused(
            "archive-name-too-long",
            f"names of at most {NAME_MOST_BYTES} bytes, paths of {PATH_MOST_BYTES}",
            "a longer one",
        )
    return found


def too_deep(depth: int) -> RejectError:
    """Say that a bundle lies deeper in others than it may."""
    return _over("archive-too-deep", "archive_depth", depth)


def too_many(most: int) -> RejectError:
    """Say that a bundle has more members than it may have."""
    return _over("archive-too-many", "archive_max_members", most)


def truncated() -> RejectError:
    """Say that a bundle ends before its end."""
    return RejectError(
        "archive-truncated", expected="all of it", found="less", todo="copy it into the inbox again"
    )


def damaged(found: str) -> RejectError:
    """Say that a bundle is not what its form demands."""
    return RejectError(
        "archive-damaged",
        expected="a zip or tar file that can be read to its last byte",
        found=found,
        todo="pack it again, or unpack it by hand",
    )


def _unsafe(found: str) -> RejectError:
    return _refused("archive-unsafe-name", "names that stay below the archive", found)


def _twice() -> RejectError:
    return _refused("archive-name-twice", "a name for every member", "two of the same name")


def _over(code: str, key: str, limit: float) -> RejectError:
    return RejectError(
        code,
        expected=f"no more than {key} = {limit:g}",
        found="more",
        todo=f"unpack it by hand if it is to be trusted, or set {key}",
    )


def _refused(code: str, expected: str, found: str) -> RejectError:
    return RejectError(
        code, expected=expected, found=found, todo="unpack it by hand if it is to be trusted"
    )
