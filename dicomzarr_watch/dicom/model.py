"""All elements of a series in the DICOM JSON model (PS3.18 annex F), each distinct one once.

In a series most elements are the same bytes in every file. So an element is converted when its
tag, VR, bytes and character set are seen for the first time, and a file is a list of numbers.
What the files share stands once under `shared`, what differs as a column: the distinct values
and, per file, which of them it has.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any, Final

from pydicom.config import disable_value_validation
from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset

from dicomzarr_watch.dicom import tags
from dicomzarr_watch.dicom.instance import Header
from dicomzarr_watch.dicom.part10 import Element, Part10

INLINE_LIMIT_BYTES: Final = 1024
"""Longer binary values are named by where they stand in the headers, not repeated."""

_BINARY_VRS: Final = frozenset({b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"UN"})

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class ByReference:
    """A binary value that stands in a file's header, at these offsets of the file."""

    vr: str
    file: int
    start: int
    end: int


@dataclass(slots=True)
class Elements:
    """The elements of many files, gathered one file at a time."""

    files: int = 0
    unreadable: set[int] = field(default_factory=set)
    _numbers: dict[tuple[int, bytes, bytes, bytes], int] = field(default_factory=dict)
    _converted: list[Json | ByReference] = field(default_factory=list)
    _columns: dict[int, list[int]] = field(default_factory=dict)

    def add(self, header: Header) -> None:
        """Take in the next file's elements, without its pixel data."""
        charset = _raw(header, tags.SPECIFIC_CHARACTER_SET)
        unknown: list[tuple[Element, int]] = []
        seen: set[int] = set()
        for element in header.part10.elements:
            if element.tag in tags.PIXEL_ELEMENTS or element.tag in seen:
                continue
            seen.add(element.tag)
            raw = header.data[element.value : element.end]
            if len(raw) != element.end - element.value:
                continue  # stands behind the pixel data
            key = (element.tag, element.vr, _short(raw), charset)
            number = self._numbers.get(key)
            if number is None:
                number = self._numbers[key] = len(self._converted)
                self._converted.append(self._reference(header.part10, element))
                unknown.append((element, number))
            column = self._columns.setdefault(element.tag, [])
            column.extend([-1] * (self.files - len(column)))
            column.append(number)
        self._convert(header, unknown)
        self.files += 1

    def document(self, order: Sequence[int], place: Callable[[ByReference], str]) -> Json:
        """Return `shared` and `columns`, the files in this order.

        place: names where a value stands that is not repeated here.
        """
        shared: Json = {}
        columns: Json = {}
        for tag in sorted(self._columns):
            column = self._columns[tag]
            column = column + [-1] * (self.files - len(column))
            numbers = [column[file] for file in order]
            distinct = list(dict.fromkeys(n for n in numbers if n >= 0))
            elements = [self._json(n, place) for n in distinct]
            if len(distinct) == 1 and -1 not in numbers:
                shared[tags.keyword(tag)] = elements[0]
                continue
            at = {n: i for i, n in enumerate(distinct)}
            columns[tags.keyword(tag)] = {
                "distinct": elements,
                "of": [at.get(n) for n in numbers],
            }
        return {"shared": shared, "columns": columns}

    def _json(self, number: int, place: Callable[[ByReference], str]) -> Json:
        found = self._converted[number]
        if isinstance(found, ByReference):
            return {"vr": found.vr, "BulkDataURI": place(found)}
        return found

    def _reference(self, part10: Part10, element: Element) -> Json | ByReference:
        """Return where a long binary value stands; an empty element where it is to be converted."""
        is_long = element.end - element.value > INLINE_LIMIT_BYTES
        if is_long and element.vr in _BINARY_VRS and part10.inflated is None:
            return ByReference(element.vr.decode(), self.files, element.value, element.end)
        return {}

    def _convert(self, header: Header, unknown: Sequence[tuple[Element, int]]) -> None:
        wanted = [(e, n) for e, n in unknown if not isinstance(self._converted[n], ByReference)]
        if not wanted:
            return
        context = _context(header)
        for element, number in wanted:
            try:
                self._converted[number] = _to_json(header, element, context)
            except Exception:  # noqa: BLE001 - whatever pydicom makes of broken bytes, they stay
                self.unreadable.add(element.tag)
                self._converted[number] = self._as_bytes(element)

    def _as_bytes(self, element: Element) -> Json | ByReference:
        vr = element.vr.decode() or "UN"
        return ByReference(vr, self.files, element.value, element.end)


def _to_json(header: Header, element: Element, context: Sequence[Element]) -> Json:
    """Convert one element with what its meaning depends on: character set, private creators."""
    part10 = header.part10
    wanted = [e for e in context if e.tag < element.tag and _bears_on(e.tag, element.tag)]
    raw = b"".join(header.data[e.start : e.end] for e in [*wanted, element])
    is_meta = element.tag >> 16 == 2
    with warnings.catch_warnings(), disable_value_validation():
        warnings.simplefilter("ignore")
        dataset: Dataset = read_dataset(
            BytesIO(raw),
            is_implicit_VR=part10.is_implicit and not is_meta,
            is_little_endian=is_meta or not part10.is_big_endian,
        )
        found: Json = dataset[element.tag].to_json_dict(None, 0)
    return found


def _context(header: Header) -> list[Element]:
    """Return the elements that others are read by: the character set, VR hints, creators."""
    return [e for e in header.part10.elements if e.tag in _HINTS or _is_creator(e.tag)]


_HINTS: Final = frozenset({tags.SPECIFIC_CHARACTER_SET, tags.PIXEL_REPRESENTATION})


def _bears_on(context: int, tag: int) -> bool:
    return context in _HINTS or context >> 16 == tag >> 16


def _is_creator(tag: int) -> bool:
    return bool(tag >> 16 & 1) and 0x10 <= (tag & 0xFFFF) <= 0xFF


def _short(raw: bytes) -> bytes:
    """Return the bytes, or a digest that stands for long ones, so that they can be let go."""
    return raw if len(raw) <= 64 else hashlib.sha256(raw).digest() + len(raw).to_bytes(8, "big")


def _raw(header: Header, tag: int) -> bytes:
    element = header.part10.find(tag)
    return header.data[element.value : element.end] if element else b""
