"""A DICOM file as spans of bytes: where each top-level element starts and ends.

The rule kept here: nothing is decoded and nothing is changed, so the spans laid end to end are
the file. Transfer syntaxes are those of PS3.5 annex A, the file meta information is that of PS3.10
section 7.1. What a value means is not known here, but for the transfer syntax.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field, replace
from typing import Final

from dicomzarr_watch.dicom import tags
from dicomzarr_watch.dicom.elements import (
    BIG_ENDIAN,
    EXPLICIT,
    HEADER_BYTES,
    WINDOW_BYTES,
    BrokenError,
    Element,
    Encoding,
    Read,
    TruncatedError,
    Window,
    header,
    little_endian,
    past_undefined,
    walk,
)

PREAMBLE_BYTES: Final = 128
HEAD_BYTES: Final = PREAMBLE_BYTES + 4
"""The preamble and `DICM` (PS3.10 section 7.1)."""
INFLATED_LIMIT_BYTES: Final = 128 << 20
"""What a deflated data set may become; it is in memory as a whole, and as JSON once more."""

IMPLICIT_LITTLE: Final = "1.2.840.10008.1.2"
EXPLICIT_LITTLE: Final = "1.2.840.10008.1.2.1"
EXPLICIT_BIG: Final = "1.2.840.10008.1.2.2"
DEFLATED: Final = "1.2.840.10008.1.2.1.99"
NATIVE: Final = frozenset({IMPLICIT_LITTLE, EXPLICIT_LITTLE, EXPLICIT_BIG})
VIDEO: Final = frozenset(f"1.2.840.10008.1.2.4.{n}" for n in range(100, 109))
"""MPEG-2, H.264 and HEVC (PS3.5 8.2.5 and on), and their fragmentable forms below a suffix."""

_FIRST_GROUPS: Final = frozenset({0x0002, 0x0008})
_FIRST_GROUPS_END: Final = 0x00300000


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
    window = Window(read, size, begin)
    meta: list[Element] = []
    try:
        for element in walk(window, start, little_endian(window, start), group=2):
            meta.append(element)
            start = element.end
        syntax = _transfer_syntax(window, meta)
    except BrokenError as error:
        return Part10(size, "", tuple(meta), None, error.problem)
    if not syntax and start == 0 and _is_bare_big_endian(head):
        syntax = EXPLICIT_BIG
    if syntax == DEFLATED:
        return _split_deflated(read, size, start, syntax)
    encoding = BIG_ENDIAN if syntax == EXPLICIT_BIG else little_endian(window, start)
    return _split_dataset(window, start, meta, syntax, encoding)


def _has_preamble(head: bytes) -> bool:
    return head[PREAMBLE_BYTES:HEAD_BYTES] == b"DICM"


def _is_bare_big_endian(head: bytes) -> bool:
    return not _starts_with_elements(head, "<") and _starts_with_elements(head, ">")


def _starts_with_elements(head: bytes, order: str) -> bool:
    """Tell whether two elements stand here, one behind the other; big endian is explicit."""
    window = Window.over(head, len(head))
    try:
        encoding = BIG_ENDIAN if order == ">" else little_endian(window, 0)
        first, vr, value, length = header(window, 0, encoding)
        second, other_vr, _, _ = header(window, value + length, encoding)
    except BrokenError:
        return False
    if length % 2 or (encoding.is_explicit and not (vr and other_vr)):
        return False
    return first >> 16 in _FIRST_GROUPS and first < second < _FIRST_GROUPS_END


def _split_dataset(
    window: Window, start: int, meta: list[Element], syntax: str, encoding: Encoding
) -> Part10:
    elements, pixel, problem = list(meta), None, ""
    try:
        for element in walk(window, start, encoding):
            elements.append(element)
            if element.tag in tags.PIXEL_ELEMENTS:
                pixel = pixel or element
    except BrokenError as error:
        # what follows the pixel data is kept as it stands, element or not; but an element that
        # may stand there and does not end tells of a file that goes on
        is_cut = isinstance(error, TruncatedError)
        if not pixel or (is_cut and _may_follow(window, elements[-1].end, encoding)):
            problem = error.problem
    return Part10(window.size, syntax, tuple(elements), pixel, problem)


def _may_follow(window: Window, at: int, encoding: Encoding) -> bool:
    """Tell whether a tag stands here that may follow the pixel data (PS3.5 7.1); text is none."""
    if window.size - at < HEADER_BYTES:
        return False
    try:
        data, place = window.at(at, HEADER_BYTES)
    except TruncatedError:
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
        end = past_undefined(Window(read, size, begin), pixel.value, pixel.vr, EXPLICIT)
    except BrokenError:
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
    window = Window.over(data, len(data))
    found = _split_dataset(window, 0, [], syntax, EXPLICIT)
    is_all = start + len(deflated) == size and len(data) < INFLATED_LIMIT_BYTES
    ended = "truncated" if is_all else "inflated-too-large"
    problem = found.problem if inflate.eof else ended
    return Part10(size, syntax, found.elements, found.pixel, problem, inflated=data)


def _transfer_syntax(window: Window, meta: list[Element]) -> str:
    for element in meta:
        if element.tag == tags.TRANSFER_SYNTAX_UID:
            data, place = window.at(element.value, element.end - element.value)
            value = data[place : place + element.end - element.value]
            return value.rstrip(b"\0 ").decode("ascii", "replace")
    return ""
