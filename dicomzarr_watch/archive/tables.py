"""The small tables that restoring needs beside headers, residue and frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import zarr

from dicomzarr_watch.archive import layout
from dicomzarr_watch.archive.blob import CHUNK_KEYS, byte_codecs
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
    dicom: zarr.Group,
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
    _create(dicom, "index", np.array(index, "int64"), layout.INDEX_COLUMNS)
    width = len(layout.FRAME_COLUMNS)
    _create(dicom, "frames", np.array(frames, "uint64").reshape(-1, width), layout.FRAME_COLUMNS)
    _create(dicom, "sha256", np.frombuffer(hashes, "uint8").reshape(-1, 32))
    _create(dicom, "names", np.frombuffer(names, "uint8"))
    if any(sources[n].original_sha256 for n in plan.files):
        originals = b"".join(sources[n].original_sha256 or rows[n].sha256 for n in plan.files)
        _create(dicom, layout.ORIGINALS, np.frombuffer(originals, "uint8").reshape(-1, 32))


def _create(
    group: zarr.Group, name: str, values: np.ndarray[Any, Any], columns: Sequence[str] = ()
) -> None:
    """Write a small array as one chunk."""
    array = group.create_array(
        name,
        shape=values.shape,
        chunks=tuple(max(n, 1) for n in values.shape),
        dtype=values.dtype,
        compressors=byte_codecs(),
        chunk_key_encoding=CHUNK_KEYS,
        attributes={"columns": list(columns)} if columns else {},
        config={"write_empty_chunks": True},
    )
    if values.size:
        array[...] = values
