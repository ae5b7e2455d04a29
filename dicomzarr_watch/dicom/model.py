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
from typing import Final

from pydicom.config import disable_value_validation
from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset

from dicomzarr_watch.dicom import tags
from dicomzarr_watch.dicom.elements import VRS, Element
from dicomzarr_watch.dicom.instance import Header
from dicomzarr_watch.dicom.memory import Memory
from dicomzarr_watch.dicom.nested import Nested, usual_vr
from dicomzarr_watch.dicom.part10 import Part10
from dicomzarr_watch.dicom.plain import Json, plain

INLINE_LIMIT_BYTES: Final = 1024
"""Longer binary values are named by where they stand in the headers, not repeated."""

VALUE_LIMIT_BYTES: Final = 1 << 18
"""So are other values of this length: every number of them would take some 500 bytes of memory."""

SEQUENCE_LIMIT_BYTES: Final = 4 << 20
"""So are sequences of this length: the places of 25,000 tiles are 300 MB of memory as JSON."""

_BINARY_VRS: Final = frozenset({b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"UN"})

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
    """The elements of many files, gathered one file at a time.

    _columns: per tag, the files from which on it has another element, and which; -1 is none.
    """

    files: int = 0
    unreadable: set[int] = field(default_factory=set)
    _numbers: dict[_Key, int] = field(default_factory=dict)
    _converted: list[Json | ByReference] = field(default_factory=list)
    _columns: dict[int, list[tuple[int, int]]] = field(default_factory=dict)
    _last: _File | None = None

    def add(self, header: Header) -> None:
        """Take in the next file's elements, without its pixel data."""
        file = _File.of(header, self._last)
        unknown: list[tuple[Element, int]] = []
        nested = file.nested(header)
        for place in file.changed:
            element, raw = file.elements[place], file.values[place]
            creator = file.context.creators.get(element.tag >> 16, b"")
            key = (element.tag, element.vr, _short(raw), file.context.read_by, creator)
            number = self._numbers.get(key)
            if number is None:
                number = self._numbers[key] = len(self._converted)
                found = self._reference(file.part10, element) or _simple(file, element, raw, nested)
                if found is None and element.vr and element.vr not in VRS:
                    found = self._unread(header, element)
                self._converted.append(found or {})
                if found is None:
                    unknown.append((element, number))
            self._note(element.tag, number)
        for tag in file.gone:
            self._note(tag, -1)
        self._convert(header, file.context, unknown)
        self._last = file
        self.files += 1

    def _note(self, tag: int, number: int) -> None:
        column = self._columns.setdefault(tag, [])
        if not column or column[-1][1] != number:
            column.append((self.files, number))

    def document(self, order: Sequence[int], place: Callable[[ByReference], str]) -> Json:
        """Return `shared` and `columns`, the files in this order.

        place: names where a value stands that is not repeated here.
        """
        shared: Json = {}
        columns: Json = {}
        for tag in sorted(self._columns):
            (since, number), *others = self._columns[tag]
            if since == 0 and not others:
                shared[tags.json_name(tag)] = self._json(number, place)
                continue
            column = self._column(tag)
            numbers = [column[file] for file in order]
            distinct = list(dict.fromkeys(n for n in numbers if n >= 0))
            at = {n: i for i, n in enumerate(distinct)}
            columns[tags.json_name(tag)] = {
                "distinct": [self._json(n, place) for n in distinct],
                "of": [at.get(n) for n in numbers],
            }
        return {"shared": shared, "columns": columns}

    def _column(self, tag: int) -> list[int]:
        """Return which element each file has, -1 where it has none."""
        column: list[int] = []
        number = -1
        for file, following in (*self._columns[tag], (self.files, -1)):
            column += [number] * (file - len(column))
            number = following
        return column

    def _json(self, number: int, place: Callable[[ByReference], str]) -> Json:
        found = self._converted[number]
        if isinstance(found, ByReference):
            return {"vr": found.vr, "BulkDataURI": place(found)}
        return found

    def _reference(self, part10: Part10, element: Element) -> ByReference | None:
        """Return where a long value stands; None where it is to be converted."""
        vr, size = element.vr or _usual_vr(element), element.end - element.value
        limit = SEQUENCE_LIMIT_BYTES if vr == b"SQ" else VALUE_LIMIT_BYTES
        limit = INLINE_LIMIT_BYTES if element.vr in _BINARY_VRS else limit
        if size <= limit or part10.inflated is not None:
            return None
        return ByReference(vr.decode(), self.files, element.value, element.end)

    def _convert(
        self, header: Header, context: _Context, unknown: Sequence[tuple[Element, int]]
    ) -> None:
        """Convert what pydicom has to; together, or one by one if something breaks."""
        for is_meta in (True, False):
            part = [(e, n) for e, n in unknown if (e.tag >> 16 == 2) is is_meta]
            try:
                found: Sequence[Json | ByReference] = _to_json(
                    header, context, [e for e, _ in part]
                )
            except Exception:  # noqa: BLE001 - whatever pydicom makes of broken bytes, they stay
                found = [self._alone(header, context, e) for e, _ in part]
            for (_, number), converted in zip(part, found, strict=True):
                self._converted[number] = converted

    def _alone(self, header: Header, context: _Context, element: Element) -> Json | ByReference:
        try:
            return _to_json(header, context, [element])[0]
        except Exception:  # noqa: BLE001 - the same
            return self._unread(header, element)

    def _unread(self, header: Header, element: Element) -> Json | ByReference:
        """Say that an element cannot be read, and what its bytes are."""
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
    # what has a VR comes first: pydicom tells the encoding by that, and knows elements without
    ordered = sorted(together, key=lambda e: (not e.vr, e.start))
    raw = b"".join(map(header.encoded, ordered))
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
    """What the elements of a file are read by: encoding, character set, VR hints, creators.

    hints, makers: the elements that say so; of several with one tag the last counts, as for
    pydicom. read_by: what the meaning of every value depends on. creators: the private creators of
    each odd group, as they stand in the file.
    """

    is_implicit: bool
    charset: str
    hints: tuple[Element, ...]
    makers: dict[int, Element]
    read_by: tuple[object, ...]
    creators: dict[int, bytes]

    @classmethod
    def of(cls, header: Header) -> _Context:
        part10 = header.part10
        hints = {e.tag: e for e in part10.elements if e.tag in _HINTS}
        makers = [e for e in part10.elements if _is_creator(e.tag)]
        said = {tag: (e.vr, header.value(e)) for tag, e in hints.items()}
        _, charset = said.get(tags.SPECIFIC_CHARACTER_SET, _NOTHING)
        creators: dict[int, bytes] = {}
        for e in makers:
            creators[e.tag >> 16] = creators.get(e.tag >> 16, b"") + header.encoded(e)
        return cls(
            is_implicit=part10.is_implicit,
            charset=charset.decode("latin-1").strip("\0 "),
            hints=tuple(hints.values()),
            makers={e.tag: e for e in makers},
            read_by=(part10.is_big_endian, *(said.get(tag, _NOTHING) for tag in _HINTS)),
            creators=creators,
        )

    def around(self, elements: Sequence[Element]) -> set[Element]:
        """Return what these elements are read by; each has one creator (PS3.5 7.8.1)."""
        wanted = {e.tag & 0xFFFF0000 | (e.tag & 0xFF00) >> 8 for e in elements}
        return {*self.hints, *(self.makers[tag] for tag in wanted if tag in self.makers)}


