"""Series that are made for the benchmarks: smooth shapes with the noise of a scanner."""

from __future__ import annotations

import struct
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    CTImageStorage,
    EnhancedMRImageStorage,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
)

try:
    # the only encoder of HTJ2K at hand, and no part of the project
    imagecodecs: Any = import_module("imagecodecs")
except ImportError:
    imagecodecs = None

_ROOT = "1.2.826.0.1.3680043.8.498.7"


def ct(folder: Path, count: int, size: int = 512) -> Path:
    """Write a CT of `count` slices of size × size, 12 bits in 16, and return the folder."""
    folder.mkdir(parents=True)
    noise = _noise(size)
    for n in range(count):
        made = _dataset(size, CTImageStorage, f"{_ROOT}.1.{n + 1}")
        made.Modality, made.SeriesNumber, made.InstanceNumber = "CT", 1, n + 1
        made.ImagePositionPatient = [-250, -250, n]
        made.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        made.PixelSpacing = [500 / size, 500 / size]
        made.SliceThickness = 1
        made.RescaleSlope, made.RescaleIntercept = 1, -1024
        made.PixelData = _pixels(size, n, count, noise)
        pydicom.dcmwrite(folder / f"{n + 1:05}.dcm", made, enforce_file_format=True)
    return folder


def enhanced_mr(folder: Path, count: int, size: int = 512) -> Path:
    """Write an enhanced MR of `count` frames in one file, with a position for each."""
    folder.mkdir(parents=True)
    made = _dataset(size, EnhancedMRImageStorage, f"{_ROOT}.4")
    made.Modality, made.SeriesNumber, made.InstanceNumber = "MR", 1, 1
    made.NumberOfFrames = count
    shared, orientation, measures = Dataset(), Dataset(), Dataset()
    orientation.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    measures.PixelSpacing, measures.SliceThickness = [0.5, 0.5], 1
    shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = [orientation], [measures]
    made.SharedFunctionalGroupsSequence = [shared]
    made.PerFrameFunctionalGroupsSequence = [_placed(n) for n in range(count)]
    path = folder / "1.dcm"
    pydicom.dcmwrite(path, made, enforce_file_format=True)
    noise = _noise(size)
    with path.open("ab") as stream:
        stream.write(struct.pack("<HH2sHI", 0x7FE0, 0x0010, b"OW", 0, count * size * size * 2))
        for n in range(count):
            stream.write(_pixels(size, n, count, noise))
    return folder


def encoded(source: Path, folder: Path, transfer_syntax: str) -> Path | None:
    """Write a series again in another transfer syntax; None where nothing here can encode it."""
    folder.mkdir(parents=True)
    for path in sorted(source.iterdir()):
        made = pydicom.dcmread(path)
        if transfer_syntax == HTJ2KLossless:
            if imagecodecs is None:
                return None
            frame = imagecodecs.htj2k_encode(made.pixel_array, reversible=True)
            made.PixelData = encapsulate([frame])
            made["PixelData"].is_undefined_length = True
            made.file_meta.TransferSyntaxUID = HTJ2KLossless
        else:
            made.compress(transfer_syntax, generate_instance_uid=False)
        made.save_as(folder / path.name)
    return folder


def _noise(size: int) -> np.ndarray:
    return np.random.default_rng(0).normal(0, 12, (8, size, size))


def _pixels(size: int, n: int, count: int, noise: np.ndarray) -> bytes:
    values = _body(size, n % 600 / min(count, 600))
    values += np.roll(noise[n % 8], (3 * n, 5 * n), (0, 1))
    return values.clip(0, 4095).astype("<u2").tobytes()


@cache
def _shapes(size: int) -> tuple[np.ndarray, ...]:
    y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    lungs = [(x - side) ** 2 / 0.06 for side in (-0.35, 0.35)]
    return x**2 / 0.7 + y**2 / 0.4, lungs[0], lungs[1], y**2, x**2 + (y - 0.4) ** 2


def _body(size: int, z: float) -> np.ndarray:
    """Return one slice of a body with lungs and a spine, in air."""
    body, left, right, height, spine = _shapes(size)
    values = np.full((size, size), 24.0)
    values[body < 1] = 1064.0
    for lung in (left, right):
        values[lung + height / (0.12 + 0.08 * z) < 1] = 180.0
    values[spine < 0.012] = 1500.0 + 300 * np.sin(20 * z)
    return values


def _dataset(size: int, sop_class: str, sop_instance: str) -> Dataset:
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.SOPClassUID, made.SOPInstanceUID = sop_class, sop_instance
    made.StudyInstanceUID, made.SeriesInstanceUID = f"{_ROOT}.2", f"{_ROOT}.3"
    made.WindowCenter, made.WindowWidth = 40, 400
    made.SamplesPerPixel, made.PhotometricInterpretation = 1, "MONOCHROME2"
    made.Rows = made.Columns = size
    made.BitsAllocated, made.BitsStored, made.HighBit = 16, 12, 11
    made.PixelRepresentation = 0
    return made


def _placed(n: int) -> Dataset:
    groups, position, content = Dataset(), Dataset(), Dataset()
    position.ImagePositionPatient = [-128, -128, n]
    content.InStackPositionNumber, content.StackID = n + 1, "1"
    content.DimensionIndexValues = [1, n + 1]
    groups.PlanePositionSequence, groups.FrameContentSequence = [position], [content]
    return groups
