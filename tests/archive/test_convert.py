"""The story of one series: what comes out, and that nothing does where something is wrong."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from archive_cases import (
    CASES,
    Archived,
    archived,
    chunk_files,
    contents,
    files_end_at,
    image_paths,
    made,
    noise,
    planes,
    slices,
    sources,
    uid,
)
from dicom_files import write_series, write_slice
from numcodecs import Zstd

from dicomzarr_watch.archive import blob, chunk, verify
from dicomzarr_watch.archive.convert import convert
from dicomzarr_watch.archive.publish import EVIDENCE
from dicomzarr_watch.archive.reader import Store
from dicomzarr_watch.archive.restore import restore
from dicomzarr_watch.archive.work import Finding, Level, Work, opened
from dicomzarr_watch.batch import batch
from dicomzarr_watch.dicom.frames import PixelFormat, Samples
from dicomzarr_watch.dicom.views import view
from dicomzarr_watch.errors import DicomzarrError, RejectError, RetryError, SourceChangedError


def _restored(done: Archived, destination: Path) -> dict[str, bytes]:
    restore(done.store, destination, done.store.files)
    return contents(destination)


def _nothing_but(output: Path, *names: str) -> bool:
    return not output.exists() or sorted(p.name for p in output.iterdir()) == sorted(names)


def _plain(tmp_path: Path) -> Work:
    """Write a series and ask for its conversion."""
    slices(tmp_path / "files")
    return Work("drop", sources(tmp_path / "files"), tmp_path / "output")


def test_a_result_is_a_store_two_documents_and_nothing_else(tmp_path: Path) -> None:
    done = made(tmp_path, slices)
    assert sorted(p.name for p in done.final.iterdir()) == [
        "done.json",
        "series.json",
        "series.zarr",
    ]
    assert _nothing_but(tmp_path / "output", "drop")
    assert done.receipt.revision == 1


def test_promise_2_nothing_is_visible_before_all_is_verified(tmp_path: Path) -> None:
    work = _plain(tmp_path)
    stages: list[str] = []

    def look(stage: str, _count: int) -> None:
        stages.append(stage)
        assert not (work.output / "drop").exists()

    receipt = convert(work, look)
    assert list(dict.fromkeys(stages)) == ["headers", "write", "verify"]
    assert (work.output / "drop" / receipt.folder / "done.json").exists()


def test_promise_2_the_old_revision_is_visible_until_the_new_one_is(tmp_path: Path) -> None:
    first = archived_plain(tmp_path)
    slices(tmp_path / "files" / "late", 4)
    before = contents(first.final)
    seen: list[bool] = []
    work = Work("drop", sources(tmp_path / "files"), tmp_path / "output")
    convert(work, lambda _stage, _count: seen.append(contents(first.final) == before))
    assert seen
    assert all(seen)
    assert _revision(first.final) == 2


def archived_plain(tmp_path: Path) -> Archived:
    slices(tmp_path / "files")
    return archived(tmp_path / "files", tmp_path / "output")


def _revision(final: Path) -> int:
    found: int = json.loads((final / "done.json").read_bytes())["revision"]
    return found


def test_progress_tells_of_every_byte_once_in_every_stage(tmp_path: Path) -> None:
    work = _plain(tmp_path)
    told: dict[str, int] = {}

    def add(stage: str, count: int) -> None:
        told[stage] = told.get(stage, 0) + count

    receipt = convert(work, add)
    assert told == dict.fromkeys(("headers", "write", "verify"), receipt.counts["bytes_in"])


def test_the_same_files_again_make_no_revision(tmp_path: Path) -> None:
    first = archived_plain(tmp_path)
    before = contents(first.final)
    again = archived(tmp_path / "files", tmp_path / "output")
    assert again.receipt.is_unchanged
    assert again.receipt.revision == 1
    assert contents(first.final) == before


@pytest.mark.parametrize("count", [1, 2])
def test_some_of_the_files_under_other_names_make_no_revision(tmp_path: Path, count: int) -> None:
    first = archived_plain(tmp_path)
    again = tmp_path / "again"
    for name, data in list(contents(first.files).items())[:count]:
        again.mkdir(exist_ok=True)
        (again / f"copy of {name}").write_bytes(data)
    assert archived(again, tmp_path / "output").receipt.is_unchanged


def test_promise_5_late_files_make_a_revision_with_all_files_though_the_old_are_gone(
    tmp_path: Path,
) -> None:
    first = made(tmp_path, CASES["not only frames"].write)
    old = contents(first.files)
    times = {file.name: file.mtime_ns for file in first.store.files}
    shutil.rmtree(first.files)
    write_slice(first.files / "late.dcm", position=(0, 0, 7.5), sop_uid=uid(7), pixels=noise(8, 8))
    second = archived(first.files, tmp_path / "output")
    assert second.receipt.revision == 2
    assert second.final == first.final
    assert _restored(second, tmp_path / "back") == old | contents(first.files)
    assert times.items() <= {file.name: file.mtime_ns for file in second.store.files}.items()
    assert second.store.images[0].array.shape == (4, 8, 8)
    assert _nothing_but(tmp_path / "output", "drop")


def test_promise_5_a_late_file_of_another_number_is_of_the_same_series(tmp_path: Path) -> None:
    files = tmp_path / "files"
    write_slice(files / "b.dcm", sop_uid=uid(1), SeriesNumber=5)
    first = archived(files, tmp_path / "output")
    old = contents(files)
    shutil.rmtree(files)
    write_slice(files / "a.dcm", sop_uid=uid(2), SeriesNumber=6, Modality="PT")
    second = archived(files, tmp_path / "output")
    assert (second.receipt.folder, second.receipt.revision) == (first.receipt.folder, 2)
    assert _restored(second, tmp_path / "back") == old | contents(files)
    assert [path.name for path in first.final.parent.iterdir()] == [first.receipt.folder]


def test_a_revision_is_the_store_that_all_files_at_once_would_have_made(tmp_path: Path) -> None:
    whole = made(tmp_path / "at once", CASES["not only frames"].write)
    early = tmp_path / "files"
    shutil.copytree(whole.files, early)
    for name in ("002.dcm", "bare.dcm"):
        (early / name).unlink()
    archived(early, tmp_path / "output")
    late = tmp_path / "late"
    late.mkdir()
    for name in ("002.dcm", "bare.dcm"):
        shutil.copy2(whole.files / name, late / name)
    assert contents(archived(late, tmp_path / "output").path) == contents(whole.path)


def test_promise_5_other_bytes_under_the_same_name_keep_both(tmp_path: Path) -> None:
    versions = []
    for n in range(3):
        write_slice(tmp_path / "files" / "a.dcm", pixels=noise(4, 4, seed=n), sop_uid=uid(n))
        versions.append((tmp_path / "files" / "a.dcm").read_bytes())
        done = archived(tmp_path / "files", tmp_path / "output")
    assert done.receipt.revision == 3
    assert _restored(done, tmp_path / "back") == {
        "a.dcm": versions[2],
        "a.dcm~1": versions[0],
        "a.dcm~2": versions[1],
    }


def test_promise_5_names_that_look_like_ours_are_kept_apart(tmp_path: Path) -> None:
    files = tmp_path / "files"
    for n, name in enumerate(["a", "a~1", "a~1~1"]):
        write_slice(files / name, sop_uid=uid(n))
    old = contents(files)
    archived(files, tmp_path / "output")
    shutil.rmtree(files)
    write_slice(files / "a", sop_uid=uid(9))
    new = contents(files)
    back = _restored(archived(files, tmp_path / "output"), tmp_path / "back")
    assert sorted(back.values()) == sorted([*old.values(), *new.values()])


def test_promise_5_a_folder_with_the_name_of_an_old_file_is_no_reason_to_stop(
    tmp_path: Path,
) -> None:
    """Nor is a file with the name of an old folder."""
    files, old = tmp_path / "files", []
    for n, name in enumerate(["x", "x/y", "x", "z"]):
        shutil.rmtree(files, ignore_errors=True)
        write_slice(files / name, sop_uid=uid(n))
        old.append((files / name).read_bytes())
        done = archived(files, tmp_path / "output")
    assert done.receipt.revision == 4
    back = _restored(done, tmp_path / "back")
    assert back == {"x~1": old[0], "x~2/y": old[1], "x": old[2], "z": old[3]}


def test_promise_5_a_name_of_255_bytes_has_room_for_what_sets_it_apart(tmp_path: Path) -> None:
    versions = []
    for n in range(3):
        write_slice(tmp_path / "files" / ("x" * 255), sop_uid=uid(n))
        versions.append((tmp_path / "files" / ("x" * 255)).read_bytes())
        done = archived(tmp_path / "files", tmp_path / "output")
    back = _restored(done, tmp_path / "back")
    assert sorted(back.values()) == sorted(versions)
    assert {len(name) for name in back} == {255}


def test_promise_5_a_damaged_revision_is_not_replaced(tmp_path: Path) -> None:
    first = archived_plain(tmp_path)
    (first.path / "dicom" / "headers" / "c.0").unlink()
    before = contents(first.final)
    shutil.rmtree(first.files)
    write_slice(first.files / "late.dcm", sop_uid=uid(9))
    with pytest.raises(RejectError, match="store-damaged"):
        archived(first.files, tmp_path / "output")
    assert contents(first.final) == before


def _without_headers(store: Path) -> None:
    (store / "dicom" / "headers" / "c.0").unlink()


def _without_root(store: Path) -> None:
    (store / "zarr.json").unlink()


@pytest.mark.parametrize("happen", [_without_headers, _without_root])
def test_originals_that_come_again_mend_a_damaged_revision(
    tmp_path: Path, happen: Callable[[Path], None]
) -> None:
    first = archived_plain(tmp_path)
    happen(first.path)
    again = archived(tmp_path / "files", tmp_path / "output")
    assert (again.receipt.revision, again.receipt.is_unchanged) == (2, False)
    assert Finding("damaged-revision-replaced", detail="revision 1") in again.receipt.findings
    assert _restored(again, tmp_path / "back") == contents(first.files)
    assert _nothing_but(tmp_path / "output", "drop")


def test_what_still_comes_back_of_a_damaged_revision_is_in_the_one_that_mends_it(
    tmp_path: Path,
) -> None:
    first = made(tmp_path, CASES["not only frames"].write)
    old = contents(first.files)
    for path in chunk_files(first.path / "0"):
        path.unlink()
    for name in ("bare.dcm", "empty", "notes.txt"):
        (first.files / name).unlink()
    again = archived(first.files, tmp_path / "output")
    assert again.receipt.revision == 2
    assert _restored(again, tmp_path / "back") == old


@pytest.mark.parametrize("happen", [_without_headers, _without_root])
def test_a_damaged_revision_stays_where_a_file_would_be_lost(
    tmp_path: Path, happen: Callable[[Path], None]
) -> None:
    first = archived_plain(tmp_path)
    happen(first.path)
    before = contents(first.final)
    (first.files / "002.dcm").unlink()
    with pytest.raises(RejectError, match=r"store-damaged|not-a-store"):
        archived(first.files, tmp_path / "output")
    assert contents(first.final) == before


def test_a_revision_that_is_not_to_be_verified_is_taken_as_it_is(tmp_path: Path) -> None:
    first = archived_plain(tmp_path)
    _without_headers(first.path)
    assert archived(first.files, tmp_path / "output", verify=Level.OFF).receipt.is_unchanged


def test_a_result_without_its_done_marker_is_not_replaced(tmp_path: Path) -> None:
    first = archived_plain(tmp_path)
    (first.final / "done.json").unlink()
    before = contents(first.final)
    with pytest.raises(RejectError, match="output-taken"):
        archived(first.files, tmp_path / "output")
    assert contents(first.final) == before


def _grown(path: Path) -> None:
    path.write_bytes(path.read_bytes() + bytes(2))


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-2])


def _rewritten(path: Path) -> None:
    path.write_bytes(path.read_bytes())


def _replaced(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(path.read_bytes())
    shutil.copystat(path, other)
    other.replace(path)


CHANGES = [_grown, _cut, _rewritten, _replaced, Path.unlink]


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("moment", ["before", "headers", "write"])
def test_a_source_that_changes_publishes_nothing(
    tmp_path: Path, moment: str, change: Callable[[Path], None]
) -> None:
    work = _plain(tmp_path)
    pending = [work.sources[0].path]  # the last to be read: names are in the order opposite to z
    if moment == "before":
        change(pending.pop())

    def interfere(stage: str, _count: int) -> None:
        if stage == moment and pending:
            change(pending.pop())

    with pytest.raises(SourceChangedError, match="source-changed"):
        convert(work, interfere)
    assert not pending
    assert _nothing_but(work.output)


@pytest.mark.parametrize("change", CHANGES)
def test_a_source_that_changes_while_it_is_open_is_noticed(
    tmp_path: Path, change: Callable[[Path], None]
) -> None:
    source = _plain(tmp_path).sources[0]
    with pytest.raises(SourceChangedError), opened(source) as stream:  # noqa: PT012 - a reading
        stream.read(100)
        change(source.path)


def test_a_source_that_changes_after_it_was_read_is_archived_as_it_was(tmp_path: Path) -> None:
    work = _plain(tmp_path)
    before = contents(tmp_path / "files")

    def interfere(stage: str, _count: int) -> None:
        if stage == "verify":
            _grown(work.sources[0].path)

    receipt = convert(work, interfere)
    done = Archived(tmp_path / "files", receipt, work.output / "drop" / receipt.folder)
    assert _restored(done, tmp_path / "back") == before


@pytest.mark.parametrize("size", [0, 300, 900, 1500])
def test_an_output_that_takes_no_more_bytes_publishes_nothing(tmp_path: Path, size: int) -> None:
    work = _plain(tmp_path)
    with files_end_at(size), pytest.raises(RetryError, match=r"output-error: .* EFBIG"):
        convert(work)
    assert _nothing_but(work.output)
    assert convert(work).revision == 1


def _one_bit_off(stored: bytes, pixel_format: PixelFormat) -> Samples:
    """See the first frame of the first slice wrongly, as a decoder with a bug would."""
    found = view(stored, pixel_format).copy()
    if stored == noise(8, 8, seed=0).tobytes():
        found[0, 3, 3] ^= 1
    return found


def _always_verbatim(*_: object) -> bool:
    return True


@pytest.mark.parametrize("claims_to_be_like", [True, False])
def test_promise_4_a_view_that_does_not_verify_is_kept_whole_instead(
    tmp_path: Path, claims_to_be_like: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # a fault put into the writer, which shares no code with what verifies
    monkeypatch.setattr(chunk, "view", _one_bit_off)
    if claims_to_be_like:
        monkeypatch.setattr(chunk, "is_verbatim", _always_verbatim)
    done = made(tmp_path, slices)
    assert done.receipt.findings[0] == Finding("view-did-not-verify", ("003.dcm",))
    assert done.receipt.counts["files_as_whole"] == 1
    assert done.receipt.counts["frames"] == 2
    assert _restored(done, tmp_path / "back") == contents(done.files)
    (path,) = image_paths(done.path)
    np.testing.assert_array_equal(
        planes(done.path, path), [noise(8, 8, seed=1), noise(8, 8, seed=2)]
    )


class _OneBitOff(Zstd):  # type: ignore[misc]  # numcodecs has no types
    """Memory that flips a bit of headers before they are compressed."""

    def encode(self, buf: Any) -> bytes:
        data = bytearray(buf)
        data[len(data) // 2] ^= b"DICM" in data
        return bytes(super().encode(bytes(data)))


def test_promise_4_what_never_verifies_is_rejected_and_the_evidence_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = _plain(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(blob, "Zstd", _OneBitOff)
        with pytest.raises(RejectError, match="verification-failed"):
            convert(work)
    assert _nothing_but(work.output, EVIDENCE)
    (evidence,) = (work.output / EVIDENCE / "drop").iterdir()
    assert len(Store(evidence / "series.zarr").files) == 3
    assert convert(work).revision == 1


def _losing(times: int) -> Callable[..., Zstd]:
    """Return a codec whose first results are not what the disk gives back."""
    left = iter(range(times))

    class Losing(Zstd):  # type: ignore[misc]  # numcodecs has no types
        def encode(self, buf: Any) -> bytes:
            data = bytes(super().encode(buf))
            return data if next(left, None) is None else bytes(len(data))

    return Losing


def test_what_cannot_be_read_back_is_written_once_more_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blob, "Zstd", _losing(1))
    done = made(tmp_path, slices)
    assert done.receipt.findings == ()
    assert done.receipt.counts["files_as_frames"] == 3
    assert _restored(done, tmp_path / "back") == contents(done.files)


def test_promise_2_what_can_never_be_read_back_is_rejected_and_the_evidence_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = _plain(tmp_path)
    monkeypatch.setattr(blob, "Zstd", _losing(1000))
    with pytest.raises(RejectError, match="verification-failed"):
        convert(work)
    assert _nothing_but(work.output, EVIDENCE)


def test_promise_5_a_revision_that_does_not_verify_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = archived_plain(tmp_path)
    before = contents(first.final)
    slices(first.files / "late", 4)
    monkeypatch.setattr(blob, "Zstd", _OneBitOff)
    with pytest.raises(RejectError, match="verification-failed"):
        archived(first.files, tmp_path / "output")
    assert contents(first.final) == before


@pytest.mark.parametrize("level", Level)
def test_the_receipt_says_how_it_was_verified(tmp_path: Path, level: Level) -> None:
    done = made(tmp_path, slices, verify=level)
    told = json.loads((done.final / "done.json").read_bytes())["verified"]
    assert told == done.receipt.verified
    assert told["level"] == level.value
    assert told.get("files") == (None if level is Level.OFF else 3)
    agreed = {"agree": ["0"], "not_comparable": {}, "differ": {}}
    assert told.get("independent") == (agreed if level is Level.INDEPENDENT else None)
    assert ("verify" in done.receipt.seconds) is (level is not Level.OFF)


def test_what_is_not_asked_to_be_verified_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blob, "Zstd", _OneBitOff)
    assert made(tmp_path, slices, verify=Level.OFF).receipt.verified == {"level": "off"}


def test_reconstructed_files_are_left_where_the_settings_say(tmp_path: Path) -> None:
    done = made(tmp_path, slices, keep_reconstructed=tmp_path / "kept")
    assert contents(tmp_path / "kept" / "drop" / done.receipt.folder) == contents(done.files)


def test_of_reconstructed_files_those_of_the_last_revision_are_left(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    made(tmp_path, lambda folder: slices(folder, 1), keep_reconstructed=kept)
    files = tmp_path / "files"
    old = (files / "001.dcm").read_bytes()
    (files / "001.dcm").unlink()
    slices(files / "001.dcm", 2, size=6)
    done = archived(files, tmp_path / "output", keep_reconstructed=kept)
    expected = contents(files) | {"001.dcm~1": old}
    assert contents(kept / "drop" / done.receipt.folder) == expected


def test_a_conversion_takes_no_room_but_on_its_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a full disk says nothing of which, all jobs would wait for room on the output."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    monkeypatch.setattr(verify, "_IN_MEMORY_BYTES", 1)
    done = made(tmp_path, CASES["JPEG2000.dcm"].write)
    assert done.receipt.counts["frames"] == 1
    assert archived(tmp_path / "files", tmp_path / "output").receipt.is_unchanged
    assert _nothing_but(tmp_path / "output", "drop")


def test_what_was_noticed_before_stands_in_the_receipt(tmp_path: Path) -> None:
    noticed = Finding("gap-hold-ran-out", detail="2 of 5")
    done = made(tmp_path, CASES["truncated"].write, findings=(noticed,))
    assert done.receipt.findings == (noticed, Finding("truncated", ("002.dcm",)))


def _no_output(work: Work) -> None:
    work.output.write_text("a file where a folder should be")


def _no_source(work: Work) -> None:
    work.sources[1].path.unlink()


def _no_marker(work: Work) -> None:
    receipt = convert(work)
    (work.output / work.drop / receipt.folder / "done.json").unlink()


@pytest.mark.parametrize("spoil", [_no_output, _no_source, _no_marker])
def test_promise_8_errors_name_no_patient(tmp_path: Path, spoil: Callable[[Work], None]) -> None:
    slices(tmp_path / "Doe^Jane", PatientName="Doe^Jane", PatientID="4711")
    work = Work("Doe^Jane", sources(tmp_path / "Doe^Jane"), tmp_path / "out-Doe^Jane")
    spoil(work)
    with pytest.raises(DicomzarrError) as caught:
        convert(work)
    assert "Doe" not in str(caught.value)
    assert "4711" not in str(caught.value)


def test_a_drop_whose_name_is_not_utf_8_is_archived_like_any_other(tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"\xff-odd")
    write_series(folder, 3)
    (work,) = batch([folder], tmp_path / "out", level=Level.INDEPENDENT).works
    receipt = convert(work)
    assert receipt.counts["files"] == 3
    store = Store(tmp_path / "out" / folder.name / receipt.folder / "series.zarr")
    assert restore(store, tmp_path / "back", store.files) == 3
    for path in folder.iterdir():
        assert (tmp_path / "back" / path.name).read_bytes() == path.read_bytes()
