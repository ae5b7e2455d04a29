from __future__ import annotations

import itertools
import os
import tempfile
import tracemalloc
from pathlib import Path

import pytest
from dicom_files import (
    BIG,
    DEFLATED,
    ENCODINGS,
    EXPLICIT,
    Encoding,
    Plain,
    element_bytes,
    file_bytes,
    us,
    write_slice,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from inbox_files import SERIES_UID, dicom, elements, put

from dicomzarr_watch.intake.peek import Peek, Peeks
from dicomzarr_watch.kind import Kind

WHOLE = dicom()
# where the elements of the data set start, counted without the code under test
_sizes = [len(element_bytes(element, EXPLICIT)) for element in elements()]
_start = len(WHOLE) - sum(_sizes)
BOUNDARIES = list(itertools.accumulate(_sizes, initial=_start))


def peek(path: Path) -> Peek:
    return Peeks()(path)


def peeked(content: bytes) -> Peek:
    with tempfile.TemporaryDirectory() as folder:
        return peek(put(Path(folder, "file"), content))


@pytest.mark.parametrize("encoding", [*ENCODINGS, DEFLATED], ids=lambda e: e.uid)
def test_a_dicom_file_is_known_by_its_uids_in_every_encoding(encoding: Encoding) -> None:
    assert peeked(dicom(SERIES_UID, "1.2.77", encoding)) == Peek(
        Kind.DICOM, SERIES_UID, "1.2.77", encoding.uid
    )


def test_a_valid_image_is_known_by_its_uids(tmp_path: Path) -> None:
    path = write_slice(tmp_path / "1.dcm", series_uid="1.2.3", sop_uid="1.2.3.9", syntax=BIG.uid)
    assert peek(path) == Peek(Kind.DICOM, "1.2.3", "1.2.3.9", BIG.uid, instance_number=1)


def test_a_dicom_file_without_uids_is_dicom_all_the_same() -> None:
    bare = file_bytes([Plain(0x00080060, "CS", b"CT")])
    assert peeked(bare) == Peek(Kind.DICOM, transfer_syntax=EXPLICIT.uid)


@pytest.mark.parametrize(
    "content",
    [b"", b"DICM", b"x" * 131, bytes(128) + b"DICN" + bytes(400), b"%PDF-1.7\n" * 40],
    ids=["empty", "short", "shorter than a preamble", "no prefix", "pdf"],
)
def test_what_bears_no_prefix_is_no_dicom(content: bytes) -> None:
    assert peeked(content) == Peek(Kind.NOT_DICOM)


@pytest.mark.parametrize("length", range(132, len(WHOLE)))
def test_a_truncated_file_is_said_to_be_truncated_wherever_an_element_is_cut(length: int) -> None:
    found = peeked(WHOLE[:length])
    assert found.kind is Kind.DICOM
    if length >= _start:
        assert found.is_truncated is (length not in BOUNDARIES)
        assert found.series_uid == (SERIES_UID if length >= BOUNDARIES[2] else "")


def test_a_deflated_file_that_is_cut_is_said_to_be_truncated() -> None:
    assert peeked(dicom(encoding=DEFLATED)[:-3]).is_truncated


def test_a_malformed_file_is_not_said_to_be_truncated() -> None:
    """There is nothing to wait for: no more bytes will mend it."""
    found = peeked(file_bytes([*elements()[:2], Plain(0x00280010, "??", b"12")]))
    assert found == Peek(Kind.DICOM, SERIES_UID, "1.2.3.4", EXPLICIT.uid)


def test_a_file_that_cannot_be_read_is_said_to_be_unreadable(tmp_path: Path) -> None:
    assert peek(tmp_path / "gone.dcm") == Peek(Kind.UNREADABLE, cause="ENOENT")
    assert peek(tmp_path) == Peek(Kind.UNREADABLE, cause="EISDIR")


def test_what_was_looked_at_before_makes_no_difference(tmp_path: Path) -> None:
    peeks = Peeks()
    others = [dicom("1.2.9", f"1.2.3.{n}", encoding) for n, encoding in enumerate(ENCODINGS)]
    cut = [WHOLE[:length] for length in range(100, len(WHOLE), 7)]
    for content in (other for one in cut for other in (WHOLE, one, *others, b"no DICOM")):
        path = put(tmp_path / "file", content)
        assert peeks(path) == peek(path)


def test_pixel_data_is_measured_and_not_read(tmp_path: Path) -> None:
    size = 1 << 30
    head = file_bytes([*elements()[:2], Plain(0x7FE00010, "OW")])
    path = put(tmp_path / "large.dcm", head[:-4] + size.to_bytes(4, "little"))
    os.truncate(path, len(head) + size)  # a hole, which takes no room
    before = bytes_read()
    assert not peek(path).is_truncated
    assert bytes_read() - before < 1 << 20
    os.truncate(path, len(head) + size - 1)
    assert peek(path).is_truncated


def bytes_read() -> int:
    """Return how many bytes this process has asked the system for (proc(5))."""
    return int(Path("/proc/self/io").read_text().split()[1])


edits = st.lists(st.tuples(st.integers(0, 1 << 16), st.integers(0, 255)), max_size=8)


@settings(max_examples=150)
@given(st.sampled_from((*ENCODINGS, DEFLATED)), edits, st.integers(0, 400))
def test_no_bytes_are_too_strange_to_be_looked_at(
    encoding: Encoding, changes: list[tuple[int, int]], cut: int
) -> None:
    content = bytearray(dicom(encoding=encoding))
    for place, value in changes:
        content[place % len(content)] = value
    content = content[: max(0, len(content) - cut)]
    expected = Kind.DICOM if content[128:132] == b"DICM" else Kind.NOT_DICOM
    assert peeked(bytes(content)).kind is expected


def test_a_link_is_not_looked_through(tmp_path: Path) -> None:
    put(tmp_path / "file", dicom())
    (tmp_path / "link").symlink_to(tmp_path / "file")
    assert peek(tmp_path / "link") == Peek(Kind.UNREADABLE, cause="ELOOP")


def test_a_pipe_does_not_make_a_look_wait(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert peek(tmp_path / "pipe") == Peek(Kind.UNREADABLE, cause="ESPIPE")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"7 ", 7),
        (b"-2147483648 ", -2147483648),
        (b"0012", 12),
        (b"", None),
        (b"one ", None),
        (b"99999999999999999999", None),
    ],
)
def test_an_instance_number_is_one_that_the_standard_allows(
    value: bytes, expected: int | None
) -> None:
    assert peeked(file_bytes([Plain(0x00200013, "IS", value)])).instance_number == expected


def test_values_of_a_file_are_not_kept_for_the_next(tmp_path: Path) -> None:
    large = Plain(0x00291020, "OB", bytes(300_000))
    for n in range(3):
        (tmp_path / f"{n}").write_bytes(file_bytes([us(0x00200013, n), large]))
    peeks = Peeks()
    tracemalloc.start()
    try:
        found = [peeks(tmp_path / f"{n}").kind for n in range(3)]
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert found == [Kind.DICOM] * 3
    assert kept < 100_000
