"""UIDs as files say them. They need not be any: pydicom would warn, and print what stands there."""

from __future__ import annotations

from pydicom.config import IGNORE
from pydicom.uid import UID


def uid(text: str) -> UID:
    """Return what pydicom knows a UID by, whatever the text."""
    return UID(text, validation_mode=IGNORE)


def name(text: str) -> str:
    """Return the name that PS3.6 annex A gives to a UID, or the text itself."""
    return uid(text).name
