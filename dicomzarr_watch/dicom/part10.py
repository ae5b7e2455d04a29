"""A DICOM file as spans of bytes: where each top-level element starts and ends.

The rule kept here: nothing is decoded and nothing is changed, so the spans laid end to end are
the file. Encodings are those of PS3.5 section 7 and annex A, the file meta information that of
PS3.10 section 7.1. What a value means is not known here.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

from dicomzarr_watch.dicom import tags

UNDEFINED_LENGTH: Final = 0xFFFFFFFF
PREAMBLE_BYTES: Final = 128
HEAD_BYTES: Final = PREAMBLE_BYTES + 4
"""The preamble and `DICM` (PS3.10 section 7.1)."""
INFLATED_LIMIT_BYTES: Final = 128 << 20
"""What a deflated data set may become; it is in memory as a whole, and as JSON once more."""
ELEMENTS_LIMIT: Final = 1 << 16
"""Elements at the top level that one file may have; zeros read as elements without end."""

IMPLICIT_LITTLE: Final = "1.2.840.10008.1.2"
EXPLICIT_LITTLE: Final = "1.2.840.10008.1.2.1"
EXPLICIT_BIG: Final = "1.2.840.10008.1.2.2"
DEFLATED: Final = "1.2.840.10008.1.2.1.99"
NATIVE: Final = frozenset({IMPLICIT_LITTLE, EXPLICIT_LITTLE, EXPLICIT_BIG})
VIDEO: Final = frozenset(f"1.2.840.10008.1.2.4.{n}" for n in range(100, 109))
"""MPEG-2, H.264 and HEVC (PS3.5 8.2.5 and on), and their fragmentable forms below a suffix."""

_SHORT_VRS: Final = frozenset(
    b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split()
)
_LONG_VRS: Final = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
VRS: Final = _SHORT_VRS | _LONG_VRS
_DELIMITERS: Final = frozenset({tags.ITEM, tags.ITEM_DELIMITER, tags.SEQUENCE_DELIMITER})
_FIRST_GROUPS: Final = frozenset({0x0002, 0x0008})
_FIRST_GROUPS_END: Final = 0x00300000
_HEADER_BYTES: Final = 8
WINDOW_BYTES: Final = 1 << 16

Read = Callable[[int, int], bytes]
"""read(offset, count): up to count bytes of the file from offset, fewer only at its end."""


class _BrokenError(Exception):
    """The elements do not go on to the end of the file."""

    problem = ""


class _TruncatedError(_BrokenError):
    """The file ends before its elements do."""

    problem = "truncated"


class _MalformedError(_BrokenError):
    """The bytes are not elements; the message says where and why, without values."""

    problem = "malformed"


class Element(NamedTuple):
    """One top-level element; offsets in bytes from the start of the data set's file.

    vr: two letters, or empty where the encoding is implicit.
    start, value, end: where its tag, its value, and what follows it start.
    """

    tag: int
    vr: bytes
    start: int
    value: int
    end: int
    is_undefined_length: bool = False


@dataclass(frozen=True, slots=True)
class Part10:
    """The spans of one file.

    inflated: the data set of a deflated transfer syntax; the elements' offsets then point into it.
    transfer_syntax: as the file says it; where it says nothing, the one for big endian if its
    elements stand so, else empty.
    pixel: the pixel data element if there is one, native or encapsulated.
    problem: why the spans end early (`truncated`, `malformed` or `inflated-too-large`), or empty.
    """

    size: int
    transfer_syntax: str
    elements: tuple[Element, ...]
    pixel: Element | None
    problem: str = ""
    inflated: bytes | None = None
    _first: dict[int, Element] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_first", {e.tag: e for e in reversed(self.elements)})

    @property
    def is_big_endian(self) -> bool:
        return self.transfer_syntax == EXPLICIT_BIG

    @property
    def is_implicit(self) -> bool:
        return any(not e.vr for e in self.elements if e.tag >> 16 != 2)

    @property
    def is_native(self) -> bool:
        """Whether the pixel data stands as it is, in none of the other ways of PS3.5 annex A."""
        is_open = self.transfer_syntax in NATIVE or not self.transfer_syntax
        return is_open and not (self.pixel and self.pixel.is_undefined_length)

    @property
    def is_video(self) -> bool:
        return self.transfer_syntax.removesuffix(".1") in VIDEO

    @property
    def has_repeats(self) -> bool:
        """Whether there are several elements with one tag."""
        return len(self._first) < len(self.elements)

    def find(self, tag: int) -> Element | None:
        """Return the first top-level element with this tag."""
        return self._first.get(tag)


def is_dicom(head: bytes) -> bool:
    """Tell whether a file that starts with these HEAD_BYTES is DICOM, with a preamble or without.

    Without one it starts with two elements, the first of them in the group of the meta information
    or in the one that every data set begins with.
    """
    return _has_preamble(head) or _starts_with_elements(head, "<") or _is_bare_big_endian(head)


def split(read: Read, size: int, begin: bytes = b"") -> Part10:
    """Find the spans of a DICOM file of `size` bytes; never raises for what the file holds.

    begin: what has been read of the file's first bytes already.
    """
    begin = begin[:size] if len(begin) >= HEAD_BYTES else read(0, WINDOW_BYTES)
    head = begin[:HEAD_BYTES]
    start = HEAD_BYTES if _has_preamble(head) or not is_dicom(head) else 0
    window = _Window(read, size, begin)
    meta: list[Element] = []
    try:
        for element in _walk(window, start, _little_endian(window, start), group=2):
            meta.append(element)
            start = element.end
        syntax = _transfer_syntax(window, meta)
    except _BrokenError as error:
        return Part10(size, "", tuple(meta), None, error.problem)
    if not syntax and start == 0 and _is_bare_big_endian(head):
        syntax = EXPLICIT_BIG
    if syntax == DEFLATED:
        return _split_deflated(read, size, start, syntax)
    encoding = _BIG if syntax == EXPLICIT_BIG else _little_endian(window, start)
    return _split_dataset(window, start, meta, syntax, encoding)


def _has_preamble(head: bytes) -> bool:
    return head[PREAMBLE_BYTES:HEAD_BYTES] == b"DICM"


def _is_bare_big_endian(head: bytes) -> bool:
    return not _starts_with_elements(head, "<") and _starts_with_elements(head, ">")


def _starts_with_elements(head: bytes, order: str) -> bool:
    """Tell whether two elements stand here, one behind the other; big endian is explicit."""
    window = _Window.over(head, len(head))
    try:
        encoding = _BIG if order == ">" else _little_endian(window, 0)
        first, vr, value, length = _header(window, 0, encoding)
        is_odd = encoding.is_explicit and not vr
        if first >> 16 not in _FIRST_GROUPS or is_odd or length % 2:
            return False
        second, vr, _, length = _header(window, value + length, encoding)
    except _BrokenError:
        return False
    return first < second < _FIRST_GROUPS_END and not (encoding.is_explicit and not vr)


def _split_dataset(
    window: _Window, start: int, meta: list[Element], syntax: str, encoding: _Encoding
) -> Part10:
    elements, pixel, problem = list(meta), None, ""
    try:
        for element in _walk(window, start, encoding):
            elements.append(element)
            if element.tag in tags.PIXEL_ELEMENTS:
                pixel = pixel or element
    except _BrokenError as error:
        # what follows the pixel data is kept as it stands, element or not; but an element that
        # may stand there and does not end tells of a file that goes on
        is_cut = isinstance(error, _TruncatedError)
        if not pixel or (is_cut and _may_follow(window, elements[-1].end, encoding)):
            problem = error.problem
    return Part10(window.size, syntax, tuple(elements), pixel, problem)


def _may_follow(window: _Window, at: int, encoding: _Encoding) -> bool:
    """Tell whether a tag stands here that may follow the pixel data (PS3.5 7.1); text is none."""
    if window.size - at < _HEADER_BYTES:
        return False
    try:
        data, place = window.at(at, _HEADER_BYTES)
    except _TruncatedError:
        return True
    group, element, *_ = encoding.with_vr(data, place)
    return tags.PIXEL_DATA < group << 16 | element < tags.ITEM


def with_other_fragments(part10: Part10, read: Read, size: int, begin: bytes) -> Part10 | None:
    """Find the spans of a file that differs from another in its last element alone.

    That is encapsulated pixel data in an explicit VR (PS3.5 A.4): it ends where its fragments do.
    None if that is not the end of the file.
    """
    *others, pixel = part10.elements
    try:
        end = _past_undefined(_Window(read, size, begin), pixel.value, pixel.vr, _EXPLICIT)
    except _BrokenError:
        return None
    pixel = pixel._replace(end=end)
    found = replace(part10, size=size, elements=(*others, pixel), pixel=pixel)
    return found if end == size else None


def _split_deflated(read: Read, size: int, start: int, syntax: str) -> Part10:
    """Inflate the data set (PS3.5 A.5); the spans are those of the inflated bytes."""
    inflate = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        deflated = read(start, min(size - start, INFLATED_LIMIT_BYTES))
        data = inflate.decompress(deflated, INFLATED_LIMIT_BYTES)
    except zlib.error:
        return Part10(size, syntax, (), None, "malformed")
    window = _Window.over(data, len(data))
    found = _split_dataset(window, 0, [], syntax, _EXPLICIT)
    is_all = start + len(deflated) == size and len(data) < INFLATED_LIMIT_BYTES
    ended = "truncated" if is_all else "inflated-too-large"
    problem = found.problem if inflate.eof else ended
    return Part10(size, syntax, found.elements, found.pixel, problem, inflated=data)


def items(data: bytes, sequence: Element, *, is_big_endian: bool) -> Iterator[tuple[Element, ...]]:
    """Yield the elements of each item of a sequence whose offsets point into `data` (PS3.5 7.5).

    Raises ValueError where the items are not what their lengths say.
    """
    window = _Window.over(data, min(sequence.end, len(data)))
    defined = _BIG if is_big_endian else _EXPLICIT
    at = sequence.value
    encoding = _inside(window, at, sequence.vr, defined if sequence.vr else _IMPLICIT)
    try:
        while at < sequence.end:
            tag, _, start, length = _header(window, at, encoding)
            if tag == tags.SEQUENCE_DELIMITER:
                return
            if tag != tags.ITEM:
                raise _MalformedError("no item in a sequence")
            if length == UNDEFINED_LENGTH:
                at = _past_undefined(window, start, b"", encoding)
                inside = _Window.over(data, at - _HEADER_BYTES)
            else:
                at = start + length
                inside = _Window.over(data, at)
            if at > window.size:
                raise _TruncatedError
            yield tuple(_walk(inside, start, encoding))
    except _BrokenError as error:
        raise ValueError(error.problem) from error


class _Encoding(NamedTuple):
    """How the headers of elements stand (PS3.5 7.1): ways to unpack them from a place in a buffer.

    with_vr: group, element, VR, length of 16 bits. length: of 32 bits.
    """

    is_explicit: bool
    with_vr: Callable[[bytes, int], tuple[int, int, bytes, int]]
    length: Callable[[bytes, int], tuple[int]]


def _encoding(order: str, *, is_explicit: bool) -> _Encoding:
    with_vr, length = struct.Struct(order + "HH2sH"), struct.Struct(order + "I")
    return _Encoding(is_explicit, with_vr.unpack_from, length.unpack_from)


_EXPLICIT = _encoding("<", is_explicit=True)
_IMPLICIT = _encoding("<", is_explicit=False)
_BIG = _encoding(">", is_explicit=True)


class _Window:
    """The part of the file that is in memory, moved forward as it is asked for."""

    __slots__ = ("_base", "_data", "_read", "size")

    def __init__(self, read: Read, size: int, begin: bytes = b"") -> None:
        self._read = read
        self.size = size
        self._base = 0
        self._data = begin

    @classmethod
    def over(cls, data: bytes, end: int) -> _Window:
        """Look at what is all in memory, up to an end."""
        return cls(lambda at, count: data[at : at + count], end, data)

    def at(self, offset: int, count: int) -> tuple[bytes, int]:
        """Return a buffer and the place in it where `count` bytes from `offset` stand."""
        place = offset - self._base
        if place < 0 or place + count > len(self._data):
            if offset + count > self.size:
                raise _TruncatedError
            self._base, place = offset, 0
            self._data = self._read(offset, max(count, WINDOW_BYTES))
            if len(self._data) < count:
                raise _TruncatedError
        return self._data, place


def _walk(
    window: _Window, at: int, encoding: _Encoding, group: int | None = None
) -> Iterator[Element]:
    """Yield the elements from `at` to the end of the file, or of one group."""
    size, count = window.size, 0
    while at < size:
        if group is not None and not _is_group(window, at, group):
            return
        tag, vr, value, length = _header(window, at, encoding)
        if tag in _DELIMITERS:
            raise _MalformedError("delimiter outside of a sequence")
        is_undefined = length == UNDEFINED_LENGTH
        end = _past_undefined(window, value, vr, encoding) if is_undefined else value + length
        if end > size:
            raise _TruncatedError
        if count == ELEMENTS_LIMIT:
            raise _MalformedError("more elements than a file has")
        yield Element(tag, vr, at, value, end, is_undefined)
        at, count = end, count + 1


def _is_group(window: _Window, at: int, group: int) -> bool:
    """Look at the group alone: what follows the meta information may be encoded otherwise."""
    data, place = window.at(at, 2)
    return data[place : place + 2] == group.to_bytes(2, "little")


def _header(window: _Window, at: int, encoding: _Encoding) -> tuple[int, bytes, int, int]:
    """Read one element's header: tag, VR, offset of the value, length of the value."""
    data, place = window.at(at, 8)
    group, element, vr, short = encoding.with_vr(data, place)
    tag = group << 16 | element
    is_explicit = encoding.is_explicit and tag not in _DELIMITERS
    if is_explicit and vr in _SHORT_VRS:
        return tag, vr, at + 8, short
    if is_explicit and (vr in _LONG_VRS or _is_vr(vr)):
        data, place = window.at(at, 12)
        if vr not in _LONG_VRS and short > 0:
            # a VR that no standard knows: newer ones have long lengths, wrong ones mostly not
            return tag, vr, at + 8, short
        return tag, vr, at + 12, encoding.length(data, place + 8)[0]
    (length,) = encoding.length(data, place + 4)
    if is_explicit and (encoding is _BIG or group == 0 or at + 8 + length > window.size):
        # some files turn to implicit in the middle; padding and garbage do not read like that
        raise _MalformedError("no VR")
    return tag, b"", at + 8, length


