"""What only the daemon's own user may see: the state, and results that are not published yet."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Final

FOLDER_MODE: Final = 0o700
FILE_MODE: Final = 0o600


def make_folder(path: Path) -> None:
    """Make a folder that nobody else may look into, or let it be one."""
    path.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
    _close(path, FOLDER_MODE)


def make_file(path: Path, *, is_new: bool = False) -> None:
    """Make an empty file that nobody else may read, or let it be one.

    Raises FileExistsError if it is to be new and is not.
    """
    path.touch(mode=FILE_MODE, exist_ok=not is_new)
    _close(path, FILE_MODE)


def hand_over(path: Path) -> None:
    """Give what was just made to the owner of the folder that it is in, if root made it."""
    if os.geteuid() == 0:
        above = path.parent.stat()
        os.chown(path, above.st_uid, above.st_gid, follow_symlinks=False)


def _close(path: Path, mode: int) -> None:
    if path.stat().st_mode & 0o777 != mode:
        with suppress(PermissionError):  # somebody else's: they decide
            path.chmod(mode)
