"""Originals that the archive holds, moved away or deleted.

The rule: nothing goes that does not come back. Right before it goes, a file is in the state that it
was archived in, with nobody who writes to it as far as the system tells, and its bytes are those of
a file that the published, verified store gives back, rebuilt just then; of a bundle, the bytes of
everything that is in it. What says so is on disk before. A name that is taken is never given to
other bytes.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from dicomzarr_watch.archive.disk import rename_anew, sync
from dicomzarr_watch.archive.document import Receipt
from dicomzarr_watch.archive.layout import DONE_JSON, STORE_NAME
from dicomzarr_watch.archive.names import marked
from dicomzarr_watch.archive.reader import Store, StoredFile
from dicomzarr_watch.archive.verify import comes_back
from dicomzarr_watch.archive.work import Clearance, Level, Original
from dicomzarr_watch.errors import (
    DicomzarrError,
    RejectError,
    RetryError,
    SourceChangedError,
    from_archive_error,
    from_clearing_error,
)
from dicomzarr_watch.identity import Identity
from dicomzarr_watch.source import at_rest, folder_below, opened

_PROOFS: Final = (Level.EXACT.value, Level.INDEPENDENT.value)
_CANNOT_RENAME: Final = frozenset({errno.EXDEV, errno.ENOSYS, errno.EINVAL, errno.ENOTSUP})


@dataclass(frozen=True, slots=True)
class Cleared:
    """What went. kept: the files that stay by their path, each with the error that says why."""

    files: int
    bytes: int
    kept: dict[str, DicomzarrError]


def cleared(work: Clearance) -> Cleared:
    """Clear originals, one after the other; what cannot go stays, and says why."""
    archive = _Archive(work.results)
    kept: dict[str, DicomzarrError] = {}
    size = 0
    for original in work.originals:
        try:
            _clear(work, original, archive)
            size += original.identity.size
        except DicomzarrError as error:
            kept[original.path] = error
        except OSError as error:
            kept[original.path] = from_clearing_error(error)
    return Cleared(len(work.originals) - len(kept), size, kept)


@dataclass(frozen=True, slots=True)
class _Holding:
    """The files of a store by their SHA-256, and that of those whose pixels alone it has."""

    store: Store
    whole: Mapping[bytes, StoredFile]
    pixels: frozenset[bytes]


@dataclass(slots=True)
class _Archive:
    """What the results of a drop hold."""

    results: Path
    known: dict[str, _Holding] = field(default_factory=dict)

    def prove(self, sha256: bytes, folder: str) -> None:
        """Return if a series gives back a file of these bytes; raises RejectError if not.

        Raises RetryError where the system does not let it be read.
        """
        try:
            if folder not in self.known:
                self.known[folder] = self._holding(folder)
            held = self.known[folder]
            if sha256 in held.whole:
                if not comes_back(held.store, held.whole[sha256]):
                    raise _unproven("archive-differs", "one that does not give the file back")
                return
        except OSError as error:
            raise from_archive_error(error) from error
        if sha256 in held.pixels:
            raise RejectError("only-pixels-kept", expected="an archive of its bytes")
        raise RejectError(
            "original-differs",
            expected="the bytes that were archived",
            found="others, in a file that looks the same",
            todo="look at the file; if it changed, give it another time",
        )

    def _holding(self, folder: str) -> _Holding:
        final = self.results / folder
        try:
            said = json.loads((final / DONE_JSON).read_bytes())
            receipt = Receipt.from_json(said)
            self._make_durable(final)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise _unproven("no-receipt", type(error).__name__) from error
        if said["state"] != "done" or receipt.verified["level"] not in _PROOFS:
            raise _unproven("not-verified", str(receipt.verified["level"]))
        store = Store(final / STORE_NAME)
        if len(store.files) != receipt.counts["files"]:
            raise _unproven("archive-differs", f"{len(store.files)} files in it")
        return _Holding(
            store,
            {file.sha256: file for file in store.files},
            frozenset(f.original_sha256 for f in store.files if f.original_sha256 != f.sha256),
        )

    def _make_durable(self, final: Path) -> None:
        """Put on disk what who published or reported it may have been killed before."""
        for place in (final, self.results / "drop.json", self.results, self.results.parent):
            sync(place)


def _clear(work: Clearance, original: Original, archive: _Archive) -> None:
    place, _, name = original.path.rpartition("/")
    try:
        with folder_below(work.inbox, place) as folder:
            source = Path(f"/proc/self/fd/{folder}/{name}")
            with opened(source, original.identity) as stream:
                sha256 = hashlib.file_digest(stream, "sha256").digest()
            _prove(original, sha256, archive)
            if work.move_to is None:
                _delete(source, original.identity, is_local=work.is_local)
            else:
                _move(source, original, sha256, work.move_to, is_local=work.is_local)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise SourceChangedError("source-changed", found="no file") from error


def _prove(original: Original, sha256: bytes, archive: _Archive) -> None:
    if not original.members:
        archive.prove(sha256, original.folder)
    copies = {copy for copy, _ in original.members}
    if copies != {copy for place in {copy.parent for copy in copies} for copy in place.iterdir()}:
        raise RejectError("members-not-archived", found="members that nobody knows of")
    for copy, folder in original.members:
        archive.prove(_sha256(copy), folder)


def _delete(source: Path, identity: Identity, *, is_local: bool) -> None:
    with at_rest(source, identity, is_local=is_local):
        source.unlink()


def _move(
    source: Path, original: Original, sha256: bytes, move_to: Path, *, is_local: bool
) -> None:
    """Give a file a free name in another place; one that has its bytes there is as good."""
    place, _, name = original.path.rpartition("/")
    try:
        (move_to / place).mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise RejectError("move-to-taken", expected="a folder", found="a file there") from error
    target = next(
        path
        for path in (move_to / found for found in marked(place, name, "~"))
        if not os.path.lexists(path) or _is_same(path, sha256)
    )
    if not os.path.lexists(target):
        try:
            with at_rest(source, original.identity, is_local=is_local):
                rename_anew(source, target)
        except OSError as error:
            if error.errno not in _CANNOT_RENAME:
                raise
        else:
            return
        _copy(source, original.identity, sha256, target, move_to)
    for folder in (target, *(f for f in target.parents if f.is_relative_to(move_to))):
        sync(folder)
    _delete(source, original.identity, is_local=is_local)


def _is_same(path: Path, sha256: bytes) -> bool:
    return stat.S_ISREG(path.lstat().st_mode) and _sha256(path) == sha256


def _copy(source: Path, identity: Identity, sha256: bytes, target: Path, move_to: Path) -> None:
    """Copy a file to another file system under a name that nobody has; it is whole or not there."""
    digest = hashlib.sha256(os.fsencode(target)).hexdigest()[:16]
    part = move_to / f".{digest}.part"
    try:
        with opened(source, identity) as stream, part.open("wb") as copy:
            shutil.copyfileobj(stream, copy)
            copy.flush()
            os.fsync(copy.fileno())
            os.posix_fadvise(copy.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)  # read what is on disk
        shutil.copystat(source, part)
        if _sha256(part) != sha256:
            raise RetryError("copy-differs", expected="a copy of the same bytes", found="others")
        try:
            rename_anew(part, target)
        except OSError as error:
            if error.errno not in _CANNOT_RENAME:
                raise
            part.rename(target)  # nobody but us gives names there
    finally:
        part.unlink(missing_ok=True)


def _sha256(path: Path) -> bytes:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").digest()


def _unproven(code: str, found: str) -> RejectError:
    return RejectError(
        code,
        expected="a published archive, verified by rebuilding every file",
        found=found,
        todo="run verify on the archive, and give what stays another time to have it archived anew",
    )
