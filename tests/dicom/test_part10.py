from __future__ import annotations

import struct
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import pydicom
import pytest
from dicom_files import (
    BIG,
    DEFLATED,
    ENCODINGS,
    EXPLICIT,
    IMPLICIT,
    JPEG,
    LONG_VRS,
    PIXEL_CASES,
    Built,
    Encapsulated,
    Encoding,
    Nested,
    PixelCase,
    Plain,
    dataset_bytes,
    element_bytes,
    file_bytes,
    file_id,
    meta_bytes,
    pydicom_files,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from dicomzarr_watch.dicom.elements import Element
from dicomzarr_watch.dicom.part10 import Part10, is_dicom, split
from dicomzarr_watch.dicom.tags import PIXEL_DATA

SHORT_VRS = ["AE", "AT", "CS", "DS", "FD", "IS", "LO", "PN", "SH", "SS", "UI", "US"]
PREAMBLE = bytes(128) + b"DICM"
CUT_FILES = {"MR_truncated.dcm", "rtplan_truncated.dcm"}


def read_from(data: bytes) -> Callable[[int, int], bytes]:
    return lambda offset, count: data[offset : offset + count]


def parsed(data: bytes) -> Part10:
    return split(read_from(data), len(data))


def expected(elements: Sequence[Built], encoding: Encoding, start: int) -> list[Element]:
    """Say where the elements stand if they are laid end to end."""
    found = []
    for e in elements:
        is_undefined = isinstance(e, Encapsulated) or (isinstance(e, Nested) and e.is_undefined)
        value = start + (12 if e.vr in LONG_VRS and not encoding.is_implicit else 8)
        vr = b"" if encoding.is_implicit else e.vr.encode()
        end = start + len(element_bytes(e, encoding))
        found.append(Element(e.tag, vr, start, value, end, is_undefined))
        start = end
    return found


def is_contiguous(elements: Sequence[Element], start: int) -> bool:
    ends = [start, *(e.end for e in elements)]
    return ends[:-1] == [e.start for e in elements] and all(
        e.start < e.value <= e.end for e in elements
    )


# tags that no dictionary knows, so that pydicom judges by the bytes as well
TAGS = st.builds(
    lambda group, element: group << 16 | element,
    st.integers(0x0004, 0x3FF0).map(lambda g: g * 2 + 1),
    st.integers(0x1000, 0xFFFF),
)
PLAIN = st.builds(
    Plain, TAGS, st.sampled_from([*SHORT_VRS, *sorted(LONG_VRS - {"SQ"})]), st.binary(max_size=12)
)


def trees(nested_vrs: Sequence[str]) -> st.SearchStrategy[list[Built]]:
    def nested(children: st.SearchStrategy[Built]) -> st.SearchStrategy[Nested]:
        items = st.lists(st.lists(children, max_size=3).map(tuple), max_size=3).map(tuple)
        sequence = st.builds(Nested, TAGS, items, st.booleans(), st.booleans())
        unknown = st.builds(Nested, TAGS, items, st.just(True), st.booleans(), st.just("UN"))
        return st.one_of(sequence, unknown) if "UN" in nested_vrs else sequence

    one: st.SearchStrategy[Built] = st.recursive(PLAIN, nested, max_leaves=8)
    return st.lists(one, max_size=6, unique_by=lambda e: e.tag).map(
        lambda found: sorted(found, key=lambda e: e.tag)
    )


@settings(max_examples=80)
@given(trees(["SQ", "UN"]), st.sampled_from([*ENCODINGS, DEFLATED]))
def test_the_spans_are_those_of_the_elements_that_were_written(
    elements: list[Built], encoding: Encoding
) -> None:
    found = parsed(file_bytes(elements, encoding))
    start = 0 if encoding.is_deflated else 132 + len(meta_bytes(encoding.uid))
    dataset = [e for e in found.elements if e.tag >> 16 != 2]
    assert dataset == expected(elements, encoding, start)
    assert found.problem == ""
    assert found.transfer_syntax == encoding.uid
    data = found.inflated if found.inflated is not None else file_bytes(elements, encoding)
    assert is_contiguous(found.elements, 0 if encoding.is_deflated else 132)
    assert len(data) == (found.elements[-1].end if found.elements else 0)


@settings(max_examples=100)
@given(trees(["SQ"]), st.sampled_from(ENCODINGS))
def test_pydicom_finds_the_same_elements(elements: list[Built], encoding: Encoding) -> None:
    data = file_bytes(elements, encoding)
    ours = {e.tag: e.value for e in parsed(data).elements}
    assert ours == pydicom_offsets(pydicom.dcmread(pydicom.filebase.DicomBytesIO(data)))


def pydicom_offsets(dataset: pydicom.FileDataset) -> dict[int, int]:
    raw = [d.get_item(t) for d in (dataset.file_meta, dataset) for t in d.keys()]  # noqa: SIM118
    return {int(e.tag): int(getattr(e, "value_tell", 0) or e.file_tell or 0) for e in raw}


@pytest.mark.parametrize("path", pydicom_files(), ids=file_id)
def test_real_files_have_the_spans_that_pydicom_finds(path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = pydicom_offsets(pydicom.dcmread(path))
    found = parsed(path.read_bytes())
    ours = {e.tag: e.value for e in found.elements}
    if found.inflated is not None:
        theirs = {tag: at for tag, at in theirs.items() if tag >> 16 != 2}
    if path.name in CUT_FILES:
        assert found.problem == "truncated"
        theirs.popitem()  # pydicom takes what there is of the last element
    else:
        assert found.problem == ""
    assert ours == theirs


SMALL: list[Built] = [
    Plain(0x00080060, "CS", b"MR"),
    Nested(0x00081140, ((Plain(0x00081150, "UI", b"1.2\0"),),), True, True),
    Plain(0x00100020, "LO", b""),
    Plain(PIXEL_DATA, "OW", bytes(range(16))),
]
PACKED: list[Built] = [*SMALL[:3], Encapsulated((b"", b"\xff\xd8\xff\xd9"))]


@pytest.mark.parametrize(
    ("elements", "encoding"),
    [*((SMALL, e) for e in ENCODINGS), (PACKED, JPEG)],
    ids=["explicit", "implicit", "big endian", "encapsulated"],
)
def test_a_file_cut_anywhere_is_truncated_unless_cut_between_elements(
    elements: list[Built], encoding: Encoding
) -> None:
    data = file_bytes(elements, encoding)
    whole = parsed(data)
    seams = {132} | {e.end for e in whole.elements}
    for length in range(132, len(data)):
        found = parsed(data[:length])
        assert found.problem == ("" if length in seams else "truncated"), length
        assert found.pixel is None
        assert found.elements == tuple(e for e in whole.elements if e.end <= length)


def test_a_deflated_file_cut_anywhere_in_its_data_set_is_truncated() -> None:
    data = file_bytes(SMALL, DEFLATED)
    for length in range(132 + len(meta_bytes(DEFLATED.uid)), len(data)):
        assert parsed(data[:length]).problem == "truncated", length


@pytest.mark.parametrize("encoding", ENCODINGS, ids=["explicit", "implicit", "big endian"])
def test_a_file_that_shrinks_while_it_is_read_is_truncated(encoding: Encoding) -> None:
    data = file_bytes([Plain(0x00091000, "OB", bytes(1 << 17)), *SMALL], encoding)
    for length in (132, 140, 200, 1 << 16, 1 << 17, len(data) - 20):
        found = split(read_from(data[:length]), len(data))
        assert found.problem == "truncated"


def test_a_transfer_syntax_that_is_gone_when_it_is_looked_at_again_is_a_truncated_file() -> None:
    extra = [Plain(0x00020102, "OB", bytes(1 << 17))]
    data = PREAMBLE + meta_bytes(EXPLICIT.uid, extra) + dataset_bytes(SMALL, EXPLICIT)
    assert parsed(data).transfer_syntax == EXPLICIT.uid
    asked: list[int] = []

    def read(offset: int, count: int) -> bytes:
        is_again = bool(asked) and offset < max(asked)
        asked.append(offset)
        return b"" if is_again else data[offset : offset + count]

    assert split(read, len(data)).problem == "truncated"


@settings(max_examples=100)
@given(
    st.sampled_from([b"", *(meta_bytes(e.uid) for e in (*ENCODINGS, DEFLATED, JPEG))]),
    st.binary(max_size=200),
)
def test_random_bytes_after_a_valid_start_never_raise(meta: bytes, rest: bytes) -> None:
    data = PREAMBLE + meta + rest
    found = parsed(data)
    size = len(data) if found.inflated is None else len(found.inflated)
    assert is_contiguous(found.elements, 132 if found.inflated is None else 0)
    assert all(e.end <= size for e in found.elements)
    covered = found.elements[-1].end if found.elements else 132
    assert found.problem or found.pixel or covered == size or found.inflated == b""


def _left_unknown(items: tuple[tuple[Built, ...], ...], encoding: Encoding) -> bytes:
    """Make a file with a sequence that is called UN, its items as they stood."""
    made = Nested(0x00091001, items, is_undefined=True, are_items_undefined=True)
    known = element_bytes(made, encoding)
    last = element_bytes(Plain(0x00100010, "PN", b"A^B "), encoding)
    return file_bytes([], encoding) + known.replace(b"SQ", b"UN", 1) + last


INNER = Nested(0x00091002, ((Plain(0x00091003, "LO", b"ab"),),), is_undefined=True)


@pytest.mark.parametrize("encoding", [EXPLICIT, BIG])
@pytest.mark.parametrize(
    "items",
    [
        ((Plain(0x00080060, "CS", b"MR"),),),
        ((Plain(0x00091001, "OB", bytes(10)), INNER), (INNER,)),
        ((INNER,), ()),
    ],
)
def test_a_sequence_that_is_called_unknown_ends_where_its_items_do_as_they_stand(
    items: tuple[tuple[Built, ...], ...], encoding: Encoding
) -> None:
    data = _left_unknown(items, encoding)
    found = parsed(data)
    assert (found.problem, found.elements[-1].end) == ("", len(data))
    assert [e.tag for e in found.elements[-2:]] == [0x00091001, 0x00100010]


@pytest.mark.parametrize("encoding", [EXPLICIT, BIG])
@pytest.mark.parametrize("items", [(), ((),), ((), ((Plain(0x00080060, "CS", b"MR"),)))])
@pytest.mark.parametrize("is_last", [False, True])
def test_an_unknown_sequence_is_implicit_whatever_follows_it(
    items: tuple[tuple[Built, ...], ...], is_last: bool, encoding: Encoding
) -> None:
    unknown = Nested(0x00091001, items, is_undefined=True, vr="UN")
    more = [] if is_last else [Plain(0x00100010, "PN", b"A^B ")]
    data = file_bytes([unknown, *more], encoding)
    found = parsed(data)
    assert (found.problem, found.elements[-1].end) == ("", len(data))


def test_sequences_may_nest_a_thousand_deep() -> None:
    opening = struct.pack("<HH2sHIHHI", 9, 0x1001, b"SQ", 0, 0xFFFFFFFF, 0xFFFE, 0xE000, 0xFFFFFFFF)
    closing = struct.pack("<HHIHHI", 0xFFFE, 0xE00D, 0, 0xFFFE, 0xE0DD, 0)
    last = Plain(0x00100010, "PN", b"A^B ")
    data = file_bytes([]) + opening * 1000 + closing * 1000 + element_bytes(last, EXPLICIT)
    found = parsed(data)
    assert [e.tag for e in found.elements[-2:]] == [0x00091001, last.tag]
    assert found.elements[-1].end == len(data)
    assert parsed(data[: -len(closing) - 12]).problem == "truncated"


def test_encapsulated_pixel_data_ends_behind_its_delimiter() -> None:
    elements = [*SMALL[:3], Encapsulated((b"", bytes(10), b"\xfe\xff\xdd\xe0" * 3))]
    data = file_bytes([*elements, Plain(0xFFFCFFFC, "OB", bytes(6))], JPEG)
    found = parsed(data)
    assert found.pixel == found.find(PIXEL_DATA)
    assert found.pixel is not None
    assert found.pixel.is_undefined_length
    assert data[found.pixel.end - 8 : found.pixel.end] == bytes.fromhex("fe ff dd e0 00 00 00 00")
    assert not found.is_native
    assert found.elements[-1].tag == 0xFFFCFFFC


def test_only_native_transfer_syntaxes_have_native_pixel_data() -> None:
    native = {e.uid: parsed(file_bytes(SMALL, e)).is_native for e in (*ENCODINGS, DEFLATED)}
    assert native == {EXPLICIT.uid: True, IMPLICIT.uid: True, BIG.uid: True, DEFLATED.uid: False}
    assert not parsed(file_bytes(SMALL, JPEG)).is_native, "of defined length, but said to be JPEG"
    private = Encoding("1.2.840.113619.5.2", is_implicit=True)  # its pixels are big endian
    assert not parsed(file_bytes(SMALL, private)).is_native


@pytest.mark.parametrize("encoding", [EXPLICIT, IMPLICIT])
def test_without_transfer_syntax_the_first_element_tells_the_encoding(encoding: Encoding) -> None:
    data = PREAMBLE + meta_bytes(None) + dataset_bytes(SMALL, encoding)
    found = parsed(data)
    assert found.transfer_syntax == ""
    assert found.problem == ""
    assert found.is_implicit == encoding.is_implicit
    assert [e.tag for e in found.elements[1:]] == [e.tag for e in SMALL]


@pytest.mark.parametrize(("said", "written"), [(EXPLICIT, IMPLICIT), (IMPLICIT, EXPLICIT)])
def test_a_file_that_is_not_encoded_as_it_says_is_read_as_it_is(
    said: Encoding, written: Encoding
) -> None:
    found = parsed(PREAMBLE + meta_bytes(said.uid) + dataset_bytes(SMALL, written))
    assert (found.problem, found.is_implicit) == ("", written.is_implicit)
    assert [e.tag for e in found.elements[2:]] == [e.tag for e in SMALL]


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize(
    "garbage",
    [
        b"\0",
        b"\0" * 7,
        b"\0" * 600,
        b"\n" * 8,
        b"\xff" * 600,
        b"garbage behind the pixels",
        bytes.fromhex("fe ff dd e0 00 00 00 00"),
    ],
)
def test_what_follows_the_pixel_data_is_no_problem(encoding: Encoding, garbage: bytes) -> None:
    clean = parsed(file_bytes(SMALL, encoding))
    found = parsed(file_bytes(SMALL, encoding) + garbage)
    assert (found.problem, found.pixel) == ("", clean.pixel)


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("tag", [0x7FE10010, 0xFFFAFFFA, 0xFFFCFFFC])
def test_what_follows_the_pixel_data_and_does_not_end_is_a_file_that_goes_on(
    encoding: Encoding, tag: int
) -> None:
    more = element_bytes(Plain(tag, "OB", bytes(20)), encoding)
    for length in range(8, len(more)):
        assert parsed(file_bytes(SMALL, encoding) + more[:length]).problem == "truncated", length


@pytest.mark.parametrize(
    "broken",
    [
        bytes.fromhex("fe ff 0d e0 00 00 00 00"),
        struct.pack("<HH2sH", 0x0010, 0x0010, b"??", 0xFFFF),
        bytes(8),
    ],
    ids=["a delimiter outside of a sequence", "no VR and no implicit length", "padding"],
)
def test_what_cannot_be_an_element_is_malformed(broken: bytes) -> None:
    found = parsed(file_bytes(SMALL[:1]) + broken)
    assert found.problem == "malformed"
    assert found.elements[-1].tag == SMALL[0].tag


def test_a_big_endian_file_is_never_taken_for_an_implicit_one() -> None:
    assert parsed(file_bytes([Plain(0x00080060, "??")], BIG)).problem == "malformed"


def test_deflated_bytes_that_cannot_be_inflated_are_malformed() -> None:
    found = parsed(PREAMBLE + meta_bytes(DEFLATED.uid) + b"\xff" * 40)
    assert (found.problem, found.elements, found.pixel) == ("malformed", (), None)


def test_the_pixel_data_of_a_broken_file_is_the_first_one() -> None:
    twice = parsed(file_bytes([*SMALL, Plain(PIXEL_DATA, "OW", bytes(4))]))
    assert twice.pixel == twice.find(PIXEL_DATA)


@pytest.mark.parametrize("encoding", ENCODINGS, ids=["explicit", "implicit", "big endian"])
@pytest.mark.parametrize("is_nested", [False, True])
def test_elements_are_found_wherever_a_window_of_64_kib_ends(
    encoding: Encoding, is_nested: bool
) -> None:
    for length in range((1 << 16) - 200, (1 << 16) + 20, 3):
        filler: Built = Plain(0x00091000, "OB", bytes(length))
        if is_nested:
            filler = Nested(0x00091001, ((filler, *SMALL[:2]),), True, True)
        elements = [filler, *SMALL]
        found = parsed(file_bytes(elements, encoding))
        start = 132 + len(meta_bytes(encoding.uid))
        assert list(found.elements[2:]) == expected(elements, encoding, start), length


def test_values_are_stepped_over_not_read() -> None:
    data = file_bytes([Plain(0x00091000, "OB", bytes(1 << 20)), *SMALL[:3]])
    data += element_bytes(Plain(PIXEL_DATA, "OW", bytes(1 << 22)), EXPLICIT)
    asked: list[tuple[int, int]] = []

    def read(offset: int, count: int) -> bytes:
        asked.append((offset, count))
        return data[offset : offset + count]

    assert split(read, len(data)).problem == ""
    assert len(asked) <= 3
    assert sum(count for _, count in asked) <= 3 << 16
    assert all(0 <= offset < len(data) and count > 0 for offset, count in asked)


@pytest.mark.parametrize("encoding", [*ENCODINGS, DEFLATED], ids=lambda e: e.uid)
def test_what_has_been_read_of_a_file_is_not_read_again(encoding: Encoding) -> None:
    data = file_bytes(SMALL, encoding)
    asked: list[int] = []

    def read(offset: int, count: int) -> bytes:
        asked.append(offset)
        return data[offset : offset + count]

    for length in range(len(data) + 20):
        asked.clear()
        assert split(read, len(data), (data + b"more than it was")[:length]) == parsed(data)
    assert encoding.is_deflated or asked == []


@pytest.mark.parametrize("case", PIXEL_CASES, ids=str)
def test_the_pixel_data_is_where_its_bytes_are(case: PixelCase) -> None:
    data = case.content
    pixel = parsed(data).pixel
    assert pixel is not None
    assert (pixel.tag, pixel.end) == (case.tag, len(data))
    assert data[pixel.value : pixel.value + len(case.stored)] == case.stored


AFTER_AN_ODD_ELEMENT = Plain(0x00100020, "LO", b"ID")


@pytest.mark.parametrize(
    "odd",
    [
        struct.pack("<HH2sH", 0x0010, 0x0010, b"ZZ", 4) + b"Name",
        struct.pack("<HH2sHI", 0x0010, 0x0010, b"ZZ", 0, 4) + b"Name",
        struct.pack("<HHI", 0x0010, 0x0010, 4) + b"Name",
    ],
    ids=["an unknown VR", "an unknown VR with a long length", "no VR at all"],
)
def test_one_element_with_an_odd_vr_does_not_hide_those_behind_it(odd: bytes) -> None:
    found = parsed(file_bytes(SMALL[:1]) + odd + element_bytes(AFTER_AN_ODD_ELEMENT, EXPLICIT))
    assert found.problem == ""
    assert [e.tag for e in found.elements[-2:]] == [0x00100010, AFTER_AN_ODD_ELEMENT.tag]


def test_a_dicom_file_is_known_by_its_prefix() -> None:
    assert is_dicom(PREAMBLE)
    assert is_dicom(b"\xff" * 128 + b"DICM and more")
    assert not is_dicom(PREAMBLE[:131])
    assert not is_dicom(b"DICM" + bytes(128))


@pytest.mark.parametrize("case", [EXPLICIT, IMPLICIT, BIG], ids=str)
def test_a_data_set_is_known_without_preamble_and_meta_information(case: Encoding) -> None:
    bare = b"".join(element_bytes(element, case) for element in SMALL)
    assert is_dicom(bare)
    found, usual = parsed(bare), parsed(file_bytes(SMALL, case))
    assert found.is_big_endian == usual.is_big_endian
    shift = usual.elements[-1].end - len(bare)
    own = [e for e in usual.elements if e.tag >> 16 != 2]
    assert [(e.tag, e.vr, e.end) for e in found.elements] == [
        (e.tag, e.vr, e.end - shift) for e in own
    ]


def test_meta_information_is_known_without_preamble() -> None:
    whole = file_bytes(SMALL)
    assert is_dicom(whole[132:])
    found, usual = parsed(whole[132:]), parsed(whole)
    assert found.transfer_syntax == usual.transfer_syntax
    assert [e.end + 132 for e in found.elements] == [e.end for e in usual.elements]


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"\x08\x00\x05\x00CS\x0a\x00ISO_IR 100",
        b"GIF89a" + bytes(200),
        b"\x08\x00" * 80,
        bytes(200),
        b"\x02\x00\x00\x00UL\x04\x00" + b"\xff" * 120,
        b"\x10\x00\x10\x00PN\x04\x00Name\x10\x00\x20\x00LO\x02\x00ID",
    ],
    ids=["nothing", "one element", "a picture", "a pattern", "zeros", "garbage", "another group"],
)
def test_what_only_begins_a_little_like_dicom_is_none(head: bytes) -> None:
    assert not is_dicom(head)


@pytest.mark.parametrize("length", [0, 1, 131, 132])
def test_a_file_without_elements_has_no_spans(length: int) -> None:
    found = parsed(PREAMBLE[:length])
    assert (found.elements, found.pixel, found.problem) == ((), None, "")
    assert found.find(PIXEL_DATA) is None
