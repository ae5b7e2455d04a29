"""Arrays are read where they are asked for."""

from __future__ import annotations

import asyncio
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from archive_cases import made, slices

from dicomzarr_watch.archive import arrays, layout
from dicomzarr_watch.archive.blob import BlobWriter
from dicomzarr_watch.archive.threads import Here
from dicomzarr_watch.errors import RejectError

THREADS = 4
READS = 40


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(tmp_path_factory.mktemp("series"), slices).store.path


@pytest.mark.parametrize("pipeline", [arrays.ZARR_PYTHON, "zarrs.ZarrsCodecPipeline"])
def test_reading_starts_no_thread(store: Path, pipeline: str) -> None:
    with arrays.read_by(pipeline):
        image = arrays.opened(store, "0")
    before = threading.active_count()
    assert arrays.read(image, ...).any()
    assert threading.active_count() == before


def test_threads_that_read_at_once_all_read_what_is_there(store: Path) -> None:
    image = arrays.opened(store, "0")
    expected = arrays.read(image, ...)
    with ThreadPoolExecutor(THREADS) as pool:
        found = pool.map(lambda _: arrays.read(image, ...), range(READS))
    for values in found:
        np.testing.assert_array_equal(values, expected)


def test_chunks_that_were_read_last_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layout, "BLOB_CHUNK_BYTES", 10)
    monkeypatch.setattr(arrays, "_KEPT_BYTES", 30)
    (tmp_path / layout.DICOM_GROUP).mkdir()
    writer = BlobWriter(tmp_path / layout.DICOM_GROUP / "residue", Here(), lambda _: None)
    writer.append(bytes(range(100)))
    writer.finish()
    asked: list[int] = []
    read = arrays.read

    def counted(array: Any, selection: Any) -> Any:
        asked.append(selection.start // 10)
        return read(array, selection)

    monkeypatch.setattr(arrays, "read", counted)
    blob = arrays.Blob(tmp_path, "residue")
    for start in (0, 11, 2, 33, 14, 5, 71, 3, 12, 34):
        assert b"".join(blob.pieces(start, start + 5)) == bytes(range(start, start + 5))
    assert asked == [0, 1, 3, 7, 3]


def test_threads_that_read_an_array_first_both_read_it(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = arrays.opened(shutil.copytree(store, tmp_path / "fresh"), "0")
    together, exists = threading.Barrier(2), Path.exists

    def exists_for_both(path: Path, **more: bool) -> bool:
        with suppress(threading.BrokenBarrierError):
            together.wait(timeout=1)
        return exists(path, **more)

    monkeypatch.setattr(Path, "exists", exists_for_both)
    with ThreadPoolExecutor(2) as pool:
        one, other = pool.map(lambda _: arrays.read(image, ...), range(2))
    np.testing.assert_array_equal(one, other)


def test_a_damaged_array_is_told_and_what_comes_after_it_is_read(
    store: Path, tmp_path: Path
) -> None:
    image = arrays.opened(store, "0")
    (tmp_path / "0" / "c.0.0.0").parent.mkdir()
    (tmp_path / "0" / "c.0.0.0").write_bytes(b"no shard")
    (tmp_path / "0" / "zarr.json").write_bytes((store / "0" / "zarr.json").read_bytes())
    with pytest.raises(RejectError, match="store-damaged"):
        arrays.read(arrays.opened(tmp_path, "0"), ...)
    assert arrays.read(image, ...).any()


def test_who_runs_a_loop_of_its_own_can_have_arrays_read_by_another_thread(store: Path) -> None:
    async def read() -> bool:
        values = await asyncio.to_thread(lambda: arrays.read(arrays.opened(store, "0"), ...))
        return bool(values.any())

    assert asyncio.run(read())
