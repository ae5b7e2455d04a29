"""What one file of the inbox is, from its header alone: DICOM or not, which series, how long."""

from __future__ import annotations

import errno
from collections.abc import Iterable
from pathlib import Path
from typing import Final, NamedTuple

from dicomzarr_watch.dicom import tags
from dicomzarr_watch.dicom.alike import Templates
from dicomzarr_watch.dicom.part10 import HEAD_BYTES, Part10, is_dicom
from dicomzarr_watch.dicom.values import Values
from dicomzarr_watch.kind import Kind
from dicomzarr_watch.source import Excerpts

_NUMBER_MOST: Final = 1 << 31
"""Of the value representation IS (PS3.5 6.2)."""
_WANTED: Final = (tags.SERIES_INSTANCE_UID, tags.SOP_INSTANCE_UID, tags.INSTANCE_NUMBER)


class Peek(NamedTuple):
    """What a look at a file's header found; UIDs are empty where there are none.

    instance_number: None if there is none that the standard allows. cause: why a file cannot be
    read, by the system's name for it, such as EIO; ENOENT if it went since it was listed.
    """

    kind: Kind
    series_uid: str = ""
    sop_uid: str = ""
    transfer_syntax: str = ""
    is_truncated: bool = False
    instance_number: int | None = None
    cause: str = ""


class Peeks:
    """Looks at one file after the other; those that are like the ones before cost least."""

    def __init__(self) -> None:
        self._templates = Templates()

    def __call__(self, path: Path | str) -> Peek:
        """Look at a file; never raises, a file that cannot be read is UNREADABLE."""
        try:
            with Excerpts(path) as file:
                if is_dicom(file.read(0, HEAD_BYTES)):
                    return self._dicom(file)
        except OSError as error:
            return Peek(Kind.UNREADABLE, cause=errno.errorcode.get(error.errno or 0, ""))
        return Peek(Kind.NOT_DICOM)

    def _dicom(self, file: Excerpts) -> Peek:
        part10, values = glance(file, _WANTED, self._templates)
        number = values.numeral(tags.INSTANCE_NUMBER)
        return Peek(
            Kind.DICOM,
            series_uid=values.text(tags.SERIES_INSTANCE_UID),
            sop_uid=values.text(tags.SOP_INSTANCE_UID),
            transfer_syntax=part10.transfer_syntax,
            is_truncated=part10.problem == "truncated",
            instance_number=None if number is None or abs(number) > _NUMBER_MOST else number,
        )


def glance(
    file: Excerpts, wanted: Iterable[int], templates: Templates | None = None
) -> tuple[Part10, Values]:
    """Read no more of a DICOM file than the values of some elements need.

    templates: what is known of files before this one.
    """
    part10, data, cut, _ = (templates or Templates()).spans(file.read, file.size)
    if part10.inflated is not None:
        return part10, Values(part10, part10.inflated)
    if not cut:
        ends = [element.end for tag in wanted if (element := part10.find(tag))]
        if max(ends, default=0) > len(data):
            data = file.read(0, max(ends))
    return part10, Values(part10, data)
