"""DICOM files for tests: byte by byte, or valid ones through pydicom.

The bytes are laid out here from PS3.5 section 7 and PS3.10 section 7.1, without a line of the
code under test, so that both can be held against each other.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from dicomzarr_watch.dicom.elements import Read

Pixels = npt.NDArray[Any]

UNDEFINED = 0xFFFFFFFF
LONG_VRS = frozenset(["OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV"])
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


@dataclass(frozen=True)
class Encoding:
    """One of the ways of PS3.5 annex A to write a data set."""

    uid: str
    is_implicit: bool = False
    is_big_endian: bool = False
    is_deflated: bool = False

    @property
    def order(self) -> Literal["<", ">"]:
        return ">" if self.is_big_endian else "<"


EXPLICIT = Encoding("1.2.840.10008.1.2.1")
IMPLICIT = Encoding("1.2.840.10008.1.2", is_implicit=True)
BIG = Encoding("1.2.840.10008.1.2.2", is_big_endian=True)
DEFLATED = Encoding("1.2.840.10008.1.2.1.99", is_deflated=True)
JPEG = Encoding("1.2.840.10008.1.2.4.50")
VIDEO = Encoding("1.2.840.10008.1.2.4.102")
ENCODINGS = (EXPLICIT, IMPLICIT, BIG)


@dataclass(frozen=True)
class Plain:
    """An element whose value is bytes, as they shall stand in the file."""

    tag: int
    vr: str
    value: bytes = b""


@dataclass(frozen=True)
class Nested:
    """An element whose value is items; of undefined length where so said, its items alike.

    vr: SQ, or UN for one of undefined length (PS3.5 6.2.2).
    """

    tag: int
    items: tuple[tuple[Built, ...], ...]
    is_undefined: bool = False
    are_items_undefined: bool = False
    vr: str = "SQ"


@dataclass(frozen=True)
class Encapsulated:
    """Pixel data in fragments, the first of them the basic offset table (PS3.5 A.4)."""

    fragments: tuple[bytes, ...]
    tag: int = 0x7FE00010
    vr: str = "OB"


Built = Plain | Nested | Encapsulated


def element_bytes(element: Built, encoding: Encoding) -> bytes:
    """Encode one element with all that it holds."""
    value, length = _value(element, encoding)
    return _header(element.tag, element.vr, length, encoding) + value


def dataset_bytes(elements: Sequence[Built], encoding: Encoding) -> bytes:
    """Encode a data set as it stands in a file."""
    found = b"".join(element_bytes(e, encoding) for e in elements)
    if not encoding.is_deflated:
        return found
    deflate = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return deflate.compress(found) + deflate.flush()


def meta_bytes(uid: str | None, extra: Sequence[Plain] = ()) -> bytes:
    """Encode file meta information with its group length; without transfer syntax if None."""
    syntax = [Plain(0x00020010, "UI", even(uid.encode(), b"\0"))] if uid is not None else []
    group = b"".join(element_bytes(e, EXPLICIT) for e in [*syntax, *extra])
    return element_bytes(Plain(0x00020000, "UL", struct.pack("<I", len(group))), EXPLICIT) + group


def within(content: bytes) -> Read:
    """Return what reads a file whose bytes are these."""
    return lambda at, count: content[at : at + count]


def file_bytes(elements: Sequence[Built], encoding: Encoding = EXPLICIT) -> bytes:
    """Encode a whole file: preamble, meta information, data set."""
    return bytes(128) + b"DICM" + meta_bytes(encoding.uid) + dataset_bytes(elements, encoding)


def even(value: bytes, padding: bytes = b" ") -> bytes:
    """Pad a value to even length."""
    return value + padding * (len(value) % 2)


def us(tag: int, value: int, encoding: Encoding = EXPLICIT) -> Plain:
    """Make an element of one unsigned short."""
    return Plain(tag, "US", struct.pack(encoding.order + "H", value))


def _header(tag: int, vr: str, length: int, encoding: Encoding) -> bytes:
    head = struct.pack(encoding.order + "HH", tag >> 16, tag & 0xFFFF)
    if encoding.is_implicit or not vr:
        return head + struct.pack(encoding.order + "I", length)
    if vr in LONG_VRS:
        return head + vr.encode() + b"\0\0" + struct.pack(encoding.order + "I", length)
    return head + vr.encode() + struct.pack(encoding.order + "H", length)


def _value(element: Built, encoding: Encoding) -> tuple[bytes, int]:
    if isinstance(element, Plain):
        return element.value, len(element.value)
    if isinstance(element, Encapsulated):
        items = b"".join(_header(0xFFFEE000, "", len(f), encoding) + f for f in element.fragments)
        return items + _header(0xFFFEE0DD, "", 0, encoding), UNDEFINED
    inner = IMPLICIT if element.vr == "UN" else encoding
    items = b"".join(_item(i, element.are_items_undefined, inner) for i in element.items)
    if not element.is_undefined:
        return items, len(items)
    return items + _header(0xFFFEE0DD, "", 0, inner), UNDEFINED


def _item(elements: Sequence[Built], is_undefined: bool, encoding: Encoding) -> bytes:
    content = b"".join(element_bytes(e, encoding) for e in elements)
    if not is_undefined:
        return _header(0xFFFEE000, "", len(content), encoding) + content
    end = _header(0xFFFEE00D, "", 0, encoding)
    return _header(0xFFFEE000, "", UNDEFINED, encoding) + content + end


def slice_dataset(
    *,
    pixels: Pixels | None = None,
    position: Sequence[float] | None = (0.0, 0.0, 0.0),
    orientation: Sequence[float] | None = AXIAL,
    spacing: tuple[float, float] = (0.7, 0.5),
    series_uid: str = "1.2.826.0.1.3680043.8.498.1",
    sop_uid: str | None = None,
    instance_number: int = 1,
    syntax: str = ExplicitVRLittleEndian,
    **more: Any,
) -> Dataset:
    """Make a valid single-frame image.

    pixels: (rows, columns) integers; position: LPS, mm; spacing: between rows, columns, mm;
    sop_uid: made of the series and the instance number if not given;
    more: further keywords, which win; None leaves one out.
    """
    data = np.arange(48, dtype=np.uint16).reshape(8, 6) if pixels is None else pixels
    bits = data.dtype.itemsize * 8
    dataset = Dataset()
    facts: dict[str, Any] = {
        "SOPClassUID": CTImageStorage,
        "SOPInstanceUID": sop_uid or f"{series_uid}.{10_000 + instance_number}",
        "StudyInstanceUID": "1.2.826.0.1.3680043.8.498.2",
        "SeriesInstanceUID": series_uid,
        "FrameOfReferenceUID": "1.2.826.0.1.3680043.8.498.3",
        "Modality": "CT",
        "SeriesNumber": 1,
        "InstanceNumber": instance_number,
        "ImagePositionPatient": decimals(position) if position is not None else None,
        "ImageOrientationPatient": decimals(orientation) if orientation is not None else None,
        "PixelSpacing": decimals(spacing),
        "SliceThickness": 1.0,
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "Rows": data.shape[0],
        "Columns": data.shape[1],
        "BitsAllocated": bits,
        "BitsStored": bits,
        "HighBit": bits - 1,
        "PixelRepresentation": int(data.dtype.kind == "i"),
    }
    for keyword, value in (facts | more).items():
        if value is not None:
            setattr(dataset, keyword, value)
    is_big_endian = syntax == BIG.uid
    stored = np.ascontiguousarray(data, data.dtype.newbyteorder(">" if is_big_endian else "<"))
    dataset.PixelData = even(stored.tobytes(), b"\0")
    dataset["PixelData"].VR = "OB" if bits == 8 else "OW"
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.UID(syntax)
    return dataset


def write_slice(path: Path, **keywords: Any) -> Path:
    """Write a valid single-frame image; the keywords are those of `slice_dataset`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pydicom.dcmwrite(path, slice_dataset(**keywords), enforce_file_format=True)
    return path


