"""The daemon with faults that a test turns on and off: a script, `faulty.py run …`.

The children of the engine import it anew, and find in the folder FAULTS at each write of bytes to
a store: `full`, the disk is full; `crash`, an error nobody expected that says what stands in the
file; `broken`, an I/O error in the drop that stands in the file; `gate`, a pipe to wait at until
the test has opened and closed its other end. With `abort` every decoder ends the process, as some
do on broken frames; with `unreadable` no source can be read. What stands in the file `step` names
where a process is killed, once: a stage of a conversion, or an event of the daemon.
"""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pydicom.pixels.decoders.base import Decoder, get_decoder
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


def install_steps(faults: Path) -> None:
    from dicomzarr_watch.archive import convert

    timed = convert._Clock.__call__

    @contextmanager
    def stepped(clock: Any, stage: str) -> Iterator[None]:
        step(faults, stage)
        with timed(clock, stage):
            yield

    convert._Clock.__call__ = stepped  # type: ignore[assignment,method-assign]  # to kill there


def let_children_know() -> None:
    """Have children find FAULTS in what is left of their environment."""
    from dicomzarr_watch.operate import process

    vars(process)["NEEDED"] = (*process.NEEDED, "FAULTS")


def install_steps_in_daemon(faults: Path) -> None:
    from dicomzarr_watch.operate.logs import Event, Log

    info = Log.info

    def stepped(log: Log, event: Event, **fields: object) -> None:
        step(faults, event.value)
        info(log, event, **fields)

    Log.info = stepped  # type: ignore[assignment,method-assign]  # to kill there


def step(faults: Path, name: str) -> None:
    """End the process if it is to end here, as kill -9 would."""
    with suppress(FileNotFoundError):
        if (faults / "step").read_text() == name:
            (faults / "step").unlink()
            os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__mp_main__":  # the name that multiprocessing gives a child's
    install(Path(os.environ["FAULTS"]))
    install_steps(Path(os.environ["FAULTS"]))

if __name__ == "__main__":
    from dicomzarr_watch.cli import main

    install_steps_in_daemon(Path(os.environ["FAULTS"]))
    let_children_know()
    main()
