from __future__ import annotations

import struct
from contextlib import suppress
from typing import Any

import pytest
from dicom_files import (
    BIG,
    ENCODINGS,
    EXPLICIT,
    IMPLICIT,
    Built,
    Encoding,
    Nested,
    Plain,
    element_bytes,
    even,
    file_bytes,
    within,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from dicomzarr_watch.dicom import tags
from dicomzarr_watch.dicom.part10 import split
from dicomzarr_watch.dicom.values import Values

NAN = float("nan")


def values_of(*elements: Built, encoding: Encoding = EXPLICIT) -> Values:
    data = file_bytes(elements, encoding)
    return Values(split(within(data), len(data)), data)


@pytest.mark.parametrize(
    ("vr", "value", "encoding", "expected"),
    [
        ("US", b"\x00\x02", EXPLICIT, 512),
        ("US", b"\x00\x02", IMPLICIT, 512),
        ("US", b"\x00\x02", BIG, 2),
        ("US", b"\x00\x02\xff\xff", EXPLICIT, 512),
        ("SS", b"\xff\xff", EXPLICIT, -1),
        ("UL", b"\x00\x00\x00\x02", BIG, 2),
        ("SL", b"\xfe\xff\xff\xff", EXPLICIT, -2),
        ("IS", b" 512", EXPLICIT, 512),
        ("US", b"", EXPLICIT, None),
        ("US", b"\x02", EXPLICIT, None),
        ("UL", b"\x02\x00", EXPLICIT, None),
        ("LO", b"many", EXPLICIT, None),
    ],
)
def test_a_number_is_read_as_its_vr_says(
    vr: str, value: bytes, encoding: Encoding, expected: int | None
) -> None:
    assert values_of(Plain(tags.ROWS, vr, value), encoding=encoding).number(tags.ROWS) == expected


@pytest.mark.parametrize(
    ("usual_vr", "expected"), [(b"US", 0xFFFE), (b"SS", -2), (b"UL", 0x1FFFE), (b"SL", 0x1FFFE)]
)
def test_where_the_file_says_no_vr_a_number_has_the_usual_one(
    usual_vr: bytes, expected: int
) -> None:
    found = values_of(Plain(tags.ROWS, "UL", b"\xfe\xff\x01\x00"), encoding=IMPLICIT)
    assert found.number(tags.ROWS, usual_vr) == expected


@pytest.mark.parametrize(
    ("vr", "value", "expected"),
    [
        ("IS", b"12", 12),
        ("IS", b" +7 ", 7),
        ("IS", b"-3", -3),
        ("IS", b"3.0 ", 3),
        ("IS", b"4\\5 ", 4),
        ("IS", b"12\0", 12),
        ("US", b"\x05\x00", 5),
        ("IS", b"", None),
        ("IS", b"1A", None),
        ("IS", b"1e999 ", None),
        ("IS", b"nan ", None),
    ],
)
def test_a_numeral_is_an_integer_or_absent(vr: str, value: bytes, expected: int | None) -> None:
    found = values_of(Plain(tags.NUMBER_OF_FRAMES, vr, even(value)))
    assert found.numeral(tags.NUMBER_OF_FRAMES) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"0.5\\-1e1 ", (0.5, -10.0)),
        (b" 1 \\ 2\0", (1.0, 2.0)),
        (b"", ()),
        (b"1\\\\2", ()),
        (b"1\\x ", ()),
        (b"1\\nan ", ()),
        (b"inf ", ()),
        (b"0,5 ", ()),
    ],
)
def test_decimals_are_all_finite_numbers_or_none(value: bytes, expected: tuple[float, ...]) -> None:
    found = values_of(Plain(tags.PIXEL_SPACING, "DS", even(value)))
    assert found.decimals(tags.PIXEL_SPACING) == expected
    assert found.decimal(tags.PIXEL_SPACING) == (expected[0] if expected else None)


@pytest.mark.parametrize(
    ("vr", "value", "usual_vr", "numbers", "told"),
    [
        ("FD", struct.pack("<2d", 0.5, -2), "DS", (0.5, -2.0), ("0.5", "-2.0")),
        ("FL", struct.pack("<f", 0.5), "FD", (0.5,), ("0.5",)),
        ("US", struct.pack("<2H", 3, 65535), "FD", (3, 65535), ("3", "65535")),
        ("SL", struct.pack("<i", -3), "US", (-3,), ("-3",)),
        ("UN", struct.pack("<d", 4.5), "FD", (4.5,), ("4.5",)),
        ("", struct.pack("<d", 4.5), "FD", (4.5,), ("4.5",)),
        ("DS", b"1.50\\2 ", "FD", (1.5, 2.0), ("1.50", "2")),
        ("SH", b"B30f", "US", (), ("B30f",)),
        ("FD", bytes(6), "FD", (), ()),
        ("FD", struct.pack("<d", NAN), "FD", (), ()),
    ],
)
def test_values_are_numbers_or_text_as_their_vr_says(
    vr: str, value: bytes, usual_vr: str, numbers: tuple[float, ...], told: tuple[str, ...]
) -> None:
    encoding = EXPLICIT if vr else IMPLICIT
    found = values_of(Plain(0x00189082, vr, value), encoding=encoding)
    assert found.numbers(0x00189082, usual_vr.encode()) == numbers
    assert found.told(0x00189082, usual_vr.encode()) == told


def test_some_values_can_be_had_alone() -> None:
    found = values_of(Plain(0x00080060, "CS", b"MR"), Plain(tags.PIXEL_SPACING, "DS", b"1\\2 "))
    alone = found.only([tags.PIXEL_SPACING])
    assert tags.MODALITY not in alone
    assert alone.decimals(tags.PIXEL_SPACING) == (1.0, 2.0)