@dataclass(frozen=True, slots=True)
class _File:
    """A file's elements, the first of each tag, as far as their values are at hand.

    changed: places of those that are not the same as in the file before. gone: tags that only the
    file before has.
    """

    part10: Part10
    memory: Memory | None
    elements: tuple[Element, ...]
    values: tuple[bytes, ...]
    context: _Context
    changed: Sequence[int]
    gone: Sequence[int] = ()

    @classmethod
    def of(cls, header: Header, last: _File | None) -> _File:
        """Compare a file with the one before it, of which it mostly has the tags and values."""
        elements, values = _told(header)
        own = header.part10, header.memory, elements, values
        if last is None or not last.is_alike(header, elements):
            before = last.elements if last else ()
            gone = {e.tag for e in before}.difference(e.tag for e in elements)
            return cls(*own, _Context.of(header), range(len(elements)), tuple(gone))
        changed = [n for n, raw in enumerate(values) if raw != last.values[n]]
        context = last.context
        if not last.shares(header) or any(_is_context(elements[n].tag) for n in changed):
            context = _Context.of(header)
        if (context.read_by, context.creators) != (last.context.read_by, last.context.creators):
            return cls(*own, context, range(len(elements)))
        return cls(*own, context, changed)

    def nested(self, header: Header) -> Nested:
        """Give what reads sequences in front of the pixel data."""
        return Nested(
            header.data,
            is_implicit=self.context.is_implicit,
            is_big_endian=self.part10.is_big_endian,
            charset=self.context.charset,
        )

    def is_alike(self, header: Header, elements: tuple[Element, ...]) -> bool:
        """Tell whether all elements have the same tags and VRs, and none is there twice."""
        if header.part10.has_repeats:
            return False
        return self.shares(header) or [e[:2] for e in elements] == [e[:2] for e in self.elements]

    def shares(self, header: Header) -> bool:
        """Tell whether a file is known to have its elements at the same places as this one."""
        return self.memory is not None and self.memory is header.memory


