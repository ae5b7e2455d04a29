"""What a new revision takes over from the one before, so that none of its files is lost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from dicomzarr_watch.archive import document, verify
from dicomzarr_watch.archive.document import Receipt
from dicomzarr_watch.archive.names import set_apart
from dicomzarr_watch.archive.reader import Store
from dicomzarr_watch.archive.restore import restore
from dicomzarr_watch.archive.work import Finding, Level, Source, Work, sha256
from dicomzarr_watch.errors import RejectError
from dicomzarr_watch.identity import Identity


@dataclass(frozen=True, slots=True)
class Carried:
    """What a new revision takes over, and what is to be said of the one before."""

    sources: tuple[Source, ...] = ()
    findings: tuple[Finding, ...] = ()


def carried(path: Path, work: Work, stage: Path, previous: Receipt) -> Carried | None:
    """Restore what only the old revision has; None if there is nothing to add to it or to mend.

    A carried file whose name is taken is set apart by its revision. Raises RejectError if it does
    not come back.
    """
    new = {source.name: sha256(source) for source in work.sources}
    mended = (Finding("damaged-revision-replaced", detail=f"revision {previous.revision}"),)
    try:
        old = Store(path)
    except RejectError:  # the receipt alone says what was in it
        if document.content_hash(new.items()) != previous.content:
            raise
        return Carried(findings=mended)
    known = {file.original_sha256 for file in old.files}
    if not known.issuperset(new.values()):
        return Carried(_restored(old, new, stage, previous))
    if work.verify is Level.OFF or _is_sound(old, work, stage):
        return None
    return Carried(_restored(old, new, stage, previous), mended)


def _is_sound(store: Store, work: Work, stage: Path) -> bool:
    try:
        return not verify.verdict(store, temporary=stage, threads=work.threads).differ
    except RejectError:
        return False


def _restored(
    old: Store, new: Mapping[str, bytes], stage: Path, previous: Receipt
) -> tuple[Source, ...]:
    hashes = set(new.values())
    lone = [file for file in old.files if file.original_sha256 not in hashes]
    names = set_apart(new, (file.name for file in lone), f"~{previous.revision}")
    folder = stage / "carried"
    # under numbers: one revision's file may have the name of another's folder
    restore(old, folder, [replace(file, name=str(n)) for n, file in enumerate(lone)])
    found = []
    for name, (n, file) in zip(names, enumerate(lone), strict=True):
        path = folder / str(n)
        original = file.original_sha256 if file.original_sha256 != file.sha256 else b""
        found.append(Source(name, path, Identity.of(path.stat()), original))
    return tuple(found)
