"""What goes into the inbox of a daemon, and what stands in its output.

Folders are dropped by one rename, so that a slow machine never splits what a test means to arrive
together.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from stat import S_ISREG
from typing import Any

from daemon_process import Daemon
from dicom_files import write_series, write_slice

from dicomzarr_watch.archive.reader import Store


def made(folder: Path, count: int = 3, **keywords: Any) -> dict[str, bytes]:
    """Write a small series and return what stands in its folder."""
    write_series(folder, count, **keywords)
    return contents(folder)


def late_slice(folder: Path, **keywords: Any) -> bytes:
    """Return a further file for a series of `made`."""
    path = folder / "late.dcm"
    return write_slice(path, instance_number=99, position=(0, 0, 99), **keywords).read_bytes()


def dropped(daemon: Daemon, drop: str, count: int = 3, **keywords: Any) -> dict[str, bytes]:
    """Drop a small series, whole, and return its files by name."""
    folder = daemon.place / "made" / drop
    found = made(folder, count, **keywords)
    folder.rename(daemon.inbox / drop)
    return found


def put(daemon: Daemon, path: str, content: bytes) -> None:
    """Put one file into the inbox under its final name, whole."""
    made_at = daemon.place / "one-file"
    made_at.write_bytes(content)
    made_at.rename(daemon.inbox / path)


def contents(folder: Path) -> dict[str, bytes]:
    """Return every file below a folder by its relative path; links are none."""
    found = (p for p in folder.rglob("*") if p.is_file() and not p.is_symlink())
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in found}


def states(folder: Path) -> dict[str, tuple[int, int, bytes]]:
    """Return mode, mtime and content of everything below a folder, folders included."""
    found = {}
    for path in (folder, *folder.rglob("*")):
        stat = path.lstat()
        content = path.read_bytes() if S_ISREG(stat.st_mode) else b""
        found[path.relative_to(folder).as_posix()] = (stat.st_mode, stat.st_mtime_ns, content)
    return found


def results(output: Path) -> dict[str, dict[str, tuple[int, int, bytes]]]:
    """Return the states of every drop; a daemon that starts tries the output itself out."""
    return {drop.name: states(drop) for drop in sorted(output.iterdir())}


def document(path: Path) -> Any:
    return json.loads(path.read_bytes())


def receipts(drop: Path) -> list[Any]:
    """Return the done.json of every series of a drop that is visible."""
    return [document(path) for path in sorted(drop.glob("[!.]*/done.json"))]


def brought_back(drop: Path) -> dict[str, bytes]:
    """Return the files that the stores of a drop give back, by name."""
    return dict(all_brought_back(drop))


def all_brought_back(drop: Path) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of what the stores of a drop give back; series may share names."""
    for path in sorted(drop.glob("[!.]*/series.zarr")):
        store = Store(path)
        for file, pieces in store.rebuilt(store.files):
            yield file.name, b"".join(pieces)


def fates(drop: Path) -> dict[str, str]:
    """Return the outcome of each file as drop.json tells it."""
    return {file["path"]: file["outcome"] for file in document(drop / "drop.json")["files"]}
