"""Siemens mosaics: the slices of one volume as tiles of one stored frame.

The number of slices stands in (0019,100A), the direction in which they follow each other in the
CSA image header (0029,1010): named values behind the mark SV10, each with its length.
"""

from __future__ import annotations

import struct
from dataclasses import replace
from typing import Final

import numpy as np

from dicomzarr_watch.dicom import tags
from dicomzarr_watch.dicom.geometry import Vector
from dicomzarr_watch.dicom.pose import Pose
from dicomzarr_watch.dicom.values import Values, integer

_MOSAICS: Final = frozenset({"MOSAIC", "VFRAME"})
"""What Siemens calls them, and United Imaging, whose slices are not unfolded."""
_SLICES: Final = 0x0019100A
_CSA_HEADER: Final = 0x00291010
_NAME_BYTES: Final = 84
_ITEMS_MOST: Final = 100


def is_mosaic(values: Values) -> bool:
    """Tell whether the slices of a volume are said to be tiles of a frame."""
    return not _MOSAICS.isdisjoint(values.texts(tags.IMAGE_TYPE))


def mosaic_slices(values: Values) -> int:
    """Return how many slices a frame holds, or 0 if it is no mosaic, or nothing says it."""
    if not is_mosaic(values):
        return 0
    said = values.number(_SLICES)
    if said is None:
        words = csa_values(values.raw(_CSA_HEADER), "NumberOfImagesInMosaic")
        said = integer(words[0]) if words else None
    return max(said or 0, 0)


def mosaic_poses(values: Values, whole: Pose, slices: int, excess: tuple[int, int]) -> list[Pose]:
    """Return the poses of the slices of one mosaic.

    whole: the pose that the header gives, of the first voxel of the mosaic as if it were one
    slice; the slices lie around the same centre. excess: the rows and columns that it has more than
    one slice.
    """
    if whole.position is None or whole.orientation is None or whole.spacing is None:
        return [whole] * slices
    row, column = np.asarray(whole.orientation, float).reshape(2, 3)
    between_rows, between_columns = whole.spacing
    first = np.asarray(whole.position, float)
    first = first + row * between_columns * excess[1] / 2
    first = first + column * between_rows * excess[0] / 2
    step = _direction(values, np.cross(row, column)) * (
        whole.spacing_between or whole.thickness or 1.0
    )
    return [_moved(whole, first + n * step) for n in range(slices)]


def csa_values(header: bytes, name: str) -> list[str]:
    """Return the values of a name in a CSA header; empty if it is not there or unreadable."""
    start = header.find(name.encode() + b"\0")
    if start < 0:
        return []
    try:
        (items,) = struct.unpack_from("<I", header, start + 76)
        at, found = start + _NAME_BYTES, []
        for _ in range(min(items, _ITEMS_MOST)):
            (size,) = struct.unpack_from("<I", header, at + 4)
            text = header[at + 16 : at + 16 + size].split(b"\0")[0].decode("latin-1").strip()
            found += [text] if text else []
            at += 16 + (size + 3) // 4 * 4
    except struct.error:
        return []
    return found


def _direction(values: Values, normal: Vector) -> Vector:
    """Return the unit vector from one slice to the next."""
    try:
        told = [float(v) for v in csa_values(values.raw(_CSA_HEADER), "SliceNormalVector")]
    except ValueError:
        told = []
    return np.asarray(told) if len(told) == 3 else normal


def _moved(pose: Pose, position: Vector) -> Pose:
    x, y, z = (float(v) for v in position)
    return replace(pose, position=(x, y, z))
