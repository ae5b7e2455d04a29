"""Which files of a drop may leave the inbox, as far as the ledger knows; nothing here acts.

The rule: a file that is archived, when nothing of its series is under way. A bundle may when
everything that came out of it is archived. Whether the archive holds the bytes is proven later,
right before a file goes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from dicomzarr_watch.intake.bundle import outermost
from dicomzarr_watch.kind import Kind
from dicomzarr_watch.ledger.account import Fate, fate
from dicomzarr_watch.ledger.jobs import Job
from dicomzarr_watch.ledger.rows import FileRow

MOST_FILES: Final = 1000
MOST_BYTES: Final = 1 << 30
MEMBERS_STAY: Final = "members-not-archived"


@dataclass(frozen=True, slots=True)
class Leaver:
    """A file that may leave.

    held: the files whose bytes must be in the archive, itself or what came out of it, each with the
    folder of the series that must hold them.
    """

    file: FileRow
    held: tuple[tuple[FileRow, str], ...]

    @property
    def is_bundle(self) -> bool:
        return self.held[0][0] is not self.file

    @property
    def files(self) -> list[FileRow]:
        """All that leaves: the file, and what came out of it."""
        return [self.file, *(file for file, _ in self.held if file is not self.file)]


@dataclass(frozen=True, slots=True)
class Leaving:
    """What of a drop may leave now, and which bundles stay because of what is in them."""

    leavers: tuple[Leaver, ...]
    staying: tuple[FileRow, ...]


def leaving(
    files: Iterable[FileRow], jobs: Mapping[int, Job], is_busy: Callable[[str], bool]
) -> Leaving:
    """Decide over the files of a drop.

    jobs: by number. is_busy: tells by the series UID whether something of a series is under way.
    """
    members: dict[str, list[FileRow]] = defaultdict(list)
    own: list[FileRow] = []
    for file in files:
        if file.is_present:
            bundle = outermost(file.path)
            (members[bundle] if bundle else own).append(file)
    leavers, staying = [], []
    for file in own:
        job = jobs.get(file.job or 0)
        outcome, _ = fate(file, job)
        if job is None or is_busy(file.series_uid):
            continue
        if outcome is Fate.ARCHIVED:
            leavers.append(Leaver(file, ((file, job.folder),)))
        elif outcome is Fate.UNPACKED:
            of_it = members[file.path]
            if any(is_busy(member.series_uid) for member in of_it if member.kind == Kind.DICOM):
                continue
            held = _held(of_it, jobs)
            if held:
                leavers.append(Leaver(file, held))
            else:
                staying.append(file)
    return Leaving(tuple(leavers), tuple(staying))


def _held(members: Iterable[FileRow], jobs: Mapping[int, Job]) -> tuple[tuple[FileRow, str], ...]:
    """Return what came out of a bundle with the folders of its series; nothing if any must stay."""
    found = []
    for member in members:
        job = jobs.get(member.job or 0)
        outcome, _ = fate(member, job)
        if outcome is Fate.ARCHIVED and job is not None:
            found.append((member, job.folder))
        elif outcome is not Fate.UNPACKED:  # which is a bundle in it, known by its own members
            return ()
    return tuple(found)


def portions(leavers: Iterable[Leaver]) -> Iterator[tuple[Leaver, ...]]:
    """Cut what may leave into what is cleared at one go; a bundle is one of its own."""
    found: list[Leaver] = []
    size = 0
    for leaver in leavers:
        if leaver.is_bundle:
            yield (leaver,)
            continue
        found.append(leaver)
        size += leaver.file.identity.size
        if len(found) == MOST_FILES or size >= MOST_BYTES:
            yield tuple(found)
            found, size = [], 0
    if found:
        yield tuple(found)