def write_series(folder: Path, count: int, *, gap_mm: float = 1.5, **keywords: Any) -> list[Path]:
    """Write an image per slice, each with pixels of its own, and return the paths.

    The slices follow each other along the normal, from the `position` in the keywords.
    """
    orientation = keywords.get("orientation", AXIAL)
    origin = np.asarray(keywords.pop("position", (0.0, 0.0, 0.0)), float)
    step = np.cross(orientation[:3], orientation[3:]) * gap_mm
    pixels = keywords.pop("pixels", np.arange(48, dtype=np.uint16).reshape(8, 6))
    return [
        write_slice(
            folder / f"{i:04}.dcm",
            pixels=pixels + np.asarray(i, pixels.dtype),
            position=tuple(origin + i * step),
            instance_number=i + 1,
            **keywords,
        )
        for i in range(count)
    ]


def decimals(values: Sequence[float]) -> list[str]:
    """Write numbers as DS, which holds 16 characters."""
    return [f"{v:.10f}"[:16] for v in values]


@dataclass(frozen=True)
class PixelCase:
    """A native file and what its frames are.

    frames: (count, rows, columns[, samples]) whatever the order of the bytes in the file.
    """

    name: str
    frames: Pixels
    encoding: Encoding = EXPLICIT
    bits: int = 0
    bits_stored: int = 0
    is_planar: bool = False
    vr: str = "OW"
    tag: int = 0x7FE00010
    photometric: str = ""

    def __str__(self) -> str:
        return self.name

    @property
    def elements(self) -> list[Plain]:
        """The elements of the file, pixel data last."""
        count, rows, columns, *colours = self.frames.shape
        bits = self.bits or self.frames.dtype.itemsize * 8
        stored = self.bits_stored or bits
        default = "RGB" if colours else "MONOCHROME2"
        found = [
            us(0x00280002, colours[0] if colours else 1, self.encoding),
            Plain(0x00280004, "CS", even((self.photometric or default).encode())),
            us(0x00280006, int(self.is_planar), self.encoding),
            Plain(0x00280008, "IS", even(str(count).encode())),
            us(0x00280010, rows, self.encoding),
            us(0x00280011, columns, self.encoding),
            us(0x00280100, bits, self.encoding),
            us(0x00280101, stored, self.encoding),
            us(0x00280102, stored - 1, self.encoding),
            us(0x00280103, int(self.frames.dtype.kind == "i"), self.encoding),
        ]
        return [*found, Plain(self.tag, self.vr, even(self.stored, b"\0"))]

    @property
    def stored(self) -> bytes:
        """The frames' bytes as the file holds them, without padding; words are whole."""
        if self.bits == 1:
            found = np.packbits(self.frames.astype(np.uint8), bitorder="little").tobytes()
        elif self.photometric == "YBR_FULL_422":
            pairs = self.frames.reshape(-1, 2, 3)
            found = b"".join(bytes([a[0], b[0], a[1], a[2]]) for a, b in pairs)
        else:
            ordered = np.moveaxis(self.frames, -1, 1) if self.is_planar else self.frames
            found = ordered.astype(ordered.dtype.newbyteorder(self.encoding.order)).tobytes()
        is_words = self.encoding.is_big_endian and self.vr == "OW" and self.frames.itemsize == 1
        return swapped(even(found, b"\0")) if is_words else found

    @property
    def content(self) -> bytes:
        """The whole file."""
        return file_bytes(self.elements, self.encoding)


