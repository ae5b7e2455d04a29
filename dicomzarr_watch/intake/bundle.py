"""What a bundle, a zip or tar file, is called: in paths, and where series have a UID."""

from __future__ import annotations

import os
from enum import StrEnum
from typing import Final
from urllib.parse import quote

INSIDE: Final = "//"
"""Between the path of a bundle and the name of a member; no other path of an inbox has it."""

_READABLE: Final = "/ ()[]{}+,;=@!$&#"


class Form(StrEnum):
    """How a bundle holds its members."""

    ZIP = "zip"
    TAR = "tar"
    TAR_GZ = "tar.gz"
    TAR_ZST = "tar.zst"


_ENDINGS: Final = {
    ".zip": Form.ZIP,
    ".tar": Form.TAR,
    ".tar.gz": Form.TAR_GZ,
    ".tgz": Form.TAR_GZ,
    ".tar.zst": Form.TAR_ZST,
    ".tzst": Form.TAR_ZST,
}
_LAST: Final = frozenset(ending[-4:] for ending in _ENDINGS)


def form(name: str) -> Form | None:
    """Tell by its name whether a file is a bundle, and of which form."""
    return _ENDINGS.get(_ending(name))


def stem(name: str) -> str:
    """Return a bundle's name without its ending."""
    return name[: len(name) - len(_ending(name))]


def _ending(name: str) -> str:
    if name[-4:].lower() not in _LAST:  # a million names are to take no time
        return ""
    lower = name.lower()
    return max((end for end in _ENDINGS if lower.endswith(end)), key=len, default="")


def outermost(path: str) -> str:
    """Return the bundle of the inbox that a path leads into; empty if into none."""
    bundle, inside, _ = path.partition(INSIDE)
    return bundle if inside else ""


def series_uid(path: str) -> str:
    """Return what stands for a bundle where series have a UID, as it waits like one of one file.

    No UID that was read from a file begins with a blank.
    """
    return f" {quote(os.fsencode(path), safe=_READABLE)}"


def is_of_bundle(uid: str) -> bool:
    """Tell whether this stands for a bundle."""
    return uid.startswith(" ")
