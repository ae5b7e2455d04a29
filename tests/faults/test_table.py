"""The README's table of faults, from what the tests of this folder counted.

    pytest -m "integration or long or soak or vm" tests/faults --counts FILE --corpus DIR
    python tests/faults/test_table.py FILE

writes it into the README.
"""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

README: Final = Path(__file__).parents[2] / "README.md"
START: Final = "<!-- table of faults -->\n"
END: Final = "<!-- end of the table of faults -->\n"
ODD: Final = ("lost", "doubled", "half_visible", "left")
HEADINGS: Final = ("fault", "times", "files", *(name.replace("_", " ") for name in ODD), "after it")


@dataclass(frozen=True)
class Row:
    """A kind of fault. unit: what is counted; empty for a row that needs none."""

    fault: str
    unit: str
    after: str


ROWS: Final = {
    "kills": Row(
        "kill -9 of the daemon, a child or what children come from, at random moments",
        "kills",
        "the same results as without",
    ),
    "steps": Row(
        "kill -9 at every named step, and before every write, fsync, rename, mkdir and unlink",
        "kills",
        "the same results as without",
    ),
    "originals": Row(
        "kill -9 in both of these ways, where `after_success` moves or deletes originals",
        "kills",
        "at any instant each in the inbox, or in an archive that gives it back",
    ),
    "refusals": Row(
        "no space, no inodes, I/O error, read-only, too many open files, half a write, a write that"
        " was none: at every call on output, staging and state",
        "calls",
        "waited for or started again, then done; all verifies",
    ),
    "masses": Row(
        "more files than events can tell of: the daemon stopped meanwhile, or all at once",
        "files",
        "every file in drop.json",
    ),
    "model": Row(
        "a producer that writes, copies, links, renames and deletes at random, against a model",
        "agreements",
        "daemon and model agree",
    ),
    "mounts": Row(
        "20 watches for 60 folders; an inbox without events, read-only, unmounted, mounted over",
        "cases",
        "nothing concluded from emptiness; goes on by itself",
    ),
    "hostile": Row(
        "hostile archives, names, kinds of files and identifiers",
        "cases",
        "refused with a code, or contained; nothing written elsewhere",
    ),
    "power": Row(
        "power cut: all that the disk was not told to keep is gone, or any part of it",
        "cuts",
        "every done.json that is visible verifies",
    ),
    "machine": Row(
        "power cut of a virtual machine: its memory is gone, and what was not yet written with it",
        "cuts",
        "every done.json that is visible verifies",
    ),
    "soak": Row(
        "mixed drops without end, under load",
        "minutes",
        "memory and file descriptors flat; no unexplained log line",
    ),
}


def table(counts: Iterable[dict[str, Any]]) -> str:
    """Return the table of some lines of counts."""
    found: dict[str, Counter[str]] = {}
    for line in counts:
        row = found.setdefault(line["row"], Counter())
        row.update({key: line[key] for key in ("times", "files", *ODD)})
    rows = [_cells(row, found[key]) for key, row in ROWS.items() if key in found]
    return "".join(map(_line, (HEADINGS, ("---",) * len(HEADINGS), *rows)))


def _cells(row: Row, counted: Counter[str]) -> tuple[str, ...]:
    numbers = (f"{counted[name]:,}" for name in ("files", *ODD))
    return (row.fault, f"{counted['times']:,} {row.unit}", *numbers, row.after)


def _line(cells: tuple[str, ...]) -> str:
    return f"| {' | '.join(cells)} |\n"


def _cut(text: str) -> tuple[str, str, str]:
    """Return what stands before the table, the table, and what stands behind it."""
    found = re.fullmatch(f"(.*{START}\n)(.*)(\n{END}.*)", text, re.DOTALL)
    assert found, "the README has no place for the table"
    return found[1], found[2], found[3]


def test_the_table_sums_up_what_was_counted() -> None:
    line = {"row": "kills", "times": 600, "files": 7} | dict.fromkeys(ODD, 0)
    *_, told = table([line, line | {"lost": 1}]).splitlines()
    assert told.split(" | ")[1:4] == ["1,200 kills", "14", "1"]


def test_the_readme_tells_of_faults_as_they_are_tested_and_of_no_loss() -> None:
    _, found, _ = _cut(README.read_text("utf-8"))
    heading, _, *rows = (line.strip("| ").split(" | ") for line in found.splitlines())
    assert tuple(heading) == HEADINGS
    known = [(row.fault, row.unit, row.after) for row in ROWS.values()]
    told = [(row[0], row[1].split()[1], row[-1]) for row in rows]
    assert told == [row for row in known if row in told]
    assert {number for row in rows for number in row[3:-1]} == {"0"}


if __name__ == "__main__":
    before, _, behind = _cut(README.read_text("utf-8"))
    with Path(sys.argv[1]).open() as counts:
        README.write_text(before + table(map(json.loads, counts)) + behind, "utf-8")
    sys.stdout.write(f"written: {README.name}\n")
