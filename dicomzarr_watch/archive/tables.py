"""The small tables that restoring needs beside headers, residue and frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dicomzarr_watch.archive import layout, node
from dicomzarr_watch.archive.blob import compressed, write_metadata
from dicomzarr_watch.archive.layout import Plan
from dicomzarr_watch.archive.work import Source
from dicomzarr_watch.dicom.instance import Instance


@dataclass(frozen=True, slots=True)
class Row:
    """What is known of one file when it has been written."""

    sha256: bytes
    header_offset: int
    first_frame: int
    frame_count: int


def create_tables(
    dicom: Path,
    plan: Plan,
    sources: Sequence[Source],
    instances: Sequence[Instance],
    *,
    rows: Mapping[int, Row],
    kept_at: Mapping[int, int],
) -> None:
    """Write index, frames, hashes and names (see INDEX_COLUMNS).

    rows: per number of a file. kept_at: where its pixels stand in the residue, if they do.
    """
    index = [
        (
            rows[n].header_offset,
            instances[n].head_bytes,
            instances[n].tail_bytes,
            instances[n].pixel_bytes,
            kept_at.get(n, -1),
            rows[n].first_frame,
            rows[n].frame_count,
            sources[n].identity.mtime_ns,
        )
        for n in plan.files
    ]
    frames = [place for n in plan.files for place in plan.planes.get(n, ())]
    hashes = b"".join(rows[n].sha256 for n in plan.files)
    names = layout.names_blob([sources[n].name for n in plan.files])
    _create(dicom / "index", np.array(index, "<i8"), layout.INDEX_COLUMNS)
    width = len(layout.FRAME_COLUMNS)
    _create(dicom / "frames", np.array(frames, "<u8").reshape(-1, width), layout.FRAME_COLUMNS)
    _create(dicom / "sha256", np.frombuffer(hashes, "uint8").reshape(-1, 32))
    _create(dicom / "names", np.frombuffer(names, "uint8"))
    if any(sources[n].original_sha256 for n in plan.files):
        originals = b"".join(sources[n].original_sha256 or rows[n].sha256 for n in plan.files)
        _create(dicom / layout.ORIGINALS, np.frombuffer(originals, "uint8").reshape(-1, 32))


def _create(folder: Path, values: np.ndarray[Any, Any], columns: Sequence[str] = ()) -> None:
    """Write a small array as one chunk."""
    chunk = [max(n, 1) for n in values.shape]
    attributes = {"columns": list(columns)} if columns else {}
    write_metadata(folder, values.shape, chunk, values.dtype, attributes)
    if values.size:
        key = node.SEPARATOR.join(["c", *("0" for _ in chunk)])
        (folder / key).write_bytes(compressed(values.tobytes()))
