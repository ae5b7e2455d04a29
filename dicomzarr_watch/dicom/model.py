"""All elements of a series in the DICOM JSON model (PS3.18 annex F), each distinct one once.

In a series most elements are the same bytes in every file. So an element is converted when its
tag, VR, bytes and what they are read by are seen for the first time, and a file is a list of
numbers.
What the files share stands once under `shared`, what differs as a column: the distinct values
and, per file, which of them it has.
"""

from __future__ import annotations

import base64
import hashlib
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any, Final

from pydicom.config import disable_value_validation
from pydicom.datadict import dictionary_VR
from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset

from dicomzarr_watch.dicom import tags
from dicomzarr_watch.dicom.instance import Header
from dicomzarr_watch.dicom.part10 import Element, Part10

INLINE_LIMIT_BYTES: Final = 1024
"""Longer binary values are named by where they stand in the headers, not repeated."""

VALUE_LIMIT_BYTES: Final = 1 << 18
"""So are other values of this length: every number of them would take some 500 bytes of memory."""

SEQUENCE_LIMIT_BYTES: Final = 4 << 20
"""So are sequences of this length: the places of 25,000 tiles are 300 MB of memory as JSON."""

_BINARY_VRS: Final = frozenset({b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"UN"})

Json = dict[str, Any]
_Key = tuple[int, bytes, bytes, tuple[object, ...], bytes]
"""Tag, VR, value, and what its meaning depends on: encoding, hints, private creators."""


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
    _numbers: dict[_Key, int] = field(default_factory=dict)
    _converted: list[Json | ByReference] = field(default_factory=list)
    _columns: dict[int, list[int]] = field(default_factory=dict)

    def add(self, header: Header) -> None:
        """Take in the next file's elements, without its pixel data."""
        hints = (header.part10.is_big_endian, *(_raw(header, t) for t in _HINTS))
        creators = _creators(header)
        unknown: list[tuple[Element, int]] = []
        seen: set[int] = set()
        for element in header.part10.elements:
            if element.tag in tags.PIXEL_ELEMENTS or element.tag in seen:
                continue
            seen.add(element.tag)
            raw = header.value(element)
            if len(raw) != element.end - element.value:
                continue  # a tail too long to be of interest
            creator = creators.get(element.tag >> 16, b"")
            key = (element.tag, element.vr, _short(raw), hints, creator)
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
        """Return where a long value stands; an empty element where it is to be converted."""
        vr, size = element.vr or _usual_vr(element), element.end - element.value
        limit = SEQUENCE_LIMIT_BYTES if vr == b"SQ" else VALUE_LIMIT_BYTES
        limit = INLINE_LIMIT_BYTES if element.vr in _BINARY_VRS else limit
        if size <= limit or part10.inflated is not None:
            return {}
        return ByReference(vr.decode(), self.files, element.value, element.end)

    def _convert(self, header: Header, unknown: Sequence[tuple[Element, int]]) -> None:
        """Convert what is seen for the first time; together, or one by one if something breaks."""
        wanted = [(e, n) for e, n in unknown if not isinstance(self._converted[n], ByReference)]
        if not wanted:
            return
        context = _Context.of(header)
        for is_meta in (True, False):
            part = [(e, n) for e, n in wanted if (e.tag >> 16 == 2) is is_meta]
            try:
                found: Sequence[Json | ByReference] = _to_json(
                    header, context, [e for e, _ in part]
                )
            except Exception:  # noqa: BLE001 - whatever pydicom makes of broken bytes, they stay
                found = [self._alone(header, context, e) for e, _ in part]
            for (_, number), element in zip(part, found, strict=True):
                self._converted[number] = element

    def _alone(self, header: Header, context: _Context, element: Element) -> Json | ByReference:
        try:
            return _to_json(header, context, [element])[0]
        except Exception:  # noqa: BLE001 - the same
            self.unreadable.add(element.tag)
        vr = element.vr.decode("latin-1") or "UN"
        if header.part10.inflated is None:
            return ByReference(vr, self.files, element.value, element.end)
        raw = header.value(element)
        return {"vr": vr, "InlineBinary": base64.b64encode(raw).decode()}


def of_file(document: Json, number: int) -> Json:
    """Return the elements of one file, by its place in the order that `document` was given."""
    found = dict(document["shared"])
    for tag, column in document["columns"].items():
        which = column["of"][number]
        if which is not None:
            found[tag] = column["distinct"][which]
    return dict(sorted(found.items()))


def _to_json(header: Header, context: _Context, elements: Sequence[Element]) -> list[Json]:
    """Convert elements of the same encoding, with what their meaning depends on."""
    if not elements:
        return []
    is_meta = elements[0].tag >> 16 == 2
    together = elements if is_meta else {*context.around(elements), *elements}
    raw = b"".join(header.encoded(e) for e in sorted(together, key=lambda e: e.start))
    with warnings.catch_warnings(), disable_value_validation():
        warnings.simplefilter("ignore")
        dataset: Dataset = read_dataset(
            BytesIO(raw),
            is_implicit_VR=context.is_implicit and not is_meta,
            is_little_endian=is_meta or not header.part10.is_big_endian,
        )
        return [dataset[e.tag].to_json_dict(None, 0) for e in elements]


@dataclass(frozen=True, slots=True)
class _Context:
    """The elements of one file that others are read by: character set, VR hints, creators."""

    is_implicit: bool
    hints: tuple[Element, ...]
    creators: dict[int, Element]

    @classmethod
    def of(cls, header: Header) -> _Context:
        """Find them; of several with one tag the last counts, as for pydicom."""
        part10 = header.part10
        hints = {e.tag: e for e in part10.elements if e.tag in _HINTS}
        creators = {e.tag: e for e in part10.elements if _is_creator(e.tag)}
        return cls(part10.is_implicit, tuple(hints.values()), creators)

    def around(self, elements: Sequence[Element]) -> set[Element]:
        """Return what these elements are read by; each has one creator (PS3.5 7.8.1)."""
        wanted = {e.tag & 0xFFFF0000 | (e.tag & 0xFF00) >> 8 for e in elements}
        return {*self.hints, *(self.creators[tag] for tag in wanted if tag in self.creators)}


def _usual_vr(element: Element) -> bytes:
    """Return the VR that an element has by PS3.6, for encodings that do not say it."""
    if element.is_undefined_length:
        return b"SQ"
    try:
        return dictionary_VR(element.tag)[-2:].encode()  # the more general one of several
    except KeyError:
        return b"UN"


def _creators(header: Header) -> dict[int, bytes]:
    """Return the private creators of each odd group, as they stand in the file."""
    found: dict[int, list[bytes]] = {}
    for e in header.part10.elements:
        if _is_creator(e.tag):
            found.setdefault(e.tag >> 16, []).append(header.encoded(e))
    return {group: b"".join(parts) for group, parts in found.items()}


_HINTS: Final = (tags.SPECIFIC_CHARACTER_SET, tags.PIXEL_REPRESENTATION)


def _is_creator(tag: int) -> bool:
    return bool(tag >> 16 & 1) and 0x10 <= (tag & 0xFFFF) <= 0xFF


def _short(raw: bytes) -> bytes:
    """Return the bytes, or a digest that stands for long ones, so that they can be let go."""
    return raw if len(raw) <= 64 else hashlib.sha256(raw).digest() + len(raw).to_bytes(8, "big")


def _raw(header: Header, tag: int) -> bytes:
    element = header.part10.find(tag)
    return header.value(element) if element else b""
