"""Nothing goes that does not come back."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from archive_cases import archived, chunk_files, contents
from dicom_files import write_series
from disturbed import encoded

from dicomzarr_watch.archive import disk, originals
from dicomzarr_watch.archive.disk import rename_anew
from dicomzarr_watch.archive.layout import DONE_JSON
from dicomzarr_watch.archive.originals import Cleared, cleared
from dicomzarr_watch.archive.work import Clearance, KeepEncoded, Level, Original
from dicomzarr_watch.errors import RetryError
from dicomzarr_watch.identity import Identity


@dataclass(frozen=True)
class Place:
    """An inbox with one drop, what was made of it, and a place to move originals to."""

    root: Path
    folder: str

    @property
    def inbox(self) -> Path:
        return self.root / "inbox"

    @property
    def results(self) -> Path:
        return self.root / "output" / "drop"

    @property
    def moved(self) -> Path:
        return self.root / "moved"

    def original(self, name: str) -> Original:
        state = Identity.of((self.inbox / name).lstat())
        return Original(name, state, self.folder)

    def cleared(self, *wanted: Original, is_moved: bool = False, is_local: bool = True) -> Cleared:
        move_to = self.moved if is_moved else None
        return cleared(Clearance(self.inbox, self.results, wanted, move_to, is_local))


def three(folder: Path) -> None:
    write_series(folder, 3)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return made(tmp_path, three)


def made(root: Path, write: Callable[[Path], object], **options: object) -> Place:
    (root / "inbox" / "drop").mkdir(parents=True)
    write(root / "inbox" / "drop")
    receipt = archived(root / "inbox" / "drop", root / "output", **options).receipt
    (root / "output" / "drop" / "drop.json").write_text("{}")
    return Place(root, receipt.folder)


def codes(found: Cleared) -> dict[str, str]:
    return {path: error.code for path, error in found.kept.items()}


def test_files_that_the_archive_gives_back_are_deleted(place: Place) -> None:
    wanted = [place.original(f"drop/{name}") for name in ("0000.dcm", "0001.dcm")]
    found = place.cleared(*wanted)
    assert (found.files, found.kept) == (2, {})
    assert found.bytes == sum(original.identity.size for original in wanted)
    assert contents(place.inbox / "drop").keys() == {"0002.dcm"}


def changed(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1] + b"\1")


def exchanged(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.write_bytes((path.with_name("elsewhere")).read_bytes())


def linked(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


@pytest.mark.parametrize("happen", [changed, exchanged, linked, Path.unlink])
def test_a_file_in_another_state_stays(place: Place, happen: Callable[[Path], None]) -> None:
    original = place.original("drop/0000.dcm")
    happen(place.inbox / original.path)
    before = contents(place.inbox)
    assert codes(place.cleared(original)) == {original.path: "source-changed"}
    assert contents(place.inbox) == before


@pytest.mark.parametrize("is_moved", [False, True])
def test_a_file_that_somebody_has_open_for_writing_stays(place: Place, is_moved: bool) -> None:
    """Such as a copy that has taken up its room and pauses: the rest of it would be lost."""
    original = place.original("drop/0000.dcm")
    with (place.inbox / original.path).open("r+b"):
        (error,) = place.cleared(original, is_moved=is_moved).kept.values()
        assert (type(error), error.code) == (RetryError, "original-in-use")
        assert (place.inbox / original.path).exists()
    with (place.inbox / original.path).open("rb"):
        assert place.cleared(original, is_moved=is_moved).files == 1


def test_on_a_mount_that_others_change_nobody_can_tell(place: Place) -> None:
    original = place.original("drop/0000.dcm")
    with (place.inbox / original.path).open("r+b"):
        assert place.cleared(original, is_local=False).files == 1


def test_a_folder_that_became_a_link_leads_nowhere(place: Place) -> None:
    original = place.original("drop/0000.dcm")
    (place.inbox / "drop").rename(place.root / "outside")
    (place.inbox / "drop").symlink_to(place.root / "outside")
    assert codes(place.cleared(original)) == {original.path: "source-changed"}
    assert (place.root / "outside" / "0000.dcm").exists()


def test_a_file_of_other_bytes_in_the_same_state_stays(place: Place) -> None:
    changed(place.inbox / "drop" / "0000.dcm")
    original = place.original("drop/0000.dcm")
    assert codes(place.cleared(original)) == {original.path: "original-differs"}
    assert (place.inbox / original.path).exists()


def test_a_copy_under_another_name_may_go_as_its_bytes_come_back(place: Place) -> None:
    copy = place.inbox / "drop" / "copy"
    copy.write_bytes((place.inbox / "drop" / "0000.dcm").read_bytes())
    assert place.cleared(place.original("drop/copy")).files == 1


def without_receipt(final: Path) -> None:
    (final / DONE_JSON).unlink()


def not_done(final: Path) -> None:
    said = json.loads((final / DONE_JSON).read_bytes())
    (final / DONE_JSON).write_text(json.dumps(said | {"state": "begun"}))


def short(final: Path) -> None:
    said = json.loads((final / DONE_JSON).read_bytes())
    said["counts"]["files"] += 1
    (final / DONE_JSON).write_text(json.dumps(said))


def damaged(final: Path) -> None:
    (final / "series.zarr" / "zarr.json").write_text("{}")


@pytest.mark.parametrize(
    ("happen", "code"),
    [
        (without_receipt, "no-receipt"),
        (not_done, "not-verified"),
        (short, "archive-differs"),
        (damaged, "not-a-store"),
    ],
)
def test_without_a_whole_archive_everything_stays(
    place: Place, happen: Callable[[Path], None], code: str
) -> None:
    happen(place.results / place.folder)
    before = contents(place.inbox)
    wanted = [place.original(f"drop/{name}") for name in ("0000.dcm", "0001.dcm")]
    assert codes(place.cleared(*wanted)) == {original.path: code for original in wanted}
    assert contents(place.inbox) == before


def test_only_what_a_damaged_archive_still_gives_back_goes(tmp_path: Path) -> None:
    def write(folder: Path) -> None:
        three(folder)
        (folder / "notes.txt").write_bytes(b"no image")

    place = made(tmp_path, write)
    for chunk in chunk_files(place.results / place.folder / "series.zarr" / "0"):
        chunk.write_bytes(b"x" * chunk.stat().st_size)
    before = contents(place.inbox / "drop")
    wanted = [place.original(f"drop/{name}") for name in before]
    found = place.cleared(*wanted)
    assert codes(found) == {f"drop/000{n}.dcm": "archive-differs" for n in range(3)}
    assert contents(place.inbox / "drop").keys() == before.keys() - {"notes.txt"}


def test_an_archive_that_the_system_does_not_let_be_read_is_tried_again(place: Place) -> None:
    root = place.results / place.folder / "series.zarr" / "zarr.json"
    root.unlink()
    root.symlink_to(root)
    original = place.original("drop/0000.dcm")
    (error,) = place.cleared(original).kept.values()
    assert (type(error), error.code) == (RetryError, "archive-unreadable")
    assert (place.inbox / original.path).exists()


def test_without_an_account_everything_stays(place: Place) -> None:
    (place.results / "drop.json").unlink()
    original = place.original("drop/0000.dcm")
    assert codes(place.cleared(original)) == {original.path: "no-receipt"}


def test_what_was_not_verified_stays(tmp_path: Path) -> None:
    place = made(tmp_path, three, verify=Level.OFF)
    original = place.original("drop/0000.dcm")
    assert codes(place.cleared(original)) == {original.path: "not-verified"}


def test_a_file_whose_pixels_alone_are_kept_stays(tmp_path: Path) -> None:
    place = made(tmp_path, lambda folder: encoded(folder, 2), keep_encoded=KeepEncoded.NEVER)
    original = place.original("drop/0000.dcm")
    assert codes(place.cleared(original)) == {original.path: "only-pixels-kept"}
    assert (place.inbox / original.path).exists()


def test_a_bundle_goes_if_all_that_is_in_it_comes_back(place: Place) -> None:
    (place.inbox / "b.zip").write_bytes(b"not looked into here")
    (place.inbox / "drop").rename(place.root / "copies")
    copies = [place.root / "copies" / f"000{n}.dcm" for n in range(3)]
    members = tuple((copy, place.folder) for copy in copies)
    bundle = replace(place.original("b.zip"), members=members)
    changed(copies[1])
    assert codes(place.cleared(bundle)) == {"b.zip": "original-differs"}
    bundle = replace(bundle, members=(members[0], members[2]))
    assert codes(place.cleared(bundle)) == {"b.zip": "members-not-archived"}
    copies[1].unlink()
    assert place.cleared(bundle).files == 1
    assert not (place.inbox / "b.zip").exists()


# --- moved ---


@pytest.fixture(params=["one file system", "two", "one without renameat2"])
def any_system(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two file systems need root: so what a rename between them says is said here."""

    def refuse(one: Path, other: Path) -> None:
        if request.param == "two" and one.suffix == ".part":
            rename_anew(one, other)
            return
        number = errno.EXDEV if request.param == "two" else errno.ENOSYS
        raise OSError(number, os.strerror(number))

    if request.param != "one file system":
        monkeypatch.setattr(originals, "rename_anew", refuse)


