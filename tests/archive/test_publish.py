"""A final name shows something whole or nothing, at every moment."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from archive_cases import contents

from dicomzarr_watch.archive import publish
from dicomzarr_watch.archive.disk import (
    LARGE_BYTES,
    STAGING,
    Syncing,
    clear_staging,
    make_durable,
    staging,
    write_durably,
    write_seen,
)
from dicomzarr_watch.archive.document import Receipt
from dicomzarr_watch.archive.layout import DONE_JSON
from dicomzarr_watch.archive.lines import as_json
from dicomzarr_watch.errors import RejectError


def _receipt(revision: int, folder: str = "CT-1") -> Receipt:
    return Receipt("1.2.3", folder, "", revision, {"files": 1}, {"level": "off"}, (), {})


def _staged(output: Path, revision: int) -> Path:
    """Make a folder as a conversion leaves it."""
    folder = output / STAGING / "drop" / f"{revision}"
    (folder / "series.zarr").mkdir(parents=True)
    (folder / "series.zarr" / "zarr.json").write_text(str(revision))
    (folder / DONE_JSON).write_bytes(as_json(_receipt(revision).as_json()))
    return folder


def _shown(final: Path) -> int:
    """Return the revision under a final name; all its parts must say the same."""
    receipt = publish.published(final)
    assert receipt is not None
    assert (final / "series.zarr" / "zarr.json").read_text() == str(receipt.revision)
    return receipt.revision


@pytest.fixture
def final(tmp_path: Path) -> Path:
    return tmp_path / "drop" / "CT-1"


@pytest.fixture(params=["exchange", "two renames"])
def any_system(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "two renames":
        _without_renameat2(monkeypatch)


def _without_renameat2(monkeypatch: pytest.MonkeyPatch) -> None:
    # what a kernel or a file system without renameat2 says; there is none here to ask
    def refuse(_one: Path, _other: Path) -> None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(publish, "swap_names", refuse)


def test_nothing_is_published_before_the_first_time(final: Path) -> None:
    assert publish.published(final) is None


def test_a_first_revision_appears_whole(tmp_path: Path, final: Path) -> None:
    staged = _staged(tmp_path, 1)
    before = contents(staged)
    publish.publish(staged, final)
    assert contents(final) == before
    assert not staged.exists()


def test_a_revision_takes_the_place_of_the_old_one(
    tmp_path: Path, final: Path, any_system: None
) -> None:
    for revision in (1, 2, 3):
        publish.publish(_staged(tmp_path, revision), final)
        assert _shown(final) == revision
    assert [path.name for path in final.parent.iterdir()] == [final.name]


def test_what_stood_there_is_then_in_the_staged_folder(
    tmp_path: Path, final: Path, any_system: None
) -> None:
    publish.publish(_staged(tmp_path, 1), final)
    old = contents(final)
    staged = _staged(tmp_path, 2)
    publish.publish(staged, final)
    assert contents(staged) == old


def test_what_is_none_of_ours_is_not_replaced(final: Path) -> None:
    final.mkdir(parents=True)
    with pytest.raises(RejectError, match="output-taken"):
        publish.published(final)
    final.rmdir()
    final.write_text("a person's notes")
    with pytest.raises(RejectError, match="output-taken"):
        publish.published(final)


@pytest.mark.parametrize("content", [b"", b"\0" * 100, b"[]", b"{}", b'{"state": "done"}', b"\xff"])
def test_a_result_whose_done_marker_is_damaged_is_not_replaced(
    tmp_path: Path, final: Path, content: bytes
) -> None:
    publish.publish(_staged(tmp_path, 1), final)
    (final / "done.json").write_bytes(content)
    with pytest.raises(RejectError, match="receipt-damaged"):
        publish.published(final)


def _result(results: Path, name: str, folder: str) -> None:
    (results / name).mkdir(parents=True)
    (results / name / DONE_JSON).write_bytes(as_json(_receipt(1, folder).as_json()))


@pytest.mark.parametrize(
    ("name", "folder", "found"),
    [
        ("CT-5-abc", "CT-5-abc", "CT-5-abc"),
        (".CT-5-abc.previous", "CT-5-abc", "CT-5-abc"),  # a crash between two renames
        ("copy-CT-5-abc", "CT-5-abc", "PT-6-abc"),
        ("CT-5-abd", "CT-5-abd", "PT-6-abc"),
    ],
)
def test_a_series_goes_on_where_it_stands_and_not_in_a_copy_of_that(
    tmp_path: Path, name: str, folder: str, found: str
) -> None:
    _result(tmp_path, name, folder)
    assert publish.standing(tmp_path, "PT-6-abc", "1.2.3") == found


def test_a_series_of_another_uid_is_another_though_the_hashes_are_alike(tmp_path: Path) -> None:
    _result(tmp_path, "CT-5-abc", "CT-5-abc")
    assert publish.standing(tmp_path, "PT-6-abc", "1.2.4") == "PT-6-abc"


def test_a_series_that_stands_under_two_names_goes_on_under_the_first(tmp_path: Path) -> None:
    for name in ("CT-6-abc", "CT-5-abc"):
        _result(tmp_path, name, name)
    assert publish.standing(tmp_path, "CT-6-abc", "1.2.3") == "CT-5-abc"


def test_without_results_a_series_is_called_as_it_says(tmp_path: Path) -> None:
    (tmp_path / "CT-5-abc").touch()
    for results in (tmp_path, tmp_path / "none", tmp_path / "CT-5-abc"):
        assert publish.standing(results, "PT-6-abc", "1.2.3") == "PT-6-abc"


def test_what_the_system_refuses_leaves_the_old_revision(
    tmp_path: Path, final: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish.publish(_staged(tmp_path, 1), final)

    def refuse(_one: Path, _other: Path) -> None:  # a mount that became read-only
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(publish, "swap_names", refuse)
    with pytest.raises(OSError, match="Read-only"):
        publish.publish(_staged(tmp_path, 2), final)
    assert _shown(final) == 1


class _KilledError(BaseException):
    """The process ends here."""


def _killed_at_rename(monkeypatch: pytest.MonkeyPatch, last: int) -> None:
    """End the process at the rename with this number; the ones before happen."""
    rename, calls = Path.rename, iter(range(1, 100))

    def counted(self: Path, target: Path) -> Path:
        if next(calls) == last:
            raise _KilledError
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", counted)


@pytest.mark.parametrize(("last", "expected"), [(1, 1), (2, 1), (3, 2)])
def test_promise_7_a_crash_between_the_renames_is_recovered(
    tmp_path: Path, final: Path, last: int, expected: int
) -> None:
    publish.publish(_staged(tmp_path, 1), final)
    staged = _staged(tmp_path, 2)
    with pytest.MonkeyPatch.context() as patch:
        _without_renameat2(patch)
        _killed_at_rename(patch, last)
        with pytest.raises(_KilledError):
            publish.publish(staged, final)
    assert _shown(final) == expected
    assert [path.name for path in final.parent.iterdir()] == [final.name]
    publish.publish(_staged(tmp_path, 3), final)
    assert _shown(final) == 3


def test_promise_2_readers_never_miss_an_archive_while_it_is_revised(
    tmp_path: Path, final: Path
) -> None:
    publish.publish(_staged(tmp_path, 0), final)
    with _polled(final / DONE_JSON) as (polls, missed):
        for revision in range(1, 51):
            seen = len(polls)
            publish.publish(_staged(tmp_path, revision), final)
            while len(polls) == seen:  # the reader has its turn during every revision
                os.sched_yield()
    assert len(polls) >= 50
    assert missed == []
    assert _shown(final) == 50


@contextmanager
def _polled(path: Path) -> Iterator[tuple[list[bool], list[int]]]:
    """Look all the time whether a file is there; yields all looks, and those that missed it."""
    polls: list[bool] = []
    missed: list[int] = []
    is_over = threading.Event()

    def poll() -> None:
        while not is_over.is_set():
            polls.append(path.exists())
            if not polls[-1]:
                missed.append(len(polls))

    thread = threading.Thread(target=poll)
    thread.start()
    try:
        yield polls, missed
    finally:
        is_over.set()
        thread.join()


def test_staging_is_private_empty_and_gone_afterwards(tmp_path: Path) -> None:
    for _ in range(2):
        with staging(tmp_path, "drop", "CT-1") as place:
            assert list(place.iterdir()) == []
            assert place.is_relative_to(tmp_path)
            (place / "new").mkdir()
    assert list(tmp_path.iterdir()) == []


def test_staging_is_gone_after_a_failure(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError), staging(tmp_path, "drop", "CT-1") as place:
        place.write_text("not a file")
    assert list(tmp_path.iterdir()) == []


def test_staging_of_one_series_leaves_that_of_another(tmp_path: Path) -> None:
    with staging(tmp_path, "drop", "CT-1") as one:
        with staging(tmp_path, "drop", "CT-2"), staging(tmp_path, "other", "CT-1"):
            (one / "new").mkdir()
        assert (one / "new").exists()
    assert list(tmp_path.iterdir()) == []


def test_staging_is_made_although_another_takes_the_folders_above_it_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, others, mkdir = tmp_path / STAGING / "drop" / "CT-2", ["CT-1"], os.mkdir

    def mkdir_late(path: Path, mode: int = 0o777) -> None:
        if path == own and own.parent.exists() and others:
            with staging(tmp_path, "drop", others.pop()):
                pass
            assert not own.parent.exists()
        mkdir(path, mode)

    monkeypatch.setattr(os, "mkdir", mkdir_late)
    with staging(tmp_path, "drop", "CT-2") as place:
        assert list(place.iterdir()) == []
    assert others == []


def test_what_a_killed_conversion_left_is_not_in_the_way(tmp_path: Path) -> None:
    (tmp_path / STAGING / "drop" / "CT-1" / "new").mkdir(parents=True)
    with staging(tmp_path, "drop", "CT-1") as place:
        assert list(place.iterdir()) == []
    (tmp_path / STAGING / "drop" / "CT-1" / "new").mkdir(parents=True)
    clear_staging(tmp_path)
    clear_staging(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_evidence_is_kept_and_the_last_one_counts(tmp_path: Path) -> None:
    for revision in (1, 2):
        publish.keep_evidence(_staged(tmp_path, revision), tmp_path, "drop", "CT-1")
    kept = tmp_path / publish.EVIDENCE / "drop" / "CT-1" / "series.zarr" / "zarr.json"
    assert kept.read_text() == "2"


def test_a_small_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "drop.json"
    for text in (b"long enough to see", b"short"):
        write_durably(path, text)
        assert contents(tmp_path) == {"drop.json": text}


def _synced(monkeypatch: pytest.MonkeyPatch, final: Path) -> list[tuple[int, bool]]:
    """Return the inodes that are put on disk from now on, and whether `final` was there then."""
    fsync, synced = os.fsync, list[tuple[int, bool]]()

    def recorded(descriptor: int) -> None:
        synced.append((os.fstat(descriptor).st_ino, final.exists()))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", recorded)
    return synced


def test_all_is_on_disk_before_it_is_visible_and_its_name_right_after(
    tmp_path: Path, final: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    staged = _staged(tmp_path, 1)
    inodes = {path.stat().st_ino for path in (staged, *staged.rglob("*"))}
    synced = _synced(monkeypatch, final)
    publish.publish(staged, final)
    assert {inode for inode, is_visible in synced if not is_visible} == inodes
    parents = {path.stat().st_ino for path in (final.parent, tmp_path, staged.parent)}
    assert {inode for inode, is_visible in synced if is_visible} == parents


def test_everything_below_a_folder_is_put_on_disk(
    tmp_path: Path, final: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    staged = _staged(tmp_path, 1)
    synced = _synced(monkeypatch, final)
    make_durable(staged)
    inodes = {path.stat().st_ino for path in (staged, *staged.rglob("*"))}
    assert {inode for inode, _ in synced} == inodes


def test_files_are_put_on_disk_while_other_work_goes_on(
    tmp_path: Path, final: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [tmp_path / f"{n}" for n in range(5)]
    synced = _synced(monkeypatch, final)
    with Syncing() as syncing:
        for path in paths:
            path.write_bytes(b"x")
            syncing.put(path)
        syncing.wait()
        assert {inode for inode, _ in synced} == {path.stat().st_ino for path in paths}


def test_what_cannot_be_put_on_disk_is_said_when_it_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_descriptor: int) -> None:  # a disk that breaks
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    (tmp_path / "a").write_bytes(b"x")
    monkeypatch.setattr(os, "fsync", refuse)
    with Syncing() as syncing:
        syncing.put(tmp_path / "a")
        with pytest.raises(OSError, match="Input/output error"):
            syncing.wait()


def test_small_files_are_left_to_be_put_on_disk_together(
    tmp_path: Path, final: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small, large = tmp_path / "small", tmp_path / "large"
    small.write_bytes(b"x")
    large.write_bytes(bytes(LARGE_BYTES))
    synced = _synced(monkeypatch, final)
    with Syncing() as syncing:
        syncing.put_large(small)
        syncing.put_large(large)
        syncing.wait()
        assert [inode for inode, _ in synced] == [large.stat().st_ino]


def test_what_is_given_up_need_not_be_on_disk(tmp_path: Path) -> None:
    with Syncing() as syncing:
        syncing.put(tmp_path / "gone")


def test_a_document_that_is_not_what_was_written_is_an_error_of_the_disk(tmp_path: Path) -> None:
    write_seen(tmp_path / "a", b"document")
    assert (tmp_path / "a").read_bytes() == b"document"
    with pytest.raises(OSError, match="Input/output error"):
        write_seen(Path("/dev/null"), b"document")
