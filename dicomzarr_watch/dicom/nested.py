"""What stands in sequences, read through pydicom: for the few decisions that need it."""

from __future__ import annotations

import warnings
from collections.abc import Container
from io import BytesIO

from pydicom.config import disable_value_validation
from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset

from dicomzarr_watch.dicom.values import Values


def dataset(values: Values, wanted: Container[int]) -> Dataset:
    """Return the wanted top-level elements; raises whatever pydicom makes of broken bytes."""
    part10, raw = values.part10, values.encoded(wanted)
    with warnings.catch_warnings(), disable_value_validation():
        warnings.simplefilter("ignore")
        return read_dataset(BytesIO(raw), part10.is_implicit, not part10.is_big_endian)
