"""What a file of the inbox is, by its name and header."""

from __future__ import annotations

from enum import StrEnum


class Kind(StrEnum):
    """What decides over what becomes of a file; DICOM and BUNDLE make up series."""

    DICOM = "dicom"
    NOT_DICOM = "not-dicom"
    TEMPORARY = "temporary-name"
    UNREADABLE = "unreadable"
    BUNDLE = "archive"
    UNPACKED = "unpacked"
    MARKER = "ready-marker"
