from __future__ import annotations

import gzip
import io
import os
import stat
import tarfile
import tracemalloc
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tarfile import TarInfo
from typing import Any

import pytest
from bundle_files import (
    MTIME_S,
    bundled,
    entry,
    extended,
    raw_zip,
    tar_file,
    zip_file,
)
from hostile_bundles import HOSTILE, LIMITS
from hypothesis import given, settings
from hypothesis import strategies as st
from inbox_files import OTHER_UID, SERIES_UID, dicom

from dicomzarr_watch.errors import RejectError, RetryError, SourceChangedError
from dicomzarr_watch.identity import Identity
from dicomzarr_watch.intake.bundle import Form, form
from dicomzarr_watch.intake.peek import Peek
from dicomzarr_watch.intake.roll import Limits
from dicomzarr_watch.intake.unpack import Unpacked, Unpacking, put_away, unpack, unpacked
from dicomzarr_watch.kind import Kind

FORMS = list(Form)
ODD = os.fsdecode(b"caf\xe9 \n\x1b[1m")


def task(place: Path, name: str, content: bytes, limits: Limits = LIMITS) -> Unpacking:
    """Put a bundle into an inbox of its own."""
    inbox = place / "inbox"
    inbox.mkdir(exist_ok=True)
    file = inbox / name
    file.write_bytes(content)
    how = form(name)
    assert how is not None
    return Unpacking(inbox, name, how, Identity.of(file.stat()), place / "copies", limits)


def came_out(asked: Unpacking) -> dict[str, bytes]:
    """Unpack and return the files that came out, bundles among them left aside."""
    count = unpack(asked)
    found = known(asked)
    assert len(found) == count
    files = [one for one in found if one.peek.kind is not Kind.UNPACKED]
    assert sorted(p.name for p in asked.folder.iterdir()) == sorted(
        asked.copy(one.name).name for one in files
    )
    return {one.name: asked.copy(one.name).read_bytes() for one in files}


def known(asked: Unpacking) -> list[Unpacked]:
    found = unpacked(asked)
    assert found is not None
    return found


def everything(place: Path) -> dict[str, tuple[int, int]]:
    """Return all that stands below a folder, links not followed."""
    return {
        os.path.join(root, name): (os.lstat(os.path.join(root, name)).st_mode, len(names))  # noqa: PTH118
        for root, folders, names in os.walk(place)
        for name in (*folders, *names)
    }


# --- what is taken ---

FILES: Mapping[str, bytes] = {
    "1.dcm": dicom(),
    "a/2.dcm": dicom(OTHER_UID),
    "a/b/notes.txt": b"no image",
    "empty": b"",
    "noise": os.urandom(200_000),
}


@pytest.mark.parametrize("how", FORMS)
def test_every_file_comes_out_byte_for_byte_with_its_name_and_time(
    tmp_path: Path, how: Form
) -> None:
    asked = task(tmp_path, f"study.{how}", bundled(how, FILES))
    assert came_out(asked) == FILES
    found = {one.name: one for one in known(asked)}
    assert found["1.dcm"].peek.series_uid == SERIES_UID
    assert found["a/b/notes.txt"].peek == Peek(Kind.NOT_DICOM)
    for one in found.values():
        assert one.size == len(FILES[one.name])
        assert asked.copy(one.name).stat().st_mtime_ns == one.mtime_ns
        assert how is Form.ZIP or one.mtime_ns == MTIME_S * 10**9


names = st.lists(
    st.binary(min_size=1, max_size=20).map(
        lambda raw: raw.translate(bytes.maketrans(b"\0/\\", b"abc"))
    ),
    min_size=1,
    max_size=3,
).map(lambda parts: os.fsdecode(b"/".join(parts)))


@settings(max_examples=40)
@given(
    files=st.dictionaries(names, st.binary(max_size=2000), max_size=5),
    how=st.sampled_from([Form.TAR, Form.TAR_GZ, Form.TAR_ZST]),
)
def test_whatever_comes_out_is_what_went_in(
    tmp_path_factory: pytest.TempPathFactory, files: dict[str, bytes], how: Form
) -> None:
    asked = task(tmp_path_factory.mktemp("any"), f"x.{how}", bundled(how, files))
    try:
        found = came_out(asked)
    except RejectError as error:
        assert error.code in ("archive-unsafe-name", "archive-name-twice")  # noqa: PT017
        return
    assert found == {"/".join(p for p in n.split("/") if p != "."): c for n, c in files.items()}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("gnu.tar", tarfile.GNU_FORMAT),
        ("pax.tar", tarfile.PAX_FORMAT),
    ],
)
def test_long_and_odd_names_come_out_of_what_the_standard_library_packs(
    tmp_path: Path, name: str, content: int
) -> None:
    files = {"x" * 255: b"1", f"{'y' * 120}/{'z' * 255}": b"2", ODD: b"3", "ä" * 100: b"4"}
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w", format=content) as tar:
        for each, data in files.items():
            info = TarInfo(each)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    assert came_out(task(tmp_path, name, target.getvalue())) == files


