"""What a child is to do, from what the ledger and the settings say of files: convert, or clear."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from dicomzarr_watch.archive.work import AfterSuccess, Clearance, Finding, Original, Source, Work
from dicomzarr_watch.config import Settings
from dicomzarr_watch.daemon.leaving import Leaver
from dicomzarr_watch.engine.task import Task
from dicomzarr_watch.intake.arrival import gaps
from dicomzarr_watch.intake.bundle import is_of_bundle
from dicomzarr_watch.intake.bundles import Bundles
from dicomzarr_watch.intake.listing import Entry
from dicomzarr_watch.ledger.jobs import Job
from dicomzarr_watch.ledger.rows import FileRow

NAMED_GAPS: Final = 10


def task_of(job: Job, files: Sequence[FileRow], settings: Settings, bundles: Bundles) -> Task:
    """Return what a job is to do once it is claimed: unpack a bundle, or convert a series.

    files: those of the job, as the ledger has them. What of them stands in bundles is unpacked
    again before, if its copies are gone.
    """
    entries = [Entry(file.path, file.identity) for file in files]
    if is_of_bundle(job.series_uid):
        return Task(tuple(bundles.unpacking(entry) for entry in entries))
    found = {name: bundles.place(entry) for name, entry in _named(entries).items()}
    needed = {task.path: task for _, task in found.values() if task}
    sources = [
        Source(name, path, entry.identity)
        for (name, (path, _)), entry in zip(found.items(), entries, strict=True)
    ]
    return Task(tuple(needed.values()), _work(job, files, sources, settings))


def clearing_task(
    drop: str, leavers: Iterable[Leaver], settings: Settings, bundles: Bundles, *, is_local: bool
) -> Task:
    """Return what is to be done for files of a drop to leave the inbox; is_local: see Clearance."""
    unpackings, originals = [], []
    for leaver in leavers:
        file = leaver.file
        if not leaver.is_bundle:
            originals.append(Original(file.path, file.identity, leaver.held[0][1]))
            continue
        unpackings.append(bundles.unpacking(Entry(file.path, file.identity)))
        members = tuple(
            (bundles.place(Entry(member.path, member.identity))[0], folder)
            for member, folder in leaver.held
        )
        originals.append(Original(file.path, file.identity, members=members))
    move_to = settings.move_to if settings.after_success is AfterSuccess.MOVE else None
    results = settings.output / drop
    clearance = Clearance(settings.inbox, results, tuple(originals), move_to, is_local=is_local)
    return Task(tuple(unpackings), clearance=clearance)


def _work(
    job: Job, files: Sequence[FileRow], sources: Sequence[Source], settings: Settings
) -> Work:
    return Work(
        drop=job.drop,
        sources=tuple(sorted(sources, key=lambda s: s.name)),
        output=settings.output,
        verify=settings.verify,
        keep_reconstructed=settings.keep_reconstructed,
        keep_encoded=settings.keep_encoded,
        findings=_findings(files, sources, settings),
        # a broken frame can end the process that decodes it: then that is another than the job's,
        # and the last attempt does without
        is_apart=job.attempts > 1,
        is_decoded=not 1 < job.attempts == settings.max_attempts,
    )


def _findings(
    files: Sequence[FileRow], sources: Sequence[Source], settings: Settings
) -> tuple[Finding, ...]:
    """Return what held the series up before it was taken for complete."""
    found = []
    truncated = tuple(s.name for s, file in zip(sources, files, strict=True) if file.is_truncated)
    if truncated:
        found.append(Finding("held-while-truncated", truncated))
    numbers = (file.instance_number for file in files if file.instance_number is not None)
    if settings.gap_hold_s and (missing := gaps(numbers)):
        found.append(Finding("gap-in-instance-numbers", detail=_runs(missing)))
    return tuple(found)


def _named(entries: Sequence[Entry]) -> dict[str, Entry]:
    """Name files by their paths in the drop.

    A folder and a bundle of one name are one drop: then their paths in the inbox tell them apart.
    """
    is_one = len({entry.root for entry in entries}) == 1
    return {entry.name if is_one else entry.plain_path: entry for entry in entries}


def _runs(missing: Sequence[tuple[int, int]]) -> str:
    """Name runs of integers, the first ones if there are many."""
    named = [str(a) if a == b else f"{a} to {b}" for a, b in missing[:NAMED_GAPS]]
    return ", ".join(named) + (", …" if len(missing) > NAMED_GAPS else "")
