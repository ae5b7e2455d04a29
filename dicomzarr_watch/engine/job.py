"""A job as it is done in a child: the one place where the engine meets the archive."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from dicomzarr_watch.archive.convert import convert
from dicomzarr_watch.archive.originals import cleared
from dicomzarr_watch.archive.work import Clearance, Source, Work
from dicomzarr_watch.engine.task import Task
from dicomzarr_watch.errors import DicomzarrError
from dicomzarr_watch.identity import Identity
from dicomzarr_watch.intake.unpack import Unpacking, unpack
from dicomzarr_watch.outcome import CLEARED, UNPACKED, Ended, Outcome, of_crash, of_error


def done(task: Task) -> Outcome:
    """Do it, and say how it ended; raises only what is no Exception, such as SystemExit."""
    try:
        files = sum([unpack(bundle) for bundle in task.bundles])
        if task.clearance is not None:
            return _cleared(task.clearance)
        if task.work is None:
            said = {"folder": "", "revision": 0, "counts": {"files": files}}
            return Outcome(Ended.DONE, UNPACKED, summary=said)
        work = _with_copies(task.work, task.bundles) if task.bundles else task.work
        return _converted(work)
    except DicomzarrError as error:
        return of_error(error)
    except Exception as error:  # noqa: BLE001 - whatever it is costs one attempt, with a code
        return of_crash(error)


def _with_copies(work: Work, bundles: Iterable[Unpacking]) -> Work:
    """Take copies in the state that they are in: they may have been made again just now."""
    folders = {bundle.folder for bundle in bundles}

    def present(source: Source) -> Source:
        if source.path.parent not in folders:
            return source
        return replace(source, identity=Identity.of(source.path.stat()))

    return replace(work, sources=tuple(present(source) for source in work.sources))


def _cleared(clearance: Clearance) -> Outcome:
    found = cleared(clearance)
    kept = {path: of_error(error) for path, error in found.kept.items()}
    said = {"files": found.files, "bytes": found.bytes, "kept": kept}
    return Outcome(Ended.DONE, CLEARED, summary=said)


def _converted(work: Work) -> Outcome:
    """Convert, and say of the receipt what ledger and log need."""
    receipt = convert(work)
    return Outcome(
        Ended.DONE,
        "unchanged" if receipt.is_unchanged else "done",
        summary={
            "folder": receipt.folder,
            "revision": receipt.revision,
            "counts": receipt.counts,
            "verified": receipt.verified["level"],
            "findings": sorted({finding.code for finding in receipt.findings}),
            "seconds": {k: round(v, 3) for k, v in receipt.seconds.items()},
        },
    )
