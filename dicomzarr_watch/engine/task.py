"""What a child is asked to do. Cheap to import."""

from __future__ import annotations

from dataclasses import dataclass

from dicomzarr_watch.archive.work import Clearance, Work
from dicomzarr_watch.intake.unpack import Unpacking


@dataclass(frozen=True, slots=True)
class Task:
    """Bundles to unpack, and then a series to convert or originals to clear, if any.

    Some of the files are in the bundles.
    """

    bundles: tuple[Unpacking, ...] = ()
    work: Work | None = None
    clearance: Clearance | None = None
