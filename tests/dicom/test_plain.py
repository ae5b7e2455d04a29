from __future__ import annotations

import json
import struct
import warnings
from io import BytesIO
from typing import Any

import pytest
from dicom_files import BIG, EXPLICIT, Encoding, Plain, element_bytes
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.config import disable_value_validation
from pydicom.filereader import read_dataset

from dicomzarr_watch.dicom.plain import ASCII_SETS, plain

NUMBERS = ["US", "SS", "UL", "SL", "FL", "FD"]
TEXTS = ["AE", "AS", "CS", "DA", "DT", "TM", "UI", "IS", "DS", "LO", "SH", "LT", "ST", "UT", "PN"]
SIMPLE = [*NUMBERS, *TEXTS, "AT", "OB", "OW"]
PRIVATE = 0x00211001
DESCRIPTOR = 0x00281101
OTHERS = ["UC", "UR", "OF", "UN", "SV", "UV", "ZZ", "??"]


def said(
    vr: str, raw: bytes, encoding: Encoding = EXPLICIT, charset: str = "", tag: int = PRIVATE
) -> Any:
    is_big_endian = encoding.is_big_endian
    return plain(tag, vr.encode(), raw, is_big_endian=is_big_endian, charset=charset)


def by_pydicom(tag: int, vr: str, raw: bytes, encoding: Encoding, charset: str) -> Any:
    elements = [Plain(0x00080005, "CS", charset.encode()), Plain(tag, vr, raw)]
    data = b"".join(element_bytes(element, encoding) for element in elements)
    with warnings.catch_warnings(), disable_value_validation():
        warnings.simplefilter("ignore")
        dataset = read_dataset(BytesIO(data), False, not encoding.is_big_endian)
        return dataset[tag].to_json_dict(None, 0)


DIGITS = st.text("0123456789+-.eE\\ \0", max_size=12)
WORDS = st.text("AZaz09 ._^=\\\0\n", max_size=12)
RAW = st.one_of(
    st.binary(max_size=24),
    DIGITS.map(str.encode),
    WORDS.map(str.encode),
    st.lists(st.integers(-99999, 99999).map(str)).map(lambda n: "\\".join(n).encode()),
    st.lists(st.floats(allow_nan=False).map(str)).map(lambda n: "\\".join(n).encode()),
)


@settings(max_examples=500)
@given(
    st.sampled_from(SIMPLE),
    RAW,
    st.sampled_from([EXPLICIT, BIG]),
    st.sampled_from(sorted(ASCII_SETS)),
    st.sampled_from([PRIVATE, DESCRIPTOR]),
)
def test_what_is_said_of_an_element_is_what_pydicom_says(
    vr: str, raw: bytes, encoding: Encoding, charset: str, tag: int
) -> None:
    found = said(vr, raw, encoding, charset, tag)
    if found is not None:
        theirs = by_pydicom(tag, vr, raw, encoding, charset)
        assert json.dumps(found) == json.dumps(theirs)


@pytest.mark.parametrize(
    ("vr", "raw", "expected"),
    [
        ("UI", b"1.2.840.10008.1.2\0", ["1.2.840.10008.1.2"]),
        ("UI", b"1.2\\1.3 ", ["1.2", "1.3"]),
        ("IS", b" 12 ", [12]),
        ("IS", b"-1\\+2", [-1, 2]),
        ("DS", b"-0.5\\1e3 \\ 7 ", [-0.5, 1000.0, 7.0]),
        ("CS", b"ORIGINAL\\PRIMARY ", ["ORIGINAL", "PRIMARY"]),
        ("DA", b"20240131", ["20240131"]),
        ("TM", b"101500.25 ", ["101500.25"]),
        ("LO", b"A B \\ C", ["A B", " C"]),
        ("US", struct.pack("<2H", 1, 65535), [1, 65535]),
        ("SS", struct.pack("<h", -2), [-2]),
        ("UL", struct.pack("<I", 1 << 31), [1 << 31]),
        ("SL", struct.pack("<i", -(1 << 31)), [-(1 << 31)]),
        ("SS", struct.pack("<2h", -1, 1), [-1, 1]),
        ("FL", struct.pack("<f", 0.5), [0.5]),
        ("FD", struct.pack("<2d", 0.1, -3), [0.1, -3.0]),
        ("AT", struct.pack("<4H", 0x20, 0x32, 0x5400, 0xAB), ["00200032", "540000AB"]),
        ("AE", b" STORE \\B", ["STORE", "B"]),
        ("PN", b"Doe^Jane ", [{"Alphabetic": "Doe^Jane"}]),
        ("PN", b"A^B\\C^D ", [{"Alphabetic": "A^B"}, {"Alphabetic": "C^D"}]),
        ("LT", b" one\r\ntwo\\2 ", [" one\r\ntwo\\2"]),
    ],
)
def test_what_is_simple_is_converted_here(vr: str, raw: bytes, expected: list[Any]) -> None:
    assert said(vr, raw) == {"vr": vr, "Value": expected}


def test_bytes_are_said_as_they_stand() -> None:
    assert said("OB", b"\0\1") == said("OB", b"\0\1", BIG) == {"vr": "OB", "InlineBinary": "AAE="}


@pytest.mark.parametrize("vr", SIMPLE)
def test_what_is_empty_has_no_value(vr: str) -> None:
    assert said(vr, b"") == by_pydicom(PRIVATE, vr, b"", EXPLICIT, "") == {"vr": vr}


@pytest.mark.parametrize(
    ("vr", "raw", "charset"),
    [
        ("IS", b"1A", ""),
        ("IS", b"1.5 ", ""),
        ("IS", b"99999999999 ", ""),
        ("DS", b"0,5 ", ""),
        ("DS", b"nan ", ""),
        ("DS", b"1_0 ", ""),
        ("DS", b"1e999 ", ""),
        ("DS", b"1\\\\2", ""),
        ("UI", b"1.2 \\1.3", ""),
        ("UI", b"\0\0", ""),
        ("US", b"\1\2\3", ""),
        ("LO", b"\xc4rzte ", "ISO_IR 100"),
        ("LO", b"~\x1b$B0B", ""),
        ("LO", b"yen", "ISO_IR 13"),
        ("LO", b"ascii", "ISO 2022 IR 87"),
        ("CS", b"A\nB ", ""),
        ("AE", b"A\0", ""),
        ("AT", b"\1\2\3\4\5\6", ""),
        ("PN", b"Yamada=x", ""),
        ("PN", b"M\xfcller", "ISO_IR 100"),
        ("ST", b"\xe4", "ISO_IR 100"),
        ("ST", b"~\x1b$B", ""),
        ("ST", b"  ", ""),
        *((vr, b"1.2 ", "") for vr in OTHERS),
    ],
)
def test_what_is_not_simple_is_left_to_pydicom(vr: str, raw: bytes, charset: str) -> None:
    assert said(vr, raw, charset=charset) is None


def test_the_first_number_of_a_lookup_table_is_left_to_pydicom() -> None:
    raw = struct.pack("<3h", -1, 0, 16)
    assert said("SS", raw, tag=DESCRIPTOR) is None
    found = by_pydicom(DESCRIPTOR, "SS", raw, EXPLICIT, "")
    assert found == {"vr": "SS", "Value": [65535, 0, 16]}
