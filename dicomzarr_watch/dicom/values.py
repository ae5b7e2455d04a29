"""The values of the few elements that decisions are made on.

A value that cannot be read is absent, never an exception: files in the wild bear wrong VRs, empty
values and letters in numbers, and the bytes are kept whatever they say.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass, field, replace
from typing import Final, TypeVar

from dicomzarr_watch.dicom.elements import Element, items
from dicomzarr_watch.dicom.memory import Memory
from dicomzarr_watch.dicom.part10 import Part10

BINARY: Final = {b"US": "H", b"SS": "h", b"UL": "I", b"SL": "i", b"FL": "f", b"FD": "d"}
"""How a number of each binary VR is unpacked, behind the byte order."""

_INTEGERS: Final = frozenset({b"US", b"SS", b"UL", b"SL"})

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Values:
    """Top-level values of one file, read from the bytes of its header.

    data: bytes that the offsets of `part10` point into, at least up to the last header element.
    memory: of files before this one whose elements stand at the same places.
    """

    part10: Part10
    data: bytes
    memory: Memory | None = field(default=None, repr=False, compare=False)

    def part(self, make: Callable[[Values], T]) -> T:
        """Return what is made of some of the values; it may be that of a file before this one."""
        return make(self) if self.memory is None else self.memory.part(make, self)

    def __contains__(self, tag: int) -> bool:
        return self._find(tag) is not None

    def raw(self, tag: int) -> bytes:
        """Return the value's bytes; empty where the element is absent or beyond the data."""
        element = self._find(tag)
        return self.data[element.value : element.end] if element else b""

    def vr(self, tag: int) -> bytes:
        """Return the VR as the file says it; empty where it does not."""
        element = self._find(tag)
        return element.vr if element else b""

    def text(self, tag: int) -> str:
        """Return the value as text without its padding; for VRs of the default repertoire."""
        return self.raw(tag).decode("latin-1").strip("\0 ")

    def texts(self, tag: int) -> tuple[str, ...]:
        """Return the values of a multi-valued text element."""
        return tuple(part.strip("\0 ") for part in self.text(tag).split("\\"))

    def number(self, tag: int, usual_vr: bytes = b"US") -> int | None:
        """Return the first integer of an element; usual_vr: what it is where the file is silent."""
        vr = self._known_vr(tag, usual_vr)
        if vr not in _INTEGERS:
            return integer(self.text(tag).partition("\\")[0].strip("\0 "))
        raw, layout = self.raw(tag), self._order + BINARY[vr]
        if len(raw) < struct.calcsize(layout):
            return None
        found: int = struct.unpack_from(layout, raw)[0]
        return found

    def numeral(self, tag: int) -> int | None:
        """Return the first integer of an element that is IS by the standard."""
        return self.number(tag, b"IS")

    def decimals(self, tag: int) -> tuple[float, ...]:
        """Return the finite numbers of a DS element; empty if one of them is not a number.

        Of one in a binary VR, which some files have in its place, those.
        """
        if self.vr(tag) in BINARY:
            return self.numbers(tag, b"DS")
        text = self.text(tag)
        if not text:
            return ()
        try:
            found = tuple(map(float, text.replace("\0", " ").split("\\")))
        except ValueError:
            return ()
        return found if all(map(math.isfinite, found)) else ()

    def numbers(self, tag: int, usual_vr: bytes) -> tuple[float, ...]:
        """Return the finite numbers of an element in the VR that it has, or usually has."""
        layout = BINARY.get(self._known_vr(tag, usual_vr))
        return self.decimals(tag) if layout is None else self._finite(tag, layout)

    def told(self, tag: int, usual_vr: bytes) -> tuple[str, ...]:
        """Return the values of an element as text, be they text or numbers."""
        is_binary = self._known_vr(tag, usual_vr) in BINARY
        return tuple(map(str, self.numbers(tag, usual_vr))) if is_binary else self.texts(tag)

    def only(self, wanted: Container[int]) -> Values:
        """Return the values of these tags alone."""
        elements = tuple(self._elements(wanted))
        return Values(replace(self.part10, elements=elements), self.data)

    def encoded(self, wanted: Container[int]) -> bytes:
        """Return the elements of these tags as they stand in the file, one after the other."""
        return b"".join(self.data[e.start : e.end] for e in self._elements(wanted))

    def items(self, tag: int) -> Iterator[Values]:
        """Yield the values of each item of a sequence; raises ValueError where it is broken."""
        element, part10 = self._find(tag), self.part10
        if element is None:
            return
        for elements in items(self.data, element, is_big_endian=part10.is_big_endian):
            yield Values(replace(part10, elements=elements), self.data)

    def decimal(self, tag: int) -> float | None:
        """Return the first number of a DS element."""
        found = self.decimals(tag)
        return found[0] if found else None

    def decimal_pair(self, first: int, second: int) -> tuple[float, float] | None:
        """Return the first numbers of two DS elements; None if one of them is absent."""
        a, b = self.decimal(first), self.decimal(second)
        return (a, b) if a is not None and b is not None else None

    def _known_vr(self, tag: int, usual_vr: bytes) -> bytes:
        vr = self.vr(tag)
        return usual_vr if vr in (b"", b"UN") else vr

    def _finite(self, tag: int, layout: str) -> tuple[float, ...]:
        """Return the numbers of a binary value; empty if one is not finite, or cut off."""
        raw = self.raw(tag)
        if len(raw) % struct.calcsize(layout):
            return ()
        found = struct.unpack(f"{self._order}{len(raw) // struct.calcsize(layout)}{layout}", raw)
        return found if all(map(math.isfinite, found)) else ()

    @property
    def _order(self) -> str:
        return ">" if self.part10.is_big_endian else "<"

    def _find(self, tag: int) -> Element | None:
        if self.memory is not None:
            self.memory.note((tag,))
        return self.part10.find(tag)

    def _elements(self, wanted: Container[int]) -> list[Element]:
        found = [e for e in self.part10.elements if e.tag in wanted]
        if self.memory is not None:
            self.memory.note(e.tag for e in found)
        return found


def integer(text: str) -> int | None:
    """Return the whole part of a number, or None if the text is none."""
    try:
        return int(float(text))
    except (ValueError, OverflowError):
        return None
