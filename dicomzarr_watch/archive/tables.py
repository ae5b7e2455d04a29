"""The small tables that restoring needs beside headers, residue and frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np

from dicomzarr_watch.archive import layout, node
from dicomzarr_watch.archive.blob import compressed, write_metadata
from dicomzarr_watch.archive.layout import Plan
from dicomzarr_watch.archive.work import Source
from dicomzarr_watch.dicom.instance import Instance


@dataclass(frozen=True, slots=True)
class Written:
    """What was read and where it went; all in the order of the rows.

    header_offsets: where each file's header starts in the headers.
    residue_offsets: where its pixels, or all of it, start in the residue; -1 if they do not.
    not_verbatim: names of files whose frames do not give their bytes back, kept in residue too.
    by_others: names of those with frames that the first decoder could not read.
    holding_more: names of those with more encoded than the frames that are seen.
    """

    sha256: tuple[bytes, ...]
    header_offsets: tuple[int, ...]
    residue_offsets: tuple[int, ...]
    not_verbatim: tuple[str, ...]
    by_others: tuple[str, ...]
    holding_more: tuple[str, ...]


def create_tables(
    dicom: Path,
    plan: Plan,
    sources: Sequence[Source],
    instances: Sequence[Instance],
    written: Written,
) -> None:
    """Write index, frames, hashes and names (see INDEX_COLUMNS)."""
    own = [instances[n] for n in plan.files]
    counts = [len(plan.planes.get(n, ())) for n in plan.files]
    index = (
        written.header_offsets,
        [instance.head_bytes for instance in own],
        [instance.tail_bytes for instance in own],
        [instance.pixel_bytes for instance in own],
        written.residue_offsets,
        [end - count for end, count in zip(accumulate(counts), counts, strict=True)],
        counts,
        [sources[n].identity.mtime_ns for n in plan.files],
    )
    frames = [place for n in plan.files for place in plan.planes.get(n, ())]
    hashes = b"".join(written.sha256)
    names = layout.names_blob([sources[n].name for n in plan.files])
    _create(dicom / "index", np.array(index, "<i8").T, layout.INDEX_COLUMNS)
    width = len(layout.FRAME_COLUMNS)
    _create(dicom / "frames", np.array(frames, "<u8").reshape(-1, width), layout.FRAME_COLUMNS)
    _create(dicom / "sha256", np.frombuffer(hashes, "uint8").reshape(-1, 32))
    _create(dicom / "names", np.frombuffer(names, "uint8"))
    if any(sources[n].original_sha256 for n in plan.files):
        files = zip(plan.files, written.sha256, strict=True)
        originals = b"".join(sources[n].original_sha256 or sha256 for n, sha256 in files)
        _create(dicom / layout.ORIGINALS, np.frombuffer(originals, "uint8").reshape(-1, 32))


def _create(folder: Path, values: np.ndarray[Any, Any], columns: Sequence[str] = ()) -> None:
    """Write a small array as one chunk."""
    chunk = [max(n, 1) for n in values.shape]
    attributes = {"columns": list(columns)} if columns else {}
    write_metadata(folder, values.shape, chunk, values.dtype, attributes)
    if values.size:
        key = node.SEPARATOR.join(["c", *("0" for _ in chunk)])
        (folder / key).write_bytes(compressed(values.tobytes()))
