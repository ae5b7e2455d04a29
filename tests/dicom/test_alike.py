from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import pytest
from dicom_files import (
    BIG,
    DEFLATED,
    ENCODINGS,
    EXPLICIT,
    PIXEL_CASES,
    Built,
    Encapsulated,
    Encoding,
    Nested,
    Plain,
    element_bytes,
    even,
    file_bytes,
    file_id,
    pydicom_files,
    us,
    within,
    write_series,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from dicomzarr_watch.dicom.alike import TEMPLATE_LIMIT_BYTES, TEMPLATES_MOST, Templates
from dicomzarr_watch.dicom.instance import Header, read_header
from dicomzarr_watch.dicom.part10 import Part10

PIXELS = Plain(0x7FE00010, "OW", bytes(range(16)))


class Counted(BytesIO):
    """A file that remembers what is asked of it."""

    def __init__(self, content: bytes) -> None:
        super().__init__(content)
        self.asked: list[int | None] = []

    def read(self, size: int | None = -1, /) -> bytes:
        self.asked.append(size)
        return super().read(size)


def read_in_turn(*contents: bytes) -> list[Header]:
    templates = Templates()
    return [read_header(BytesIO(content), templates) for content in contents]


def spans_in_turn(*contents: bytes) -> list[Part10]:
    templates = Templates()
    return [templates.spans(within(content), len(content)).part10 for content in contents]


def is_said_alone(header: Header, content: bytes) -> bool:
    """Tell whether a file says the same when nothing is known of others, cut or not."""
    alone = read_header(BytesIO(content))
    same = (header.instance, header.part10, header.data, header.tail) == (
        alone.instance,
        alone.part10,
        alone.data,
        alone.tail,
    )
    cut = tuple(alone.value(e) for e in alone.part10.elements if e != alone.part10.pixel)
    return same and header.cut in ((), cut)


def slice_bytes(number: int, *more: Built, encoding: Encoding = EXPLICIT) -> bytes:
    """Make a slice whose instance number takes two characters whatever it is."""
    elements: dict[int, Built] = {
        0x00080060: Plain(0x00080060, "CS", b"MR"),
        0x00200013: Plain(0x00200013, "IS", f"{number:2}".encode()),
        0x00280010: us(0x00280010, 2, encoding),
        0x00280011: us(0x00280011, 4, encoding),
        0x00280100: us(0x00280100, 16, encoding),
        PIXELS.tag: PIXELS,
    }
    elements |= {element.tag: element for element in more}
    return file_bytes([elements[tag] for tag in sorted(elements)], encoding)


@pytest.mark.parametrize("encoding", ENCODINGS, ids=["explicit", "implicit", "big endian"])
def test_files_that_differ_in_values_alone_have_one_set_of_spans(encoding: Encoding) -> None:
    contents = [slice_bytes(n, encoding=encoding) for n in range(5)]
    found = read_in_turn(*contents)
    assert all(map(is_said_alone, found, contents))
    assert {id(header.part10) for header in found} == {id(found[0].part10)}
    assert [header.instance.poses[0].instance_number for header in found] == [0, 1, 2, 3, 4]
    assert [header.cut != () for header in found] == [False, True, True, True, True]


def test_a_series_whose_values_vary_in_length_has_a_few_sets_of_spans(tmp_path: Path) -> None:
    paths = write_series(tmp_path, 40, gap_mm=7.3)
    contents = [path.read_bytes() for path in paths]
    found = read_in_turn(*contents)
    assert all(map(is_said_alone, found, contents))
    assert len({id(header.part10) for header in found}) == len({len(c) for c in contents})


def encoded_bytes(*fragments: bytes, vr: str = "OB") -> bytes:
    """Make a slice whose pixel data has these fragments behind an empty offset table."""
    return slice_bytes(1, Encapsulated((b"", *fragments), vr=vr))


def test_encapsulated_files_differ_in_their_fragments_alone() -> None:
    contents = [encoded_bytes(*[bytes(2 * n)] * n) for n in range(1, 6)]
    templates = Templates()
    streams = [Counted(content) for content in contents]
    found = [read_header(stream, templates) for stream in streams]
    assert all(map(is_said_alone, found, contents))
    assert [header.cut != () for header in found] == [False, True, True, True, True]
    assert [len(stream.asked) for stream in streams][1:] == [1, 1, 1, 1]


def test_fragments_longer_than_what_was_read_are_stepped_over() -> None:
    contents = [encoded_bytes(bytes(100_000), bytes(n)) for n in (90_000, 80_000, 1 << 20)]
    templates = Templates()
    streams = [Counted(content) for content in contents]
    found = [read_header(stream, templates) for stream in streams]
    assert all(map(is_said_alone, found, contents))
    assert found[2].cut
    assert sum(size or 0 for size in streams[2].asked) < len(found[2].data) + (1 << 18)


BEHIND = element_bytes(Plain(0xFFFCFFFC, "LO", b"\1\2"), EXPLICIT)


def unusual(content: bytes) -> bytes:
    return content.replace(b"DICM", b"DICN")


def hidden(content: bytes) -> bytes:
    """Say in the place of the preamble that the file is two elements, the second to its end."""
    head = element_bytes(Plain(0x00080005, "CS"), EXPLICIT)
    head += element_bytes(Plain(0x00080070, "OB"), EXPLICIT)[:-4]
    return (head + struct.pack("<I", len(content) - len(head) - 4)).ljust(128, b"\0") + content[
        128:
    ]


def ends_early(is_early: bool) -> bytes:
    """Make a sequence that ends, or not, where a value holds what ends a sequence."""
    end, last = (struct.pack("<HHI", 0xFFFE, n, 0) for n in (0xE00D, 0xE0DD))
    value = Plain(0x00081150, "LO", end + last)
    content = slice_bytes(1, Nested(0x00081140, ((value,),), True, True))
    return content.replace(b"LO\x10\0", b"LO\0\0") if is_early else content


SEQUENCE = Nested(0x00081140, ((Plain(0x00081155, "UI", b"1.2\0"),),), True, True)
OTHER = Nested(0x00081140, ((Plain(0x00081155, "UI"),), ()), True, True)
ENCODED = encoded_bytes(b"1234")
REARRANGED = Nested(0x00081140, ((Plain(0x00081155, "UI", b"1.2.3.4\0"),),), False, False)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (slice_bytes(1), slice_bytes(1, encoding=BIG)),
        (slice_bytes(1), slice_bytes(1).replace(EXPLICIT.uid.encode(), b"1.2.840.10008.1.2.7")),
        (slice_bytes(1), slice_bytes(1)[:-1]),
        (slice_bytes(1), slice_bytes(1) + b"\0"),
        (slice_bytes(1), slice_bytes(1, Plain(0x00080060, "CS"))),
        (slice_bytes(1), slice_bytes(1).replace(b"IS\x02\0", b"IS\x04\0")),
        (slice_bytes(1), slice_bytes(1).replace(b"CS\x02\0MR", b"LO\x02\0MR")),
        (slice_bytes(1), unusual(slice_bytes(1))),
        (slice_bytes(1, SEQUENCE), slice_bytes(1, OTHER)),
        (slice_bytes(1, SEQUENCE), slice_bytes(1, REARRANGED)),
        (ends_early(False), ends_early(True)),
        (slice_bytes(1) + bytes(10), slice_bytes(1) + BEHIND),
        (unusual(slice_bytes(1)), hidden(unusual(slice_bytes(1)))),
        (ENCODED, ENCODED[:-8]),
        (ENCODED, ENCODED[:-9]),
        (ENCODED, ENCODED + BEHIND),
        (ENCODED, ENCODED + b"\0"),
        (ENCODED, ENCODED.replace(b"\xfe\xff\x00\xe0\x04", b"\xfe\xff\x00\xe0\x44")),
        (ENCODED, encoded_bytes(b"1234", vr="UN")),
        (encoded_bytes(b"1234", vr="UN"), encoded_bytes(b"123456", vr="UN")),
        (ENCODED, slice_bytes(1)),
        (slice_bytes(1), slice_bytes(1)[:132]),
        (slice_bytes(1), b""),
    ],
    ids=[
        "big endian",
        "another transfer syntax of the same length",
        "cut",
        "longer",
        "an empty value",
        "a length more",
        "another VR",
        "no preamble",
        "other items",
        "a sequence of defined length",
        "a sequence that ends early",
        "an element behind the pixels",
        "elements in place of a preamble",
        "fragments without an end",
        "fragments that are cut",
        "an element behind the fragments",
        "a byte behind the fragments",
        "a fragment that says it is longer",
        "fragments in a VR of another encoding",
        "another of these",
        "native in place of encapsulated",
        "nothing but a preamble",
        "nothing",
    ],
)
def test_a_file_that_is_not_like_the_one_before_is_walked_through(one: bytes, other: bytes) -> None:
    for contents in ([one, other, one], [other, one, other]):
        found = read_in_turn(*contents)
        assert all(map(is_said_alone, found, contents))
        assert found[0].part10 is not found[1].part10


