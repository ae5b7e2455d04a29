"""The DICOM files come back: names, times and bytes, or nothing at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import zarr
from archive_cases import (
    CASES,
    FIRST_MTIME_NS,
    Archived,
    chunk_files,
    contents,
    made,
    slices,
)
from dicom_files import file_id, pydicom_files
from hypothesis import given
from hypothesis import strategies as st

from dicomzarr_watch.archive.layout import names_blob
from dicomzarr_watch.archive.reader import Store
from dicomzarr_watch.archive.restore import matching, restore, safe_name
from dicomzarr_watch.errors import RejectError


def test_promise_4_every_file_comes_back_byte_for_byte_with_name_and_time(
    series: Archived, tmp_path: Path
) -> None:
    store = series.store
    told: list[int] = []
    count = restore(store, tmp_path, store.files, progress=told.append)
    files = contents(series.files)
    assert contents(tmp_path) == files
    assert (count, sum(told)) == (len(files), sum(map(len, files.values())))
    for n, name in enumerate(files):
        assert (tmp_path / name).stat().st_mtime_ns == FIRST_MTIME_NS + n


def test_promise_4_holds_for_all_files_of_pydicom_in_one_store(tmp_path: Path) -> None:
    done = made(tmp_path, _all_of_pydicom)
    restore(done.store, tmp_path / "back", done.store.files)
    assert contents(tmp_path / "back") == contents(done.files)
    assert done.receipt.counts["files_as_frames"] > 60
    assert done.receipt.counts["files_as_residue"] > 40


def _all_of_pydicom(folder: Path) -> None:
    for path in pydicom_files():
        target = folder / file_id(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        ([], ["001.dcm", "002.dcm", "003.dcm", "sub/001.dcm"]),
        (["*"], ["001.dcm", "002.dcm", "003.dcm", "sub/001.dcm"]),
        (["001.dcm"], ["001.dcm", "sub/001.dcm"]),
        (["sub/*"], ["sub/001.dcm"]),
        (["002.dcm", "00[3-9].dcm"], ["002.dcm", "003.dcm"]),
        (["002.DCM"], []),
    ],
)
def test_patterns_pick_by_name_or_by_its_last_part(
    nested: Archived, patterns: list[str], expected: list[str], tmp_path: Path
) -> None:
    picked = matching(nested.store, patterns)
    assert sorted(file.name for file in picked) == expected
    assert restore(nested.store, tmp_path, picked) == len(expected)
    assert sorted(contents(tmp_path)) == expected


@pytest.fixture(scope="module")
def nested(tmp_path_factory: pytest.TempPathFactory) -> Archived:
    def write(folder: Path) -> None:
        slices(folder)
        slices(folder / "sub", 1)

    return made(tmp_path_factory.mktemp("nested"), write)


def test_a_file_that_is_there_is_not_written_over(nested: Archived, tmp_path: Path) -> None:
    (tmp_path / "002.dcm").write_bytes(b"precious")
    with pytest.raises(RejectError, match="destination-exists"):
        restore(nested.store, tmp_path, nested.store.files)
    assert (tmp_path / "002.dcm").read_bytes() == b"precious"


@pytest.mark.parametrize(
    "name", ["../x", "/x", "a/../../x", "a/..", "..", "/", "", ".", "//x", "./../x"]
)
def test_a_name_that_leads_out_of_the_destination_is_refused(
    name: str, nested: Archived, tmp_path: Path
) -> None:
    evil = _renamed(nested, tmp_path / "evil.zarr", name)
    inside = tmp_path / "inside"
    with pytest.raises(RejectError, match="unsafe-name"):
        restore(evil, inside, evil.files)
    assert not inside.exists()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["evil.zarr"]


def _renamed(done: Archived, path: Path, first: str) -> Store:
    """Return a copy of a store in which the first file bears another name."""
    shutil.copytree(done.path, path)
    names = [first, *(file.name for file in done.store.files[1:])]
    blob = np.frombuffer(names_blob(names), "u1")
    group = zarr.open_group(path / "dicom", mode="a")
    group.create_array("names", data=blob, overwrite=True)
    return Store(path)


@given(st.lists(st.sampled_from(["..", ".", "a", "", "...", "a b", "~"]), min_size=1))
def test_a_safe_name_stays_below_the_destination(parts: list[str]) -> None:
    name = "/".join(parts)
    try:
        found = safe_name(name)
    except RejectError:
        assert name.startswith("/") or ".." in parts or set(parts) <= {"", "."}
        return
    top = Path("/destination")
    assert Path(os.path.normpath(top / found)).is_relative_to(top)
    assert os.path.normpath(top / found) != str(top)


def test_what_is_restored_for_good_is_on_disk_with_its_names(
    nested: Archived, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fsync, synced = os.fsync, set[int]()

    def recorded(descriptor: int) -> None:
        synced.add(os.fstat(descriptor).st_ino)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", recorded)
    back = tmp_path / "back"
    restore(nested.store, back, nested.store.files, is_durable=True)
    assert synced == {path.stat().st_ino for path in (back, *back.rglob("*"))}


def _flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize("damage", [_flipped, _cut, Path.unlink])
@pytest.mark.parametrize("array", ["0", "dicom/headers", "dicom/residue"])
def test_a_damaged_store_leaves_no_wrong_file_behind(
    tmp_path: Path, array: str, damage: Callable[[Path], None]
) -> None:
    done = made(tmp_path, CASES["not only frames"].write)
    (chunk,) = (path for path in chunk_files(done.path / array))
    damage(chunk)
    with pytest.raises(RejectError, match="store-damaged"):
        restore(done.store, tmp_path / "back", done.store.files)
    files = contents(done.files)
    back = contents(tmp_path / "back")
    assert len(back) < len(files)
    assert back.items() <= files.items()


def test_a_hash_that_is_not_the_files_own_is_damage(tmp_path: Path) -> None:
    done = made(tmp_path, slices)
    sha256 = zarr.open_array(done.path / "dicom" / "sha256", mode="a")
    sha256[1] = np.zeros(32, "u1")
    with pytest.raises(RejectError, match="store-damaged"):
        restore(done.store, tmp_path / "back", done.store.files)
    assert len(contents(tmp_path / "back")) == 1
