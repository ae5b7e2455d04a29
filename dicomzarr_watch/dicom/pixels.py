"""Encoded frames decoded to stored values, through pydicom and its decoders.

Only this module knows the decoders. The first one that can read a frame makes the view; another
one, where there is another, is the witness: exact bytes do not prove a decoded view.
"""

from __future__ import annotations

import warnings
import zlib
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final

import numpy as np
from pydicom.encaps import encapsulate
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import UID

from dicomzarr_watch.dicom import itk, uids
from dicomzarr_watch.dicom.codestream import matrix
from dicomzarr_watch.dicom.frames import (
    FrameRun,
    PixelFormat,
    Samples,
    stored_bytes,
)
from dicomzarr_watch.dicom.views import fits, unfolded, view

LOSSY: Final = frozenset(f"1.2.840.10008.1.2.4.{n}" for n in (50, 51, 81, 91, 203))
"""Their frames are not those that were encoded."""

ROUNDED: Final = LOSSY - {"1.2.840.10008.1.2.4.81"}
"""Two right decoders may differ on these by rounding (JPEG: ISO/IEC 10918-2); near-lossless JPEG-LS
leaves a decoder no choice (ISO/IEC 14495-1)."""

JPEG_2000: Final = frozenset(f"1.2.840.10008.1.2.4.{n}" for n in (90, 91, 92, 93))
"""Frames that are broken in some ways end the process if GDCM gets them: it is asked for those
alone that another decoder has read."""

HTJ2K: Final = frozenset(f"1.2.840.10008.1.2.4.{n}" for n in (201, 202, 203))
"""Decoders of JPEG 2000 read its frames as well (ISO/IEC 15444-15), if they are not told."""

JPEG_EXTENDED: Final = "1.2.840.10008.1.2.4.51"
JPEG_LOSSLESS: Final = frozenset({"1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70"})
_JPEG: Final = JPEG_LOSSLESS | {"1.2.840.10008.1.2.4.50", JPEG_EXTENDED}
_BYTE_BITS: Final = 8
_JPEG_BITS: Final = (_BYTE_BITS, 16)
"""GDCM ends its process if samples of JPEG are said to have others, or eight not all stored."""
_ITK: Final = "SimpleITK"
_ORDER: Final = ("pylibjpeg", "gdcm", "pillow", "pyjpegls", "pydicom")
_JPEG_2000_ORDER: Final = ("pylibjpeg", "pillow", "gdcm")

RLE: Final = "1.2.840.10008.1.2.5"
DEFLATED_FRAMES: Final = "1.2.840.10008.1.2.8.1"


class NotDecodedError(Exception):
    """No decoder could read a frame, or it is not what the header says; the message has no data."""


def decoders(run: FrameRun) -> tuple[str, ...]:
    """Return the decoders that are there for encoded frames, the first one first."""
    if run.encoding == DEFLATED_FRAMES:
        return ("zlib",)
    if run.encoding == JPEG_EXTENDED and run.format.bits_stored > _BYTE_BITS:
        return (_ITK,)  # pydicom asks none of its own for 12 bits
    transfer_syntax = _by_name(run.encoding)
    if not transfer_syntax.is_valid:
        return ()  # pydicom would warn, with what stands there
    try:
        found = tuple(get_decoder(transfer_syntax).available_plugins)
    except NotImplementedError:
        return ()
    order = _JPEG_2000_ORDER if run.encoding in JPEG_2000 | HTJ2K else _ORDER
    found = (*(name for name in order if name in found), *(n for n in found if n not in order))
    return (*found, _ITK) if run.encoding in JPEG_LOSSLESS else found


def _by_name(transfer_syntax: str) -> UID:
    """Return the transfer syntax that all decoders of a codec know it by."""
    return uids.uid("1.2.840.10008.1.2.4.90" if transfer_syntax in HTJ2K else transfer_syntax)


def decode(frame: bytes, run: FrameRun, decoder: str = "") -> Samples:
    """Decode one stored frame to its stored values; (frames, *run.format.shape).

    A mosaic holds several frames, any other stored frame one.

    decoder: the one to use; else the first that can. Raises NotDecodedError.
    """
    return _decoded_by(decoder, frame, run) if decoder else seen(frame, run)[0]


def seen(frame: bytes, run: FrameRun) -> tuple[Samples, bool]:
    """Decode one stored frame as `decode` does; tell whether the first decoder could.

    Where it could not, the one that did is no witness of what it made.
    """
    *others, last = _makers(run) or ("",)
    for number, decoder in enumerate(others):
        with suppress(NotDecodedError):
            return _decoded_by(decoder, frame, run), number == 0
    return _decoded_by(last, frame, run), not others