def test_items_of_undefined_length_may_stand_where_they_stood() -> None:
    contents = [slice_bytes(n, SEQUENCE) for n in (1, 2)]
    one, other = read_in_turn(*contents)
    assert other.part10 is one.part10
    assert is_said_alone(other, contents[1])


def test_a_file_without_pixels_may_end_with_items_of_undefined_length() -> None:
    report = Plain(0x00080060, "CS", b"SR")
    contents = [file_bytes([report, replace(SEQUENCE, tag=0x0040A730)]) for _ in range(2)]
    one, other = read_in_turn(*contents)
    assert other.part10 is one.part10
    assert is_said_alone(other, contents[1])


@pytest.mark.parametrize("path", pydicom_files(), ids=file_id)
def test_a_real_file_read_again_says_what_it_said(path: Path) -> None:
    content = path.read_bytes()
    found = read_in_turn(content, content, content)
    assert all(is_said_alone(header, content) for header in found)


def test_real_files_say_the_same_whatever_was_read_before_them() -> None:
    small = [content for p in pydicom_files() if len(content := p.read_bytes()) < 1 << 17]
    contents = [*small, *(case.content for case in PIXEL_CASES), *reversed(small)]
    assert all(map(is_said_alone, read_in_turn(*contents), contents))


def test_a_header_is_read_once_and_no_more_than_it() -> None:
    private = Plain(0x00291020, "OB", bytes(200_000))
    pixels = Plain(PIXELS.tag, "OW", bytes(1 << 20))
    contents = [slice_bytes(n, private, pixels) for n in range(4)]
    templates = Templates()
    streams = [Counted(content) for content in contents]
    headers = [read_header(stream, templates) for stream in streams]
    assert all(map(is_said_alone, headers, contents))
    asked = [sum(size or 0 for size in stream.asked) for stream in streams]
    assert [len(stream.asked) for stream in streams][2:] == [1, 1]
    assert max(asked[2:]) < len(headers[0].data) + 2048


