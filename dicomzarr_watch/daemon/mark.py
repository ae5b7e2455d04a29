"""The mark that the daemon leaves in its output, to tell it from another one in the same place.

The rule: where the output is not the one that the daemon started with, such as one that is no
longer mounted, nothing is made, published or cleared. Its device number would not do: the same file
system may have another one when it is mounted again.
"""

from __future__ import annotations

import secrets
from contextlib import suppress
from pathlib import Path
from typing import Final

from dicomzarr_watch import private
from dicomzarr_watch.archive.disk import STAGING
from dicomzarr_watch.errors import OUTPUT_GONE, OUTPUT_REPLACED, RetryError
from dicomzarr_watch.identity import Place

MARK: Final = ".mark"


class Mark:
    """One daemon's mark; it stands in staging, which goes when the daemon ends."""

    def __init__(self, output: Path) -> None:
        self._output = output
        self._path = output / STAGING / MARK
        self._token = secrets.token_hex(16)
        self._place = _place(output)

    def lack(self) -> RetryError | None:
        """Return what to say if the output is gone or is another one; None if it is there.

        A mark that could not be made, or that somebody took away, is made as long as the folder was
        never seen to be another one.
        """
        token, place = self._read(), _place(self._output)
        if token == self._token:
            self._place = place
        elif place is None or place != self._place:
            self._place = None  # from now on the mark alone tells
            return _lost(OUTPUT_REPLACED if token else OUTPUT_GONE)
        else:
            self._make()
        return None

    def _read(self) -> str:
        try:
            return self._path.read_text("ascii")
        except (OSError, ValueError):
            return ""

    def _make(self) -> None:
        with suppress(OSError):  # such as a full disk
            self._path.parent.mkdir(mode=private.FOLDER_MODE, exist_ok=True)
            self._path.write_text(self._token, "ascii")


def _place(output: Path) -> Place | None:
    try:
        return Place.at(output)
    except OSError:
        return None


def _lost(code: str) -> RetryError:
    return RetryError(
        code,
        expected="the output that the daemon started with",
        found="another daemon's"
        if code == OUTPUT_REPLACED
        else "no folder, or one without its mark",
        todo="mount it again; or start the daemon again, if it is to go on with what is there now",
    )
