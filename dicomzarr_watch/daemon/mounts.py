"""On what kind of file system a path is, and whether others change that one as well."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

REMOTE: Final = frozenset(
    {"9p", "afs", "beegfs", "ceph", "cifs", "glusterfs", "lustre", "ncpfs", "nfs", "nfs4", "smb3"}
)
"""File systems that others change without this machine's kernel seeing it; so do those of FUSE."""

_OCTAL: Final = re.compile(r"\\([0-7]{3})")
"""As a space stands in the kernel's list of mounts, and what else could be taken for its form."""


def mounts() -> str:
    """Return what is mounted where, as the kernel tells it."""
    return os.fsdecode(Path("/proc/self/mountinfo").read_bytes())


def file_system(path: Path, mounts: str) -> str:
    """Return the kind of file system a path is on, from the text of `mounts`."""
    kinds = {}
    for line in filter(None, mounts.split("\n")):
        before, _, after = line.partition(" - ")
        place = _OCTAL.sub(lambda found: chr(int(found[1], 8)), before.split(" ")[4])
        kinds[Path(place)] = after.split(" ")[0]
    return next((kinds[p] for p in (path, *path.parents) if p in kinds), "")


def is_remote(kind: str) -> bool:
    """Tell whether others may change such a file system behind the kernel's back."""
    return kind in REMOTE or kind.startswith("fuse")
