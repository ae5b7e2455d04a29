"""Whole slides for tests: a picture cut into tiles, and what the header says of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pydicom
from dicom_files import decimals, slice_dataset
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import ExplicitVRLittleEndian, JPEGBaseline8Bit

Pixels = npt.NDArray[Any]

SLIDE: Final = "1.2.840.10008.5.1.4.1.1.77.1.6"
SEGMENTATION: Final = "1.2.840.10008.5.1.4.1.1.66.4"
TILE: Final = (4, 6)
MATRIX: Final = (10, 15)
"""Three tiles below and beside each other, the last ones with an odd edge of padding."""
GRID: Final = (3, 3)


@dataclass(frozen=True)
class Place:
    """Where a frame says that it stands; what is None is left out."""

    row: int | None
    column: int | None
    z_mm: str | None = "0"
    path: str | None = None
    segment: int | None = None


def tiles(
    count: int = 9,
    *,
    size: tuple[int, int] = TILE,
    colours: int = 0,
    seed: int = 0,
    dtype: str = "u1",
) -> Pixels:
    """Make tiles of noise; (count, y, x) or (count, y, x, colours)."""
    shape = (count, *size, colours) if colours else (count, *size)
    return np.random.default_rng(seed).integers(1, 255, shape).astype(dtype)


def places(
    shape: tuple[int, int] = GRID, size: tuple[int, int] = TILE, **facts: Any
) -> list[Place]:
    """Return the places of all tiles, row by row."""
    return [
        Place(size[0] * down + 1, size[1] * across + 1, **facts)
        for down in range(shape[0])
        for across in range(shape[1])
    ]


def assembled(frames: Pixels | Sequence[Pixels], shape: tuple[int, int] = GRID) -> Pixels:
    """Lay tiles out row by row; (y, x) or (y, x, colours)."""
    rows = [frames[n * shape[1] : (n + 1) * shape[1]] for n in range(shape[0])]
    return np.concatenate([np.concatenate(row, axis=1) for row in rows], axis=0)


def slide(
    frames: Pixels,
    at: Sequence[Place] | None = None,
    *,
    matrix: tuple[int, int] = MATRIX,
    paths: Sequence[str] = ("1",),
    origin_mm: tuple[str, ...] | None = ("20", "40"),
    measures: dict[str, Any] | None = None,
    shared: Dataset | None = None,
    **more: Any,
) -> Dataset:
    """Make a slide of frames, TILED_FULL, or TILED_SPARSE where it is said where they are.

    frames: (count, y, x), (count, y, x, 3), or planar as (count, 3, y, x).
    """
    colours = 3 if frames.ndim == 4 else 1
    is_planar = frames.ndim == 4 and frames.shape[3] != 3
    rows, columns = frames.shape[2:] if is_planar else frames.shape[1:3]
    facts: dict[str, Any] = {
        "SOPClassUID": SLIDE,
        "Modality": "SM",
        "ImageType": ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"],
        "DimensionOrganizationType": "TILED_FULL" if at is None else "TILED_SPARSE",
        "TotalPixelMatrixRows": matrix[0],
        "TotalPixelMatrixColumns": matrix[1],
        "ImageOrientationSlide": decimals([0, -1, 0, -1, 0, 0]),
        "NumberOfFrames": len(frames),
        "Rows": rows,
        "Columns": columns,
        "SamplesPerPixel": colours,
        "PhotometricInterpretation": "RGB" if colours == 3 else "MONOCHROME2",
        "PlanarConfiguration": int(is_planar) if colours > 1 else None,
        "PixelSpacing": None,
        "SliceThickness": None,
    }
    made = slice_dataset(pixels=frames, position=None, orientation=None, **(facts | more))
    said = {"PixelSpacing": ["0.0005", "0.00025"], "SliceThickness": "0.001"}
    shared = shared or Dataset()
    shared.PixelMeasuresSequence = [_item(**(said if measures is None else measures))]
    made.SharedFunctionalGroupsSequence = [shared]
    made.OpticalPathSequence = [_item(OpticalPathIdentifier=path) for path in paths]
    if origin_mm is not None:
        made.TotalPixelMatrixOriginSequence = [_item(**_offsets(*origin_mm))]
    if at is not None:
        made.PerFrameFunctionalGroupsSequence = [_groups(place) for place in at]
    return made


def _offsets(*values: str) -> dict[str, str]:
    return {f"{a}OffsetInSlideCoordinateSystem": v for a, v in zip("XYZ", values, strict=False)}


def _groups(place: Place) -> Dataset:
    position = _item(
        RowPositionInTotalImagePixelMatrix=place.row,
        ColumnPositionInTotalImagePixelMatrix=place.column,
        ZOffsetInSlideCoordinateSystem=place.z_mm,
    )
    groups = _item(FrameContentSequence=[_item(DimensionIndexValues=[1, 2])])
    if place.row is not None:
        groups.PlanePositionSlideSequence = [position]
    if place.path is not None:
        path = _item(OpticalPathIdentifier=place.path)
        groups.OpticalPathIdentificationSequence = [path]
    if place.segment is not None:
        segment = _item(ReferencedSegmentNumber=place.segment)
        groups.SegmentIdentificationSequence = [segment]
    return groups


def _item(**facts: Any) -> Dataset:
    made = Dataset()
    for keyword, value in facts.items():
        if value is not None:
            setattr(made, keyword, value)
    return made


def segmentation(frames: Pixels, segments: Sequence[int], **facts: Any) -> Dataset:
    """Make a segmentation of one bit; frames: (count, y, x) of 0 and 1."""
    made = slide(frames, SOPClassUID=SEGMENTATION, Modality="SEG", **facts)
    made.SegmentationType = "BINARY"
    made.SegmentSequence = [_item(SegmentNumber=number) for number in segments]
    del made.OpticalPathSequence
    made.BitsAllocated = made.BitsStored = 1
    made.HighBit = 0
    bits = np.packbits(frames, bitorder="little").tobytes()
    made.PixelData = bits + b"\0" * (len(bits) % 2)
    return made


def jpeg_slide(frames: Pixels, *places_of: Any, **facts: Any) -> Dataset:
    """Make a slide of JPEG tiles, their samples in YCbCr."""
    made = slide(frames, *places_of, PhotometricInterpretation="YBR_FULL_422", **facts)
    encoded = []
    for frame in frames:
        stream = BytesIO()
        Image.fromarray(frame).save(stream, "JPEG", quality=90)
        encoded.append(stream.getvalue())
    made.PixelData = encapsulate(encoded)
    made["PixelData"].VR = "OB"
    made["PixelData"].is_undefined_length = True
    made.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    return made


def write(made: Dataset, path: Path) -> Path:
    """Write a data set as a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pydicom.dcmwrite(path, made, enforce_file_format=True)
    return path


def content(made: Dataset, syntax: str = ExplicitVRLittleEndian) -> bytes:
    """Return a data set as the bytes of a file, in another native syntax where that is said."""
    stream = BytesIO()
    made.file_meta.TransferSyntaxUID = pydicom.uid.UID(syntax)
    pydicom.dcmwrite(stream, made, enforce_file_format=True)
    return stream.getvalue()
