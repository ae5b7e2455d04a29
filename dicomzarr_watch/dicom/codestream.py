"""What an encoded frame says of its own matrix, whatever the header of its file says.

JPEG and JPEG-LS say it in the frame header (ISO/IEC 10918-1 B.2.2, 14495-1 C.2.2), JPEG 2000 and
its high-throughput form in the SIZ segment (ISO/IEC 15444-1 A.5.1). Of other codecs nothing is
known here: RLE says no matrix.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

_JPEG: Final = b"\xff\xd8"
_JPEG_2000: Final = b"\xff\x4f\xff\x51"
_JPEG_2000_FILE: Final = b"\x00\x00\x00\x0cjP  "
_FRAME_HEADERS: Final = frozenset({*range(0xC0, 0xD0), 0xF7}) - {0xC4, 0xC8, 0xCC}
_SCAN: Final = 0xDA


@dataclass(frozen=True, slots=True)
class Matrix:
    """Rows, columns, samples per pixel, and bits of a sample; zero rows are told behind them."""

    rows: int
    columns: int
    samples: int
    bits: int


def matrix(frame: bytes) -> Matrix | None:
    """Return what an encoded frame says of its matrix; None where it says nothing that is known."""
    try:
        if frame.startswith(_JPEG):
            return _of_jpeg(frame)
        start = frame.find(_JPEG_2000) if frame.startswith(_JPEG_2000_FILE) else 0
        return _of_jpeg_2000(frame, start) if frame.startswith(_JPEG_2000, start) else None
    except (struct.error, IndexError):
        return None


def _of_jpeg(frame: bytes) -> Matrix | None:
    at = len(_JPEG)
    while frame[at] == 0xFF and frame[at + 1] != _SCAN:
        if frame[at + 1] == 0xFF:  # markers may be filled up from the left
            at += 1
            continue
        if frame[at + 1] in _FRAME_HEADERS:
            bits, rows, columns, samples = struct.unpack_from(">BHHB", frame, at + 4)
            return Matrix(rows, columns, samples, bits)
        at += 2 + int.from_bytes(frame[at + 2 : at + 4], "big")
    return None


def _of_jpeg_2000(frame: bytes, start: int) -> Matrix:
    right, bottom, left, top = struct.unpack_from(">4I", frame, start + 8)
    (samples,) = struct.unpack_from(">H", frame, start + 40)
    depths = [frame[start + 42 + 3 * n] & 0x7F for n in range(samples)]
    return Matrix(bottom - top, right - left, samples, max(depths, default=0) + 1)
