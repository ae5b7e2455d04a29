"""Elements one behind the other: where each starts and ends (PS3.5 section 7).

Nothing is decoded, and what elements mean is not known here: only how their headers stand, and
how values of undefined length end.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from dicomzarr_watch.dicom import tags

UNDEFINED_LENGTH: Final = 0xFFFFFFFF
HEADER_BYTES: Final = 8
"""Of an element's header: tag, VR and length, or the least of them."""
ELEMENTS_LIMIT: Final = 1 << 16
"""Elements at the top level that one file may have; zeros read as elements without end."""
WINDOW_BYTES: Final = 1 << 16
"""So much of a file is read at once."""

_SHORT_VRS: Final = frozenset(
    b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split()
)
_LONG_VRS: Final = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
VRS: Final = _SHORT_VRS | _LONG_VRS
_DELIMITERS: Final = frozenset({tags.ITEM, tags.ITEM_DELIMITER, tags.SEQUENCE_DELIMITER})

Read = Callable[[int, int], bytes]
"""read(offset, count): up to count bytes of the file from offset, fewer only at its end."""


class BrokenError(Exception):
    """The elements do not go on to the end of the file; problem: the word for it."""

    problem = ""


class TruncatedError(BrokenError):
    """The file ends before its elements do."""

    problem = "truncated"


class MalformedError(BrokenError):
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


class Encoding(NamedTuple):
    """How the headers of elements stand (PS3.5 7.1): ways to unpack them from a place in a buffer.

    with_vr: group, element, VR, length of 16 bits. length: of 32 bits.
    """

    is_explicit: bool
    with_vr: Callable[[bytes, int], tuple[int, int, bytes, int]]
    length: Callable[[bytes, int], tuple[int]]


def _encoding(order: str, *, is_explicit: bool) -> Encoding:
    with_vr, length = struct.Struct(order + "HH2sH"), struct.Struct(order + "I")
    return Encoding(is_explicit, with_vr.unpack_from, length.unpack_from)


EXPLICIT = _encoding("<", is_explicit=True)
IMPLICIT = _encoding("<", is_explicit=False)
BIG_ENDIAN = _encoding(">", is_explicit=True)


class Window:
    """The part of the file that is in memory, moved forward as it is asked for."""

    __slots__ = ("_base", "_data", "_read", "size")

    def __init__(self, read: Read, size: int, begin: bytes = b"") -> None:
        self._read = read
        self.size = size
        self._base = 0
        self._data = begin

    @classmethod
    def over(cls, data: bytes, end: int) -> Window:
        """Look at what is all in memory, up to an end."""
        return cls(lambda at, count: data[at : at + count], end, data)

    def at(self, offset: int, count: int) -> tuple[bytes, int]:
        """Return a buffer and the place in it where `count` bytes from `offset` stand."""
        place = offset - self._base
        if place < 0 or place + count > len(self._data):
            if offset + count > self.size:
                raise TruncatedError
            self._base, place = offset, 0
            self._data = self._read(offset, max(count, WINDOW_BYTES))
            if len(self._data) < count:
                raise TruncatedError
        return self._data, place


def walk(
    window: Window, at: int, encoding: Encoding, group: int | None = None
) -> Iterator[Element]:
    """Yield the elements from `at` to the end of the file, or of one group."""
    size, count = window.size, 0
    while at < size:
        if group is not None and not _is_group(window, at, group):
            return
        tag, vr, value, length = header(window, at, encoding)
        if tag in _DELIMITERS:
            raise MalformedError("delimiter outside of a sequence")
        is_undefined = length == UNDEFINED_LENGTH
        end = past_undefined(window, value, vr, encoding) if is_undefined else value + length
        if end > size:
            raise TruncatedError
        if count == ELEMENTS_LIMIT:
            raise MalformedError("more elements than a file has")
        yield Element(tag, vr, at, value, end, is_undefined)
        at, count = end, count + 1


def _is_group(window: Window, at: int, group: int) -> bool:
    """Look at the group alone: what follows the meta information may be encoded otherwise."""
    data, place = window.at(at, 2)
    return data[place : place + 2] == group.to_bytes(2, "little")


def header(window: Window, at: int, encoding: Encoding) -> tuple[int, bytes, int, int]:
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
    if is_explicit and (encoding is BIG_ENDIAN or group == 0 or at + 8 + length > window.size):
        # some files turn to implicit in the middle; padding and garbage do not read like that
        raise MalformedError("no VR")
    return tag, b"", at + 8, length


def past_undefined(window: Window, at: int, vr: bytes, encoding: Encoding) -> int:
    """Return the offset behind the delimiter that ends a value of undefined length.

    Sequences and items may nest to any depth (PS3.5 7.5), so the open ones are kept on a list
    and not on the call stack.
    """
    open_levels = [_inside(window, at, vr, encoding)]
    while open_levels:
        encoding = open_levels[-1]
        tag, vr, value, length = header(window, at, encoding)
        at = value
        if tag in (tags.ITEM_DELIMITER, tags.SEQUENCE_DELIMITER):
            open_levels.pop()
        elif length != UNDEFINED_LENGTH:
            at += length
        else:
            open_levels.append(_inside(window, at, vr, encoding))
    return at


def _inside(window: Window, at: int, vr: bytes, encoding: Encoding) -> Encoding:
    """Return how a value is encoded; in a UN of undefined length all is implicit (PS3.5 6.2.2).

    Unless who did not know the VR left the items as they stood.
    """
    return IMPLICIT if vr == b"UN" and not _is_item_of(window, at, encoding) else encoding


def _is_item_of(window: Window, at: int, encoding: Encoding) -> bool:
    """Tell whether an item stands here and starts with an element of this explicit encoding."""
    try:
        data, place = window.at(at, 2 * HEADER_BYTES)
    except TruncatedError:
        return False
    group, element, *_ = encoding.with_vr(data, place)
    *_, vr, _ = encoding.with_vr(data, place + HEADER_BYTES)
    (length,) = encoding.length(data, place + 4)
    return group << 16 | element == tags.ITEM and length >= HEADER_BYTES and vr in VRS


def little_endian(window: Window, at: int) -> Encoding:
    """Return the encoding of the first element: files say none, or a wrong one."""
    try:
        data, place = window.at(at, 8)
    except TruncatedError:
        return EXPLICIT
    return EXPLICIT if _is_vr(data[place + 4 : place + 6]) else IMPLICIT


def _is_vr(letters: bytes) -> bool:
    return letters.isalpha() and letters.isupper()


def items(data: bytes, sequence: Element, *, is_big_endian: bool) -> Iterator[tuple[Element, ...]]:
    """Yield the elements of each item of a sequence whose offsets point into `data` (PS3.5 7.5).

    Raises ValueError where the items are not what their lengths say.
    """
    window = Window.over(data, min(sequence.end, len(data)))
    defined = BIG_ENDIAN if is_big_endian else EXPLICIT
    at = sequence.value
    encoding = _inside(window, at, sequence.vr, defined if sequence.vr else IMPLICIT)
    try:
        while at < sequence.end:
            tag, _, start, length = header(window, at, encoding)
            if tag == tags.SEQUENCE_DELIMITER:
                return
            if tag != tags.ITEM:
                raise MalformedError("no item in a sequence")
            if length == UNDEFINED_LENGTH:
                at = past_undefined(window, start, b"", encoding)
                end = at - HEADER_BYTES
            else:
                at = end = start + length
            if at > window.size:
                raise TruncatedError
            yield tuple(walk(Window.over(data, end), start, encoding))
    except BrokenError as error:
        raise ValueError(error.problem) from error
