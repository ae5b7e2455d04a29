"""Parts of one file serve the next: it says what it says alone, whatever was read before it."""

from __future__ import annotations

import struct
from io import BytesIO
from typing import Any

import pytest
from dicom_files import EXPLICIT, Built, Encoding, Nested, Plain, element_bytes, even, file_bytes
from hypothesis import given, settings
from hypothesis import strategies as st

from dicomzarr_watch.dicom.alike import Templates
from dicomzarr_watch.dicom.instance import read_header
from dicomzarr_watch.dicom.memory import Memory
from dicomzarr_watch.dicom.values import Values

ONE, OTHER = 0x00100010, 0x00100020


def fd(*numbers: float) -> bytes:
    return struct.pack(f"<{len(numbers)}d", *numbers)


def us(number: int) -> bytes:
    return struct.pack("<H", number)


def items(*elements: Built) -> bytes:
    """Encode the one item of a sequence."""
    return element_bytes(Nested(0, (elements,)), EXPLICIT)[12:]


def ds(tag: int, value: bytes) -> Plain:
    return Plain(tag, "DS", even(value))


def position(value: bytes) -> bytes:
    return items(Plain(0x00209113, "SQ", items(ds(0x00200032, value))))


BOTH_WAYS: dict[int, tuple[str, bytes, bytes]] = {
    0x00080008: ("CS", b"ORIGINAL\\PRIMARY\\M ", b"ORIGINAL\\PRIMARY\\P "),
    0x00080016: ("UI", b"1.2.840.10008.5.1.4.1.1.128\0", b"1.2.840.10008.5.1.4.1.1.2\0\0\0"),
    0x00080018: ("UI", b"1.2.3\0", b"1.2.4\0"),
    0x00080021: ("DA", b"20240102", b"20240103"),
    0x00080022: ("DA", b"20240102", b"20240103"),
    0x00080031: ("TM", b"101112", b"101113"),
    0x00080032: ("TM", b"101112", b"101113"),
    0x00080060: ("CS", b"MR", b"PT"),
    0x0008103E: ("LO", b"AX", b"CO"),
    0x00089208: ("CS", b"REAL ", b"PHASE"),
    0x00101030: ("DS", b"70", b"80"),
    0x00180050: ("DS", b"1 ", b"2 "),
    0x00180060: ("DS", b"80", b"99"),
    0x00180086: ("IS", b"1 ", b"2 "),
    0x00180088: ("DS", b"1 ", b"3 "),
    0x00181060: ("DS", b"40", b"50"),
    0x00181210: ("SH", b"B30f", b"B60f"),
    0x00189087: ("FD", fd(700.0), fd(1000.0)),
    0x00189089: ("FD", fd(1, 0, 0), fd(0, 1, 0)),
    0x0020000D: ("UI", b"1.2.5\0", b"1.2.6\0"),
    0x0020000E: ("UI", b"1.2.7\0", b"1.2.8\0"),
    0x00200011: ("IS", b"1 ", b"2 "),
    0x00200013: ("IS", b"1 ", b"2 "),
    0x00200032: ("DS", b"1\\2\\3 ", b"1\\2\\4 "),
    0x00200037: ("DS", b"1\\0\\0\\0\\1\\0 ", b"0\\1\\0\\0\\0\\1 "),
    0x00200052: ("UI", b"1.2.9\0", b"1.2.1\0"),
    0x00200100: ("IS", b"1 ", b"2 "),
    0x00280002: ("US", us(1), us(1)),
    0x00280004: ("CS", b"MONOCHROME2 ", b"MONOCHROME1 "),
    0x00280008: ("IS", b"1 ", b"2 "),
    0x00280010: ("US", us(2), us(1)),
    0x00280011: ("US", us(4), us(2)),
    0x00280030: ("DS", b"1\\2 ", b"2\\1 "),
    0x00280051: ("CS", b"ATTN\\DECY ", b"ATTN\\SCAT "),
    0x00280100: ("US", us(16), us(8)),
    0x00280101: ("US", us(12), us(16)),
    0x00280103: ("US", us(0), us(1)),
    0x00281050: ("DS", b"40", b"50"),
    0x00281051: ("DS", b"40", b"50"),
    0x00281052: ("DS", b"0 ", b"1 "),
    0x00281053: ("DS", b"1 ", b"2 "),
    0x00281054: ("LO", b"HU", b"US"),
    0x00480006: ("UL", bytes(4), struct.pack("<L", 4)),
    0x00480007: ("UL", bytes(4), struct.pack("<L", 2)),
    0x00540016: ("SQ", items(ds(0x00181074, b"1e6")), items(ds(0x00181074, b"2e6"))),
    0x00541001: ("CS", b"BQML", b"CNTS"),
    0x00541102: ("CS", b"START ", b"ADMIN "),
    0x3004000E: ("DS", b"", b""),
    0x52009229: ("SQ", position(b"0\\0\\1"), position(b"0\\0\\2")),
    0x52009230: ("SQ", position(b"0\\0\\3"), position(b"0\\0\\4")),
}
WAYS = st.sets(st.sampled_from(sorted(BOTH_WAYS)), max_size=4)