def test_a_name_in_a_zip_file_is_its_bytes_unless_it_says_otherwise(tmp_path: Path) -> None:
    content = raw_zip(("ä".encode(), b"1"), (b"caf\xe9", b"2"), (b"x" * 255, b"3"))
    asked = task(tmp_path, "a.zip", content)
    assert came_out(asked) == {"ä": b"1", "caf\udce9": b"2", "x" * 255: b"3"}
    assert came_out(task(tmp_path, "b.zip", zip_file([("ä☃", b"1")]))) == {"ä☃": b"1"}


def test_folders_comments_and_what_follows_the_rules_do_no_harm(tmp_path: Path) -> None:
    tar = tar_file(
        [
            extended(tarfile.XGLTYPE, comment=b"of all"),
            entry("./", kind=tarfile.DIRTYPE),
            entry("./a/", kind=tarfile.DIRTYPE),
            extended(path=ODD.encode("utf-8", "surrogateescape"), mtime=b"1.5"),
            entry("short", b"1"),
            entry("old", b"2", tarfile.CONTTYPE, mode=0o4777),
        ],
        bytes(20 * 512),
    )
    asked = task(tmp_path, "a.tar.gz", gzip.compress(tar) + gzip.compress(b""))
    assert came_out(asked) == {ODD: b"1", "old": b"2"}
    assert [one.mtime_ns for one in known(asked)] == [1_500_000_000, MTIME_S * 10**9]
    assert stat.S_IMODE(asked.copy("old").stat().st_mode) & 0o7111 == 0
    commented = zip_file([("a/", b""), ("a/1", b"1")], comment=b"PK")
    assert came_out(task(tmp_path, "a.zip", commented)) == {"a/1": b"1"}


def test_a_time_that_no_file_can_have_is_brought_near(tmp_path: Path) -> None:
    far = extended(mtime=b"1e40")
    asked = task(tmp_path, "a.tar", tar_file([far, entry("a", b"1")]))
    assert came_out(asked) == {"a": b"1"}


@pytest.mark.parametrize("how", FORMS)
@pytest.mark.parametrize("inner", FORMS)
def test_a_bundle_in_a_bundle_is_unpacked_as_well(tmp_path: Path, how: Form, inner: Form) -> None:
    asked = task(
        tmp_path,
        f"x.{how}",
        bundled(how, {"0": b"0", f"in/y.{inner}": bundled(inner, FILES), "z": b"z"}),
    )
    within = {f"in/y.{inner}//{name}": content for name, content in FILES.items()}
    assert came_out(asked) == {"0": b"0", "z": b"z"} | within
    (bundle,) = [one for one in known(asked) if one.peek.kind is Kind.UNPACKED]
    assert bundle.name == f"in/y.{inner}"


def test_dicom_is_dicom_even_if_it_is_called_like_a_bundle(tmp_path: Path) -> None:
    asked = task(tmp_path, "a.zip", zip_file([("b.zip", dicom())]))
    assert came_out(asked) == {"b.zip": dicom()}
    assert known(asked)[0].peek.kind is Kind.DICOM


def test_a_bundle_without_members_is_one(tmp_path: Path) -> None:
    for how in FORMS:
        assert came_out(task(tmp_path, f"a.{how}", bundled(how, {}))) == {}


# --- what is refused ---


@pytest.mark.parametrize(("name", "content", "code"), HOSTILE.values(), ids=HOSTILE)
def test_what_is_hostile_is_refused_with_a_code_and_leaves_nothing(
    tmp_path: Path, name: str, content: bytes, code: str
) -> None:
    place = tmp_path / "deep" / "down"
    place.mkdir(parents=True)
    asked = task(place, name, content)
    before = everything(tmp_path)
    with pytest.raises(RejectError) as error:
        unpack(asked)
    assert error.value.code == f"archive-{code}"
    assert error.value.todo
    left = {path for path in everything(tmp_path).keys() - before.keys() if ".lock" not in path}
    assert left == {str(asked.place)}
    assert unpacked(asked) is None
    assert (asked.inbox / name).read_bytes() == content


# --- what the surroundings do ---


def test_copies_are_private_and_bear_no_name_of_a_member(tmp_path: Path) -> None:
    asked = task(tmp_path, "a.tar", tar_file([entry("secret name", b"1")]))
    unpack(asked)
    assert all(stat.S_IMODE(p.stat().st_mode) == 0o700 for p in (asked.place, asked.folder))
    assert not [path for path in everything(asked.place) if "secret" in path]