def _past_undefined(window: _Window, at: int, vr: bytes, encoding: _Encoding) -> int:
    """Return the offset behind the delimiter that ends a value of undefined length.

    Sequences and items may nest to any depth (PS3.5 7.5), so the open ones are kept on a list
    and not on the call stack.
    """
    open_levels = [_inside(window, at, vr, encoding)]
    while open_levels:
        encoding = open_levels[-1]
        tag, vr, value, length = _header(window, at, encoding)
        at = value
        if tag in (tags.ITEM_DELIMITER, tags.SEQUENCE_DELIMITER):
            open_levels.pop()
        elif length != UNDEFINED_LENGTH:
            at += length
        else:
            open_levels.append(_inside(window, at, vr, encoding))
    return at


def _inside(window: _Window, at: int, vr: bytes, encoding: _Encoding) -> _Encoding:
    """Return how a value is encoded; in a UN of undefined length all is implicit (PS3.5 6.2.2).

    Unless who did not know the VR left the items as they stood.
    """
    return _IMPLICIT if vr == b"UN" and not _is_item_of(window, at, encoding) else encoding


def _is_item_of(window: _Window, at: int, encoding: _Encoding) -> bool:
    """Tell whether an item stands here and starts with an element of this explicit encoding."""
    try:
        data, place = window.at(at, 2 * _HEADER_BYTES)
    except _TruncatedError:
        return False
    group, element, *_ = encoding.with_vr(data, place)
    *_, vr, _ = encoding.with_vr(data, place + _HEADER_BYTES)
    (length,) = encoding.length(data, place + 4)
    return group << 16 | element == tags.ITEM and length >= _HEADER_BYTES and vr in VRS


def _transfer_syntax(window: _Window, meta: list[Element]) -> str:
    for element in meta:
        if element.tag == tags.TRANSFER_SYNTAX_UID:
            data, place = window.at(element.value, element.end - element.value)
            value = data[place : place + element.end - element.value]
            return value.rstrip(b"\0 ").decode("ascii", "replace")
    return ""


def _little_endian(window: _Window, at: int) -> _Encoding:
    """Return the encoding of the first element: files say none, or a wrong one."""
    try:
        data, place = window.at(at, 8)
    except _TruncatedError:
        return _EXPLICIT
    return _EXPLICIT if _is_vr(data[place + 4 : place + 6]) else _IMPLICIT


def _is_vr(letters: bytes) -> bool:
    return letters.isalpha() and letters.isupper()
