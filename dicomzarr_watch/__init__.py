"""Turn folders of DICOM into verified Zarr archives, byte for byte."""

__version__ = "0.1.0"
