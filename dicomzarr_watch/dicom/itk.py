"""SimpleITK as a decoder of frames, where there is no other or but one.

It reads files only; so a frame is put into one of its own, with no more of a header than decoding
needs, and with colours named such that none are converted.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import UID, SecondaryCaptureImageStorage, generate_uid

from dicomzarr_watch.dicom.frames import PixelFormat, Samples


def decoded(frame: bytes, encoding: str, pixel_format: PixelFormat) -> Samples:
    """Decode one stored frame; (rows, columns) or (rows, columns, samples).

    Raises RuntimeError for what SimpleITK cannot read.
    """
    import SimpleITK as sitk  # noqa: PLC0415 - half a second that few series need

    with TemporaryDirectory() as folder:
        path = Path(folder, "frame.dcm")
        pydicom.dcmwrite(path, _file(frame, encoding, pixel_format), enforce_file_format=True)
        found: Any = sitk.GetArrayFromImage(sitk.ReadImage(str(path), imageIO="GDCMImageIO"))
    samples: Samples = np.squeeze(found, axis=0)
    return samples


def _file(frame: bytes, encoding: str, pixel_format: PixelFormat) -> Dataset:
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = UID(encoding)
    made.SOPClassUID = SecondaryCaptureImageStorage
    made.SOPInstanceUID = generate_uid(entropy_srcs=["frame"])
    made.Rows = pixel_format.rows * pixel_format.tiles
    made.Columns = pixel_format.columns * pixel_format.tiles
    made.SamplesPerPixel = pixel_format.samples
    if pixel_format.samples > 1:
        made.PlanarConfiguration = 0
    made.PhotometricInterpretation = "MONOCHROME2" if pixel_format.samples == 1 else "RGB"
    made.BitsAllocated = pixel_format.bits
    made.BitsStored = pixel_format.bits_stored
    made.HighBit = pixel_format.bits_stored - 1
    made.PixelRepresentation = int(pixel_format.kind == "i")
    made.PixelData = encapsulate([frame], has_bot=False)
    made["PixelData"].VR = "OB"
    made["PixelData"].is_undefined_length = True
    return made
