"""Prove that a store gives its files back, from the store alone.

`exact` rebuilds every file by the code that `restore` uses and compares SHA-256 with what was
read from the source. Where the frames are not what the file comes back from, they are compared
with the pixels that it does come back from. Nothing here knows how a store is written.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dicomzarr_watch.archive.reader import Store, StoredFile, batches
from dicomzarr_watch.archive.restore import safe_name
from dicomzarr_watch.archive.second import Look, second_look
from dicomzarr_watch.dicom.frames import Stored

THREADS: Final = os.cpu_count() or 1


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
    threads: int = THREADS,
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

    def differ(files: list[StoredFile]) -> list[str]:
        found = [
            (f, _sha256(_kept(keep_in, f, p) if keep_in else p)) for f, p in store.rebuilt(files)
        ]
        hashes = {f.name: f.sha256 for f in files} if expected is None else expected
        return [f.name for f, sha256 in found if not sha256 == f.sha256 == hashes.get(f.name)]

    with ThreadPoolExecutor(threads, "rebuild") as pool:
        whole = list(batches(store.files))
        for files, found in zip(whole, pool.map(differ, whole), strict=True):
            odd += found
            progress(sum(file.size for file in files))
    looks: dict[Look, list[str]] = {}
    for file in store.files:
        if file.is_kept_twice and file.name not in odd:
            looks.setdefault(second_look(store, file), []).append(file.name)
    odd += looks.get(Look.WRONG, [])
    return Verdict(tuple(dict.fromkeys(odd)), {k: tuple(v) for k, v in looks.items()})


def _sha256(pieces: Iterator[Stored]) -> bytes:
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
    return digest.digest()


def _kept(folder: Path, file: StoredFile, pieces: Iterator[Stored]) -> Iterator[Stored]:
    """Write the pieces below the folder while they pass."""
    target = folder / safe_name(file.name)
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("wb") as stream:
        for piece in pieces:
            stream.write(piece)
            yield piece
    os.utime(target, ns=(file.mtime_ns, file.mtime_ns))
