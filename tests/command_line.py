"""What the tests of the commands share: an answer, and drops that were converted."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Answer:
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Ask = Callable[..., Answer]


@dataclass(frozen=True)
class Converted:
    """Two drops with three series, and the output that they were converted to."""

    drops: Path
    output: Path
    files: dict[str, bytes]

    def store(self, drop: str, number: int) -> Path:
        (found,) = (self.output / drop).glob(f"CT-{number}-*/series.zarr")
        return found
