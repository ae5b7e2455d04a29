"""Sequences in the DICOM JSON model (PS3.18 F.2.2), where all that stands in them is simple.

The rule is that of `plain`: a sequence is what pydicom makes of it, or None, and then pydicom is
asked. An enhanced image says of thousands of frames what mostly is the same, so what has been
converted is not converted again, and stands in memory once.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from pydicom.datadict import dictionary_VR

from dicomzarr_watch.dicom import tags
from dicomzarr_watch.dicom.elements import Element, items
from dicomzarr_watch.dicom.plain import ASCII_SETS, Json, plain

DEPTH_LIMIT: Final = 16
"""Sequences within each other that are read here; hostile files have thousands."""


@dataclass(frozen=True, slots=True)
class Nested:
    """How the sequences of one file are read.

    data: what the offsets of elements point into.
    """

    data: bytes
    is_implicit: bool
    is_big_endian: bool
    charset: str
    _known: dict[tuple[int, bytes, bytes], Json | None] = field(default_factory=dict)

    def sequence(self, element: Element, depth: int = 0) -> Json | None:
        """Return a sequence of known VR; None where something in it is not simple."""
        if depth == DEPTH_LIMIT or element.vr == b"UN":
            return None
        try:
            read = items(self.data, element, is_big_endian=self.is_big_endian)
            found = [self._item(elements, depth) for elements in read]
        except ValueError:
            return None
        return None if None in found else {"vr": "SQ", "Value": found}

    def _item(self, elements: tuple[Element, ...], depth: int) -> Json | None:
        found: Json = {}
        for element in elements:
            own, name = self._element(element, depth), tags.json_name(element.tag)
            if own is None or name in found:
                return None
            found[name] = own
        return found

    def _element(self, element: Element, depth: int) -> Json | None:
        vr = element.vr or (usual_vr(element.tag) if self.is_implicit else b"")
        raw = self.data[element.value : element.end]
        is_charset = element.tag == tags.SPECIFIC_CHARACTER_SET
        if is_charset and not (vr == b"CS" and self._is_ascii(raw)):
            return None
        key = element.tag, vr, raw
        if key not in self._known:
            self._known[key] = self._converted(element, vr, raw, depth)
        return self._known[key]

    def _is_ascii(self, charset: bytes) -> bool:
        """Tell whether what is simple reads the same in an item's character set and the file's."""
        return {self.charset, charset.decode("latin-1").strip("\0 ")} <= ASCII_SETS

    def _converted(self, element: Element, vr: bytes, raw: bytes, depth: int) -> Json | None:
        if vr == b"SQ":
            return self.sequence(element, depth + 1)
        if element.is_undefined_length:
            return None
        return plain(element.tag, vr, raw, is_big_endian=self.is_big_endian, charset=self.charset)


def usual_vr(tag: int) -> bytes:
    """Return the VR that an element has by PS3.6, if there is but one; else what is none."""
    try:
        return dictionary_VR(tag).encode()
    except KeyError:
        return b""
