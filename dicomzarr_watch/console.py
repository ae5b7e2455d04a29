"""What a person sees who waits: a progress bar on a terminal, plain lines elsewhere.

The rule: what comes from names never steers the terminal, and any of them can be printed: what is
not a letter or sign of its own, or not one of the terminal's, is shown by its number.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

Advance = Callable[[str, int], None]
"""Told the stage and how many more bytes are done."""

out = Console(highlight=False, emoji=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, emoji=False, soft_wrap=True)


@contextmanager
def progress(title: str, total_bytes: int) -> Iterator[Advance]:
    """Show how bytes are worked off, on stderr if that is a terminal."""
    if not sys.stderr.isatty():
        yield lambda _stage, _count: None
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    title = _plain(title, err)
    with Progress(*columns, console=err, transient=True) as bars:
        task = bars.add_task(title, total=max(total_bytes, 1))

        def advance(stage: str, count: int) -> None:
            bars.update(task, advance=count, description=f"{title} {stage}".strip())

        yield advance


def say(line: str) -> None:
    """Print a line of an answer, without reading markup into it."""
    out.print(_plain(line, out), markup=False)


def complain(line: str) -> None:
    """Print a line about a problem."""
    err.print(_plain(line, err), markup=False)


def as_json(document: Any) -> None:
    """Print an answer for a program."""
    out.print(json.dumps(document, indent=1), markup=False)


def _plain(line: str, console: Console) -> str:
    """Show what cannot be printed by its number; of names that are no text, the bytes."""
    told = "".join(letter if letter.isprintable() else _number(letter) for letter in line)
    return told.encode(console.encoding, "backslashreplace").decode(console.encoding)


def _number(letter: str) -> str:
    is_byte = "\udc80" <= letter <= "\udcff"  # as Python names what is not UTF-8
    return rf"\x{ord(letter) - 0xDC00:02x}" if is_byte else ascii(letter)[1:-1]


def megabytes(count: int) -> str:
    """Return a size as people read it."""
    return f"{count / 1e6:,.1f} MB"
