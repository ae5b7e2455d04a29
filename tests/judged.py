"""An output judged from outside: is everything there, once, whole, and nothing else?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from drops import contents, document

from dicomzarr_watch.archive.reader import Store
from dicomzarr_watch.errors import DicomzarrError
from dicomzarr_watch.intake.listing import drop_of_file, is_temporary

WHOLE: Final = frozenset({"done.json", "series.json", "series.zarr"})


@dataclass(frozen=True, slots=True)
class Judgement:
    """What is wrong with an output, by name; nothing is for a promise that was kept.

    lost: files without an outcome, and DICOM that does not come back as it was. doubled: files that
    come back from several results, or have several outcomes. half_visible: results that are not
    whole. left: names of ours that should have gone.
    """

    files: int
    lost: tuple[str, ...] = ()
    doubled: tuple[str, ...] = ()
    half_visible: tuple[str, ...] = ()
    left: tuple[str, ...] = ()

    @property
    def is_clean(self) -> bool:
        return not (self.lost or self.doubled or self.half_visible or self.left)


Tally = Callable[[str, int, Judgement], None]
"""Counts how often the fault of a row of the README's table came, and what was judged after it."""


def judgement(inbox: Path, output: Path) -> Judgement:
    """Hold an output against the inbox that all of it came from, when nothing is under way."""
    back: Counter[tuple[str, str, bytes]] = Counter()
    told: Counter[str] = Counter()
    for account in output.glob("*/drop.json"):
        told.update(file["path"] for file in document(account)["files"])
        for series in _folders(account.parent):
            found = (_files(series) or {}).items()
            back.update((account.parent.name, name, data) for name, data in found)
    files = contents(inbox)
    times = {p: back[drop_of_file(p), p.partition("/")[2] or p, data] for p, data in files.items()}
    lost = [p for p, data in files.items() if not told[p] or is_dicom(p, data) > times[p]]
    doubled = [p for p in files if told[p] > 1 or times[p] > 1]
    hidden = {output / drop_of_file(p) for p in files if p.startswith(".")}
    left = [p.relative_to(output).as_posix() for p in {*output.rglob(".*")} - hidden]
    return Judgement(len(files), tuple(lost), tuple(doubled), half_visible(output), tuple(left))


def is_dicom(path: str, content: bytes) -> bool:
    """Tell whether a file is to be archived."""
    return content[128:132] == b"DICM" and not any(map(is_temporary, path.split("/")))


def half_visible(output: Path, known: set[tuple[Path, int]] | None = None) -> tuple[str, ...]:
    """Name the results that can be seen and are not whole; right at any instant.

    known: results that were found whole, which are not looked at again; more are added.
    """
    known = set() if known is None else known
    odd = []
    for series in (series for drop in _folders(output) for series in _folders(drop)):
        state = series, series.stat().st_ino
        if state not in known and _files(series) is None:
            odd.append(series.relative_to(output).as_posix())
        else:
            known.add(state)
    return tuple(odd)


def _folders(place: Path) -> Iterator[Path]:
    """Yield the folders that a reader sees."""
    if place.is_dir():
        yield from (path for path in sorted(place.iterdir()) if _is_seen(path))


def _is_seen(path: Path) -> bool:
    return path.is_dir() and not path.name.startswith(".")


def _files(series: Path) -> dict[str, bytes] | None:
    """Return what a result gives back, if it is whole."""
    if {path.name for path in series.iterdir()} != WHOLE:
        return None
    try:
        store = Store(series / "series.zarr")
        found = {file.name: b"".join(pieces) for file, pieces in store.rebuilt(store.files)}
        counts = document(series / "done.json")["counts"]
    except (DicomzarrError, ValueError, OSError):
        return None
    return found if counts["files"] == len(found) else None
