"""Processes as the system tells of them: who is below whom, their memory and CPU time."""

from __future__ import annotations

import os
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


def family(root: int) -> list[int]:
    """Return a process and all below it."""
    parents: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        if fields := _stat(int(path.parent.name)):
            parents.setdefault(int(fields[1]), []).append(int(path.parent.name))
    found, todo = [], [root]
    while todo:
        process = todo.pop()
        found.append(process)
        todo += parents.get(process, [])
    return found


def cpu_seconds(process: int, *, with_ended: bool) -> float:
    """Return the CPU time of a process; with that of those it waited for."""
    fields = _stat(process)
    return sum(map(int, fields[11 : 15 if with_ended else 13])) / _TICKS


def memory(process: int) -> tuple[int, int]:
    """Return the resident set size of a process and the proportional one, in bytes."""
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0, 0
    sizes = {line.split(":")[0]: int(line.split()[1]) << 10 for line in lines[1:]}
    return sizes.get("Rss", 0), sizes.get("Pss", 0)


def _stat(process: int) -> list[str]:
    """Return the fields behind the name; none if it has ended."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return []
