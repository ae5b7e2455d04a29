"""A file taken in piece by piece is the file, whatever the pieces, the threads and the errors."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pydicom
import pytest
from archive_cases import (
    CASES,
    Case,
    archived,
    contents,
    enhanced,
    files_end_at,
    made,
    sources,
)

from dicomzarr_watch.archive import piece
from dicomzarr_watch.archive.convert import convert
from dicomzarr_watch.archive.piece import Part, Turn, pieces, pixel_pieces, read
from dicomzarr_watch.archive.work import Source, Work, opened
from dicomzarr_watch.dicom.frames import FrameRun
from dicomzarr_watch.dicom.instance import Instance, read_header
from dicomzarr_watch.errors import DicomzarrError, SourceChangedError


@pytest.fixture(params=[1, 100, 8 << 20])
def piece_bytes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    size: int = request.param
    monkeypatch.setattr(piece, "PIECE_BYTES", size)
    return size


def _instance(source: Source) -> Instance:
    with opened(source) as stream:
        return read_header(stream).instance


def test_pieces_laid_end_to_end_are_the_file(case: Case, tmp_path: Path, piece_bytes: int) -> None:
    case.write(tmp_path)
    for source in sources(tmp_path):
        instance = _instance(source)
        found = pieces(instance)
        at = 0
        for one in found:
            assert one.start == at
            assert sum(span.size for span in one.spans[:-1]) < piece_bytes
            at += one.size
        assert at == instance.size
        assert [one.is_last for one in found] == [False] * (len(found) - 1) + [True]
        run = instance.frames
        seen = run.count if isinstance(run, FrameRun) and not run.encoding else 0
        assert sum(one.frames for one in found) == seen
        assert sum(one.size for one in pixel_pieces(instance)) == instance.pixel_bytes


def test_what_is_taken_from_pieces_is_all_of_the_file(
    case: Case, tmp_path: Path, piece_bytes: int
) -> None:
    case.write(tmp_path)
    for source in sources(tmp_path):
        content, instance = source.path.read_bytes(), _instance(source)
        turn, taken = Turn.first(), []
        for one in pieces(instance):
            seen_as = instance.frames.format if isinstance(instance.frames, FrameRun) else None
            taken.append(read(source, one, seen_as, turn))
            turn = turn.next()
        head, end = instance.head_bytes, instance.head_bytes + instance.pixel_bytes
        assert b"".join(t.header for t in taken) == content[:head] + content[end:]
        if any(span.part is Part.RESIDUE for one in pieces(instance) for span in one.spans):
            assert b"".join(t.residue or b"" for t in taken) == content[head:end]
        assert [t.sha256 for t in taken if t.sha256] == [hashlib.sha256(content).digest()]


def test_pieces_change_nothing_of_what_is_written(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = made(tmp_path, case.write)
    monkeypatch.setattr(piece, "PIECE_BYTES", 100)
    cut = archived(whole.files, tmp_path / "again", threads=3)
    assert contents(cut.path) == contents(whole.path)


@pytest.fixture
def multi_frame(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Source:
    """Give a file that is taken in by many pieces, one a frame."""
    monkeypatch.setattr(piece, "PIECE_BYTES", 100)
    folder = tmp_path / "files"
    folder.mkdir()
    dataset = enhanced([2.5 * n for n in range(20)])
    pydicom.dcmwrite(folder / "a.dcm", dataset, enforce_file_format=True)
    return sources(folder)[0]


def _shortened(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-2])


@pytest.mark.parametrize("change", [_shortened, Path.unlink])
def test_all_pieces_of_a_file_that_changed_say_so_and_none_waits_for_ever(
    multi_frame: Source, change: Callable[[Path], None]
) -> None:
    instance = _instance(multi_frame)
    assert isinstance(instance.frames, FrameRun)
    change(multi_frame.path)
    turn = Turn.first()
    with ThreadPoolExecutor(2) as pool:
        futures = []
        for one in pieces(instance):
            futures.append(pool.submit(read, multi_frame, one, instance.frames.format, turn))
            turn = turn.next()
    for future in futures:
        assert isinstance(future.exception(timeout=60), SourceChangedError)


def test_a_file_that_ends_early_is_said_to_have_changed(multi_frame: Source) -> None:
    one = piece.Piece(0, (piece.Span(Part.HEADER, multi_frame.identity.size + 1),))
    with pytest.raises(SourceChangedError, match="a shorter file"):
        read(multi_frame, one, None, Turn.first())


def test_a_file_in_many_pieces_is_archived_and_restored(
    multi_frame: Source, tmp_path: Path
) -> None:
    done = archived(multi_frame.path.parent, tmp_path / "output", threads=4)
    assert done.receipt.counts["frames"] == 20
    (rebuilt,) = (b"".join(found) for _, found in done.store.rebuilt(done.store.files))
    assert rebuilt == multi_frame.path.read_bytes()


def _left() -> tuple[set[threading.Thread], int]:
    return set(threading.enumerate()), len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - no paths


@pytest.fixture
def nothing_left(tmp_path: Path) -> Iterator[None]:
    """Check that threads and open files are as they were; the libraries' own start before."""
    made(tmp_path / "first", CASES["mixed sizes"].write)
    before = _left()
    yield
    assert _left() == before


@pytest.mark.parametrize("spoil", [_shortened, Path.unlink])
def test_no_thread_and_no_open_file_is_left_by_a_source_that_changed(
    nothing_left: None, multi_frame: Source, tmp_path: Path, spoil: Callable[[Path], None]
) -> None:
    CASES["mixed sizes"].write(multi_frame.path.parent)
    work = Work("drop", sources(multi_frame.path.parent), tmp_path / "output")
    pending = [partial(spoil, work.sources[-1].path)]

    def interfere(stage: str, _count: int) -> None:
        if stage == "write" and pending:
            pending.pop()()

    with pytest.raises(SourceChangedError):
        convert(work, interfere)
    assert not pending


def test_no_thread_and_no_open_file_is_left_by_an_output_that_is_full(
    nothing_left: None, multi_frame: Source, tmp_path: Path
) -> None:
    CASES["mixed sizes"].write(multi_frame.path.parent)
    work = Work("drop", sources(multi_frame.path.parent), tmp_path / "output")
    for size in (300, 2000, 3000):
        with files_end_at(size), pytest.raises(DicomzarrError, match="output-error"):
            convert(work)
