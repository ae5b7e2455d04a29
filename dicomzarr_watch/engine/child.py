"""What a child does with its work: the one place where the engine meets the archive."""

from __future__ import annotations

from dicomzarr_watch.archive.convert import convert
from dicomzarr_watch.archive.work import Work
from dicomzarr_watch.outcome import Ended, Outcome


def do(work: Work) -> Outcome:
    """Convert, and say of the receipt what ledger and log need; raises what `convert` raises."""
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
