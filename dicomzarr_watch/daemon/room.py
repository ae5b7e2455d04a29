"""Room on disk for a job, before it starts: what it needs, and whether that is there.

The rule: `min_free_bytes` stay free even if every job under way still writes all that it needs.
Needs are estimates from the sizes of files and rather too large: nothing is taken to be compressed
any further, and what those under way have written already is counted once more.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterable, Mapping
from math import prod
from pathlib import Path
from typing import Final

from dicomzarr_watch.archive.work import KeepEncoded, Source, Work
from dicomzarr_watch.config import Settings
from dicomzarr_watch.dicom import tags
from dicomzarr_watch.engine.task import Task
from dicomzarr_watch.errors import NO_SPACE, RetryError
from dicomzarr_watch.intake.bundle import Form
from dicomzarr_watch.intake.peek import glance
from dicomzarr_watch.intake.unpack import Unpacking, unpacked
from dicomzarr_watch.source import Excerpts

SERIES_BYTES: Final = 1 << 20
"""What a result takes beside the bytes of its files."""
UNFOLDS: Final = 3
"""How many times its size a compressed bundle is taken to hold, as long as nobody has looked."""
VIEW_MOST: Final = 100
"""A header that says its view is more times the encoded bytes than that is not believed."""

_SAMPLES: Final = (tags.ROWS, tags.COLUMNS, tags.SAMPLES_PER_PIXEL, tags.BITS_ALLOCATED)
Need = Mapping[str, int]
"""Bytes by the setting that names the folder they are written below."""


class Room:
    """The disks that jobs write to."""

    def __init__(self, settings: Settings) -> None:
        self._least = settings.min_free_bytes
        self._keep_encoded = settings.keep_encoded
        self._places = {"output": settings.output, "state": settings.state}
        if settings.keep_reconstructed:
            self._places["keep_reconstructed"] = settings.keep_reconstructed

    def need(self, task: Task, carried_bytes: int) -> Need:
        """Return what a task takes.

        carried_bytes: of files that only the series' result has, for a new one to take over.
        """
        if not self._least:
            return {}
        found = {"state": sum(map(_unpacked_bytes, task.bundles))}
        if task.work is None:
            return found
        size = sum(source.identity.size for source in task.work.sources)
        views = _decoded_bytes(task.work, size)
        native = views if self._keep_encoded is not KeepEncoded.ALWAYS else 0
        found["output"] = SERIES_BYTES + size + views + native + 2 * carried_bytes
        if task.work.keep_reconstructed:
            found["keep_reconstructed"] = size + carried_bytes
        return found

    def lack(self, needs: Iterable[Need]) -> RetryError | None:
        """Return what to say if there is not room for all of these; None if there is.

        A disk that says nothing of itself has room: the job will see.
        """
        wanted = sum(map(Counter, needs), Counter[str]())
        of_disk: Counter[int] = Counter()
        for name in wanted if self._least else ():
            try:
                place = existing(self._places[name])
                device, free = place.stat().st_dev, shutil.disk_usage(place).free
            except OSError:
                continue
            of_disk[device] += wanted[name]
            least = of_disk[device] + self._least
            if free < least:
                return _no_room(name, least, free)
        return None


def _unpacked_bytes(bundle: Unpacking) -> int:
    """Return what the copies of a bundle take that are still to be made."""
    known = unpacked(bundle)
    if known is None:
        return bundle.identity.size * (1 if bundle.form is Form.TAR else UNFOLDS)
    return 0 if bundle.folder.is_dir() else sum(one.size for one in known)


def _decoded_bytes(work: Work, size: int) -> int:
    """Return what the views of encoded files take: all are taken to be like the largest."""
    if not work.is_decoded:
        return 0
    largest = max(work.sources, key=lambda source: source.identity.size)
    encoded, decoded = _sample(largest)
    return min(size * decoded // encoded, VIEW_MOST * size) if encoded else 0


def _sample(source: Source) -> tuple[int, int]:
    """Return the size of a file and that of its view, where it is kept beside the file's bytes."""
    try:
        with Excerpts(source.path) as file:
            part10, values = glance(file, (*_SAMPLES, tags.NUMBER_OF_FRAMES))
    except OSError:
        return 0, 0  # the job will see
    if part10.pixel is None or part10.is_native or part10.is_video:
        return 0, 0
    frames = max(1, values.numeral(tags.NUMBER_OF_FRAMES) or 1)
    return part10.size, frames * prod(values.number(tag) or 0 for tag in _SAMPLES) // 8


def existing(folder: Path) -> Path:
    """Return a folder, or of those above it the nearest that is there."""
    return next(p for p in (folder, *folder.absolute().parents) if p.exists())


def _no_room(name: str, least: int, free: int) -> RetryError:
    return RetryError(
        NO_SPACE,
        expected=f"{least:,} bytes free where {name} is, min_free_bytes among them",
        found=f"{free:,}",
        todo="free space there, or set min_free_bytes lower",
    )
