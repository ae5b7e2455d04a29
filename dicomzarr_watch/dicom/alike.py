"""Files that are much alike: the spans of one are looked for in the next.

The rule kept here: the way through a file is told by its size, by the headers of its elements, by
its transfer syntax and by what stands in values of undefined length, and by nothing else. Where a
file has the same of these at the same places as one before it, it has the same spans. So the files
of a series are compared, and only the first of them is walked through; of encapsulated pixel data,
which has another size in each, the fragments alone.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final, NamedTuple

from dicomzarr_watch.dicom import tags
from dicomzarr_watch.dicom.elements import WINDOW_BYTES, Element, Read
from dicomzarr_watch.dicom.memory import Memory
from dicomzarr_watch.dicom.part10 import (
    HEAD_BYTES,
    PREAMBLE_BYTES,
    Part10,
    split,
    with_other_fragments,
)

TEMPLATES_MOST: Final = 32
"""Values of varying length make several layouts in one series; a CT has a few of them."""

TEMPLATE_LIMIT_BYTES: Final = 1 << 20
"""Longer headers are those of multi-frame files, of which a series has few."""

_FRAGMENTED_VRS: Final = (b"OB", b"OW")

_SLACK_BYTES: Final = 1 << 10
"""A header may be longer than those before it, by the length of some names and numbers."""


class Spans(NamedTuple):
    """Where the elements of a file stand.

    begin: the file's first bytes, or all of them. values: those of the elements before the pixel
    data, one after the other; empty where they have not been cut yet. memory: of files whose
    elements stand at the same places, up to where the pixel data's value starts.
    """

    part10: Part10
    begin: bytes
    values: tuple[bytes, ...] = ()
    memory: Memory | None = None


class Templates:
    """Finds the spans of one file after the other, and remembers those of the last few."""

    def __init__(self) -> None:
        self._templates: list[_Template] = []
        self._begin_bytes = WINDOW_BYTES

    def spans(self, read: Read, size: int) -> Spans:
        """Find the spans of the next file, of so many bytes; raises what `read` does only."""
        begin = read(0, self._begin_bytes)
        for place, template in enumerate(self._templates):
            found = template.spans(read, size, begin)
            if found is not None:
                self._templates.insert(0, self._templates.pop(place))
                return found
        part10 = split(read, size, begin)
        self._remember(part10, begin)
        return Spans(part10, begin)

    def _remember(self, part10: Part10, begin: bytes) -> None:
        end = header_end(part10)
        if not _is_template(part10, begin) or end > TEMPLATE_LIMIT_BYTES:
            return
        if end <= len(begin):
            self._templates.insert(0, _Template.of(part10, begin))
            del self._templates[TEMPLATES_MOST:]
        longest = max((t.cut.size for t in self._templates), default=0)
        self._begin_bytes = max(end, longest) + _SLACK_BYTES


def header_end(part10: Part10) -> int:
    """Return where the pixel data's value starts, or where the last element ends."""
    if part10.pixel is not None:
        return part10.pixel.value
    return part10.elements[-1].end if part10.elements else 0


@dataclass(frozen=True, slots=True)
class _Template:
    """What is the same in files of the same spans.

    cut: parts a file's beginning into headers and values in turn. fixed: values that tell the way,
    and which they are.
    """

    part10: Part10
    heads: tuple[bytes, ...]
    fixed: tuple[tuple[int, bytes], ...]
    cut: struct.Struct
    memory: Memory

    @classmethod
    def of(cls, part10: Part10, begin: bytes) -> _Template:
        # DICM is taken for a part of the first header: without it the way might be another
        starts = (PREAMBLE_BYTES, *(e.end for e in part10.elements))
        lengths = [
            f"{e.value - start}s" + ("" if e is part10.pixel else f"{e.end - e.value}s")
            for start, e in zip(starts, part10.elements, strict=False)
        ]
        cut = struct.Struct(f"{PREAMBLE_BYTES}x{''.join(lengths)}")
        parts = cut.unpack_from(begin)
        fixed = tuple(
            (n, parts[2 * n + 1])
            for n, e in enumerate(part10.elements)
            if e is not part10.pixel
            and (e.is_undefined_length or e.tag == tags.TRANSFER_SYNTAX_UID)
        )
        own = [e.tag for e in part10.elements if e is not part10.pixel]
        return cls(part10, parts[::2], fixed, cut, Memory(own))

    def spans(self, read: Read, size: int, begin: bytes) -> Spans | None:
        """Return the spans of a file that begins so; None if they may be others."""
        pixel = self.part10.pixel
        has_fragments = pixel is not None and pixel.is_undefined_length
        if len(begin) < self.cut.size or not (size == self.part10.size or has_fragments):
            return None
        parts = self.cut.unpack_from(begin)
        values = parts[1::2]
        if parts[::2] != self.heads or any(values[n] != told for n, told in self.fixed):
            return None
        part10: Part10 | None = self.part10
        if has_fragments:
            part10 = with_other_fragments(self.part10, read, size, begin)
        return Spans(part10, begin, values, self.memory) if part10 else None


def _is_template(part10: Part10, begin: bytes) -> bool:
    """Tell whether a file has a preamble and nothing but pixels behind its header.

    Where elements reach to the end there is no problem with them; those of a deflated data set
    start at 0.
    """
    if not part10.elements:
        return False
    first, last = part10.elements[0], part10.elements[-1]
    is_usual = first.start == HEAD_BYTES and begin[PREAMBLE_BYTES:HEAD_BYTES] == b"DICM"
    is_last = part10.pixel is None or (part10.pixel is last and _is_followed(part10, last))
    return is_usual and is_last and last.end == part10.size


def _is_followed(part10: Part10, pixel: Element) -> bool:
    """Tell whether the end of pixel data is known by its length, or by fragments of PS3.5 A.4."""
    has_usual_fragments = pixel.vr in _FRAGMENTED_VRS and not part10.is_big_endian
    return has_usual_fragments or not pixel.is_undefined_length
