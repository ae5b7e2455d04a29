"""The daemon with faults that a test turns on and off: a script, `faulty.py run …`.

The children of the engine import it anew, and find in the folder FAULTS at each write of bytes to
a store: `full`, the disk is full; `crash`, an error nobody expected that says what stands in the
file; `broken`, an I/O error in the drop that stands in the file; `gate`, a pipe to wait at until
the test has opened and closed its other end. With `abort` every decoder ends the process, as some
do on broken frames; with `unreadable` no source can be read.
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path

from pydicom.pixels.decoders.base import Decoder
from pydicom.uid import UID


def install(faults: Path) -> None:
    from dicomzarr_watch import source
    from dicomzarr_watch.archive import blob, shard
    from dicomzarr_watch.dicom import pixels
    from dicomzarr_watch.errors import from_source_error

    write_all = shard.write_all

    def faulty(descriptor: int, data: bytes) -> None:
        with suppress(FileNotFoundError):
            (faults / "gate").read_bytes()
        if (faults / "full").exists():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if (faults / "crash").exists():
            raise ValueError((faults / "crash").read_text())
        with suppress(FileNotFoundError):
            drop, written = (faults / "broken").read_text(), Path(f"/proc/self/fd/{descriptor}")
            if drop in written.readlink().parts:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
        write_all(descriptor, data)

    for module in (blob, shard):
        vars(module)["write_all"] = faulty
    get_decoder = pixels.get_decoder

    def aborting(uid: UID) -> Decoder:
        if (faults / "abort").exists():
            os.abort()
        return get_decoder(uid)

    vars(pixels)["get_decoder"] = aborting
    check = vars(source)["_check"]

    def checked(*arguments: object) -> None:
        if (faults / "unreadable").exists():
            raise from_source_error(OSError(errno.EIO, os.strerror(errno.EIO)))
        check(*arguments)

    vars(source)["_check"] = checked


if __name__ == "__mp_main__":  # the name that multiprocessing gives a child's
    install(Path(os.environ["FAULTS"]))

if __name__ == "__main__":
    from dicomzarr_watch.cli import main

    main()
