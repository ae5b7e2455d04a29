"""Files that only the listing found, as no event told of them.

Events come by another way than listings, some of them late. So a look that nobody asked for keeps
what it found in mind; an event soon after it is taken to be about that. Where events are lost in
part this counts too few, and where there are none it counts all.
"""

from __future__ import annotations

from typing import Final

TOLD_WITHIN_S: Final = 5.0
"""An event comes so soon after its file on a busy machine too; watchdog keeps it for 0.5 s."""


class Silence:
    """What looks found that no event had asked for."""

    def __init__(self) -> None:
        self._found: list[tuple[float, int]] = []

    def looked(self, now_s: float, new: int, *, is_asked_for: bool) -> int:
        """Take in a look and its new files; return how many files will not be told of any more.

        is_asked_for: whether an event came, or anything else that explains new files, since the
        look before began.
        """
        if is_asked_for:
            self._found.clear()
            return 0
        over = [count for at, count in self._found if at + TOLD_WITHIN_S <= now_s]
        del self._found[: len(over)]
        if new:
            self._found.append((now_s, new))
        return sum(over)