def test_copies_that_were_put_away_are_made_again_as_they_were(tmp_path: Path) -> None:
    asked = task(tmp_path, "a.tar.gz", bundled(Form.TAR_GZ, FILES))
    first = came_out(asked), known(asked)
    put_away(asked.folder)
    assert not asked.folder.exists()
    assert known(asked) == first[1]
    assert (came_out(asked), known(asked)) == first


def test_what_is_there_is_not_made_again(tmp_path: Path) -> None:
    asked = task(tmp_path, "a.zip", bundled(Form.ZIP, FILES))
    unpack(asked)
    before = asked.folder.stat().st_ino, asked.list_file.stat().st_ino
    assert unpack(asked) == len(FILES)
    assert (asked.folder.stat().st_ino, asked.list_file.stat().st_ino) == before


def test_what_a_killed_process_left_is_not_believed(tmp_path: Path) -> None:
    asked = task(tmp_path, "a.zip", bundled(Form.ZIP, FILES))
    asked.folder.with_suffix(".part").mkdir(parents=True)
    (asked.folder.with_suffix(".part") / asked.copy("1.dcm").name).write_bytes(b"half")
    asked.folder.mkdir()
    (asked.folder / "half").write_bytes(b"half")
    assert came_out(asked) == FILES


@pytest.mark.parametrize("torn", [b"", b"{", b"[]", b'{"identity": []}', bytes(100)])
def test_a_list_that_a_power_cut_tore_is_made_again(tmp_path: Path, torn: bytes) -> None:
    asked = task(tmp_path, "a.zip", bundled(Form.ZIP, FILES))
    unpack(asked)
    asked.list_file.write_bytes(torn)
    assert unpacked(asked) is None
    assert came_out(asked) == FILES


def test_a_bundle_in_another_state_is_another_bundle(tmp_path: Path) -> None:
    asked = task(tmp_path, "a.tar", bundled(Form.TAR, FILES))
    unpack(asked)
    other = task(tmp_path, "a.tar", bundled(Form.TAR, {"other": b"1"}))
    assert unpacked(other) is None
    assert came_out(other) == {"other": b"1"}
    assert unpacked(asked) is None


def _removed(path: Path) -> None:
    path.unlink()


def _linked(path: Path) -> None:
    """Put a link to a file of the same bytes in its place."""
    path.rename(path.with_name("elsewhere"))
    path.symlink_to(path.with_name("elsewhere"))


def _grown(path: Path) -> None:
    with path.open("ab") as stream:
        stream.write(b"more")


def _piped(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize("happen", [_removed, _linked, _grown, _piped])
def test_a_bundle_that_is_not_what_was_listed_is_not_unpacked(
    tmp_path: Path, happen: Callable[[Path], None]
) -> None:
    asked = task(tmp_path, "a.tar", bundled(Form.TAR, FILES))
    happen(asked.inbox / asked.path)
    with pytest.raises(SourceChangedError):
        unpack(asked)
    assert unpacked(asked) is None
    assert not asked.folder.exists()


def test_a_bundle_that_changes_while_it_is_read_is_not_taken(tmp_path: Path) -> None:
    files = {str(n): os.urandom(1 << 17) for n in range(4)}
    asked = task(tmp_path, "a.tar", bundled(Form.TAR, files))
    path = asked.inbox / asked.path
    with pytest.MonkeyPatch.context() as patch:
        utime = os.utime

        def grows(*arguments: Any, **keywords: Any) -> None:
            _grown(path)
            utime(*arguments, **keywords)

        patch.setattr(os, "utime", grows)
        with pytest.raises(SourceChangedError):
            unpack(asked)
    assert not asked.folder.exists()


@pytest.mark.parametrize("content", [bundled(how, FILES) for how in FORMS], ids=FORMS)
def test_what_the_system_refuses_is_tried_again_later(tmp_path: Path, content: bytes) -> None:
    asked = task(tmp_path, "a.tar", content)
    (tmp_path / "copies").write_text("in the way")
    with pytest.raises(RetryError, match="state-error"):
        unpack(asked)


def test_two_who_want_the_same_bundle_do_not_disturb_each_other(tmp_path: Path) -> None:
    asked = task(tmp_path, "a.tar.gz", bundled(Form.TAR_GZ, FILES))
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(unpack, [asked] * 8)) == [len(FILES)] * 8
    assert came_out(asked) == FILES


@pytest.mark.parametrize("how", FORMS)
def test_no_member_is_read_into_memory_in_whole(tmp_path: Path, how: Form) -> None:
    large = Limits(members=10, bytes=1 << 30, ratio=1000, depth=1)
    asked = task(tmp_path, f"a.{how}", bundled(how, {"a": bytes(64 << 20)}), large)
    tracemalloc.start()
    try:
        unpack(asked)
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()
    assert asked.copy("a").stat().st_size == 64 << 20
