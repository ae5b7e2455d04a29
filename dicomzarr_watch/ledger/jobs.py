"""The states of a job, and which comes next. The table is the whole truth; nothing here acts.

A job is one set of files of one series, named by its fingerprint. An attempt is counted before it
starts; the surroundings' failures, files that change and the daemon's own end give it back. A
daemon that is lost is counted apart: a job that it is lost over again and again is the reason.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final

from dicomzarr_watch.outcome import Ended, Outcome

ATTEMPTS_USED_UP: Final = "attempts-used-up"
DAEMON_LOST: Final = "daemon-lost"
MOST_LOSSES: Final = 20
"""So often in a row may the daemon be lost while a job runs; chance alone does not come so far."""


class State(StrEnum):
    """Where a job stands. WITHDRAWN: its files changed, another job has them."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    REJECTED = "rejected"
    WITHDRAWN = "withdrawn"


class Step(StrEnum):
    """What can happen to a job."""

    CLAIM = "claim"
    FINISH = "finish"
    REJECT = "reject"
    RETRY = "retry"
    WITHDRAW = "withdraw"
    RECOVER = "recover"


TRANSITIONS: Final[dict[tuple[State, Step], State]] = {
    (State.QUEUED, Step.CLAIM): State.RUNNING,
    (State.QUEUED, Step.WITHDRAW): State.WITHDRAWN,
    (State.RUNNING, Step.FINISH): State.DONE,
    (State.RUNNING, Step.REJECT): State.REJECTED,
    (State.RUNNING, Step.RETRY): State.QUEUED,
    (State.RUNNING, Step.WITHDRAW): State.WITHDRAWN,
    (State.RUNNING, Step.RECOVER): State.QUEUED,
    (State.DONE, Step.RETRY): State.QUEUED,  # what it made is gone
    (State.REJECTED, Step.RETRY): State.QUEUED,
    (State.WITHDRAWN, Step.RETRY): State.QUEUED,
}

ACTIVE: Final = frozenset({State.QUEUED, State.RUNNING})


class IllegalStepError(Exception):
    """A step that the table does not have; nothing was changed."""


@dataclass(frozen=True, slots=True)
class Job:
    """One row; times in seconds since the epoch.

    tries: attempts that the surroundings failed, for the back-off alone.
    losses: how often in a row the daemon was lost while it ran. turn: when it comes among others;
    not a part of what it is.
    """

    id: int
    drop: str
    series_uid: str
    fingerprint: str
    files: int
    bytes: int
    state: State = State.QUEUED
    attempts: int = 0
    tries: int = 0
    due_at: float = 0.0
    code: str = ""
    folder: str = ""
    revision: int = 0
    losses: int = 0
    turn: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Patience:
    """How often and how long to try again. jitter: 0 to 1, drawn by the caller."""

    max_attempts: int
    retry_max_s: float
    jitter: float


def next_turn(turn_now: int, last_of_drop: int | None) -> int:
    """Return the turn of a job that is queued: drops take turns, each its jobs one after the other.

    turn_now: of the job that was started last. last_of_drop: of those of its drop that are queued
    or running the last one's. So a small drop comes next, whatever a huge one has queued before,
    and among drops of one series the oldest comes first.
    """
    return turn_now if last_of_drop is None else max(turn_now, last_of_drop + 1)


def step(job: Job, happened: Step) -> Job:
    """Move a job by the table; raises IllegalStepError and changes nothing otherwise."""
    try:
        return replace(job, state=TRANSITIONS[job.state, happened])
    except KeyError:
        raise IllegalStepError(f"{happened} on a job that is {job.state}") from None


def claimed(job: Job) -> Job:
    """Count the attempt, then start it."""
    return replace(step(job, Step.CLAIM), attempts=job.attempts + 1, code="")


def renewed(job: Job) -> Job:
    """Give a job that is over all its attempts again."""
    again = step(job, Step.RETRY)
    return replace(again, attempts=0, tries=0, losses=0, due_at=0.0, code="")


def given_back(job: Job) -> Job:
    """Take back an attempt that the daemon ended in good order."""
    return replace(step(job, Step.RECOVER), attempts=job.attempts - 1, due_at=0.0)


def lost(job: Job, now: float) -> Job:
    """Say what becomes of a job that was running as the daemon was lost: later, or never again.

    It uses no attempt up, since a lost daemon is mostly not the job's fault; it comes after those
    that wait, so that one whose fault it is does not keep them from being done.
    """
    losses = job.losses + 1
    if losses >= MOST_LOSSES:
        return replace(step(job, Step.REJECT), code=DAEMON_LOST, losses=losses)
    return replace(given_back(job), losses=losses, due_at=now)


def ended(job: Job, outcome: Outcome, now: float, patience: Patience) -> Job:
    """Decide what becomes of a running job; raises IllegalStepError for any other."""
    if job.state is not State.RUNNING:
        raise IllegalStepError(f"{outcome.ended} on a job that is {job.state}")
    job = replace(job, losses=0)  # it ended, and the daemon did not
    match outcome.ended:
        case Ended.DONE:
            return replace(
                step(job, Step.FINISH),
                code=outcome.code,
                folder=str(outcome.summary["folder"]),
                revision=int(outcome.summary["revision"]),
            )
        case Ended.REJECTED:
            return replace(step(job, Step.REJECT), code=outcome.code)
        case Ended.CHANGED:
            back = replace(step(job, Step.WITHDRAW), attempts=job.attempts - 1)
            return replace(back, code=outcome.code)
        case Ended.RETRY:
            pause_s = backoff_s(job.tries, patience)
            back = replace(step(job, Step.RETRY), attempts=job.attempts - 1, tries=job.tries + 1)
            return replace(back, code=outcome.code, due_at=now + pause_s)
        case Ended.CRASHED:
            if job.attempts >= patience.max_attempts:
                return replace(step(job, Step.REJECT), code=ATTEMPTS_USED_UP)
            pause_s = backoff_s(job.attempts - 1, patience)
            return replace(step(job, Step.RETRY), code=outcome.code, due_at=now + pause_s)


def backoff_s(tries: int, patience: Patience) -> float:
    """Return a pause that doubles from one second up to the longest, less some jitter."""
    longest: float = min(patience.retry_max_s, 2.0 ** min(tries, 30))
    return longest * (1 - patience.jitter / 2)
