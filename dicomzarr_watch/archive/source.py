"""The files a series is made from."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

from dicomzarr_watch.errors import SourceChangedError, from_os_error
from dicomzarr_watch.identity import Identity


@dataclass(frozen=True, slots=True)
class Source:
    """One file: its name in the drop (parts joined by `/`), where it is, and its state."""

    name: str
    path: Path
    identity: Identity


@contextmanager
def opened(source: Source) -> Iterator[FileIO]:
    """Open a source for reading; raises if it is not in the state it was found in.

    Raises SourceChangedError before or after the reading, RetryError for what the system refuses.
    """
    try:
        stream = source.path.open("rb", buffering=0)
    except FileNotFoundError as error:
        raise SourceChangedError("source-changed", found="no file") from error
    except OSError as error:
        raise from_os_error(error, doing="a source that can be read") from error
    with stream:
        _check(source, stream)
        yield stream
        _check(source, stream)


def _check(source: Source, stream: FileIO) -> None:
    if Identity.of(os.fstat(stream.fileno())) != source.identity:
        raise SourceChangedError("source-changed", found="another state of a file")
