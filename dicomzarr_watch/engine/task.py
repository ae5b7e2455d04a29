"""What a child is asked to do. Cheap to import."""

from __future__ import annotations

from dataclasses import dataclass

from dicomzarr_watch.archive.work import Work
from dicomzarr_watch.intake.unpack import Unpacking


@dataclass(frozen=True, slots=True)
class Task:
    """Bundles to unpack, and then a series to convert, if any; some of its files are in them."""

    bundles: tuple[Unpacking, ...] = ()
    work: Work | None = None
