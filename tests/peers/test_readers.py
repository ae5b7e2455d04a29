"""Other people's readers of OME-Zarr on everything that the corpus became."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zarr
from archive_cases import Archived
from ome_zarr_models.v05.bioformats2raw import BioFormats2Raw
from ome_zarr_models.v05.image import Image

pytestmark = pytest.mark.integration

Converted = Callable[[str], tuple[Archived, ...]]

EXAMPLES = {
    "one image in time": ("mr-fmri-ge", {"": (10, 15, 64, 64)}),
    "colour and scouts": (
        "ct-mixed-sizes-philips",
        {
            "0": (3, 1, 741, 650),
            "1": (3, 1, 512, 650),
            "2": (3, 1, 512, 650),
            "3": (2, 1, 256, 512),
        },
    ),
    "mosaics in time": ("mr-fmri-mosaic-siemens", {"": (2, 5, 72, 72)}),
}
"""Folder, and shape by the image's group, of a series of it."""

NAPARI = """
import json, sys
from napari_ome_zarr import napari_get_reader
layers = [napari_get_reader(path)(path) for path in sys.argv[1:]]
print(json.dumps([[list(data[0].shape) for data, *_ in found] for found in layers]))
"""


@pytest.fixture(params=EXAMPLES)
def example(request: pytest.FixtureRequest, converted: Converted) -> dict[Path, tuple[int, ...]]:
    """A series' image groups, and the shapes that are to be seen in them."""
    folder, shapes = EXAMPLES[request.param]
    series = next(s for s in converted(folder) if s.store.images)
    return {series.path / group: shape for group, shape in shapes.items()}


def test_ome_zarr_models_validates_every_image_and_every_root(
    folder: str, converted: Converted
) -> None:
    for series in converted(folder):
        root = zarr.open_group(series.path, mode="r")
        images = _images(series)
        for group, image in images:
            seen = Image.from_zarr(zarr.open_group(group, mode="r"))
            axes = [axis.name for axis in seen.ome_attributes.multiscales[0].axes]
            assert axes == image["axes"]
        if len(images) > 1:
            assert BioFormats2Raw.from_zarr(root).ome_attributes.bioformats2raw_layout == 3


def test_ngff_zarr_accepts_every_image(folder: str, converted: Converted) -> None:
    ngff_zarr = pytest.importorskip("ngff_zarr", reason="needs the extra `peers`")
    for series in converted(folder):
        for group, image in _images(series):
            (level,) = ngff_zarr.from_ngff_zarr(str(group), validate=True).images
            assert list(level.dims) == image["axes"]
            assert list(level.data.shape) == image["shape"]
            spacing = dict(zip("xyz", image["geometry"]["spacing"], strict=True))
            origin = dict(zip("xyz", image["geometry"]["origin"], strict=True))
            assert {a: level.scale[a] for a in "xyz"} == pytest.approx(spacing)
            assert {a: level.translation[a] for a in "xyz"} == pytest.approx(origin)


def test_ome_zarr_py_opens_images_with_their_shapes(example: dict[Path, tuple[int, ...]]) -> None:
    reader = pytest.importorskip("ome_zarr.reader", reason="needs the extra `peers`")
    io = pytest.importorskip("ome_zarr.io")
    for group, shape in example.items():
        (node,) = reader.Reader(io.parse_url(group))()
        assert [data.shape for data in node.data] == [shape]
        assert node.data[0].compute().shape == shape


def test_napari_opens_images_with_their_shapes(example: dict[Path, tuple[int, ...]]) -> None:
    assert _seen_by_napari(list(example)) == [[list(shape)] for shape in example.values()]


def test_napari_opens_the_images_of_a_series_by_its_root(
    example: dict[Path, tuple[int, ...]],
) -> None:
    groups = list(example)
    root = groups[0] if len(groups) == 1 else groups[0].parent
    assert _seen_by_napari([root]) == [[list(shape) for shape in example.values()]]


def _seen_by_napari(places: list[Path]) -> list[list[list[int]]]:
    """Return the shapes of the layers that napari's reader makes of each place.

    The reader lives in an environment of its own, as it brings plugins for pytest.
    """
    python = os.environ.get("NAPARI_PYTHON")
    if python is None:
        pytest.skip("needs NAPARI_PYTHON: an interpreter that has the extra `napari`")
    run = subprocess.run(
        [python, "-c", NAPARI, *map(str, places)], capture_output=True, text=True, check=True
    )
    said = run.stdout.splitlines()[-1]  # the reader has things to say of its own
    found: list[list[list[int]]] = json.loads(said)
    return found


def _images(series: Archived) -> list[tuple[Path, dict[str, Any]]]:
    document = json.loads((series.final / "series.json").read_bytes())
    return [((series.path / image["path"]).parent, image) for image in document["images"]]
