"""How frames are seen as stored values, and how these become the bytes of the file again.

A view has an inverse: `verbatim(view(stored)) == stored` says that the array alone gives the
file's bytes back; where it does not, the file's bytes are kept beside the array.
"""

from __future__ import annotations

import numpy as np

from dicomzarr_watch.dicom.frames import PixelFormat, Samples, Stored


def view(stored: Stored, pixel_format: PixelFormat) -> Samples:
    """See the stored bytes of whole frames as samples; (frames, *shape).

    Where frames do not end at whole words, the bytes start with a multiple of ALIGNED_FRAMES.
    Bits above the stored ones are not part of the value (PS3.5 8.1.1): they become zero or copies
    of the sign.
    """
    if pixel_format.is_word_swapped:
        stored = _swapped(stored)
    if pixel_format.is_packed:
        data = np.frombuffer(stored, np.uint8)
        count = len(data) * 8 // pixel_format.pixels
        bits = np.unpackbits(data, count=count * pixel_format.pixels, bitorder="little")
        return bits.reshape(count, *pixel_format.shape)
    if pixel_format.is_subsampled:
        return _with_all_chroma(np.frombuffer(stored, np.uint8), pixel_format)
    samples = np.frombuffer(stored, pixel_format.stored_dtype)
    samples = samples[: len(samples) // pixel_format.pixels * pixel_format.pixels]
    return unfolded(_without_unused_bits(samples, pixel_format), pixel_format)


def unfolded(samples: Samples, pixel_format: PixelFormat) -> Samples:
    """Shape samples as frames; the tiles of a mosaic become frames of their own."""
    if not pixel_format.mosaic_slices:
        return samples.reshape(-1, *pixel_format.shape)
    tiles, rows, columns = pixel_format.tiles, pixel_format.rows, pixel_format.columns
    grid = samples.reshape(-1, tiles, rows, tiles, columns).swapaxes(2, 3)
    frames = grid.reshape(-1, tiles * tiles, rows, columns)[:, : pixel_format.mosaic_slices]
    return np.ascontiguousarray(frames.reshape(-1, rows, columns))


def _folded(frames: Samples, pixel_format: PixelFormat) -> Samples:
    """Undo `unfolded`; the tiles that hold no slice are zero."""
    tiles, rows, columns = pixel_format.tiles, pixel_format.rows, pixel_format.columns
    slices = frames.reshape(-1, pixel_format.mosaic_slices, rows, columns)
    grid = np.zeros((len(slices), tiles * tiles, rows, columns), frames.dtype)
    grid[:, : pixel_format.mosaic_slices] = slices
    return grid.reshape(-1, tiles, tiles, rows, columns).swapaxes(2, 3)


def verbatim(samples: Samples, pixel_format: PixelFormat) -> Stored:
    """Return the bytes that whole frames have in a file; the inverse of `view`."""
    if pixel_format.is_packed:
        packed = np.packbits(samples.reshape(-1).astype(bool), bitorder="little")
        stored: Stored = packed.tobytes()
    elif pixel_format.is_subsampled:
        stored = _with_half_chroma(samples)
    else:
        if pixel_format.mosaic_slices:
            samples = _folded(samples, pixel_format)
        whole = np.ascontiguousarray(samples, pixel_format.stored_dtype)
        stored = whole.reshape(-1).view(np.uint8).data
    if pixel_format.is_word_swapped:
        return _swapped(bytes(stored) + b"\0" * (len(stored) % 2))
    return stored


def is_verbatim(samples: Samples, stored: Stored, pixel_format: PixelFormat) -> bool:
    """Tell whether the inverse of a view gives the stored bytes back."""
    given = np.frombuffer(stored, np.uint8)
    if not pixel_format.mosaic_slices and np.may_share_memory(samples, given):
        return True  # the view is the bytes themselves
    return np.array_equal(np.frombuffer(verbatim(samples, pixel_format), np.uint8), given)


def _with_all_chroma(stored: Samples, pixel_format: PixelFormat) -> Samples:
    """Give every pixel its Y, Cb and Cr; two pixels stand in the file as Y, Y, Cb, Cr."""
    pairs = stored.reshape(-1, 4)
    samples = np.empty((len(pairs), 2, 3), np.uint8)
    samples[:, :, 0] = pairs[:, :2]
    samples[:, :, 1] = pairs[:, 2:3]
    samples[:, :, 2] = pairs[:, 3:]
    return samples.reshape(-1, *pixel_format.shape)


def _with_half_chroma(samples: Samples) -> bytes:
    """Undo `_with_all_chroma`."""
    pairs = samples.reshape(-1, 2, 3)
    return np.concatenate([pairs[:, :, 0], pairs[:, 0, 1:]], axis=1).astype(np.uint8).tobytes()


def _swapped(stored: Stored) -> bytes:
    return np.frombuffer(stored, np.uint16).byteswap().tobytes()


def _without_unused_bits(samples: Samples, pixel_format: PixelFormat) -> Samples:
    unused = pixel_format.bits - pixel_format.bits_stored
    if unused == 0 or pixel_format.kind == "f":
        return samples
    native = samples.astype(pixel_format.dtype, copy=False)
    return samples if fits(native, pixel_format) else native << unused >> unused


def fits(samples: Samples, pixel_format: PixelFormat) -> bool:
    """Tell whether all samples are such as the stored bits can hold."""
    is_signed = pixel_format.kind == "i"
    end = 1 << pixel_format.bits_stored - is_signed
    return bool(samples.max(initial=0) < end and not (is_signed and samples.min(initial=0) < -end))
