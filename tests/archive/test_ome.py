"""What viewers are told of where an image lies."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from archive_cases import made
from dicom_files import AXIAL, write_series

SAGITTAL = (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)
PRONE = (-1.0, 0.0, 0.0, 0.0, -1.0, 0.0)


def translation(folder: Path, **facts: Any) -> list[float]:
    """Convert three slices and return the translation; z, y, x."""
    done = made(folder, lambda f: write_series(f, 3, gap_mm=2.0, spacing=(1.0, 1.0), **facts))
    document = json.loads((done.path / "zarr.json").read_bytes())
    (dataset,) = document["attributes"]["ome"]["multiscales"][0]["datasets"]
    found: list[float] = dataset["coordinateTransformations"][1]["translation"]
    return found


@pytest.mark.parametrize("orientation", [AXIAL, SAGITTAL, PRONE])
def test_images_of_one_orientation_lie_as_far_apart_as_their_voxels(
    tmp_path: Path, orientation: tuple[float, ...]
) -> None:
    row, column = np.reshape(orientation, (2, 3))
    first = np.array([60.0, -100.0, 120.0])
    moved = first + 4.0 * np.cross(row, column) + 10.0 * column + 3.0 * row
    one, other = (
        translation(tmp_path / name, orientation=orientation, position=tuple(place))
        for name, place in (("one", first), ("other", moved))
    )
    np.testing.assert_allclose(np.subtract(other, one), (4.0, 10.0, 3.0))


def test_an_axial_image_lies_where_its_first_voxel_lies(tmp_path: Path) -> None:
    assert translation(tmp_path, position=(1.0, 2.0, 3.0)) == [3.0, 2.0, 1.0]
