"""How the pixel data of one file falls into frames (PS3.5 section 8, PS3.3 C.7.6.3)."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from dicomzarr_watch.dicom import tags
from dicomzarr_watch.dicom.elements import Element
from dicomzarr_watch.dicom.part10 import DEFLATED, NATIVE, Part10
from dicomzarr_watch.dicom.siemens import mosaic_slices
from dicomzarr_watch.dicom.values import Values

FRAME_LIMIT_BYTES: Final = (1 << 31) - (1 << 16)
"""What one Blosc chunk can hold."""

FRAMES_LIMIT: Final = 1 << 20
"""Frames that one file may have: each is a place in memory, however few bytes it has."""

_FRAGMENT_BYTES: Final = 8
"""What the shortest encoded frame takes: the header of an item (PS3.5 A.4)."""

_SUBSAMPLED: Final = frozenset({"YBR_FULL_422", "YBR_PARTIAL_422"})

ALIGNED_FRAMES: Final = 16
"""So many frames start at a whole 16-bit word, however few bits a frame has."""

_BITS_ALLOCATED: Final = {
    tags.PIXEL_DATA: (1, 8, 16, 32, 64),
    tags.FLOAT_PIXEL_DATA: (32,),
    tags.DOUBLE_FLOAT_PIXEL_DATA: (64,),
}

MORE_PIXEL_DATA: Final = "more-pixel-data"
"""What is said of a file with pixel data for more frames than its header says."""

_NEEDED: Final = (
    tags.SAMPLES_PER_PIXEL,
    tags.PHOTOMETRIC_INTERPRETATION,
    tags.PLANAR_CONFIGURATION,
    tags.NUMBER_OF_FRAMES,
    tags.ROWS,
    tags.COLUMNS,
    tags.BITS_ALLOCATED,
    tags.BITS_STORED,
    tags.PIXEL_REPRESENTATION,
)
"""What pixels are seen by."""

Samples = npt.NDArray[np.generic]
Stored = bytes | memoryview


@dataclass(frozen=True, slots=True, order=True)
class PixelFormat:
    """All that is needed to see a frame's bytes as samples.

    kind: `u`, `i` or `f`; bits: allocated bits of one sample.
    is_word_swapped: bytes stand as big endian 16-bit words though samples are shorter (PS3.5 8.2).
    is_subsampled: two pixels in a row share their chroma samples (PS3.3 C.7.6.3.1.2, 4:2:2).
    mosaic_slices: so many frames are tiles of one stored frame, row by row (Siemens).
    """

    rows: int
    columns: int
    samples: int
    bits: int
    kind: str
    bits_stored: int
    photometric: str
    is_planar: bool
    is_big_endian: bool
    is_word_swapped: bool = False
    is_subsampled: bool = False
    mosaic_slices: int = 0

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """The dtype of the view, in the machine's byte order."""
        return np.dtype(f"{self.kind}{max(self.bits // 8, 1)}")

    @property
    def stored_dtype(self) -> np.dtype[np.generic]:
        """The dtype of the samples as they stand in the file."""
        return self.dtype.newbyteorder(">" if self.is_big_endian else "<")

    @property
    def is_packed(self) -> bool:
        """Whether eight samples share a byte (PS3.5 8.1.1)."""
        return self.bits == 1

    @property
    def frames_together(self) -> int:
        """Frames that one stored frame holds: the slices of a mosaic, else one."""
        return max(self.mosaic_slices, 1)

    @property
    def tiles(self) -> int:
        """Tiles in a row and in a column of a stored frame."""
        return math.isqrt(self.frames_together - 1) + 1

    @property
    def block_frames(self) -> int:
        """Frames after which the stored bytes are at a whole byte, word and mosaic again."""
        needs_words = self.is_packed or self.is_word_swapped
        return self.mosaic_slices or (ALIGNED_FRAMES if needs_words else 1)

    @property
    def pixels(self) -> int:
        return self.rows * self.columns * self.samples

    @property
    def view_bytes(self) -> int:
        return self.pixels * self.dtype.itemsize

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one frame as its bytes stand in the file: planes first only if planar."""
        if self.samples == 1:
            return (self.rows, self.columns)
        if self.is_planar:
            return (self.samples, self.rows, self.columns)
        return (self.rows, self.columns, self.samples)


@dataclass(frozen=True, slots=True)
class FrameRun:
    """The frames of one file: `count` of them, `stored_bytes` in all, from offset `start`.

    encoding: the transfer syntax if they must be decoded to be seen; then `start` is where the
    encapsulated pixel data begins, or, in a deflated file, an offset of the inflated data set.
    findings: what a person should know of how they are seen.
    """

    format: PixelFormat
    count: int
    start: int
    stored_bytes: int
    encoding: str = ""
    findings: tuple[str, ...] = ()

    @property
    def needs_decoder(self) -> bool:
        """Whether the frames are encoded each by itself, and not as they are or inflated."""
        return self.encoding not in ("", DEFLATED)


@dataclass(frozen=True, slots=True)
class NoFrames:
    """Why a file is not seen as frames; `is_odd` if a person should be told."""

    reason: str
    is_odd: bool = False


def frame_run(values: Values) -> FrameRun | NoFrames:
    """Find the frames of a file, or say why there are none."""
    part10 = values.part10
    if part10.problem:
        return NoFrames(part10.problem, is_odd=True)
    if part10.pixel is None:
        return NoFrames("no-pixel-data")
    if part10.is_video:
        return NoFrames("video")
    is_open = part10.is_native or part10.inflated is not None
    if not is_open and not part10.pixel.is_undefined_length:
        return NoFrames("not-encapsulated", is_odd=True)  # how else it stands, is not known
    if _is_out_of_order(part10, part10.pixel):
        return NoFrames("out-of-order", is_odd=True)
    pixel_format = _pixel_format(part10.pixel, values)
    if isinstance(pixel_format, NoFrames):
        return pixel_format
    pixel_format = _as_mosaic(pixel_format, values)
    count = _frames_said(values)
    if count is None or count < 1:
        return NoFrames("number-of-frames", is_odd=True)
    count *= pixel_format.frames_together
    if count > FRAMES_LIMIT:
        return NoFrames("too-many-frames", is_odd=True)
    found_in = _encapsulated if part10.pixel.is_undefined_length else _native
    run = found_in(part10, part10.pixel, pixel_format, count)
    if isinstance(run, FrameRun) and _has_other_high_bit(pixel_format, values):
        return replace(run, findings=(*run.findings, "high-bit"))
    return run


def _has_other_high_bit(pixel_format: PixelFormat, values: Values) -> bool:
    """Tell whether the values are said not to stand in the lowest bits (PS3.5 8.1.1)."""
    high = values.number(tags.HIGH_BIT)
    return high is not None and high != pixel_format.bits_stored - 1


def _is_out_of_order(part10: Part10, pixel: Element) -> bool:
    """Tell whether what pixels are seen by stands behind them, where no value is read."""
    found = (part10.find(tag) for tag in _NEEDED)
    return part10.inflated is None and any(e and e.start > pixel.start for e in found)


def _frames_said(values: Values) -> int | None:
    """Return the number of frames; one where none is said, as others take it, be it by a zero."""
    said = values.numeral(tags.NUMBER_OF_FRAMES)
    is_silent = said == 0 or not values.text(tags.NUMBER_OF_FRAMES)
    return said or (1 if is_silent else None)


def _native(
    part10: Part10, pixel: Element, pixel_format: PixelFormat, count: int
) -> FrameRun | NoFrames:
    size = pixel.end - pixel.value
    if pixel_format.is_subsampled:
        # some have been decompressed and are still called what they were
        whole = replace(pixel_format, is_subsampled=False)
        needed = stored_bytes(whole, count)
        if size in (needed, needed + needed % 2):
            pixel_format = whole
        elif pixel_format.columns % 2:
            return NoFrames("chroma-subsampled", is_odd=True)
    needed = stored_bytes(pixel_format, count)
    if needed > size:
        return NoFrames("pixel-data-too-short", is_odd=True)
    encoding = DEFLATED if part10.inflated is not None else ""
    another = stored_bytes(pixel_format, count + pixel_format.frames_together)
    is_more = size > needed + needed % 2 and size >= another
    found = (MORE_PIXEL_DATA,) if is_more else ()
    return FrameRun(pixel_format, count, pixel.value, needed, encoding, found)


def _encapsulated(
    part10: Part10, pixel: Element, pixel_format: PixelFormat, count: int
) -> FrameRun | NoFrames:
    if part10.transfer_syntax in {"", DEFLATED, *NATIVE}:
        return NoFrames("encapsulated", is_odd=True)  # in what, is not said
    size = pixel.end - pixel.value
    if count // pixel_format.frames_together * _FRAGMENT_BYTES > size:
        return NoFrames("pixel-data-too-short", is_odd=True)
    decoded = replace(pixel_format, is_planar=False, is_word_swapped=False, is_subsampled=False)
    return FrameRun(decoded, count, pixel.value, size, part10.transfer_syntax)


def _as_mosaic(pixel_format: PixelFormat, values: Values) -> PixelFormat:
    slices = mosaic_slices(values)
    if slices < 1:
        return pixel_format
    found = replace(pixel_format, mosaic_slices=slices)
    is_whole = not (pixel_format.rows % found.tiles or pixel_format.columns % found.tiles)
    if not is_whole or pixel_format.samples > 1 or pixel_format.is_packed:
        return pixel_format
    tiles = found.tiles
    return replace(found, rows=pixel_format.rows // tiles, columns=pixel_format.columns // tiles)


def stored_bytes(pixel_format: PixelFormat, count: int) -> int:
    """Return how many bytes `count` frames take in a file; they need not end at a byte or word."""
    if pixel_format.mosaic_slices:
        whole = replace(pixel_format, mosaic_slices=0)
        mosaics = -(-count // pixel_format.mosaic_slices)
        return stored_bytes(whole, mosaics * pixel_format.tiles**2)
    if pixel_format.is_subsampled:
        return pixel_format.rows * pixel_format.columns * 2 * count
    needed = (pixel_format.pixels * pixel_format.bits * count + 7) // 8
    return needed + needed % 2 if pixel_format.is_word_swapped else needed


def _pixel_format(pixel: Element, values: Values) -> PixelFormat | NoFrames:
    numbers = [values.number(t) for t in (tags.ROWS, tags.COLUMNS, tags.BITS_ALLOCATED)]
    rows, columns, bits = (n or 0 for n in numbers)
    samples = values.number(tags.SAMPLES_PER_PIXEL) or 1
    photometric = values.text(tags.PHOTOMETRIC_INTERPRETATION)
    is_float = pixel.tag != tags.PIXEL_DATA
    if min(rows, columns, samples) < 1:
        return NoFrames("no-matrix-size", is_odd=True)
    if bits not in _BITS_ALLOCATED[pixel.tag]:
        return NoFrames("bits-allocated", is_odd=True)
    is_subsampled = photometric in _SUBSAMPLED and not pixel.is_undefined_length
    if is_subsampled and (bits, samples) != (8, 3):
        return NoFrames("chroma-subsampled", is_odd=True)
    if rows * columns * samples * max(bits // 8, 1) > FRAME_LIMIT_BYTES:
        return NoFrames("frame-too-large", is_odd=True)
    stored = values.number(tags.BITS_STORED) or bits
    is_signed = values.number(tags.PIXEL_REPRESENTATION) == 1
    return PixelFormat(
        rows=rows,
        columns=columns,
        samples=samples,
        bits=bits,
        kind="f" if is_float else "i" if is_signed and bits > 1 else "u",
        bits_stored=stored if 0 < stored < bits and not is_float else bits,
        photometric=photometric,
        is_planar=samples > 1 and values.number(tags.PLANAR_CONFIGURATION) == 1,
        is_big_endian=values.part10.is_big_endian and bits > 8,
        is_word_swapped=values.part10.is_big_endian and bits <= 8 and pixel.vr == b"OW",
        is_subsampled=is_subsampled,
    )
