"""Prove that a store gives its files back, from the store alone.

`exact` rebuilds every file by the code that `restore` uses and compares SHA-256 with what was
read from the source. Where the frames are not what the file comes back from, they are compared
with the pixels that it does come back from. Nothing here knows how a store is written.
"""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import IO, Final

from dicomzarr_watch.archive.decoding import decoding
from dicomzarr_watch.archive.reader import Store, StoredFile
from dicomzarr_watch.archive.restore import safe_name
from dicomzarr_watch.archive.second import Asked, Look, second_look, worst
from dicomzarr_watch.archive.threads import CORES, pool
from dicomzarr_watch.dicom.alike import Templates
from dicomzarr_watch.dicom.frames import Stored
from dicomzarr_watch.errors import RejectError

_IN_MEMORY_BYTES: Final = 32 << 20
_MORE_THREADS: Final = 1
"""So that no core rests while a thread waits for what is read ahead: a tenth less time on two."""


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
    temporary: Path | None = None,
    threads: int = CORES,
    decode_pool: Executor | None = None,
    progress: Callable[[int], None] = lambda _: None,
) -> Verdict:
    """Rebuild every file and compare; look again at frames that have no inverse.

    Raises RejectError for a store that is too damaged to be read.

    expected: name to SHA-256 of the original; without it the store's own hashes are used, with
    it they must agree as well, and no file may be missing or too many.
    keep_in: a folder to leave the rebuilt files in. temporary: one for large files that are looked
    at again; the system's without it. decode_pool: where frames are decoded.
    """
    names = {file.name for file in store.files}
    odd = [] if expected is None else sorted(names ^ expected.keys())
    looks: dict[Look, list[str]] = {}
    wanted = {f.name: f.sha256 for f in store.files} if expected is None else expected
    whole = list(store.batches(store.files))
    with ExitStack() as stack:
        if decode_pool is None:
            size = sum(store.sample_bytes(f) for f in store.files if f.is_kept_twice)
            decode_pool = stack.enter_context(decoding(size, threads))
        rebuilding = stack.enter_context(pool(min(_many(threads), len(whole)), "rebuild"))
        spill = None if temporary is None else os.fspath(temporary)
        check = partial(_checked, store, wanted, keep_in, decode_pool, temporary=spill)
        checked = rebuilding.map(check, whole)
        for found in chain.from_iterable(checked):
            if not found.is_same or found.look is Look.WRONG:
                odd.append(found.file.name)
            if found.look is not None:
                looks.setdefault(found.look, []).append(found.file.name)
            progress(found.file.size)
    return Verdict(tuple(dict.fromkeys(odd)), {k: tuple(v) for k, v in looks.items()})


def comes_back(store: Store, file: StoredFile) -> bool:
    """Rebuild one file and tell whether it has the SHA-256 that the store says of it."""
    try:
        return _sha256(store.pieces_of(file)) == file.sha256
    except RejectError:
        return False


@dataclass(frozen=True, slots=True)
class _Checked:
    """A file that was rebuilt; look: at its frames, where they do not give its bytes back."""

    file: StoredFile
    is_same: bool
    look: Look | None


def _checked(
    store: Store,
    wanted: Mapping[str, bytes],
    keep_in: Path | None,
    decode_pool: Executor,
    files: Sequence[StoredFile],
    *,
    temporary: str | None,
) -> list[_Checked]:
    """Rebuild some files and compare their hashes, and what else there is to be compared."""
    found: list[tuple[StoredFile, bool, Sequence[Asked]]] = []
    templates = Templates()
    twice = [file for file in files if file.is_kept_twice]
    with closing(store.samples_of(*twice)) as stored:
        for file, pieces in store.rebuilt(files):
            with SpooledTemporaryFile(_IN_MEMORY_BYTES, dir=temporary) as content:
                kept = _kept(keep_in, file, pieces) if keep_in else pieces
                sha256 = _sha256(_copied(content, kept) if file.is_kept_twice else kept)
                is_same = sha256 == file.sha256 == wanted.get(file.name)
                own = islice(stored, file.frame_count if file.is_kept_twice else 0)
                is_asked = file.is_kept_twice and is_same
                asked = second_look(own, file, content, decode_pool, templates) if is_asked else ()
                deque(own, maxlen=0)  # those of the next file stand behind
                found.append((file, is_same, asked))
    return [
        _Checked(file, is_same, worst(ask() for ask in asked) if asked else None)
        for file, is_same, asked in found
    ]


def _many(threads: int) -> int:
    return threads + _MORE_THREADS if threads > 1 else 1


def _sha256(pieces: Iterator[Stored]) -> bytes:
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
    return digest.digest()


def _copied(copy: IO[bytes], pieces: Iterator[Stored]) -> Iterator[Stored]:
    for piece in pieces:
        copy.write(piece)
        yield piece


def _kept(folder: Path, file: StoredFile, pieces: Iterator[Stored]) -> Iterator[Stored]:
    """Write the pieces below the folder while they pass."""
    target = folder / safe_name(file.name)
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("wb") as stream:
        for piece in pieces:
            stream.write(piece)
            yield piece
    os.utime(target, ns=(file.mtime_ns, file.mtime_ns))
