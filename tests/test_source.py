from __future__ import annotations

import os
from pathlib import Path

import pytest

from dicomzarr_watch.errors import RejectError, RetryError, SourceChangedError
from dicomzarr_watch.identity import Identity
from dicomzarr_watch.source import Excerpts, opened


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(b"bytes")
    return path


def state(path: Path) -> Identity:
    return Identity.of(path.stat())


def test_a_file_in_its_state_is_read(path: Path) -> None:
    with opened(path, state(path)) as stream:
        assert stream.read() == b"bytes"


def test_a_file_in_another_state_is_not_read(path: Path) -> None:
    found = state(path)
    path.write_bytes(b"other bytes")
    with pytest.raises(SourceChangedError), opened(path, found):
        pytest.fail("it was opened")


def test_a_file_that_is_gone_has_changed(path: Path) -> None:
    found = state(path)
    path.unlink()
    with pytest.raises(SourceChangedError), opened(path, found):
        pytest.fail("it was opened")


def test_a_link_is_not_followed_even_to_the_very_file(path: Path) -> None:
    found = state(path)
    link = path.with_name("link")
    link.symlink_to(path)
    with pytest.raises(SourceChangedError), opened(link, found):
        pytest.fail("it was opened")


def test_behind_a_link_in_the_place_of_a_folder_nothing_but_the_very_file_is_read(
    path: Path, tmp_path: Path
) -> None:
    found = state(path)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / path.name).write_bytes(b"bytes")
    link = tmp_path / "link"
    link.symlink_to(tmp_path)
    with opened(link / path.name, found) as stream:
        assert stream.read() == b"bytes"
    link.unlink()
    link.symlink_to(tmp_path / "other")
    with pytest.raises(SourceChangedError), opened(link / path.name, found):
        pytest.fail("it was opened")


def test_a_pipe_does_not_make_it_wait(path: Path) -> None:
    found = state(path)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(SourceChangedError), opened(path, found):
        pytest.fail("it was opened")


def test_what_the_system_refuses_is_tried_again(path: Path) -> None:
    found = state(path)
    with pytest.raises(RetryError, match="ENOTDIR"), opened(path / "below", found):
        pytest.fail("it was opened")


@pytest.mark.parametrize("is_refused", [True, False])
def test_a_file_that_changes_while_it_is_read_is_not_to_blame(
    path: Path, *, is_refused: bool
) -> None:
    with pytest.raises(SourceChangedError), opened(path, state(path)):  # noqa: PT012 - a reading
        path.write_bytes(b"half")
        if is_refused:
            raise RejectError("half")


def test_a_file_that_stays_as_it_is_is_to_blame(path: Path) -> None:
    with pytest.raises(RejectError), opened(path, state(path)):
        raise RejectError("half")


def test_parts_of_a_file_are_read_wherever_they_stand(path: Path) -> None:
    with Excerpts(path) as file:
        assert file.size == 5
        assert (file.read(3, 9), file.read(0, 2)) == (b"es", b"by")
        assert file.read(5, 1) == file.read(9, 1) == b""


def test_a_file_of_which_parts_were_read_is_closed_whatever_happens(path: Path) -> None:
    def look() -> None:
        with Excerpts(path) as file:
            file.read(-1, 1)

    before = descriptors()
    with pytest.raises(OSError, match="Invalid argument"):
        look()
    assert descriptors() == before


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_a_link_is_not_read_in_parts_either(path: Path) -> None:
    link = path.with_name("link")
    link.symlink_to(path)
    with pytest.raises(OSError, match="symbolic links"), Excerpts(link):
        pytest.fail("it was opened")
