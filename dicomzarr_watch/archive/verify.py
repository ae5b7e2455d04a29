"""Prove that a store gives its files back, from the store alone.

`exact` rebuilds every file by the code that `restore` uses and compares SHA-256 with what was
read from the source. Where the frames are not what the file comes back from, they are compared
with the pixels that it does come back from. Nothing here knows how a store is written.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from dicomzarr_watch.archive.reader import Store, StoredFile
from dicomzarr_watch.archive.restore import safe_name


def differing(
    store: Store,
    expected: Mapping[str, bytes] | None = None,
    *,
    keep_in: Path | None = None,
    progress: Callable[[int], None] = lambda _: None,
) -> tuple[str, ...]:
    """Return the names of files that do not come back, or whose frames are not their pixels.

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
    odd += [f.name for f in store.files if f.is_kept_twice and not store.is_seen_as_kept(f)]
    return tuple(dict.fromkeys(odd))


def _kept(folder: Path, file: StoredFile, pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Write the pieces below the folder while they pass."""
    target = folder / safe_name(file.name)
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("wb") as stream:
        for piece in pieces:
            stream.write(piece)
            yield piece
    os.utime(target, ns=(file.mtime_ns, file.mtime_ns))
