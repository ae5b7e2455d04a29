from __future__ import annotations

from io import BytesIO
from typing import Any, Final

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jpeg_ls import encode_array as jpeg_ls
from openjpeg.utils import encode_array as jpeg_2000
from PIL import Image

from dicomzarr_watch.dicom.codestream import Matrix, matrix

GREY: Final = np.arange(32 * 40).astype(np.uint8).reshape(32, 40)
DEEP: Final = GREY.astype(np.uint16) * 16
COLOURS: Final = np.stack([GREY, GREY[::-1], GREY[:, ::-1]], axis=-1)


def jpeg(pixels: Any, kind: str = "jpeg", **options: Any) -> bytes:
    picture = BytesIO()
    Image.fromarray(pixels).save(picture, kind, **options)
    return picture.getvalue()


SAID: Final[dict[str, tuple[bytes, Matrix]]] = {
    "JPEG": (jpeg(GREY), Matrix(32, 40, 1, 8)),
    "JPEG, half the chroma": (jpeg(COLOURS, subsampling=1), Matrix(32, 40, 3, 8)),
    "JPEG, progressive": (jpeg(COLOURS, progressive=True), Matrix(32, 40, 3, 8)),
    "JPEG, filled up": (b"\xff\xd8\xff\xff" + jpeg(GREY)[2:], Matrix(32, 40, 1, 8)),
    "JPEG-LS": (bytes(jpeg_ls(DEEP)), Matrix(32, 40, 1, 12)),
    "JPEG 2000": (jpeg_2000(DEEP, bits_stored=12), Matrix(32, 40, 1, 12)),
    "JPEG 2000, signed": (jpeg_2000(DEEP.astype(np.int16), bits_stored=13), Matrix(32, 40, 1, 13)),
    "JPEG 2000, colour": (
        jpeg_2000(COLOURS, photometric_interpretation=1, bits_stored=8),
        Matrix(32, 40, 3, 8),
    ),
    "JPEG 2000, in a file": (jpeg(COLOURS, "jpeg2000"), Matrix(32, 40, 3, 8)),
    "JPEG 2000, tiled": (
        jpeg(GREY, "jpeg2000", no_jp2=True, tile_size=(8, 8)),
        Matrix(32, 40, 1, 8),
    ),
}


@pytest.mark.parametrize("name", SAID)
def test_a_frame_says_its_matrix(name: str) -> None:
    frame, said = SAID[name]
    assert matrix(frame) == said


@pytest.mark.parametrize("name", SAID)
def test_a_frame_that_is_cut_says_the_same_or_nothing(name: str) -> None:
    frame, said = SAID[name]
    assert {matrix(frame[:length]) for length in range(len(frame))} <= {None, said}


STARTS: Final = (b"", b"\xff\xd8", b"\xff\x4f\xff\x51", b"\0\0\0\x0cjP  ")


@given(st.sampled_from(STARTS), st.binary(max_size=60))
def test_any_bytes_are_a_matrix_or_none(start: bytes, rest: bytes) -> None:
    assert isinstance(matrix(start + rest), Matrix | None)
