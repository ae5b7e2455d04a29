"""The README's table of pixel formats, made by converting what ships with pydicom.

Run as a script, it writes the table into the README.
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
import warnings
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pydicom
import pytest
from pydicom.uid import UID

from dicomzarr_watch.archive.convert import convert
from dicomzarr_watch.archive.layout import SERIES_JSON, STORE_NAME
from dicomzarr_watch.archive.reader import Store
from dicomzarr_watch.archive.restore import restore
from dicomzarr_watch.archive.work import Level
from dicomzarr_watch.batch import batch

README: Final = Path(__file__).parents[2] / "README.md"
EXAMPLES: Final = Path(pydicom.__file__).parent / "data"
START: Final = "<!-- table of pixel formats -->\n"
END: Final = "<!-- end of table -->\n"
HEADINGS: Final = (
    "transfer syntax",
    "photometric interpretation",
    "bits, stored of allocated",
    "kept",
    "restored",
)
KEPT: Final = {
    "frames": "viewed",
    "residue": "viewed, its bytes beside it",
    "whole": "viewed, the file beside it",
}
SHORTER: Final = {"1.2.840.10008.1.2.4.70": "JPEG Lossless SV1"}

Format = tuple[str, str, str, str]
"""Transfer syntax, photometric interpretation, how it is kept, how it came back."""


@pytest.mark.integration
def test_the_readme_has_the_table_of_what_pydicoms_files_become(tmp_path: Path) -> None:
    assert _cut(README.read_text("utf-8"))[1] == table(tmp_path)


def table(folder: Path) -> str:
    """Convert and restore the examples below a folder, and say what became of them."""
    formats: dict[Format, set[tuple[int, int]]] = defaultdict(set)
    for pixel_format, bits in _found(folder):
        formats[pixel_format].add(bits)
    rows = [
        (name, photometric, ", ".join(f"{s} of {a}" for s, a in sorted(bits)), kept, restored)
        for (name, photometric, kept, restored), bits in sorted(formats.items())
    ]
    return "".join(_line(row) for row in (HEADINGS, ("---",) * len(HEADINGS), *rows))


def _found(folder: Path) -> Iterator[tuple[Format, tuple[int, int]]]:
    """Yield the format of each file with pixels, and its bits."""
    for work in batch([EXAMPLES], folder / "output", level=Level.EXACT).works:
        final = folder / "output" / work.drop / convert(work).folder
        store = Store(final / STORE_NAME)
        back = folder / "back" / final.name
        restore(store, back, store.files)
        for file in json.loads((final / SERIES_JSON).read_bytes())["files"]:
            name = file["name"]
            header = _header(EXAMPLES / name)
            if file["why"] == "no-pixel-data" or "PhotometricInterpretation" not in header:
                continue
            is_exact = (back / name).read_bytes() == (EXAMPLES / name).read_bytes()
            pixel_format = (
                _syntax(file["transfer_syntax"]),
                header.PhotometricInterpretation,
                _kept(file),
                "exact" if is_exact else "not exact",
            )
            yield pixel_format, (header.BitsStored, header.BitsAllocated)


def _header(path: Path) -> pydicom.Dataset:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some of the examples are there to be warned of
        return pydicom.dcmread(path, stop_before_pixels=True, force=True)


def _syntax(uid: str) -> str:
    return SHORTER.get(uid, UID(uid).name.replace(" Image Compression", ""))


def _kept(file: dict[str, Any]) -> str:
    return KEPT[file["kept"]] if file["frames"] else f"whole: {file['why']}"


def _line(cells: tuple[str, ...]) -> str:
    return f"| {' | '.join(cells)} |\n"


def _cut(text: str) -> tuple[str, str, str]:
    """Return what stands before the table, the table, and what stands behind it."""
    found = re.fullmatch(f"(.*{START}\n)(.*)(\n{END}.*)", text, re.DOTALL)
    assert found, "the README has no place for the table"
    return found[1], found[2], found[3]


if __name__ == "__main__":
    before, _, behind = _cut(README.read_text("utf-8"))
    with tempfile.TemporaryDirectory() as place:
        README.write_text(before + table(Path(place)) + behind, "utf-8")
    sys.stdout.write(f"written: {README.name}\n")
