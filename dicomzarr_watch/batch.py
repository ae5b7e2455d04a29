"""Conversion without inbox and ledger: what stands in some folders now, series by series."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from dicomzarr_watch.archive.names import set_apart
from dicomzarr_watch.archive.work import KeepEncoded, Level, Source, Work
from dicomzarr_watch.config import overlap
from dicomzarr_watch.errors import RejectError
from dicomzarr_watch.identity import Identity
from dicomzarr_watch.intake.listing import listing
from dicomzarr_watch.intake.peek import Peeks
from dicomzarr_watch.kind import Kind


@dataclass(frozen=True, slots=True)
class Batch:
    """What was found: one work per series, and the files that are in none, with their kind."""

    works: tuple[Work, ...]
    others: tuple[tuple[str, str], ...]


def batch(
    places: Iterable[Path],
    output: Path,
    *,
    level: Level,
    keep_reconstructed: Path | None = None,
    keep_encoded: KeepEncoded = KeepEncoded.ALWAYS,
) -> Batch:
    """Find the series in folders and files; a folder's name is its drop.

    A file is taken once, however often it is named.

    Raises RejectError if a place is not there, if two places have the same name, or if rebuilt
    files are to be left among results.
    """
    if keep_reconstructed and overlap(keep_reconstructed.resolve(), output.resolve()):
        raise RejectError(
            "not-apart",
            expected="a folder for rebuilt files apart from the output",
            found="one inside the other",
            todo="name another with --keep-reconstructed",
        )
    series: dict[tuple[str, str], list[Source]] = defaultdict(list)
    others: list[tuple[str, str]] = []
    peek = Peeks()
    taken: set[tuple[str, Path]] = set()
    for place in _distinct(places):
        drop, sources, passed_over = _sources(place)
        others += passed_over
        for source in sources:
            if (drop, source.path) in taken:
                continue
            taken.add((drop, source.path))
            found = peek(source.path)
            if found.kind is Kind.DICOM:
                series[drop, found.series_uid].append(source)
            else:
                others.append((source.name, found.kind.value))
    works = tuple(
        Work(
            drop=drop,
            sources=_apart(sources),
            output=output,
            verify=level,
            keep_reconstructed=keep_reconstructed,
            keep_encoded=keep_encoded,
            is_apart=True,  # here nobody tries again what a decoder ended
        )
        for (drop, _), sources in sorted(series.items())
    )
    return Batch(works, tuple(others))


def _apart(sources: Iterable[Source]) -> tuple[Source, ...]:
    """Sort by name, and set apart what single files have in common, from folders of one name."""
    found = sorted(sources, key=lambda s: s.name)
    names = set_apart((), (source.name for source in found), "~2")
    apart = (
        source if source.name == name else replace(source, name=name)
        for source, name in zip(found, names, strict=True)
    )
    return tuple(sorted(apart, key=lambda s: s.name))


def _distinct(places: Iterable[Path]) -> list[Path]:
    """Leave out what is named twice; two folders of one name would be one drop."""
    found = list({place.resolve(): place for place in places}.values())
    folders = [_drop(place.absolute()) for place in found if not place.is_file()]
    if len(set(folders)) < len(folders):
        raise RejectError(
            "same-name-twice",
            expected="folders of different names, as each is a drop",
            found="two of the same",
            todo="convert them one after the other, into different outputs",
        )
    return found


def _sources(place: Path) -> tuple[str, list[Source], list[tuple[str, str]]]:
    """Return the drop, the files to look at, and what is passed over with its kind."""
    place, root = place.absolute(), place.resolve()
    if place.is_file():
        source = Source(place.name, root, Identity.of(place.stat()))
        return _drop(place.parent), [source], []
    found = listing(place)
    if found is None:
        raise RejectError(
            "no-source", expected="a folder or file", found="none", private=str(place)
        )
    passed_over = [(e.path, Kind.TEMPORARY.value) for e in found.entries if e.is_temporary]
    passed_over += [(folder or ".", Kind.UNREADABLE.value) for folder in found.unreadable]
    entries = [entry for entry in found.entries if not entry.is_temporary]
    sources = [Source(e.path, root / e.path, e.identity) for e in entries]
    return _drop(place), sources, passed_over


def _drop(folder: Path) -> str:
    """Return a folder's name; `..` is none, nor is what is hidden, as our own folders are."""
    name = folder.resolve().name if folder.name == ".." else folder.name
    return name if name and not name.startswith(".") else f"_{name[1:]}"
