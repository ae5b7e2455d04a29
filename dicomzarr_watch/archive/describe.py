"""What is in a store, for people and programs: its images, its files, one file's data set."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable
from io import BytesIO
from typing import Any, Final

import pydicom
from pydicom.config import disable_value_validation

from dicomzarr_watch.archive import layout
from dicomzarr_watch.archive.reader import Store
from dicomzarr_watch.dicom import tags, uids
from dicomzarr_watch.dicom.gathering import gathered
from dicomzarr_watch.dicom.model import of_file
from dicomzarr_watch.dicom.plain import Json
from dicomzarr_watch.errors import RejectError

_TOLD: Final = {
    "document title": 0x00420010,
    "MIME type": 0x00420012,
    "content label": 0x00700080,
    "structure set": 0x30060002,
    "plan": 0x300A0002,
    "columns": tags.COLUMNS,
    "rows": tags.ROWS,
    "frames": tags.NUMBER_OF_FRAMES,
    "frame rate": 0x00180040,
    "frame time in ms": 0x00181063,
    "waveforms": 0x54000100,
}
"""What people know files by that are not seen as images."""

_PLACE = re.compile(r".*/dicom/(headers|residue)#(\d+),(\d+)$")


def described(store: Store) -> dict[str, Any]:
    """Return what is in a store, in words and numbers."""
    return {
        "files": len(store.files),
        "bytes": sum(file.size for file in store.files),
        "files_in_residue": sum(not file.is_in_frames for file in store.files),
        "images": [
            {
                "path": image.array.path,
                "axes": list(image.axes),
                "shape": list(image.array.shape),
                "dtype": str(image.array.dtype),
                "total_pixel_matrix": image.attributes["dicomzarr"]["total_pixel_matrix"],
                **image.attributes["dicomzarr"]["geometry"],
            }
            for image in store.images
        ],
        "unseen": _unseen(store),
        "names": [file.name for file in store.files],
    }


def _unseen(store: Store) -> list[dict[str, Any]]:
    """Describe the files that are not seen as images, those of one kind together.

    Only series.json beside the store has their names; without it nothing is said.
    """
    path = store.path.with_name(layout.SERIES_JSON)
    if not path.is_file():
        return []
    document = json.loads(path.read_bytes())
    kinds = gathered(
        ((file["what"], file["why"], uids.name(file["transfer_syntax"])), number)
        for number, file in enumerate(document["files"])
        if file["why"]
    )
    return [
        {
            "what": what,
            "why": why,
            "transfer_syntax": encoding,
            "files": len(numbers),
            "first": _facts(of_file(document["tags"], numbers[0])),
        }
        for (what, why, encoding), numbers in kinds.items()
    ]


def _facts(elements: Json) -> Json:
    found = {name: elements.get(tags.json_name(tag), {}) for name, tag in _TOLD.items()}
    return {
        name: len(e["Value"]) if e["vr"] == "SQ" else e["Value"][0]
        for name, e in found.items()
        if e.get("Value")
    }


def dicom_json(store: Store, name: str) -> Json:
    """Return one file's data set in the DICOM JSON model, from series.json beside the store.

    Binary values are inline, the pixel data among them; the file meta information is left out, as
    PS3.18 F.2 has it. Raises RejectError if there is no such file or no series.json.
    """
    path = store.path.with_name(layout.SERIES_JSON)
    number = next((n for n, file in enumerate(store.files) if file.name == name), None)
    if number is None or not path.is_file():
        raise RejectError(
            "no-such-file",
            expected="the name of a file of the series, and series.json beside the store",
            found="no series.json" if number is not None else "another name",
            private=name,
        )
    document = json.loads(path.read_bytes())
    elements = of_file(document["tags"], number)
    own = {tag: e for tag, e in elements.items() if not tag.startswith("0002")}
    long = {tag for tag, e in own.items() if e["vr"] == "SQ" and "BulkDataURI" in e}
    wanted = [int(tag, 16) for tag in long.difference(document["unreadable_tags"])]
    found = {tag: _inline(store, element) for tag, element in own.items()}
    found |= _from_file(store, number, [*tags.PIXEL_ELEMENTS, *wanted])
    return dict(sorted(found.items()))


def _inline(store: Store, element: Json) -> Json:
    """Put a value that is referred to in its place."""
    place = _PLACE.match(element.get("BulkDataURI", ""))
    if not place:
        return element
    name, start, size = place[1], int(place[2]), int(place[3])
    raw = store.blob(name, start, start + size)
    return {"vr": element["vr"], "InlineBinary": base64.b64encode(raw).decode()}


def _from_file(store: Store, number: int, wanted: Iterable[int]) -> Json:
    """Return elements as they stand in the file."""
    data = b"".join(store.pieces_of(store.files[number]))
    with disable_value_validation():
        dataset = pydicom.dcmread(BytesIO(data), force=True)
        return {
            tags.json_name(tag): dataset[tag].to_json_dict(None, 0)
            for tag in wanted
            if tag in dataset
        }
