"""Which stores there are at a place, and whether one is still the same."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from dicomzarr_watch.errors import RejectError, RetryError
from dicomzarr_watch.identity import Place

if TYPE_CHECKING:
    from dicomzarr_watch.archive.reader import StoredFile

    Failures = list[tuple[StoredFile | None, RejectError]]


def stores_at(place: Path) -> Iterator[tuple[Path, Path]]:
    """Yield stores at or below a place, with the folder, relative to it, that their drop is in."""
    direct = (place, place / "series.zarr")
    for path in direct:
        if (path / "zarr.json").is_file():
            yield path, Path()
            return
    found = sorted(
        path
        for path in place.rglob("series.zarr")
        if not any(part.startswith(".") for part in path.relative_to(place).parts)
        and not _is_drop(path)
    )
    if not found:
        raise RejectError(
            "no-store",
            expected="series.zarr, or a folder with such below it",
            found="none",
            private=str(place),
        )
    for path in found:
        yield path, path.relative_to(place).parent.parent


@contextmanager
def of_one_revision(store: Path) -> Iterator[Failures]:
    """Give a list for what fails; what is raised is added, as of no file.

    Raises RetryError if anything is odd and another revision took the place of the first.
    """
    standing = Place.at(store)
    failed: Failures = []
    try:
        yield failed
    except RejectError as error:
        failed.append((None, error))
    if failed and Place.at(store) != standing:
        raise RetryError(
            "store-replaced",
            expected="one revision of a series",
            found="another in its place",
            todo="name an empty folder and restore again",
            private=str(store),
        ) from failed[0][1]


def _is_drop(path: Path) -> bool:
    """Tell whether this is a drop that is called like a store; no store has such things in it."""
    return (path / "drop.json").exists() or any(path.glob("*/series.zarr"))


def the_store(place: Path) -> Path:
    """Return the one store at a place."""
    found = [path for path, _ in stores_at(place)]
    if len(found) > 1:
        raise RejectError("several-stores", expected="one store", found=str(len(found)))
    return found[0]
