"""The ledger against dictionaries: whatever it is told in whatever order, it says it again."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from inbox_files import outcome, present

from dicomzarr_watch.identity import Identity
from dicomzarr_watch.ledger.jobs import ACTIVE, Job, Patience, State, ended, lost
from dicomzarr_watch.ledger.rows import ArrivingRow, FileRow
from dicomzarr_watch.ledger.store import Ledger
from dicomzarr_watch.outcome import Ended

PATIENCE = Patience(max_attempts=2, retry_max_s=8.0, jitter=0.5)
ODD = os.fsdecode(b"M\xfcller\n")

drops = st.sampled_from(("a", ODD))
uids = st.sampled_from(("", "1.2"))
series = st.tuples(drops, uids)
paths = st.tuples(drops, st.sampled_from(("1", ODD))).map("/".join)
identities = st.builds(Identity, st.integers(0, 2), st.just(1 << 62), st.just(2), st.just(3))


@st.composite
def file_rows(draw: st.DrawFn) -> FileRow:
    path = draw(paths)
    kind = draw(st.sampled_from(("dicom", "not-dicom", "unreadable")))
    uid, is_truncated = draw(uids), draw(st.booleans())
    drop = path.split("/")[0]
    return FileRow(path, drop, draw(identities), kind, uid, is_truncated)


some_files = st.lists(file_rows(), max_size=3, unique_by=lambda row: row.path)


class LedgerMachine(RuleBasedStateMachine):
    """The ledger, held against dictionaries; its file is closed and opened again at any time."""

    def __init__(self) -> None:
        super().__init__()
        self.state = Path(tempfile.mkdtemp())
        self.open()
        self.files: dict[str, FileRow] = {}
        self.jobs: dict[int, Job] = {}
        self.arriving: dict[tuple[str, str], ArrivingRow] = {}
        self.unreported: set[str] = set()

    def open(self) -> None:
        self.ledger = Ledger.own(self.state)
        self.reader = Ledger.read(self.state)

    def close(self) -> None:
        self.reader.close()
        self.ledger.close()

    def teardown(self) -> None:
        self.close()
        shutil.rmtree(self.state)

    def in_state(self, *states: State) -> list[Job]:
        return [job for job in self.jobs.values() if job.state in states]

    # --- files ---

    @rule(changed=some_files, gone=st.lists(paths, max_size=2))
    def record(self, changed: list[FileRow], gone: list[str]) -> None:
        self.ledger.record(changed, [(path, path.split("/")[0]) for path in gone], now=5.0)
        self.unreported |= {row.drop for row in changed} | {path.split("/")[0] for path in gone}
        for row in changed:
            before = self.files.get(row.path)
            is_same = before is not None and before.identity == row.identity
            self.files[row.path] = replace(row, job=before.job if before and is_same else None)
        for path in gone:
            if path in self.files:
                self.files[path] = replace(self.files[path], gone_at=5.0)

    # --- jobs ---

    @rule(of=series, fingerprint=st.sampled_from("xyz"))
    def offer(self, of: tuple[str, str], fingerprint: str) -> None:
        found = self.ledger.jobs.offer(*of, fingerprint, 3, 300)
        rivals = [j for j in self.jobs.values() if (j.drop, j.series_uid) == of]
        same = next((j for j in rivals if j.fingerprint == fingerprint), None)
        if same and same.state is not State.WITHDRAWN:
            assert found == same
            return
        if any(j.state is State.RUNNING for j in rivals):
            assert found is None
            return
        for rival in rivals:
            if rival.state is State.QUEUED:
                self.jobs[rival.id] = replace(rival, state=State.WITHDRAWN)
        number = len(self.jobs) + 1
        fresh = Job(number, *of, fingerprint, 3, 300)
        expected = replace(same, state=State.QUEUED) if same else fresh
        assert found == expected
        self.jobs[expected.id] = found

    @precondition(lambda self: self.in_state(State.QUEUED))
    @rule(data=st.data())
    def claim(self, data: st.DataObject) -> None:
        job = data.draw(st.sampled_from(self.in_state(State.QUEUED)))
        found = self.ledger.jobs.claim(job)
        assert found == replace(job, state=State.RUNNING, attempts=job.attempts + 1, code="")
        self.jobs[job.id] = found

    @precondition(lambda self: self.in_state(State.RUNNING))
    @rule(
        data=st.data(),
        how=st.sampled_from(Ended),
        through=st.dictionaries(paths, identities),
    )
    def settle(self, data: st.DataObject, how: Ended, through: dict[str, Identity]) -> None:
        job = data.draw(st.sampled_from(self.in_state(State.RUNNING)))
        after = ended(job, outcome(how), 1000.5, PATIENCE)
        assert self.ledger.conclude(after, through.items()) == after
        self.jobs[job.id] = after
        self.unreported.add(job.drop)
        for path in self.files.keys() & through.keys():
            if self.files[path].identity == through[path]:
                self.files[path] = replace(self.files[path], job=job.id)

    @precondition(lambda self: self.in_state(State.RUNNING))
    @rule(data=st.data())
    def give_back(self, data: st.DataObject) -> None:
        job = data.draw(st.sampled_from(self.in_state(State.RUNNING)))
        self.jobs[job.id] = self.ledger.jobs.give_back(job)
        back = replace(job, state=State.QUEUED, attempts=job.attempts - 1, due_at=0.0)
        assert self.jobs[job.id] == back

    @precondition(lambda self: self.in_state(State.QUEUED))
    @rule(data=st.data())
    def withdraw(self, data: st.DataObject) -> None:
        job = data.draw(st.sampled_from(self.in_state(State.QUEUED)))
        self.jobs[job.id] = self.ledger.jobs.withdraw(job)
        assert self.jobs[job.id] == replace(job, state=State.WITHDRAWN)

    # --- what is arriving, and the end ---

    @rule(rows=st.dictionaries(series, st.sampled_from(("settle", "truncated", ""))))
    def note_arriving(self, rows: dict[tuple[str, str], str]) -> None:
        noted = {of: ArrivingRow(*of, waits_for, 4) for of, waits_for in rows.items()}
        self.ledger.drops.note_arriving(noted.values())
        self.arriving = {of: r for of, r in (self.arriving | noted).items() if r.waits_for}

    @rule(drop=drops)
    def note_reported(self, drop: str) -> None:
        self.ledger.drops.note_reported(drop)
        self.unreported.discard(drop)

    @rule()
    def end_and_start_again(self) -> None:
        self.ledger.drops.note_arriving([])  # what was reported is on disk when the next is told
        self.close()
        self.open()
        self.arriving = {}
        for job in self.in_state(State.RUNNING):
            found = next(one for one in self.ledger.lost if one.id == job.id)
            assert found == lost(job, found.due_at)
            self.jobs[job.id] = found
            self.unreported.add(job.drop)

    # --- what holds at any time, for the owner and for one who only looks ---

    @invariant()
    def the_ledger_says_what_the_dictionaries_say(self) -> None:
        jobs = sorted(self.jobs.values(), key=lambda job: job.id)
        rows = sorted(self.files.values(), key=lambda row: os.fsencode(row.path))
        for ledger in (self.ledger, self.reader):
            assert ledger.jobs.select() == jobs
            here = [row for row in rows if row.is_present]
            assert present(ledger) == here
            assert list(ledger.files.present()) == [
                (r.path, r.identity, r.kind, r.series_uid, r.is_truncated) for r in here
            ]
        assert list(self.reader.files.of_drop(ODD)) == [row for row in rows if row.drop == ODD]
        arriving = sorted(self.arriving.values(), key=lambda r: (os.fsencode(r.drop), r.series_uid))
        assert self.reader.drops.arriving() == tuple(arriving)
        assert self.ledger.drops.unreported == self.unreported
        assert self.reader.jobs.counts() == {state: len(self.in_state(state)) for state in State}

    @invariant()
    def jobs_are_found_by_what_is_asked_for(self) -> None:
        jobs = self.ledger.jobs.select()
        assert self.ledger.jobs.select(State.QUEUED) == [j for j in jobs if j.state is State.QUEUED]
        of = [j for j in jobs if (j.drop, j.series_uid) == (ODD, "")]
        assert self.ledger.jobs.select(drop=ODD, series_uid="") == of
        active = {job.drop for job in self.in_state(*ACTIVE)}
        assert {drop for drop in ("a", ODD) if self.ledger.jobs.is_active(drop)} == active
        queued = sorted(self.in_state(State.QUEUED), key=lambda job: (job.due_at, job.turn, job.id))
        assert list(self.ledger.jobs.due(1e12)) == queued

    @invariant()
    def a_series_has_one_active_job_at_most(self) -> None:
        active = Counter((job.drop, job.series_uid) for job in self.in_state(*ACTIVE))
        assert all(count == 1 for count in active.values())


LedgerMachine.TestCase.settings = settings(
    max_examples=25,
    stateful_step_count=20,
    suppress_health_check=[HealthCheck.too_slow],
)
TestTheLedgerKeepsWhatItIsTold = LedgerMachine.TestCase
