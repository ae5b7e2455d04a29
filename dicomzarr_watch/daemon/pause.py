"""The output's pauses: when it takes no results, nothing starts but a try now and then.

Jobs for which alone there is no room wait as well, and others pass them. Where the output is away,
nothing starts at all until it is back. Each is said once, and that they are over is said once.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from dicomzarr_watch.archive.disk import takes_files
from dicomzarr_watch.config import Settings
from dicomzarr_watch.daemon.mark import Mark
from dicomzarr_watch.errors import NO_SPACE, OUTPUT_ERROR, RetryError
from dicomzarr_watch.ledger.jobs import Patience, backoff_s
from dicomzarr_watch.ledger.notice import note_paused
from dicomzarr_watch.operate.logs import Event, Log
from dicomzarr_watch.outcome import UNPACKED, Ended, Outcome, of_error


def patience(settings: Settings) -> Patience:
    """Return how often and how long to try again, with an amount of chance to spread it."""
    jitter = random.random()  # noqa: S311 - spreads retries, guards nothing
    return Patience(settings.max_attempts, settings.retry_max_s, jitter)


class Pause:
    """Whether jobs wait for the output, and since how many tries."""

    def __init__(self, settings: Settings, log: Log) -> None:
        self._settings = settings
        self._log = log
        self._mark = Mark(settings.output)
        note_paused(settings.state, "")  # whatever the last daemon ended in
        self._lack: RetryError | None = None
        self._tries = 0
        self._since = 0.0
        self._until = 0.0
        self._waiting: set[int] = set()
        self._is_said = False

    @property
    def is_on(self) -> bool:
        """Whether the output took nothing when it was last tried."""
        return self._tries > 0

    @property
    def is_vain(self) -> bool:
        """Whether it has been tried as often as a job would be, or is away."""
        return self.is_away or self._tries >= self._settings.max_attempts

    @property
    def is_away(self) -> bool:
        """Whether the output was not the one that the daemon started with at the last look."""
        return self._lack is not None

    def look(self) -> None:
        """Look whether the output is there, and say when it goes and comes back."""
        lack = self._mark.lack()
        if lack is not None and not self.is_away:
            self._is_said = False
            self._say(of_error(lack))
        self._lack = lack
        self._say_over()

    def judged(self, outcome: Outcome) -> Outcome:
        """Return how a job ended; what ends well while the output is away may be elsewhere."""
        is_result = outcome.ended is Ended.DONE and outcome.code != UNPACKED
        return of_error(self._lack) if self._lack and is_result else outcome

    def due_in_s(self, now: float) -> float:
        """Return in how many seconds it is to be tried again; at once if the clock was set back."""
        return max(0.0, self._until - now) if now >= self._since else 0.0

    def begin(self, outcome: Outcome, now: float) -> None:
        """Let all jobs wait because of what became of one, for longer each time."""
        self._say(outcome)
        self._since = now
        self._until = now + backoff_s(self._tries, patience(self._settings))
        self._tries += 1

    def end(self) -> None:
        """Take note that the output took a result."""
        self._tries = 0
        self._say_over()

    def put_off(self, job: int, outcome: Outcome) -> None:
        """Let one job wait, for which there is no room."""
        self._waiting.add(job)
        self._say(outcome)

    def review(self, is_waiting: Callable[[int], bool]) -> None:
        """Forget the jobs that wait for room no more."""
        self._waiting = set(filter(is_waiting, self._waiting))
        self._say_over()

    def is_for(self, outcome: Outcome) -> bool:
        """Tell whether the output fails all jobs, and not this one alone.

        That one is full is not tried out: it may well have room for a small file.
        """
        if outcome.code == OUTPUT_ERROR:
            return not takes_files(self._settings.output)
        return outcome.code == NO_SPACE

    def _say(self, outcome: Outcome) -> None:
        if not self._is_said:
            note_paused(self._settings.state, outcome.code)
            self._log.warning(Event.OUTPUT_PAUSED, code=outcome.code, told=outcome.told)
        self._is_said = True

    def _say_over(self) -> None:
        if self._is_said and not (self.is_on or self._waiting or self.is_away):
            note_paused(self._settings.state, "")
            self._log.info(Event.OUTPUT_RESUMED)
            self._is_said = False
