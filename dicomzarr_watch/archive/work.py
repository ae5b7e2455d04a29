"""What a conversion is asked to do: the files of one series, and how. Cheap to import."""

from __future__ import annotations

import hashlib
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import StrEnum
from io import FileIO
from pathlib import Path

from dicomzarr_watch.archive.threads import CORES
from dicomzarr_watch.identity import Identity
from dicomzarr_watch.source import opened as open_source


@dataclass(frozen=True, slots=True)
class Source:
    """One file: its name in the drop (parts joined by `/`), where it is, and its state.

    original_sha256: of the file whose place it takes, if its bytes are not the original's.
    """

    name: str
    path: Path
    identity: Identity
    original_sha256: bytes = b""


class Level(StrEnum):
    """How strictly a conversion is verified."""

    EXACT = "exact"
    INDEPENDENT = "independent"
    OFF = "off"


class KeepEncoded(StrEnum):
    """Which encoded pixel data is kept beside its view: all, what lossy codecs made, or none."""

    ALWAYS = "always"
    LOSSY = "lossy"
    NEVER = "never"


class AfterSuccess(StrEnum):
    """What becomes of originals that a verified archive holds."""

    KEEP = "keep"
    MOVE = "move"
    DELETE = "delete"


@dataclass(frozen=True, slots=True)
class Finding:
    """Something a person should know of a series that was archived all the same."""

    code: str
    files: tuple[str, ...] = ()
    image: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Work:
    """One series to convert.

    threads: how many compress at a time. findings: what was noticed before, such as a hold that
    ran out.
    is_decoded: whether compressed pixel data is seen; without it no decoder is asked, and only the
    files' bytes are kept. is_apart: whether that is done in processes of their own, however little
    it is.
    """

    drop: str
    sources: tuple[Source, ...]
    output: Path
    verify: Level = Level.EXACT
    keep_reconstructed: Path | None = None
    threads: int = CORES
    findings: tuple[Finding, ...] = ()
    is_decoded: bool = True
    is_apart: bool = False
    keep_encoded: KeepEncoded = KeepEncoded.ALWAYS


@dataclass(frozen=True, slots=True)
class Original:
    """A file of the inbox that may go; path: below the inbox, parts joined by `/`.

    folder: of the series that must hold its bytes, below that of the drop. members: of a bundle
    the copy of each file that came out of it, and the folder of the series that must hold that.
    """

    path: str
    identity: Identity
    folder: str = ""
    members: tuple[tuple[Path, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Clearance:
    """Originals of one drop to move away, or to delete without a place to move them to.

    results: the folder of the drop in the output. is_local: whether the inbox is on a file system
    that is changed from this machine alone.
    """

    inbox: Path
    results: Path
    originals: tuple[Original, ...]
    move_to: Path | None = None
    is_local: bool = True


def opened(source: Source) -> AbstractContextManager[FileIO]:
    """Open a source for reading; raises if it is not in the state it was found in.

    Raises SourceChangedError before or after the reading, RetryError for what the system refuses.
    """
    return open_source(source.path, source.identity)


def sha256(source: Source) -> bytes:
    """Hash a source; raises what `opened` raises."""
    with opened(source) as stream:
        return hashlib.file_digest(stream, "sha256").digest()
