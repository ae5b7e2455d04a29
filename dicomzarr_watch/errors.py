"""Errors, named by what happens next.

A leaf says what the caller does: try again later, give the work up, or stop the program.
Messages carry no names, dates or paths of the data; `private` holds what only a person who asked
for plain identifiers may see.
"""

from __future__ import annotations

import errno
from typing import Final


class DicomzarrError(Exception):
    """Root of all errors of this package.

    code: a stable word for monitoring, such as `verification-failed`.
    """

    def __init__(
        self, code: str, *, expected: str = "", found: str = "", todo: str = "", private: str = ""
    ) -> None:
        self.code = code
        self.expected = expected
        self.found = found
        self.todo = todo
        self.private = private
        super().__init__(code)

    def __str__(self) -> str:
        parts = [
            f"expected {self.expected}" if self.expected else "",
            f"found {self.found}" if self.found else "",
            self.todo,
        ]
        told = "; ".join(p for p in parts if p)
        return f"{self.code}: {told}" if told else self.code


class RetryError(DicomzarrError):
    """The surroundings failed, not the data: try again, without counting the attempt."""


class SourceChangedError(DicomzarrError):
    """A source file changed or went away while it was read: look at the inbox again."""


class RejectError(DicomzarrError):
    """The work cannot succeed as it is: give it up and say so."""


class StopError(DicomzarrError):
    """The program cannot go on: settings or state are wrong."""


NO_SPACE: Final = "no-space"
OUTPUT_ERROR: Final = "output-error"
OUTPUT_GONE: Final = "output-gone"
OUTPUT_REPLACED: Final = "output-replaced"

_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


def from_output_error(error: OSError) -> RetryError:
    """Class what the system said of the output: the same for all work, until it is mended."""
    expected = "an output that can be written"
    if error.errno in _FULL:
        return _refused(error, NO_SPACE, expected, "free space on the output")
    return _refused(error, OUTPUT_ERROR, expected, "check the output's disk or mount")


def from_source_error(error: OSError) -> RetryError:
    """Class what the system said of a source: of this work alone."""
    todo = "check permissions, disk or mount of the inbox"
    return _refused(error, "source-unreadable", "a source that can be read", todo)


def from_state_error(error: OSError) -> RetryError:
    """Class what the system said of the state folder: of work that needs room in it."""
    expected = "a state folder that can be written"
    if error.errno in _FULL:
        return _refused(error, "state-full", expected, "free space for the state folder")
    return _refused(error, "state-error", expected, "check the state folder's disk")


def from_archive_error(error: OSError) -> RetryError:
    """Class what the system said of an archive that originals are compared with."""
    todo = "check the output's disk or mount"
    return _refused(error, "archive-unreadable", "an archive that can be read", todo)


def from_clearing_error(error: OSError) -> RetryError:
    """Class what the system said as an original was to be moved or deleted."""
    expected = "an inbox, and a place to move files to, that can be written"
    todo = "let the daemon's user write there, or set after_success to keep"
    return _refused(error, "cannot-clear", expected, todo)


def from_child_error(error: OSError | EOFError) -> RetryError:
    """Class why a child does not start: it is the machine's fault, and that of no work."""
    return RetryError(
        "no-child",
        expected="a further process, and a lock for it in the state folder",
        found=_errno_name(error) if isinstance(error, OSError) else "its end",
        todo="check memory, processes, open files and the state's disk",
    )


def _refused(error: OSError, code: str, expected: str, todo: str) -> RetryError:
    return RetryError(
        code,
        expected=expected,
        found=_errno_name(error),
        todo=todo,
        private=str(error.filename or ""),
    )


def _errno_name(error: OSError) -> str:
    return errno.errorcode.get(error.errno or 0, "unknown")
