"""An inbox for tests: small DICOM files, files as a look sees them, and how jobs ended."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from dicom_files import EXPLICIT, Encoding, Plain, even, file_bytes

from dicomzarr_watch.identity import Identity
from dicomzarr_watch.intake.bundle import form
from dicomzarr_watch.intake.census import Remembered
from dicomzarr_watch.intake.inbox import Known
from dicomzarr_watch.intake.listing import Listing, listing
from dicomzarr_watch.intake.peek import Peek, Peeks
from dicomzarr_watch.kind import Kind
from dicomzarr_watch.ledger.rows import FileRow
from dicomzarr_watch.ledger.store import Ledger
from dicomzarr_watch.outcome import Ended, Outcome

SERIES_UID = "1.2.826.0.1.3680043.8.498.1"
OTHER_UID = "1.2.826.0.1.3680043.8.498.7"


def elements(series_uid: str = SERIES_UID, sop_uid: str = "1.2.3.4") -> list[Plain]:
    """Make the few elements that a peek is about, and pixel data."""
    return [
        Plain(0x00080018, "UI", even(sop_uid.encode(), b"\0")),
        Plain(0x0020000E, "UI", even(series_uid.encode(), b"\0")),
        Plain(0x7FE00010, "OW", bytes(range(64))),
    ]


def dicom(
    series_uid: str = SERIES_UID, sop_uid: str = "1.2.3.4", encoding: Encoding = EXPLICIT
) -> bytes:
    """Make the bytes of a small DICOM file."""
    return file_bytes(elements(series_uid, sop_uid), encoding)


def put(path: Path, content: bytes | None = None) -> Path:
    """Write a file with the folders above it; a DICOM file unless told."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(dicom() if content is None else content)
    return path


def identity(size: int = 100, mtime_ns: int = 1, ctime_ns: int = 1, inode: int = 1) -> Identity:
    """Make a file's state out of what matters in a test."""
    return Identity(size, mtime_ns, ctime_ns, inode)


def remembered(one: Known) -> Remembered:
    """Return what is kept of a file that a look told of."""
    path, said = one.entry.path, one.peek
    uid = said.series_uid if said.kind in (Kind.DICOM, Kind.BUNDLE) else None
    is_left_alone = said.kind is Kind.NOT_DICOM and form(path) is not None and "//" not in path
    is_unread = said.kind is Kind.UNREADABLE or is_left_alone
    return Remembered(path, one.entry.identity, uid, said.is_truncated, is_unread)


def outcome(how: Ended) -> Outcome:
    """Make an outcome of every kind."""
    summary = {"folder": "CT-1-abc", "revision": 2} if how is Ended.DONE else {}
    return Outcome(how, f"code-{how}", summary=summary)


def present(ledger: Ledger) -> list[FileRow]:
    """Return all that a ledger knows of the files in the inbox."""
    found = (ledger.files.get(path) for path, *_ in ledger.files.present())
    return [file for file in found if file is not None]


def listed(inbox: Path) -> Listing:
    """List an inbox that is there."""
    found = listing(inbox)
    assert found is not None
    return found


@dataclass
class CountingPeek:
    """The real look at a header, keeping count; what is in `refused` cannot be read.

    Permissions cannot refuse here: tests may run as root, whom the system refuses nothing.
    """

    asked: list[str] = field(default_factory=list)
    refused: set[str] = field(default_factory=set)

    def __call__(self, path: str) -> Peek:
        name = Path(path).name
        self.asked.append(name)
        return Peek(Kind.UNREADABLE) if name in self.refused else Peeks()(path)

    def taken(self) -> list[str]:
        """Return whom it was asked for since the last call, sorted."""
        asked, self.asked = sorted(self.asked), []
        return asked


@contextmanager
def before_listing(folder: Path, happen: Callable[[], object]) -> Iterator[None]:
    """Let something happen right before the system is asked to list one folder."""
    scandir = os.scandir

    def scandir_late(path: Path) -> object:
        if Path(path) == folder:
            happen()
        return scandir(path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "scandir", scandir_late)
        yield


@contextmanager
def after_listing(folder: Path, happen: Callable[[], object]) -> Iterator[None]:
    """Let something happen right after the system has listed one folder."""
    scandir = os.scandir

    @contextmanager
    def scandir_early(path: Path) -> Iterator[list[os.DirEntry[str]]]:
        with scandir(path) as found:
            entries = list(found)
        if Path(path) == folder:
            happen()
        yield entries

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "scandir", scandir_early)
        yield


def unlistable(folder: Path) -> AbstractContextManager[None]:
    """Have the system refuse to list one folder, as it does to those without permission.

    The refusal is put in the place of the system's own call, because root may list everything.
    """

    def refuse() -> None:
        raise PermissionError(13, "Permission denied", str(folder))

    return before_listing(folder, refuse)


@dataclass(frozen=True)
class _Unseen:
    """A name that the system tells, and of what bears it nothing."""

    name: str
    number: int

    def is_dir(self, *, follow_symlinks: bool) -> bool:
        return follow_symlinks

    def stat(self, *, follow_symlinks: bool) -> os.stat_result:
        assert not follow_symlinks
        raise OSError(self.number, os.strerror(self.number), self.name)


@contextmanager
def unseen(file: Path, number: int = errno.EACCES) -> Iterator[None]:
    """Have the system list a file, and refuse to say in which state it is."""
    scandir = os.scandir

    @contextmanager
    def scandir_half(path: Path) -> Iterator[list[os.DirEntry[str] | _Unseen]]:
        with scandir(path) as found:
            yield [_Unseen(e.name, number) if Path(e.path) == file else e for e in found]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "scandir", scandir_half)
        yield
