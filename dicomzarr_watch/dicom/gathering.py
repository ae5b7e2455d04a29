"""What has something in common, put together."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import TypeVar

K = TypeVar("K")
T = TypeVar("T")


def gathered(pairs: Iterable[tuple[K, T]]) -> dict[K, list[T]]:
    """Return all that comes with the same key, in order."""
    found: dict[K, list[T]] = defaultdict(list)
    for key, one in pairs:
        found[key].append(one)
    return found