def has_other_bits(samples: Samples, frame: bytes, run: FrameRun) -> bool:
    """Tell whether a frame decoded to `samples` has more bits than the header says are stored.

    Of RLE and lossless JPEG a decoder that is told how many are stored leaves the others out.
    Raises NotDecodedError.
    """
    if not fits(samples, run.format):
        return True
    bits = run.format.bits
    if run.encoding not in JPEG_LOSSLESS | {RLE} or run.format.bits_stored == bits:
        return False
    whole = decode(frame, replace(run, format=replace(run.format, bits_stored=bits)))
    unsigned = replace(run.format, kind="u")
    return not (np.array_equal(whole, samples) or fits(whole.view(unsigned.dtype), unsigned))


def _makers(run: FrameRun) -> tuple[str, ...]:
    """Return the decoders that may make a view; of some codecs the second one is a witness only."""
    found = decoders(run)
    return found[:1] if run.encoding in JPEG_2000 | HTJ2K | JPEG_LOSSLESS else found


def _decoded_by(decoder: str, frame: bytes, run: FrameRun) -> Samples:
    if run.encoding in _JPEG and run.format.bits not in _JPEG_BITS:
        raise NotDecodedError("samples that JPEG does not have")
    _check(frame, run.format)
    try:
        if run.encoding == DEFLATED_FRAMES:
            return _inflated(frame, run)
        samples = _decoded(frame, run, decoder)
    except (KeyboardInterrupt, SystemExit, MemoryError):
        raise
    except BaseException as error:  # decoders raise what they like: a Rust panic is no Exception
        raise NotDecodedError(type(error).__name__) from error
    stored = run.format.pixels * run.format.tiles**2
    if samples.dtype != run.format.dtype or samples.size != stored:
        raise NotDecodedError("other samples than the header says")
    return unfolded(samples, run.format)


def _check(frame: bytes, pixel_format: PixelFormat) -> None:
    """Raise NotDecodedError where a frame says another matrix than its file's header.

    Decoders are told what the header says and cast what they find, all of them to the same. More
    bits than are stored are no contradiction: some files leave them to the codec.
    """
    found, tiles = matrix(frame), pixel_format.tiles
    if found is None:
        return
    size = (found.rows or pixel_format.rows * tiles, found.columns, found.samples)
    said = (pixel_format.rows * tiles, pixel_format.columns * tiles, pixel_format.samples)
    if size != said or found.bits > pixel_format.dtype.itemsize * 8:
        raise NotDecodedError("another matrix than the header says")


def _decoded(frame: bytes, run: FrameRun, decoder: str) -> Samples:
    if run.encoding in _JPEG and run.format.bits == _BYTE_BITS:
        run = replace(run, format=replace(run.format, bits_stored=_BYTE_BITS))
    if decoder == _ITK:
        return itk.decoded(frame, run.encoding, run.format)
    if run.encoding == RLE and run.format.is_packed:
        return _unpacked(frame, run, decoder)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        samples, _ = get_decoder(_by_name(run.encoding)).as_array(
            encapsulate([frame], has_bot=False),
            index=0,
            raw=True,
            decoding_plugin=decoder,
            **_options(run.format),
        )
    return samples


def _unpacked(frame: bytes, run: FrameRun, decoder: str) -> Samples:
    """Decode an RLE frame of single bits, which stand as packed in its bytes as in native ones."""
    count = stored_bytes(run.format, 1)
    as_bytes = replace(run.format, rows=1, columns=count, bits=8, bits_stored=8)
    packed = _decoded(frame, replace(run, format=as_bytes), decoder)
    return view(packed.tobytes(), run.format)[:1]


def _inflated(frame: bytes, run: FrameRun) -> Samples:
    """Inflate a frame of Deflated Image Frame Compression (PS3.5 A.4.13)."""
    inflate = zlib.decompressobj(-zlib.MAX_WBITS)
    frames = run.format.frames_together
    needed = stored_bytes(run.format, frames)
    data = inflate.decompress(frame, needed)
    if len(data) < needed:
        raise NotDecodedError("fewer samples than the header says")
    return view(data[:needed], run.format)[:frames]


def farthest(one: Samples, other: Samples) -> float:
    """Return the largest difference of two frames."""
    if np.array_equal(one, other):
        return 0.0
    return float(np.abs(one.astype(np.float64) - other.astype(np.float64)).max())


def _options(pixel_format: PixelFormat) -> dict[str, Any]:
    return {
        "rows": pixel_format.rows * pixel_format.tiles,
        "columns": pixel_format.columns * pixel_format.tiles,
        "samples_per_pixel": pixel_format.samples,
        "photometric_interpretation": pixel_format.photometric,
        "bits_allocated": pixel_format.bits,
        "bits_stored": pixel_format.bits_stored,
        "pixel_representation": int(pixel_format.kind == "i"),
        "number_of_frames": 1,
        "planar_configuration": 0,
        "pixel_keyword": "PixelData",
    }