@pytest.mark.parametrize("encoding", ENCODINGS, ids=["explicit", "implicit", "big endian"])
def test_text_is_without_its_padding(encoding: Encoding) -> None:
    found = values_of(
        Plain(tags.IMAGE_TYPE, "CS", b"ORIGINAL\\ PRIMARY \\M "),
        Plain(tags.SOP_INSTANCE_UID, "UI", b"1.2.3\0"),
        encoding=encoding,
    )
    assert found.text(tags.SOP_INSTANCE_UID) == "1.2.3"
    assert found.texts(tags.IMAGE_TYPE) == ("ORIGINAL", "PRIMARY", "M")


def test_an_absent_element_has_no_value() -> None:
    found = values_of()
    assert tags.ROWS not in found
    assert found.raw(tags.ROWS) == b""
    assert found.text(tags.ROWS) == ""
    assert found.texts(tags.ROWS) == ("",)
    assert found.number(tags.ROWS) is None
    assert found.numeral(tags.ROWS) is None
    assert found.decimals(tags.ROWS) == ()


def test_an_element_beyond_the_bytes_at_hand_has_no_value() -> None:
    data = file_bytes([Plain(tags.MODALITY, "CS", b"MR"), Plain(tags.ROWS, "US", b"\x02\x00")])
    part10 = split(within(data), len(data))
    rows = part10.find(tags.ROWS)
    assert rows is not None
    found = Values(part10, data[: rows.start])
    assert tags.ROWS in found
    assert found.number(tags.ROWS) is None


def test_of_an_element_that_repeats_the_first_counts() -> None:
    found = values_of(Plain(tags.MODALITY, "CS", b"MR"), Plain(tags.MODALITY, "CS", b"CT"))
    assert found.text(tags.MODALITY) == "MR"


SEQUENCE, INNER = 0x00480105, 0x00480207


def _nested(vr: str = "SQ", **undefined: Any) -> Nested:
    inner = Nested(INNER, ((Plain(tags.ROWS, "US", b"\x07\x00"),),), **undefined)
    first = (Plain(tags.MODALITY, "CS", b"SM"), Plain(tags.ROWS, "US", b"\x03\x00"), inner)
    return Nested(SEQUENCE, (first, (), (Plain(tags.MODALITY, "CS", b"CT"),)), vr=vr, **undefined)


@pytest.mark.parametrize("encoding", [EXPLICIT, IMPLICIT], ids=["explicit", "implicit"])
@pytest.mark.parametrize("is_undefined", [True, False])
@pytest.mark.parametrize("vr", ["SQ", "UN"])
def test_the_items_of_a_sequence_have_values_of_their_own(
    encoding: Encoding, is_undefined: bool, vr: str
) -> None:
    nested = _nested(vr, is_undefined=is_undefined, are_items_undefined=is_undefined)
    found = values_of(nested, Plain(0x00490010, "LO", b"behind"), encoding=encoding)
    items = list(found.items(SEQUENCE))
    assert [item.text(tags.MODALITY) for item in items] == ["SM", "", "CT"]
    assert [item.number(tags.ROWS) for item in items] == [3, None, None]
    assert [inner.number(tags.ROWS) for inner in items[0].items(INNER)] == [7]
    assert list(items[0].items(SEQUENCE)) == []


def test_items_are_big_endian_where_the_file_is() -> None:
    nested = Nested(SEQUENCE, ((Plain(tags.ROWS, "US", b"\x00\x03"),),), True, True)
    (item,) = values_of(nested, encoding=BIG).items(SEQUENCE)
    assert item.number(tags.ROWS) == 3


@pytest.mark.parametrize("is_undefined", [True, False])
def test_a_sequence_that_is_broken_anywhere_is_told_or_read_to_its_end(is_undefined: bool) -> None:
    nested = _nested(is_undefined=is_undefined, are_items_undefined=is_undefined)
    whole = values_of(nested)
    element = whole.part10.find(SEQUENCE)
    assert element is not None
    for at in range(element.value, element.end):
        broken = bytearray(whole.data)
        broken[at] ^= 0xFF
        with suppress(ValueError):
            assert len(list(Values(whole.part10, bytes(broken)).items(SEQUENCE))) <= 3
    with pytest.raises(ValueError, match="truncated"):
        list(Values(whole.part10, whole.data[: element.end - 9]).items(SEQUENCE))


def test_elements_are_given_as_they_stand_in_the_file() -> None:
    modality, rows = Plain(tags.MODALITY, "CS", b"SM"), Plain(tags.ROWS, "US", b"\x03\x00")
    found = values_of(modality, Plain(0x00200011, "IS", b"1 "), rows)
    expected = element_bytes(modality, EXPLICIT) + element_bytes(rows, EXPLICIT)
    assert found.encoded({tags.ROWS, tags.MODALITY}) == expected


@settings(max_examples=100)
@given(
    st.sampled_from(["US", "SS", "UL", "IS", "DS", "OB", "FD", "AT", "UN"]),
    st.one_of(st.binary(max_size=16), st.text(r"0123456789+-.eE\ nifa_", max_size=16)),
    st.sampled_from(ENCODINGS),
)
def test_no_value_raises(vr: str, value: bytes | str, encoding: Encoding) -> None:
    raw = value if isinstance(value, bytes) else value.encode()
    found = values_of(Plain(tags.ROWS, vr, raw), encoding=encoding)
    assert found.raw(tags.ROWS) == raw
    assert isinstance(found.number(tags.ROWS), int | None)
    assert isinstance(found.numeral(tags.ROWS), int | None)
    assert all(abs(v) < float("inf") for v in found.decimals(tags.ROWS))
