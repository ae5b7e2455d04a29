"""From staged to visible: all on disk first, then one rename.

A staged folder lives on the file system of the output. What is visible under its final name is
whole; a revision takes the old one's place by swapping the two names where the system can
(renameat2), else by two renames that `recovered` can finish after a crash between them.
"""

from __future__ import annotations

import errno
import json
import shutil
from pathlib import Path
from typing import Final

from dicomzarr_watch.archive.disk import make_durable, swap_names, sync
from dicomzarr_watch.archive.document import Receipt
from dicomzarr_watch.archive.layout import DONE_JSON, may_be_one
from dicomzarr_watch.errors import RejectError

EVIDENCE: Final = ".evidence"

_ASIDE: Final = (".", ".previous")
_CANNOT_EXCHANGE: Final = frozenset({errno.ENOSYS, errno.EINVAL, errno.ENOTSUP})


def published(final: Path) -> Receipt | None:
    """Return the receipt of what is visible under a final name, if anything is; it is on disk then.

    Raises RejectError for what is none of ours, so that nothing of it is replaced.
    """
    recovered(final)
    try:
        found = Receipt.from_json(json.loads((final / DONE_JSON).read_bytes()))
    except (FileNotFoundError, NotADirectoryError) as error:
        if isinstance(error, FileNotFoundError) and not final.exists():
            return None
        raise RejectError(
            "output-taken",
            expected="a free name, or a result with its done marker",
            found="neither",
            todo="move what stands there away",
            private=str(final),
        ) from error
    except (ValueError, KeyError, TypeError) as error:  # the disk lost it, or somebody wrote it
        raise RejectError(
            "receipt-damaged",
            expected="a done marker as it was written",
            found=type(error).__name__,
            todo="bring the result back from a copy, or move it away and retry",
            private=str(final),
        ) from error
    _put_names_on_disk(final)  # one who was killed may not have come to that
    return found


def standing(results: Path, folder: str, uid: str) -> str:
    """Return the name that a series stands under in the results of a drop, else the one given.

    folder: its name if it is new. One file's words are in it, and a late file may have others.
    A copy that somebody made says by its done marker that it is called otherwise.
    """
    found = results.iterdir() if results.is_dir() else ()
    names = {_in_place(path.name) for path in found}
    for name in sorted(name for name in names if may_be_one(name, folder)):
        recovered(results / name)
        if (results / name / DONE_JSON).exists():
            receipt = published(results / name)
            if receipt and (receipt.series_instance_uid, receipt.folder) == (uid, name):
                return name
    return folder


def publish(staged: Path, final: Path) -> None:
    """Make a staged folder visible under its final name; what stood there is then in `staged`."""
    make_durable(staged)
    final.parent.mkdir(parents=True, exist_ok=True)
    if final.exists():
        _exchange(staged, final)
    else:
        staged.rename(final)
    _put_names_on_disk(final)
    sync(staged.parent)


def recovered(final: Path) -> None:
    """Bring back a revision that was moved aside when its successor did not arrive."""
    aside = _aside(final)
    if not aside.exists():
        return
    if final.exists():
        shutil.rmtree(aside)
    else:
        aside.rename(final)


def keep_evidence(staged: Path, output: Path, drop: str, folder: str) -> None:
    """Keep a staged folder that did not verify, out of everybody's way."""
    place = output / EVIDENCE / drop / folder
    shutil.rmtree(place, ignore_errors=True)
    place.parent.mkdir(parents=True, exist_ok=True)
    staged.rename(place)


def _put_names_on_disk(final: Path) -> None:
    for folder in (final.parent, final.parent.parent):
        sync(folder)


def _exchange(staged: Path, final: Path) -> None:
    try:
        swap_names(staged, final)
    except OSError as error:
        if error.errno not in _CANNOT_EXCHANGE:
            raise
        final.rename(_aside(final))
        staged.rename(final)
        sync(final.parent)
        _aside(final).rename(staged)


def _aside(final: Path) -> Path:
    return final.with_name(f"{_ASIDE[0]}{final.name}{_ASIDE[1]}")


def _in_place(name: str) -> str:
    """Return a name as it was before it was moved aside, if it was."""
    before, after = _ASIDE
    is_aside = name.startswith(before) and name.endswith(after)
    return name.removeprefix(before).removesuffix(after) if is_aside else name
