"""A job as it is done in a child: the one place where the engine meets the archive."""

from __future__ import annotations

from dicomzarr_watch.archive.convert import convert
from dicomzarr_watch.archive.work import Work
from dicomzarr_watch.errors import DicomzarrError
from dicomzarr_watch.outcome import Ended, Outcome, of_crash, of_error


def done(work: Work) -> Outcome:
    """Convert, and say how it ended; raises only what is no Exception, such as SystemExit."""
    try:
        return _converted(work)
    except DicomzarrError as error:
        return of_error(error)
    except Exception as error:  # noqa: BLE001 - whatever it is costs one attempt, with a code
        return of_crash(error)


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
