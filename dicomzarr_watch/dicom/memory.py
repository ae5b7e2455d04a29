"""What was made of the values of one file, kept for the next one that has the same values.

The rule kept here: a part is made of the values that it asks for, and of nothing else that may
differ between files whose elements stand at the same places. So it is what it was until one of
those values changes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

V = TypeVar("V")
T = TypeVar("T")


class Memory:
    """Parts of files of the same spans, by what makes them; one file is read after the other."""

    __slots__ = ("_known", "_making", "_now", "_tags", "_then")

    def __init__(self, tags: Sequence[int]) -> None:
        """Begin with no file; tags: of the elements that all of them have."""
        self._tags = tags
        self._then: Sequence[bytes] = ()
        self._now: Sequence[bytes] = ()
        self._known: dict[Callable[[Any], Any], tuple[Any, set[int]]] = {}
        self._making: list[set[int]] = []

    def turn_to(self, values: Sequence[bytes]) -> None:
        """Turn to the next file; of the one before no parts are to be asked for any more."""
        self._now = values

    def part(self, make: Callable[[V], T], values: V) -> T:
        """Return what is made of the values of the file, or was made of the same ones.

        make: a function that stays, as it is what the part is known by.
        """
        if self._now is not self._then:
            self._forget()
        known = self._known.get(make)
        if known is None:
            asked: set[int] = set()
            self._making.append(asked)
            try:
                known = self._known[make] = make(values), asked
            finally:
                self._making.pop()
                self.note(asked)  # of what fails as well: it may not with other values
        else:
            self.note(known[1])
        found: T = known[0]
        return found

    def note(self, tags: Iterable[int]) -> None:
        """Take down that the values of these are asked for."""
        if self._making:
            self._making[-1].update(tags)

    def _forget(self) -> None:
        """Let go of all parts that were made of a value that is another now."""
        told = zip(self._tags, self._now, self._then or self._now, strict=True)
        changed = {tag for tag, value, before in told if value != before}
        self._then = self._now
        self._known = {m: known for m, known in self._known.items() if known[1].isdisjoint(changed)}