def _told(header: Header) -> tuple[tuple[Element, ...], tuple[bytes, ...]]:
    """Return the elements that are told of, and their values."""
    elements = header.part10.elements
    if header.cut and not header.part10.has_repeats:
        return elements[: len(header.cut)], header.cut
    first = {e.tag: e for e in reversed(elements) if e.tag not in tags.PIXEL_ELEMENTS}
    pairs = [(e, header.value(e)) for e in sorted(first.values(), key=lambda e: e.start)]
    # a tail may be too long to be of interest
    pairs = [(e, raw) for e, raw in pairs if len(raw) == e.end - e.value]
    return tuple(e for e, _ in pairs), tuple(raw for _, raw in pairs)


def _simple(file: _File, element: Element, raw: bytes, nested: Nested) -> Json | None:
    """Convert an element that needs nothing but its own bytes; None if it is not that simple."""
    vr = element.vr or usual_vr(element.tag)
    if vr == b"SQ":
        is_tail = file.part10.pixel is not None and element.start >= file.part10.pixel.end
        return None if is_tail else nested.sequence(element)
    is_big_endian = file.part10.is_big_endian and element.tag >> 16 != 2
    charset = file.context.charset
    return plain(element.tag, vr, raw, is_big_endian=is_big_endian, charset=charset)


def _usual_vr(element: Element) -> bytes:
    """Return the VR that an element has by PS3.6, for encodings that do not say it."""
    if element.is_undefined_length:
        return b"SQ"
    return usual_vr(element.tag)[-2:] or b"UN"  # the more general one of several


_NOTHING: Final = (b"", b"")
_HINTS: Final = (tags.SPECIFIC_CHARACTER_SET, tags.PIXEL_REPRESENTATION)


def _is_creator(tag: int) -> bool:
    return bool(tag >> 16 & 1) and 0x10 <= (tag & 0xFFFF) <= 0xFF


def _is_context(tag: int) -> bool:
    return tag in _HINTS or _is_creator(tag)


def _short(raw: bytes) -> bytes:
    """Return the bytes, or a digest that stands for long ones, so that they can be let go."""
    return raw if len(raw) <= 64 else hashlib.sha256(raw).digest() + len(raw).to_bytes(8, "big")
