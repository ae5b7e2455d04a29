"""Values of the simple VRs in the DICOM JSON model (PS3.18 F.2).

The rule kept here: an element is what pydicom makes of it, or None, and then pydicom is asked. That
takes fifty times as long, and what differs from file to file is almost always simple.
"""

from __future__ import annotations

import base64
import math
import struct
from collections.abc import Callable
from typing import Any, Final

from dicomzarr_watch.dicom.values import BINARY

Json = dict[str, Any]

ASCII_SETS: Final = frozenset(
    ["", *(f"ISO_IR {n}" for n in (6, 100, 101, 109, 110, 126, 127, 138, 144, 148, 166, 192))]
)
"""Character sets in which bytes below 128 are ASCII and no escapes are (PS3.3 C.12.1.1.2)."""

LUT_DESCRIPTORS: Final = frozenset({0x00281101, 0x00281102, 0x00281103, 0x00283002})
"""Their first number may be written as if it had a sign (PS3.3 C.11.1.1)."""

_BYTES: Final = frozenset({b"OB", b"OW"})
_ESCAPE: Final = "\x1b"
_IS_LIMIT: Final = 1 << 31


def plain(tag: int, vr: bytes, raw: bytes, *, is_big_endian: bool, charset: str) -> Json | None:
    """Return an element of a defined VR; None where that is not simple."""
    if not raw and vr in _SIMPLE:
        return {"vr": vr.decode()}
    values: list[Any] | None = None
    if vr in BINARY and tag not in LUT_DESCRIPTORS:
        values = _numbers(raw, (">" if is_big_endian else "<") + BINARY[vr])
    elif vr in _TEXTS:
        values = _TEXTS[vr](raw)
    elif vr in _WRITTEN and charset in ASCII_SETS:
        values = _WRITTEN[vr](raw)
    elif vr == b"AT":
        values = _tags(raw, is_big_endian=is_big_endian)
    elif vr in _BYTES:
        return {"vr": vr.decode(), "InlineBinary": base64.b64encode(raw).decode()}
    return {"vr": vr.decode(), "Value": values} if values else None


def _numbers(raw: bytes, layout: str) -> list[Any] | None:
    if len(raw) % struct.calcsize(layout):
        return None
    return [value for (value,) in struct.iter_unpack(layout, raw)]


def _words(raw: bytes) -> list[str] | None:
    """Split text of the default repertoire; what pads it at the end is not part of it."""
    text = raw.decode("latin-1").rstrip(" \0")
    return _if_plain(text, text.split("\\"))


def _titles(raw: bytes) -> list[str] | None:
    text = raw.decode("latin-1")
    parts = [part.rstrip("\0 ") for part in text.split("\\")]
    return _if_plain("".join(parts), parts)


def _names(raw: bytes) -> list[Json] | None:
    """Return names that are written in one way only (PS3.5 6.2.1.1)."""
    text = raw.decode("latin-1").rstrip("\0 ")
    parts = None if "=" in text else _if_plain(text, text.split("\\"))
    return [{"Alphabetic": part} for part in parts] if parts else None


def _applications(raw: bytes) -> list[str] | None:
    text = raw.decode("latin-1")
    return _if_plain(text, [part.strip() for part in text.split("\\")])


def _prose(raw: bytes) -> list[str] | None:
    """Return text that may have lines, and is one value."""
    text = raw.decode("latin-1").rstrip("\0 ")
    return [text] if text and text.isascii() and _ESCAPE not in text else None


def _tags(raw: bytes, *, is_big_endian: bool) -> list[str] | None:
    halves = _numbers(raw, ">H" if is_big_endian else "<H") or [0]
    if len(halves) % 2:
        return None
    return [f"{group:04X}{element:04X}" for group, element in zip(*[iter(halves)] * 2, strict=True)]


def _if_plain(text: str, parts: list[str]) -> list[str] | None:
    is_plain = text.isascii() and text.isprintable() and all(map(str.strip, parts))
    return parts if is_plain else None


def _uids(raw: bytes) -> list[str] | None:
    parts = raw.rstrip(b" \0").decode("latin-1").split("\\")
    return parts if all(parts) and _is_made_of(raw.rstrip(b" \0"), b"0123456789.\\") else None


def _integers(raw: bytes) -> list[int] | None:
    raw = raw.rstrip(b" \0")
    if not _is_made_of(raw, b"0123456789+-\\ "):
        return None
    try:
        found = [int(part) for part in raw.split(b"\\")]
    except ValueError:
        return None
    return found if all(abs(n) < _IS_LIMIT for n in found) else None


def _decimals(raw: bytes) -> list[float] | None:
    if not _is_made_of(raw, b"0123456789+-.eE\\ "):
        return None
    try:
        found = [float(part) for part in raw.split(b"\\")]
    except ValueError:
        return None
    return found if all(map(math.isfinite, found)) else None


def _is_made_of(raw: bytes, repertoire: bytes) -> bool:
    return not raw.translate(None, repertoire)


_TEXTS: Final[dict[bytes, Callable[[bytes], list[Any] | None]]] = {
    **dict.fromkeys((b"AS", b"CS", b"DA", b"DT", b"TM"), _words),
    b"AE": _applications,
    b"UI": _uids,
    b"IS": _integers,
    b"DS": _decimals,
}
"""What is in the default repertoire always (PS3.5 6.1.2.2)."""
_WRITTEN: Final[dict[bytes, Callable[[bytes], list[Any] | None]]] = {
    **dict.fromkeys((b"LO", b"SH"), _titles),
    **dict.fromkeys((b"LT", b"ST", b"UT"), _prose),
    b"PN": _names,
}
"""What is in the character set that the data set names."""
_SIMPLE: Final = {b"AT"} | _BYTES | BINARY.keys() | _TEXTS.keys() | _WRITTEN.keys()
