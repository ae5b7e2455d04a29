"""Frames become the chunks of an image: seen as stored values and compressed, one by one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import zarr
from numcodecs import Blosc
from zarr.codecs import BloscCodec, BytesCodec, TransposeCodec

from dicomzarr_watch.archive.blob import CHUNK_KEYS
from dicomzarr_watch.archive.layout import ImagePlan
from dicomzarr_watch.dicom.frames import FrameRun, PixelFormat, Samples, is_verbatim, view
from dicomzarr_watch.dicom.pixels import decode


@dataclass(frozen=True, slots=True)
class Chunks:
    """Compressed frames that stand together; is_like if they give the bytes of the file back."""

    chunks: tuple[bytes, ...]
    is_like: bool


def encoded(data: bytes, pixel_format: PixelFormat, count: int) -> Chunks:
    """See the bytes as so many frames and compress each.

    The bits that fill the last byte may be enough for another frame; they are none.
    """
    frames = view(data, pixel_format)[:count]
    return Chunks(_compressed(frames, pixel_format), is_verbatim(frames, data, pixel_format))


def decoded(frame: bytes, run: FrameRun) -> Chunks:
    """Decode one frame and compress what it shows."""
    return Chunks(_compressed(decode(frame, run), run.format), is_like=True)


def _compressed(frames: Samples, pixel_format: PixelFormat) -> tuple[bytes, ...]:
    codec = Blosc(cname="zstd", clevel=1, shuffle=Blosc.BITSHUFFLE)
    stored = np.ascontiguousarray(frames, pixel_format.stored_dtype)
    return tuple(bytes(codec.encode(frame)) for frame in stored)


def create_image(root: zarr.Group, plan: ImagePlan) -> None:
    """Write the metadata of an image; its chunks are as `encoded` makes them."""
    pixel_format = plan.image.format
    root.create_array(
        plan.path,
        shape=plan.shape,
        chunks=plan.chunk,
        shards=plan.shard,
        dtype=pixel_format.dtype,
        filters=[TransposeCodec(order=plan.transpose)] if plan.transpose else [],
        serializer=BytesCodec(endian="big" if pixel_format.is_big_endian else "little"),
        compressors=[
            BloscCodec(
                cname="zstd",
                clevel=1,
                shuffle="bitshuffle",
                typesize=pixel_format.dtype.itemsize,
            )
        ],
        chunk_key_encoding=CHUNK_KEYS,
        dimension_names=plan.axes,
        fill_value=0,
    )
