"""Prove that a store gives its files back, from the store alone.

`exact` rebuilds every file by the code that `restore` uses and compares SHA-256 with what was
read from the source. Where the frames are not what the file comes back from, they are compared
with the pixels that it does come back from. Nothing here knows how a store is written.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from dicomzarr_watch.archive.reader import Store, StoredFile
from dicomzarr_watch.archive.restore import safe_name
from dicomzarr_watch.archive.second import Look, second_look


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a store says for itself.

    differ: files that do not come back, or whose frames are not their pixels. looks: per result
    of a second look at decoded frames, the files.
    """

    differ: tuple[str, ...]
    looks: Mapping[Look, tuple[str, ...]]


def differing(
    store: Store,
    expected: Mapping[str, bytes] | None = None,
    *,
    keep_in: Path | None = None,
    progress: Callable[[int], None] = lambda _: None,
) -> tuple[str, ...]:
    """Return the names of files that differ; see `verdict`."""
    return verdict(store, expected, keep_in=keep_in, progress=progress).differ


def verdict(
    store: Store,
    expected: Mapping[str, bytes] | None = None,
    *,
    keep_in: Path | None = None,
    progress: Callable[[int], None] = lambda _: None,
) -> Verdict:
    """Rebuild every file and compare; look again at frames that have no inverse.

    Raises RejectError for a store that is too damaged to be read.

    expected: name to SHA-256 of the original; without it the store's own hashes are used, with
    it they must agree as well, and no file may be missing or too many.
    keep_in: a folder to leave the rebuilt files in.
    """
    names = {file.name for file in store.files}
    odd = [] if expected is None else sorted(names ^ expected.keys())
    for file, pieces in store.rebuilt(store.files):
        digest = hashlib.sha256()
        for piece in _kept(keep_in, file, pieces) if keep_in else pieces:
            digest.update(piece)
        found = digest.digest()
        wanted = file.sha256 if expected is None else expected.get(file.name)
        if found != file.sha256 or found != wanted:
            odd.append(file.name)
        progress(file.size)
    looks: dict[Look, list[str]] = {}
    for file in store.files:
        if file.is_kept_twice and file.name not in odd:
            looks.setdefault(second_look(store, file), []).append(file.name)
    odd += looks.get(Look.WRONG, [])
    return Verdict(tuple(dict.fromkeys(odd)), {k: tuple(v) for k, v in looks.items()})


def _kept(folder: Path, file: StoredFile, pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Write the pieces below the folder while they pass."""
    target = folder / safe_name(file.name)
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("wb") as stream:
        for piece in pieces:
            stream.write(piece)
            yield piece
    os.utime(target, ns=(file.mtime_ns, file.mtime_ns))
