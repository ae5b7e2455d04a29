"""Names of files that can stand in one folder, all of them at once."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator

from dicomzarr_watch.libc import NAME_MOST_BYTES


def set_apart(taken: Iterable[str], names: Iterable[str], mark: str) -> list[str]:
    """Return names such that none is another's, or a folder of another's, or one that is taken.

    A part that is in the way gets the mark, as often as need be.
    """
    files, folders = set(taken), set[str]()
    for name in files:
        folders.update(_above(name))
    found = []
    for name in names:
        free = ""
        for depth, part in enumerate(parts := name.split("/"), 1):
            ways = marked(free, part, mark)
            is_last = depth == len(parts)
            free = next(n for n in ways if n not in files and not (is_last and n in folders))
        files.add(free)
        folders.update(_above(free))
        found.append(free)
    return found


def _above(name: str) -> Iterator[str]:
    while name := name.rpartition("/")[0]:
        yield name


def marked(folder: str, part: str, mark: str) -> Iterator[str]:
    """Yield a path with more and more marks, cut so that it stays the name of a file."""
    raw, marks = os.fsencode(part), ""
    while True:
        kept = os.fsdecode(raw[: NAME_MOST_BYTES - len(marks)])
        yield f"{folder}/{kept}{marks}" if folder else f"{kept}{marks}"
        marks += mark
