"""dcm2niix on the same folders: the same images, slices in the same order, the same voxels.

It writes rows from the patient's back to front, turns sagittal volumes to canonical axes and
scales; all that stands in its files' headers and is undone by them here. What it makes besides,
and what it says otherwise, is in three tables with the reason.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import zarr
from archive_cases import Archived, Array

pytestmark = pytest.mark.integration

FOLDERS = (
    "ct-gantry-tilt-philips",
    "ct-mixed-sizes-philips",
    "ct-variable-spacing-ge",
    "mr-enhanced",
    "mr-fmri-ge",
    "mr-fmri-mosaic-siemens",
    "mr-fmri-philips",
    "mr-t1-siemens",
)

ONLY_DCM2NIIX = {
    "ct-gantry-tilt-philips": {
        "Tilt_1": "resampled to undo the tilt; ours has the tilt in its affine",
    },
    "ct-mixed-sizes-philips": {
        "ROI1": "an overlay drawn as an image; ours keeps overlays in the headers",
    },
    "ct-variable-spacing-ge": {
        "Tilt_Eq_1": "resampled to even spacing without tilt; ours says both",
    },
}
"""Images that it derives, by what it adds to the series number for a name."""

OTHER_RESCALE: dict[str, dict[str, str]] = {}
"""Images whose slope and intercept ours does not say."""

OTHER_STEP = {
    "ct-variable-spacing-ge": {"": "spacing varies: theirs is one of the gaps, ours the mean"},
}
"""Images whose steps between slices are not the same."""

UPSIDE_DOWN = np.diag([1.0, -1.0, 1.0])
"""Where there is no orientation, it still writes the last row first."""


@dataclass(frozen=True, slots=True)
class Image:
    """An image as one of the two sees it.

    voxels: stored values, (t, z, y, x, c). axes: directions of x, y and z, a column each; None
    where it has no place. affine: from voxel indices (x, y, z) to LPS, 4 by 4.
    """

    name: str
    voxels: Array
    axes: Array | None
    affine: Array
    rescale: tuple[float, float]

    @property
    def kind(self) -> str:
        return self.name.partition("_")[2]


@dataclass(frozen=True, slots=True)
class Comparison:
    """What both made of one folder; `same` are pairs (theirs, ours) of the same voxels."""

    same: tuple[tuple[Image, Image], ...]
    theirs: tuple[Image, ...]
    ours: tuple[Image, ...]


@pytest.fixture(scope="module", params=FOLDERS)
def folder(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(scope="module")
def found(
    folder: str,
    corpus: Path,
    converted: Callable[[str], tuple[Archived, ...]],
    tmp_path_factory: pytest.TempPathFactory,
) -> Comparison:
    theirs = _dcm2niix(corpus / folder, tmp_path_factory.mktemp("dcm2niix"))
    ours = [image for series in converted(folder) for image in _ours(series)]
    same = []
    for their in list(theirs):
        twin = next((our for our in ours if _is_same(their, our)), None)
        if twin is not None:
            same.append((their, twin))
            theirs.remove(their)
            ours.remove(twin)
    return Comparison(tuple(same), tuple(theirs), tuple(ours))


def test_every_image_is_one_of_theirs_voxel_by_voxel(found: Comparison) -> None:
    assert found.same
    assert [(image.name, image.voxels.shape) for image in found.ours] == []


def test_theirs_alone_is_only_what_they_derive(folder: str, found: Comparison) -> None:
    assert sorted(i.kind for i in found.theirs) == sorted(ONLY_DCM2NIIX.get(folder, {}))


def test_the_voxels_lie_at_the_same_place(folder: str, found: Comparison) -> None:
    other = set()
    for their, our in found.same:
        if our.axes is None:
            continue
        turn = _turn(their, our)
        last = [n - 1 for n in our.voxels.shape[3:0:-1]]
        first = [last[i] if turn[i].min() < 0 else 0 for i in range(3)]
        np.testing.assert_allclose(our.affine @ [*first, 1], their.affine[:, 3], atol=0.01)
        steps = np.linalg.norm(their.affine[:3, :3], axis=0)
        if not np.allclose(_steps(our) @ np.abs(turn), steps, atol=0.01):
            other.add(their.kind)
    assert other == set(OTHER_STEP.get(folder, {}))


def test_slope_and_intercept_are_the_same(folder: str, found: Comparison) -> None:
    other = {t.kind for t, o in found.same if not np.allclose(t.rescale, o.rescale, rtol=1e-5)}
    assert other == set(OTHER_RESCALE.get(folder, {}))


def _dcm2niix(source: Path, folder: Path) -> list[Image]:
    program = pytest.importorskip("dcm2niix", reason="needs the extra `peers`").bin
    # -p n: the slope and intercept of the standard, not those of Philips
    options = ["-b", "n", "-z", "n", "-p", "n", "-f", "%s"]
    command = [program, *options, "-o", str(folder), str(source)]
    subprocess.run(command, check=True, capture_output=True)
    return [_theirs(path) for path in sorted(folder.glob("*.nii"))]


def _theirs(path: Path) -> Image:
    reader: Any = sitk.ImageFileReader()  # type: ignore[no-untyped-call]  # it has no types
    reader.SetFileName(str(path))
    image = reader.Execute()
    said = {key: float(reader.GetMetaData(key)) for key in ("scl_slope", "scl_inter")}
    rescale = said["scl_slope"], said["scl_inter"]
    values = (sitk.GetArrayFromImage(image).astype(np.float64) - rescale[1]) / rescale[0]
    stored = np.rint(values)
    np.testing.assert_allclose(values, stored, atol=0.1)
    dimensions = image.GetDimension()
    axes = np.reshape(image.GetDirection(), (dimensions, dimensions))[:3, :3]
    affine = np.eye(4)
    affine[:3, :3] = axes * image.GetSpacing()[:3]
    affine[:3, 3] = image.GetOrigin()[:3]
    is_placed = "0" not in {reader.GetMetaData("qform_code"), reader.GetMetaData("sform_code")}
    has_samples = image.GetNumberOfComponentsPerPixel() > 1
    order = "tzyx"[-dimensions:] + "c" * has_samples
    return Image(path.stem, _in_order(stored, order), axes if is_placed else None, affine, rescale)


def _ours(series: Archived) -> Iterator[Image]:
    document = json.loads((series.final / "series.json").read_bytes())
    for image in document["images"]:
        array: Any = zarr.open_array(series.path / image["path"], mode="r")
        place = image["geometry"]
        rescale = image["rescale"] or {"slope": 1.0, "intercept": 0.0}
        axes = np.reshape(place["direction"], (3, 3))
        yield Image(
            name=f"{series.receipt.folder}/{image['path']}",
            voxels=_in_order(np.asarray(array[...]), "".join(image["axes"])),
            axes=axes if place["placed"] else None,
            affine=np.array(place["affine"]),
            rescale=(rescale["slope"], rescale["intercept"]),
        )


def _in_order(values: Array, order: str) -> Array:
    """Bring axes to (t, z, y, x, c), those that are missing with length 1."""
    missing = [axis for axis in "tzyxc" if axis not in order]
    values = values.reshape(values.shape + (1,) * len(missing))
    names = order + "".join(missing)
    return values.transpose([names.index(axis) for axis in "tzyxc"])


def _turn(their: Image, our: Image) -> Array:
    """Return which of their axes (columns) runs along which of ours (rows), or against it."""
    if their.axes is None or our.axes is None:
        return UPSIDE_DOWN
    turn = our.axes.T @ their.axes
    np.testing.assert_allclose(turn, np.rint(turn), atol=0.01)
    return np.asarray(np.rint(turn))


def _is_same(their: Image, our: Image) -> bool:
    if (their.axes is None) != (our.axes is None):
        return False
    turn = _turn(their, our)
    back = [3 - int(np.abs(turn[i]).argmax()) for i in (2, 1, 0)]
    against = tuple(3 - i for i in range(3) if turn[i].min() < 0)
    voxels = np.flip(their.voxels.transpose(0, *back, 4), against)
    return np.array_equal(voxels, our.voxels)


def _steps(image: Image) -> Array:
    """Return the spacing along the axes, mm: across a tilt the distance of the planes."""
    assert image.axes is not None
    return np.abs(np.diag(image.axes.T @ image.affine[:3, :3]))
