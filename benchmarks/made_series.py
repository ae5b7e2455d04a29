"""Series that are made for the benchmarks: smooth shapes with the noise of a scanner."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

_ROOT = "1.2.826.0.1.3680043.8.498.7"


def ct(folder: Path, count: int, size: int = 512) -> Path:
    """Write a CT of `count` slices of size × size, 12 bits in 16, and return the folder."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    noise = random.normal(0, 12, (8, size, size))
    for n in range(count):
        dataset = _slice(n, size)
        values = _body(size, n / count) + np.roll(noise[n % 8], (3 * n, 5 * n), (0, 1))
        dataset.PixelData = values.clip(0, 4095).astype("<u2").tobytes()
        pydicom.dcmwrite(folder / f"{n + 1:05}.dcm", dataset, enforce_file_format=True)
    return folder


def _body(size: int, z: float) -> np.ndarray:
    """Return one slice of a body with lungs and a spine, in air."""
    y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    values = np.full((size, size), 24.0)
    values[x**2 / 0.7 + y**2 / 0.4 < 1] = 1064.0
    for side in (-0.35, 0.35):
        values[(x - side) ** 2 / 0.06 + y**2 / (0.12 + 0.08 * z) < 1] = 180.0
    values[x**2 + (y - 0.4) ** 2 < 0.012] = 1500.0 + 300 * np.sin(20 * z)
    return values


def _slice(n: int, size: int) -> Dataset:
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.SOPClassUID = CTImageStorage
    made.SOPInstanceUID = f"{_ROOT}.1.{n + 1}"
    made.StudyInstanceUID, made.SeriesInstanceUID = f"{_ROOT}.2", f"{_ROOT}.3"
    made.Modality, made.SeriesNumber, made.InstanceNumber = "CT", 1, n + 1
    made.ImagePositionPatient = [-250, -250, n]
    made.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    made.PixelSpacing = [500 / size, 500 / size]
    made.SliceThickness = 1
    made.RescaleSlope, made.RescaleIntercept = 1, -1024
    made.WindowCenter, made.WindowWidth = 40, 400
    made.SamplesPerPixel, made.PhotometricInterpretation = 1, "MONOCHROME2"
    made.Rows = made.Columns = size
    made.BitsAllocated, made.BitsStored, made.HighBit = 16, 12, 11
    made.PixelRepresentation = 0
    return made