@pytest.mark.usefixtures("any_system")
def test_a_file_is_moved_whole_with_its_time(place: Place) -> None:
    original = place.original("drop/0000.dcm")
    content = (place.inbox / original.path).read_bytes()
    assert place.cleared(original, is_moved=True).files == 1
    assert not (place.inbox / original.path).exists()
    assert contents(place.moved) == {original.path: content}
    assert (place.moved / original.path).stat().st_mtime_ns == original.identity.mtime_ns


@pytest.mark.usefixtures("any_system")
def test_a_name_that_is_taken_keeps_its_bytes(place: Place) -> None:
    original = place.original("drop/0000.dcm")
    content = (place.inbox / original.path).read_bytes()
    (place.moved / "drop" / "0000.dcm~").mkdir(parents=True)
    (place.moved / "drop" / "0000.dcm").write_bytes(b"other bytes")
    assert place.cleared(original, is_moved=True).files == 1
    assert contents(place.moved / "drop") == {"0000.dcm": b"other bytes", "0000.dcm~~": content}


@pytest.mark.usefixtures("any_system")
def test_a_file_that_was_moved_before_a_kill_is_not_moved_twice(place: Place) -> None:
    original = place.original("drop/0000.dcm")
    content = (place.inbox / original.path).read_bytes()
    (place.moved / "drop").mkdir(parents=True)
    (place.moved / "drop" / "0000.dcm").write_bytes(content)
    assert place.cleared(original, is_moved=True).files == 1
    assert contents(place.moved) == {original.path: content}
    assert not (place.inbox / original.path).exists()


def test_a_file_where_a_folder_is_to_be_lets_originals_stay(place: Place) -> None:
    place.moved.mkdir()
    (place.moved / "drop").write_text("a file")
    original = place.original("drop/0000.dcm")
    assert codes(place.cleared(original, is_moved=True)) == {original.path: "move-to-taken"}
    assert (place.inbox / original.path).exists()


def test_what_the_system_refuses_is_tried_again(place: Place) -> None:
    place.moved.write_text("a file")
    before = contents(place.inbox)
    original = place.original("drop/0000.dcm")
    with pytest.MonkeyPatch.context() as patch:

        def refuse(*_: object, **__: object) -> None:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

        patch.setattr(originals, "_delete", refuse)
        found = place.cleared(original)
    assert codes(found) == {original.path: "cannot-clear"}
    assert contents(place.inbox) == before


def test_a_new_name_is_never_taken_from_anybody(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).write_text(name)
    with pytest.raises(FileExistsError):
        disk.rename_anew(tmp_path / "a", tmp_path / "b")
    disk.rename_anew(tmp_path / "a", tmp_path / "c")
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {"b": "b", "c": "a"}
