"""Frames become the chunks of an image: seen as stored values and compressed, one by one."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
from numcodecs import Blosc
from zarr.abc.codec import Codec
from zarr.codecs import BloscCodec, TransposeCodec

from dicomzarr_watch.archive import node
from dicomzarr_watch.archive.layout import ImagePlan
from dicomzarr_watch.dicom.frames import FrameRun, PixelFormat, Samples
from dicomzarr_watch.dicom.pixels import seen
from dicomzarr_watch.dicom.views import is_verbatim, view

_BLOCK_BYTES: Final = 512 << 10
"""What Blosc compresses at once: a slice of a CT, say. With its own choice for zstd at level 1,
32 KB, writing takes a third more time and reading two thirds more, for chunks that are larger."""
_BLOSC: Final = Blosc(cname="zstd", clevel=1, shuffle=Blosc.BITSHUFFLE, blocksize=_BLOCK_BYTES)


def chunks_of_native(
    data: memoryview, pixel_format: PixelFormat, count: int
) -> tuple[tuple[bytes, ...], bool]:
    """See the bytes as so many frames and compress each; tell whether these give the bytes back.

    The bits that fill the last byte may be enough for another frame; they are none.
    """
    frames = view(data, pixel_format)[:count]
    return _compressed(frames, pixel_format), is_verbatim(frames, data, pixel_format)


def chunks_of_encoded(frame: bytes, run: FrameRun) -> tuple[tuple[bytes, ...], bool]:
    """Decode one stored frame and compress what it shows; tell whether by the first decoder.

    Raises NotDecodedError.
    """
    samples, is_by_first = seen(frame, run)
    return _compressed(samples, run.format), is_by_first


def _compressed(frames: Samples, pixel_format: PixelFormat) -> tuple[bytes, ...]:
    stored = np.ascontiguousarray(frames, pixel_format.stored_dtype)
    return tuple(bytes(_BLOSC.encode(frame)) for frame in stored)


def create_image(store: Path, plan: ImagePlan) -> None:
    """Write the metadata of an image; its chunks are as they are made here."""
    pixel_format = plan.image.format
    codecs: list[Codec] = [TransposeCodec(order=plan.transpose)] if plan.transpose else []
    node.write_array(
        store / plan.path,
        shape=plan.shape,
        chunk=plan.chunk,
        shard=plan.shard,
        dtype=pixel_format.dtype,
        codecs=[
            *codecs,
            node.bytes_codec(pixel_format.dtype, is_big_endian=pixel_format.is_big_endian),
            BloscCodec(
                cname="zstd",
                clevel=1,
                shuffle="bitshuffle",
                typesize=pixel_format.dtype.itemsize,
                blocksize=_BLOCK_BYTES,
            ),
        ],
        axes=plan.axes,
    )
