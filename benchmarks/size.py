"""How large archives are, as a part of their DICOM files: uncompressed series of some folders.

    python benchmarks/size.py FOLDER

Every folder below FOLDER is converted; series with compressed files are left out of the sum. The
goal is 0.30 over all series, with everything that is published.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from measured import size_of

from dicomzarr_watch.archive.convert import convert
from dicomzarr_watch.archive.work import Level
from dicomzarr_watch.batch import batch
from dicomzarr_watch.dicom.part10 import NATIVE

GOAL = 0.30


def main() -> None:
    total_in = total_out = 0
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder)
        places = [path for path in sorted(Path(sys.argv[1]).iterdir()) if path.is_dir()]
        for work in batch(places, output, level=Level.EXACT).works:
            receipt = convert(work)
            final = output / work.drop / receipt.folder
            files = json.loads((final / "series.json").read_bytes())["files"]
            if all(file["transfer_syntax"] in NATIVE for file in files):
                total_in += receipt.counts["bytes_in"]
                total_out += size_of(final)
    print(f"{total_in / 1e6:.1f} MB in, {total_out / 1e6:.1f} MB out: {total_out / total_in:.3f}")


if __name__ == "__main__":
    main()