def written(other: set[int], absent: set[int], encoding: Encoding = EXPLICIT) -> bytes:
    """Make a file whose elements have one of their values, or the other one."""
    elements = [
        Plain(tag, vr, (one, two)[tag in other])
        for tag, (vr, one, two) in BOTH_WAYS.items()
        if tag not in absent
    ]
    return file_bytes([*elements, Plain(0x7FE00010, "OW", bytes(16))], encoding)


@settings(max_examples=200)
@given(st.lists(WAYS, min_size=2, max_size=6), st.sets(st.sampled_from(sorted(BOTH_WAYS))))
def test_a_file_says_the_same_whatever_parts_are_known(
    ways: list[set[int]], absent: set[int]
) -> None:
    templates = Templates()
    for other in ways:
        content = written(other, absent)
        found = read_header(BytesIO(content), templates)
        assert found.instance == read_header(BytesIO(content)).instance


@pytest.mark.parametrize("tag", sorted(BOTH_WAYS))
def test_no_value_is_that_of_the_file_before(tag: int) -> None:
    for few in (frozenset[int](), frozenset({0x52009229, 0x52009230}), frozenset({0x00480006})):
        templates = Templates()
        for other in (set[int](), set[int](), {tag}, set[int](), {tag}):
            content = written(other, set(few) - {tag})
            found = read_header(BytesIO(content), templates)
            assert found.instance == read_header(BytesIO(content)).instance


class _Asked:
    """Values that count how often parts are made of them."""

    def __init__(self, memory: Memory) -> None:
        self.memory = memory
        self.made: list[str] = []

    def one(self) -> str:
        return self.memory.part(_one, self)


def _one(values: _Asked) -> str:
    values.memory.note([ONE])
    values.made.append("one")
    return "one"


def _both(values: _Asked) -> str:
    found = values.one()
    values.memory.note([OTHER])
    values.made.append("both")
    return found


def test_a_part_is_made_anew_only_if_a_value_has_changed_that_it_was_made_of() -> None:
    memory = Memory([ONE, OTHER])
    values = _Asked(memory)

    def asked(*now: bytes) -> list[str]:
        memory.turn_to(now)
        before = len(values.made)
        assert (memory.part(_both, values), memory.part(_one, values)) == ("one", "one")
        return values.made[before:]

    assert asked(b"1", b"2") == ["one", "both"]
    assert asked(b"1", b"2") == []
    assert asked(b"1", b"3") == ["both"]
    assert asked(b"4", b"3") == ["one", "both"]
    memory.turn_to((b"5", b"3"))  # a file that nobody asks for parts
    assert asked(b"4", b"3") == []
    assert asked(b"5", b"6") == ["one", "both"]


def test_what_goes_wrong_is_tried_again() -> None:
    memory = Memory([ONE])
    tries: list[Any] = []

    def fails(_: object) -> None:
        tries.append(memory)
        raise ValueError("broken")

    for _ in range(2):
        with pytest.raises(ValueError, match="broken"):
            memory.part(fails, None)
    assert len(tries) == 2
    assert memory.part(str, Values) == str(Values)
