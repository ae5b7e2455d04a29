"""The header that a file with encapsulated frames has once its pixel data is native.

What is written is Explicit VR Little Endian, which every compressed transfer syntax has for its
data set already (PS3.5 A.4): so only the elements that speak of the encoding are changed, and the
others are the file's own bytes. Values keep their lengths, padded, so that group lengths hold.
"""

from __future__ import annotations

import struct
from typing import Final

from dicomzarr_watch.dicom import tags
from dicomzarr_watch.dicom.elements import UNDEFINED_LENGTH, Element
from dicomzarr_watch.dicom.frames import FrameRun, stored_bytes
from dicomzarr_watch.dicom.instance import Header
from dicomzarr_watch.dicom.part10 import EXPLICIT_LITTLE

_META_GROUP_LENGTH: Final = 0x00020000
_OF_THE_ENCODING: Final = frozenset({0x7FE00000, 0x7FE00001, 0x7FE00002, 0x7FE00003})
"""Group length and extended offset tables (PS3.3 C.7.6.3.1.8)."""
_AS_DECODED: Final = {
    "YBR_RCT": "RGB",
    "YBR_ICT": "RGB",
    "YBR_FULL_422": "YBR_FULL",
    "YBR_PARTIAL_420": "YBR_FULL",
}
"""Colour models that exist within an encoding alone (PS3.3 C.7.6.3.1.2)."""


def native_head(header: Header, run: FrameRun) -> bytes | None:
    """Return the bytes up to the pixel data's value.

    None where that would be too long for a value, or the data set stands in implicit VR against
    what its transfer syntax says. The value is that of `stored_bytes` and, if this is odd, one byte
    of padding.
    """
    size = stored_bytes(run.format, run.count)
    if size + size % 2 >= UNDEFINED_LENGTH or header.part10.is_implicit:
        return None
    elements = [e for e in header.part10.elements if e.tag not in tags.PIXEL_ELEMENTS]
    head = [e for e in elements if e.end <= run.start and e.tag not in _OF_THE_ENCODING]
    meta = b"".join(
        _meta(header, e) for e in head if e.tag >> 16 == 2 and e.tag != _META_GROUP_LENGTH
    )
    dataset = b"".join(_changed(header, e, run) for e in head if e.tag >> 16 != 2)
    vr = b"OW" if run.format.bits > 8 else b"OB"
    pixel = struct.pack("<HH2sxxI", 0x7FE0, 0x0010, vr, size + size % 2)
    before = header.data[: head[0].start] if head else b""
    length = struct.pack("<HH2sHI", 2, 0, b"UL", 4, len(meta))
    return b"".join([before, length, meta, dataset, pixel])


def _meta(header: Header, element: Element) -> bytes:
    if element.tag != tags.TRANSFER_SYNTAX_UID:
        return header.encoded(element)
    value = EXPLICIT_LITTLE.encode()
    value += b"\0" * (len(value) % 2)
    return struct.pack("<HH2sH", 2, 0x10, b"UI", len(value)) + value


def _changed(header: Header, element: Element, run: FrameRun) -> bytes:
    size = element.end - element.value
    value = header.value(element)
    if element.tag == tags.PHOTOMETRIC_INTERPRETATION:
        decoded = _AS_DECODED.get(run.format.photometric, run.format.photometric)
        value = decoded.encode("ascii", "replace").ljust(size)
    elif element.tag == tags.PLANAR_CONFIGURATION and size == 2:
        value = b"\0\0"
    return header.encoded(element)[:-size] + value if size else header.encoded(element)