def swapped(stored: bytes | memoryview) -> bytes:
    """Write bytes as words of the other order."""
    return b"".join(stored[i : i + 2][::-1] for i in range(0, len(stored), 2))


def _ramp(dtype: str, *shape: int) -> Pixels:
    count = int(np.prod(shape))
    values: Pixels = (np.arange(count) * 37 + 11).astype(dtype).reshape(shape)
    return values


def _pixel_cases() -> Iterator[PixelCase]:
    yield PixelCase("16 bit", _ramp("u2", 1, 4, 6))
    yield PixelCase("16 bit, implicit", _ramp("u2", 1, 4, 6), IMPLICIT)
    yield PixelCase("16 bit, big endian", _ramp("u2", 1, 4, 6), BIG)
    yield PixelCase("12 of 16 bit, signed", _ramp("i2", 1, 4, 6) % 2048, bits_stored=12)
    yield PixelCase("multi-frame", _ramp("u2", 5, 4, 6))
    yield PixelCase("multi-frame, signed, big endian", _ramp("i2", 3, 4, 6), BIG)
    yield PixelCase("8 bit, odd", _ramp("u1", 3, 5, 3), vr="OB")
    yield PixelCase("8 bit, big endian bytes", _ramp("u1", 2, 3, 3), BIG, vr="OB")
    yield PixelCase("8 bit, big endian words", _ramp("u1", 2, 3, 4), BIG)
    yield PixelCase("8 bit, big endian words, odd", _ramp("u1", 1, 3, 3), BIG)
    yield PixelCase("8 bit, big endian words, odd frames", _ramp("u1", 5, 3, 3), BIG)
    yield PixelCase("32 bit, signed", _ramp("i4", 2, 3, 4))
    yield PixelCase("1 bit", _ramp("u1", 2, 4, 8) % 2, bits=1, vr="OB")
    yield PixelCase("1 bit, frames within bytes", _ramp("u1", 5, 3, 5) % 3 % 2, bits=1, vr="OB")
    yield PixelCase("1 bit, big endian words", _ramp("u1", 2, 4, 8) % 3 % 2, BIG, bits=1)
    yield PixelCase("RGB, interleaved", _ramp("u1", 2, 3, 5, 3), vr="OB")
    yield PixelCase("RGB, planar", _ramp("u1", 2, 3, 5, 3), is_planar=True, vr="OB")
    yield PixelCase("RGB, planar, 16 bit, big endian", _ramp("u2", 2, 3, 4, 3), BIG, is_planar=True)
    half = np.repeat(_ramp("u1", 2, 3, 2, 3), 2, axis=2)
    half[..., 0] = _ramp("u1", 2, 3, 4)
    yield PixelCase("half the chroma", half, vr="OB", photometric="YBR_FULL_422")
    yield PixelCase("float", _ramp("f4", 2, 3, 4) / 8, vr="OF", tag=0x7FE00008)
    yield PixelCase("double, big endian", _ramp("f8", 2, 3, 4) / 8, BIG, vr="OD", tag=0x7FE00009)


PIXEL_CASES = tuple(_pixel_cases())
PYDICOM_DATA = Path(pydicom.__file__).parent / "data"


def pydicom_files() -> list[Path]:
    """Return the DICOM files that ship inside the pydicom wheel."""
    found = (p for p in sorted(PYDICOM_DATA.rglob("*")) if p.is_file())
    return [p for p in found if p.read_bytes()[128:132] == b"DICM"]


def file_id(path: Path) -> str:
    """Name a file of pydicom's data in a test's identifier."""
    return path.relative_to(PYDICOM_DATA).as_posix()
