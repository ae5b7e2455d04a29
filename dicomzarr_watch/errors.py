"""Errors, named by what happens next.

A leaf says what the caller does: try again later, give the work up, or stop the program.
Messages carry no names, dates or paths of the data; `private` holds what only a person who asked
for plain identifiers may see.
"""

from __future__ import annotations

import errno


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

    def __reduce__(self) -> tuple[object, ...]:
        return (
            _rebuilt,
            (type(self), self.code, self.expected, self.found, self.todo, self.private),
        )


class RetryError(DicomzarrError):
    """The surroundings failed, not the data: try again, without counting the attempt."""


class SourceChangedError(DicomzarrError):
    """A source file changed or went away while it was read: look at the inbox again."""


class RejectError(DicomzarrError):
    """The work cannot succeed as it is: give it up and say so."""


class StopError(DicomzarrError):
    """The program cannot go on: settings or state are wrong."""


_NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT})


def from_os_error(error: OSError, *, doing: str) -> RetryError:
    """Class an operating system error that came while `doing` something, as a retry."""
    code = "no-space" if error.errno in _NO_SPACE else "io-error"
    name = errno.errorcode.get(error.errno or 0, "unknown")
    todo = "free space on the output" if code == "no-space" else "check the disk or the mount"
    return RetryError(
        code, expected=doing, found=name, todo=todo, private=str(error.filename or "")
    )


def _rebuilt(kind: type[DicomzarrError], code: str, *rest: str) -> DicomzarrError:
    expected, found, todo, private = rest
    return kind(code, expected=expected, found=found, todo=todo, private=private)
