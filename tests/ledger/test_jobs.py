from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from inbox_files import outcome

from dicomzarr_watch.ledger.jobs import (
    ACTIVE,
    ATTEMPTS_USED_UP,
    DAEMON_LOST,
    MOST_LOSSES,
    TRANSITIONS,
    IllegalStepError,
    Job,
    Patience,
    State,
    Step,
    backoff_s,
    claimed,
    ended,
    given_back,
    lost,
    step,
)
from dicomzarr_watch.outcome import Ended

JOB = Job(1, "drop", "1.2.3", "f" * 64, files=3, bytes=300)
RUNNING = replace(JOB, state=State.RUNNING, attempts=1)
PATIENCE = Patience(max_attempts=3, retry_max_s=300.0, jitter=0.0)
NOW = 1_000.0

# the whole table once more, as a person reads it: from a state (row), by a step (column)
TABLE = """
.          claim    finish  reject    retry   withdraw   recover
queued     running  -       -         -       withdrawn  -
running    -        done    rejected  queued  withdrawn  queued
done       -        -       -         queued  -          -
rejected   -        -       -         queued  -          -
withdrawn  -        -       -         queued  -          -
"""
_head, *_rows = (line.split() for line in TABLE.strip().splitlines())
CELLS = {
    (State(name), Step(happened)): State(after) if after != "-" else None
    for name, *cells in _rows
    for happened, after in zip(_head[1:], cells, strict=True)
}


def test_the_table_speaks_of_every_state_and_step() -> None:
    assert CELLS.keys() == set(itertools.product(State, Step))


@pytest.mark.parametrize(
    ("state", "happened", "after"),
    [(state, happened, after) for (state, happened), after in CELLS.items()],
    ids=[f"{s}+{h}={a or 'illegal'}" for (s, h), a in CELLS.items()],
)
def test_a_step_leads_where_the_table_says_or_raises_and_changes_nothing(
    state: State, happened: Step, after: State | None
) -> None:
    job = replace(RUNNING, state=state, code="before", folder="f", revision=2)
    assert TRANSITIONS.get((state, happened)) is after
    if after is not None:
        assert step(job, happened) == replace(job, state=after)
        return
    with pytest.raises(IllegalStepError, match=rf"^{happened} on a job that is {state}$"):
        step(job, happened)
    assert job == replace(RUNNING, state=state, code="before", folder="f", revision=2)


def test_only_a_queued_job_starts_and_only_active_ones_end() -> None:
    assert [s for (s, h) in TRANSITIONS if h is Step.CLAIM] == [State.QUEUED]
    for (before, _), after in TRANSITIONS.items():
        assert before in ACTIVE or after is State.QUEUED


@pytest.mark.parametrize("state", [s for s in State if s is not State.QUEUED])
def test_a_job_that_is_not_queued_is_not_claimed(state: State) -> None:
    with pytest.raises(IllegalStepError):
        claimed(replace(JOB, state=state))


@pytest.mark.parametrize("state", [s for s in State if s is not State.RUNNING])
@pytest.mark.parametrize("how", Ended)
def test_a_job_that_does_not_run_does_not_end(state: State, how: Ended) -> None:
    with pytest.raises(IllegalStepError):
        ended(replace(JOB, state=state), outcome(how), NOW, PATIENCE)
    with pytest.raises(IllegalStepError):
        given_back(replace(JOB, state=state))
    with pytest.raises(IllegalStepError):
        lost(replace(JOB, state=state), NOW)


def test_an_attempt_is_counted_before_it_starts() -> None:
    assert claimed(replace(JOB, code="no-space")) == replace(RUNNING, code="")


