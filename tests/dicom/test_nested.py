"""Sequences as JSON: what pydicom makes of them, or nothing."""

from __future__ import annotations

import json
import struct
import warnings
from io import BytesIO
from typing import Any

import pytest
from dicom_files import (
    BIG,
    ENCODINGS,
    EXPLICIT,
    IMPLICIT,
    Built,
    Encapsulated,
    Encoding,
    Nested,
    Plain,
    element_bytes,
    file_bytes,
    within,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.config import disable_value_validation
from pydicom.filereader import read_dataset

from dicomzarr_watch.dicom import nested
from dicomzarr_watch.dicom.nested import DEPTH_LIMIT
from dicomzarr_watch.dicom.part10 import split

GROUPS, CONTENT = 0x52009230, 0x00209111
CHARSET, LABEL, POSITION, B_VALUE = 0x00080005, 0x00209453, 0x00200032, 0x00189087
PRIVATE, DESCRIPTOR, SMALLEST, ICON = 0x00211001, 0x00281101, 0x00280106, 0x00880200
USUAL = {
    CHARSET: "CS",
    LABEL: "LO",
    POSITION: "DS",
    B_VALUE: "FD",
    0x00081050: "PN",
    0x00189080: "CS",
    0x00209165: "AT",
    0x00209057: "UL",
    PRIVATE: "SH",
    DESCRIPTOR: "US",
    SMALLEST: "US",
}


def said(element: Built, encoding: Encoding = EXPLICIT, charset: str = "") -> Any:
    data = file_bytes([element], encoding)
    found = split(within(data), len(data)).find(element.tag)
    assert found is not None
    reader = nested.Nested(data, encoding.is_implicit, encoding.is_big_endian, charset)
    return reader.sequence(found)


def by_pydicom(element: Built, encoding: Encoding = EXPLICIT, charset: str = "") -> Any:
    elements = [Plain(CHARSET, "CS", charset.encode()), element]
    data = b"".join(element_bytes(e, encoding) for e in elements)
    with warnings.catch_warnings(), disable_value_validation():
        warnings.simplefilter("ignore")
        dataset = read_dataset(BytesIO(data), encoding.is_implicit, not encoding.is_big_endian)
        return dataset[element.tag].to_json_dict(None, 0)


def content(*elements: Built) -> Nested:
    return Nested(CONTENT, (elements,))


RAW = st.one_of(
    st.sampled_from([b"", b"ISO_IR 100", b"ISO 2022 IR 87", b"1.5\\2 ", b"Doe^Jane", b"\xe4\xf6"]),
    st.binary(max_size=8).map(lambda raw: raw[: len(raw) // 2 * 2]),
)


def plains(encoding: Encoding) -> st.SearchStrategy[Built]:
    usual = st.builds(lambda tag, raw: Plain(tag, USUAL[tag], raw), st.sampled_from([*USUAL]), RAW)
    vrs = st.sampled_from([*USUAL.values(), "UN", "OB", "LT", "UC"])
    odd = st.builds(Plain, st.sampled_from([*USUAL]), vrs, RAW)
    return usual if encoding.is_implicit else usual | odd


def sequences(encoding: Encoding) -> st.SearchStrategy[Nested]:
    def holding(inner: st.SearchStrategy[Built]) -> st.SearchStrategy[Nested]:
        items = st.lists(st.lists(inner, max_size=4).map(tuple), max_size=3).map(tuple)
        tags = st.sampled_from([CONTENT, ICON, GROUPS])
        return st.builds(Nested, tags, items, st.booleans(), st.booleans())

    return holding(st.recursive(plains(encoding), holding, max_leaves=6))


@settings(max_examples=300)
@given(st.data(), st.sampled_from(ENCODINGS), st.sampled_from(["", "ISO_IR 192", "ISO_IR 13"]))
def test_what_is_said_of_a_sequence_is_what_pydicom_says(
    data: st.DataObject, encoding: Encoding, charset: str
) -> None:
    sequence = data.draw(sequences(encoding))
    found = said(sequence, encoding, charset)
    if found is not None:
        assert json.dumps(found) == json.dumps(by_pydicom(sequence, encoding, charset))


@pytest.mark.parametrize("encoding", ENCODINGS, ids=["explicit", "implicit", "big endian"])
@pytest.mark.parametrize("is_undefined", [False, True])
def test_what_is_simple_is_converted_here(encoding: Encoding, is_undefined: bool) -> None:
    inner = Nested(
        CONTENT,
        ((Plain(CHARSET, "CS", b"ISO_IR 100"), Plain(LABEL, "LO", b"one ")),),
        is_undefined,
        is_undefined,
    )
    items = [
        (inner, Plain(B_VALUE, "FD", struct.pack(encoding.order + "d", n)), Nested(ICON, ()))
        for n in (0, 700)
    ]
    sequence = Nested(GROUPS, tuple(items), is_undefined)
    assert said(sequence, encoding) == {
        "vr": "SQ",
        "Value": [
            {
                "00209111": {
                    "vr": "SQ",
                    "Value": [
                        {
                            "00080005": {"vr": "CS", "Value": ["ISO_IR 100"]},
                            "00209453": {"vr": "LO", "Value": ["one"]},
                        }
                    ],
                },
                "00189087": {"vr": "FD", "Value": [b_value]},
                "00880200": {"vr": "SQ", "Value": []},
            }
            for b_value in (0.0, 700.0)
        ],
    }


def test_what_frames_share_is_in_memory_once() -> None:
    frame = (content(Plain(LABEL, "LO", b"same")),)
    one, other = said(Nested(GROUPS, (frame, frame)))["Value"]
    assert one["00209111"] is other["00209111"]


def _deep(levels: int) -> Nested:
    found = content(Plain(LABEL, "LO", b"deep"))
    for _ in range(levels - 1):
        found = content(found)
    return found


@pytest.mark.parametrize(
    ("sequence", "encoding"),
    [
        (content(Plain(CHARSET, "CS", b"ISO 2022 IR 87")), EXPLICIT),
        (content(Plain(CHARSET, "PN", b"ISO_IR 100")), EXPLICIT),
        (content(Plain(LABEL, "LO", b"one "), Plain(LABEL, "LO", b"two ")), EXPLICIT),
        (content(Plain(LABEL, "LO", b"\xe4 ")), EXPLICIT),
        (content(Plain(DESCRIPTOR, "US", bytes(6))), EXPLICIT),
        (content(Plain(SMALLEST, "US", bytes(2))), IMPLICIT),
        (content(Plain(PRIVATE, "SH", b"ab")), IMPLICIT),
        (content(Plain(LABEL, "UN", b"ab")), EXPLICIT),
        (content(Encapsulated((b"", b"ab"))), EXPLICIT),
        (Nested(CONTENT, ((Plain(LABEL, "LO", b"ab"),),), is_undefined=True, vr="UN"), EXPLICIT),
        (Plain(CONTENT, "SQ", b"no items"), EXPLICIT),
        (Plain(CONTENT, "SQ", b"no items"), BIG),
        (content(Plain(LABEL, "LO", b"ab"), Plain(ICON, "SQ", b"no items")), EXPLICIT),
        (_deep(DEPTH_LIMIT + 1), EXPLICIT),
    ],
)
def test_what_is_not_simple_is_left_to_pydicom(sequence: Built, encoding: Encoding) -> None:
    assert said(sequence, encoding) is None


def test_sequences_within_each_other_are_read_to_a_depth() -> None:
    assert said(_deep(DEPTH_LIMIT)) == by_pydicom(_deep(DEPTH_LIMIT))


def test_in_another_character_set_than_the_files_only_what_is_the_same_is_converted() -> None:
    sequence = content(Plain(CHARSET, "CS", b"ISO_IR 100"), Plain(LABEL, "LO", b"ab"))
    assert said(sequence, charset="ISO 2022 IR 87") is None
    assert said(sequence, charset="ISO_IR 192") == by_pydicom(sequence, charset="ISO_IR 192")
