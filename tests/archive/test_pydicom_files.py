"""All that ships with pydicom, as one drop: every byte comes back, every frame is to be seen."""

from __future__ import annotations

import hashlib
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from archive_cases import contents, image_paths, planes
from dicom_files import PYDICOM_DATA, pydicom_files
from pydicom.pixels.utils import iter_pixels

from dicomzarr_watch.archive.convert import convert
from dicomzarr_watch.archive.layout import STORE_NAME
from dicomzarr_watch.archive.reader import Store
from dicomzarr_watch.archive.restore import restore
from dicomzarr_watch.archive.work import Level
from dicomzarr_watch.batch import batch


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Convert all series of the folder and return their stores."""
    output = tmp_path_factory.mktemp("output")
    found = batch([PYDICOM_DATA], output, level=Level.EXACT)
    finals = [output / work.drop / convert(work).folder for work in found.works]
    return [final / STORE_NAME for final in finals]


def test_every_file_comes_back_byte_for_byte(stores: list[Path], tmp_path: Path) -> None:
    for store in map(Store, stores):
        restore(store, tmp_path, store.files)
    back = contents(tmp_path)
    originals = {str(p.relative_to(PYDICOM_DATA)): p.read_bytes() for p in pydicom_files()}
    assert len(originals) > 100
    assert back.keys() >= originals.keys()
    assert back == {name: (PYDICOM_DATA / name).read_bytes() for name in back}


def _digest(frame: np.ndarray[Any, Any]) -> str:
    """Return what stands for a frame: its shape, type and stored values."""
    native = np.ascontiguousarray(frame, frame.dtype.newbyteorder("<"))
    facts = f"{native.shape} {native.dtype.str}".encode()
    return hashlib.sha256(facts + native.tobytes()).hexdigest()


def _by_pydicom(path: Path) -> list[str]:
    """Return the digests of the frames that pydicom decodes; none where it interpolates chroma."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            made = pydicom.dcmread(path)
            if str(made.get("PhotometricInterpretation")).startswith("YBR_FULL_4"):
                return []
            return [_digest(frame) for frame in iter_pixels(made, raw=True)]
        except (AttributeError, NotImplementedError, RuntimeError, ValueError):
            return []


def test_every_frame_that_pydicom_decodes_stands_in_an_array(stores: list[Path]) -> None:
    seen: Counter[str] = Counter()
    for store in stores:
        for path in image_paths(store):
            seen.update(map(_digest, planes(store, path)))
    expected = [(digest, path.name) for path in pydicom_files() for digest in _by_pydicom(path)]
    assert len(expected) > 120
    lost = []
    for digest, name in expected:
        seen[digest] -= 1
        if seen[digest] < 0:
            lost.append(name)
    assert lost == []