@pytest.mark.parametrize(
    ("how", "attempts", "after"),
    [
        (Ended.DONE, 1, {"state": State.DONE, "folder": "CT-1-abc", "revision": 2}),
        (Ended.REJECTED, 1, {"state": State.REJECTED}),
        (Ended.CHANGED, 1, {"state": State.WITHDRAWN, "attempts": 0}),
        (Ended.CHANGED, 3, {"state": State.WITHDRAWN, "attempts": 2}),
        (Ended.RETRY, 1, {"state": State.QUEUED, "attempts": 0, "tries": 1, "due_at": NOW + 1}),
        (Ended.RETRY, 3, {"state": State.QUEUED, "attempts": 2, "tries": 1, "due_at": NOW + 1}),
        (Ended.CRASHED, 1, {"state": State.QUEUED, "due_at": NOW + 1}),
        (Ended.CRASHED, 2, {"state": State.QUEUED, "due_at": NOW + 2}),
        (Ended.CRASHED, 3, {"state": State.REJECTED, "code": ATTEMPTS_USED_UP}),
        (Ended.CRASHED, 4, {"state": State.REJECTED, "code": ATTEMPTS_USED_UP}),
    ],
)
def test_how_a_job_ends_decides_what_becomes_of_it(
    how: Ended, attempts: int, after: dict[str, Any]
) -> None:
    job = replace(RUNNING, attempts=attempts)
    expected = replace(job, **({"code": f"code-{how}"} | after))
    assert ended(job, outcome(how), NOW, PATIENCE) == expected


def test_a_job_that_crashes_every_time_is_given_up_after_so_many_attempts() -> None:
    job = JOB
    for attempt in (1, 2, 3):
        assert job.state is State.QUEUED
        job = ended(claimed(job), outcome(Ended.CRASHED), NOW, PATIENCE)
        assert job.attempts == attempt
    assert (job.state, job.code) == (State.REJECTED, ATTEMPTS_USED_UP)


not_its_fault = st.sampled_from((Ended.RETRY, Ended.CHANGED, None))


@given(st.lists(not_its_fault, max_size=40))
def test_what_is_not_the_jobs_fault_uses_no_attempt_up(
    happenings: list[Ended | None],
) -> None:
    """A full disk, changed files, or (None) the daemon's own end, in any order and number."""
    job, tries = JOB, 0
    for how in happenings:
        job = claimed(job)
        job = given_back(job) if how is None else ended(job, outcome(how), NOW, PATIENCE)
        if job.state is State.WITHDRAWN:
            job = step(job, Step.RETRY)
        tries += how is Ended.RETRY
        assert (job.state, job.attempts, job.tries) == (State.QUEUED, 0, tries)
        if how is None:
            assert job.due_at == 0.0


def test_a_lost_daemon_uses_no_attempt_up_and_its_job_comes_after_those_that_wait() -> None:
    assert lost(replace(RUNNING, attempts=2), NOW) == replace(JOB, attempts=1, losses=1, due_at=NOW)


def test_a_job_that_the_daemon_is_lost_over_again_and_again_is_given_up() -> None:
    job = JOB
    for losses in range(1, MOST_LOSSES):
        job = lost(claimed(job), NOW)
        assert (job.state, job.attempts, job.losses) == (State.QUEUED, 0, losses)
    job = lost(claimed(job), NOW)
    assert (job.state, job.code) == (State.REJECTED, DAEMON_LOST)


@pytest.mark.parametrize("how", [Ended.RETRY, Ended.CRASHED])
def test_a_job_that_came_to_an_end_is_not_what_the_daemon_is_lost_over(how: Ended) -> None:
    job = replace(RUNNING, losses=MOST_LOSSES - 1)
    assert ended(job, outcome(how), NOW, PATIENCE).losses == 0


tries = st.integers(0, 2_000)
longest = st.floats(0.01, 1e6)
jitters = st.floats(0.0, 1.0)


@given(tries, tries, longest, jitters)
def test_a_pause_is_no_shorter_after_more_tries(
    some: int, more: int, retry_max_s: float, jitter: float
) -> None:
    patience = Patience(3, retry_max_s, jitter)
    assert backoff_s(min(some, more), patience) <= backoff_s(max(some, more), patience)


@given(tries, longest, jitters)
def test_a_pause_doubles_up_to_the_longest_less_at_most_half(
    count: int, retry_max_s: float, jitter: float
) -> None:
    full = backoff_s(count, Patience(3, retry_max_s, 0.0))
    assert full == (retry_max_s if count > 40 else min(retry_max_s, 2.0 ** min(count, 30)))
    assert full / 2 <= backoff_s(count, Patience(3, retry_max_s, jitter)) <= full
    assert backoff_s(count, Patience(3, retry_max_s, 1.0)) == full / 2
