"""The DICOM files back: names, times and bytes."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path, PurePosixPath

from dicomzarr_watch.archive.disk import Syncing, sync
from dicomzarr_watch.archive.reader import Store, StoredFile
from dicomzarr_watch.archive.threads import CORES
from dicomzarr_watch.dicom.frames import Stored
from dicomzarr_watch.errors import RejectError

Failed = Callable[[StoredFile, RejectError], None]
"""Told of a file that is not restored, and why, by any thread."""


def restore(
    store: Store,
    destination: Path,
    files: Iterable[StoredFile],
    *,
    threads: int = CORES,
    is_durable: bool = False,
    failed: Failed | None = None,
    progress: Callable[[int], None] = lambda _: None,
) -> int:
    """Write files below `destination` and return how many.

    Raises RejectError if a file is there already, would leave the destination, or does not have
    the SHA-256 that the store says; the file it is raised for is not left behind.

    is_durable: return when all of them are on disk, with their names. failed: is told instead, and
    the other files are written all the same.
    """
    wanted = list(files)
    with ExitStack() as stack:
        syncing = stack.enter_context(Syncing()) if is_durable else None
        pool = stack.enter_context(ThreadPoolExecutor(threads, "restore"))
        work = partial(_restored, store, destination, syncing, failed)
        done: list[StoredFile] = []
        for some in pool.map(work, store.batches(wanted)):
            done += some
            progress(sum(file.size for file in some))
        if syncing:
            syncing.wait()
            for folder in {parent for f in done for parent in safe_name(f.name).parents}:
                sync(destination / folder)
    return len(done)


def _restored(
    store: Store,
    destination: Path,
    syncing: Syncing | None,
    failed: Failed | None,
    files: Sequence[StoredFile],
) -> list[StoredFile]:
    """Write some files, each alone where they fail together; returns those that were written."""
    done: list[StoredFile] = []
    try:
        for file, pieces in store.rebuilt(files):
            target = destination / safe_name(file.name)
            target.parent.mkdir(parents=True, exist_ok=True)
            _write(target, file, pieces)
            os.utime(target, ns=(file.mtime_ns, file.mtime_ns))
            if syncing:
                syncing.put(target)
            done.append(file)
    except RejectError as error:
        if failed is None:
            raise
        if len(files) == 1:
            failed(files[0], error)
            return []
        for file in files[len(done) :]:
            done += _restored(store, destination, syncing, failed, [file])
    return done


def matching(store: Store, patterns: Iterable[str]) -> list[StoredFile]:
    """Return the files whose name or last part matches one of the patterns; all without any."""
    wanted = list(patterns) or ["*"]
    return [
        f
        for f in store.files
        if any(fnmatchcase(f.name, p) or fnmatchcase(f.name.split("/")[-1], p) for p in wanted)
    ]


def safe_name(name: str) -> Path:
    """Return a stored name as a relative path; raises RejectError if it leads elsewhere."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise RejectError(
            "unsafe-name", expected="a name below the destination", found="one that leads out of it"
        )
    return Path(path)


def _write(target: Path, file: StoredFile, pieces: Iterator[Stored]) -> None:
    digest = hashlib.sha256()
    try:
        stream = target.open("xb")
    except FileExistsError as error:
        raise RejectError(
            "destination-exists",
            expected="a destination without these files",
            found="a file of the same name",
            todo="name an empty folder",
            private=str(target),
        ) from error
    try:
        with stream:
            for piece in pieces:
                digest.update(piece)
                stream.write(piece)
        if digest.digest() != file.sha256:
            raise RejectError(
                "store-damaged",
                expected="the SHA-256 that the store says",
                found="another one",
                todo="run verify on the store",
            )
    except BaseException:
        target.unlink()
        raise