def test_headers_that_are_very_long_are_not_kept_for_the_next_file() -> None:
    private = Plain(0x00291020, "OB", bytes(TEMPLATE_LIMIT_BYTES))
    contents = [slice_bytes(n, private) for n in range(3)]
    templates = Templates()
    streams = [Counted(content) for content in contents]
    headers = [read_header(stream, templates) for stream in streams]
    assert all(map(is_said_alone, headers, contents))
    assert len({id(header.part10) for header in headers}) == 3
    assert {stream.asked[0] for stream in streams} == {1 << 16}


def test_only_the_last_few_kinds_of_files_are_remembered() -> None:
    kinds = [
        slice_bytes(1, Plain(0x00080070, "LO", b"x" * 2 * n)) for n in range(TEMPLATES_MOST + 1)
    ]
    first, *_, again = spans_in_turn(*kinds, kinds[0])
    assert again == first
    assert again is not first, "forgotten, as the least recent"
    *_, last, again = spans_in_turn(*kinds, kinds[-1])
    assert again is last


def test_a_deflated_file_as_long_as_what_it_inflates_to_is_inflated_every_time() -> None:
    filled = (Plain(0x00091001, "OB", bytes(n)) for n in range(0, 1000, 2))
    made = ((element_bytes(e, EXPLICIT), file_bytes([e], DEFLATED)) for e in filled)
    content = next(content for data_set, content in made if len(data_set) == len(content))
    assert all(is_said_alone(header, content) for header in read_in_turn(content, content))


def behind_the_pixels(number: int) -> bytes:
    return slice_bytes(number) + BEHIND


def test_elements_behind_the_pixel_data_are_found_in_every_file() -> None:
    contents = [behind_the_pixels(1), slice_bytes(2), behind_the_pixels(3)]
    found = read_in_turn(*contents)
    assert all(map(is_said_alone, found, contents))
    assert [len(header.tail) for header in found] == [10, 0, 10]


VALUES = st.fixed_dictionaries(
    {
        0x00080005: st.sampled_from([b"ISO_IR 100", b"ISO_IR 192"]),
        0x00080060: st.sampled_from([b"MR", b"CT"]),
        0x00100010: st.sampled_from([b"", b"A^B ", b"\xc4^B "]),
        0x00200013: st.integers(0, 12).map(lambda n: even(str(n).encode())),
    }
)


@settings(max_examples=60)
@given(
    st.lists(st.tuples(VALUES, st.sampled_from(ENCODINGS), st.integers(0, 3)), max_size=8),
    st.sampled_from([b"", b"\0", element_bytes(PIXELS, EXPLICIT)]),
)
def test_files_in_any_order_say_what_each_says_alone(
    drawn: Sequence[tuple[dict[int, bytes], Encoding, int]], behind: bytes
) -> None:
    vrs = {0x00080005: "CS", 0x00080060: "CS", 0x00100010: "PN", 0x00200013: "IS"}
    contents = []
    for values, encoding, cut in drawn:
        made = [Plain(tag, vrs[tag], value) for tag, value in values.items()]
        content = slice_bytes(0, *made, encoding=encoding) + behind
        contents.append(content[: len(content) - cut])
    assert all(map(is_said_alone, read_in_turn(*contents), contents))
