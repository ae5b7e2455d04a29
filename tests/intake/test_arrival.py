from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from inbox_files import identity

from dicomzarr_watch.identity import Identity
from dicomzarr_watch.intake.arrival import (
    Arrival,
    Growth,
    Haste,
    Rules,
    SeriesFile,
    SeriesKey,
    Tally,
    arrivals,
    gaps,
    tally,
)

KEY = SeriesKey("drop", "1.2.3")
RULES = Rules(settle_s=10.0, truncated_hold_s=60.0)
ONE = SeriesFile("drop/1.dcm", identity())
TWO = SeriesFile("drop/2.dcm", identity(inode=2))
CUT = SeriesFile("drop/3.dcm", identity(inode=3), is_truncated=True)
Files = tuple[SeriesFile, ...]


class Watcher:
    """Looks again and again, remembering what the inbox remembers."""

    def __init__(self, rules: Rules = RULES) -> None:
        self._rules = rules
        self._known: dict[SeriesKey, Growth] = {}

    def look(self, now_s: float, *files: SeriesFile) -> Arrival | None:
        seen = {KEY: tally(files)} if files else {}
        found = arrivals(self._known, seen, now_s, self._rules)
        self._known = {arrival.key: arrival.growth for arrival in found}
        return found[0] if found else None

    def waits(self, now_s: float, *files: SeriesFile) -> str:
        arrival = self.look(now_s, *files)
        assert arrival is not None
        return arrival.waits_for


@dataclass(frozen=True)
class Look:
    now_s: float
    files: frozenset[SeriesFile]


def expected(history: list[Look], rules: Rules) -> str:
    """Say what a series waits for from all that was ever seen of it, the last look included."""
    last = history[-1]
    same = len(history)
    while same > 1 and history[same - 2].files == last.files:
        same -= 1
    unchanged_s = last.now_s - history[same - 1].now_s
    if len(history) - same < 1 or unchanged_s < rules.settle_s:
        return "settle"
    is_cut = any(file.is_truncated for file in last.files)
    return "truncated" if is_cut and unchanged_s < rules.truncated_hold_s else ""


# quarters of a second are exact as floats, so that a boundary is one
seconds = st.integers(0, 160).map(lambda quarters: quarters / 4)
names = st.sampled_from(("drop/1", "drop/2", "drop/3"))
# few values: the same set shall come back often
identities = st.builds(
    Identity, st.integers(1, 2), st.integers(1, 2), st.integers(1, 2), st.integers(1, 2)
)
rules = st.builds(Rules, seconds, seconds)


@st.composite
def histories(draw: st.DrawFn) -> list[Look]:
    """Files come, change and go between looks at times that never go back."""
    now_s, files, found = 0.0, dict[str, SeriesFile](), []
    for _ in range(draw(st.integers(1, 12))):
        now_s += draw(seconds)
        match draw(st.sampled_from(("nothing", "nothing", "nothing", "put", "remove"))):
            case "put":
                name, state = draw(names), draw(identities)
                # whether it is cut short is read from the state, so it changes with it alone
                files[name] = SeriesFile(name, state, is_truncated=state.size == 1)
            case "remove":
                files.pop(draw(names), None)
        found.append(Look(now_s, frozenset(files.values())))
    return found


@settings(max_examples=300)
@given(histories(), rules)
def test_a_series_is_complete_exactly_when_its_whole_history_says_so(
    history: list[Look], rules: Rules
) -> None:
    watcher = Watcher(rules)
    for count, look in enumerate(history, 1):
        arrival = watcher.look(look.now_s, *look.files)
        if not look.files:
            assert arrival is None
        else:
            assert arrival is not None
            assert arrival.waits_for == expected(history[:count], rules)
            assert arrival.is_complete == (not arrival.waits_for)


@given(histories().filter(lambda history: bool(history[-1].files)), rules)
def test_nothing_is_held_for_ever(history: list[Look], rules: Rules) -> None:
    watcher = Watcher(rules)
    for look in history:
        watcher.look(look.now_s, *look.files)
    last = history[-1]
    most_s = max(rules.settle_s, rules.truncated_hold_s)
    assert watcher.waits(last.now_s + most_s, *last.files) == ""


@given(histories().filter(lambda history: bool(history[-1].files)), rules, st.floats(0, 1))
def test_until_due_nothing_changes_and_then_something_does(
    history: list[Look], rules: Rules, share: float
) -> None:
    watcher = Watcher(rules)
    for look in history:
        arrival = watcher.look(look.now_s, *look.files)
    assert arrival is not None
    last = history[-1]
    if arrival.is_complete:
        assert arrival.due_s == last.now_s
        return
    assert arrival.due_s >= last.now_s
    between_s = last.now_s + share * (arrival.due_s - last.now_s)
    if between_s < arrival.due_s:
        assert watcher.waits(between_s, *last.files) == arrival.waits_for
    assert watcher.waits(arrival.due_s, *last.files) != arrival.waits_for


@pytest.mark.parametrize(
    "changed",
    [
        ONE._replace(identity=identity(size=90)),
        ONE._replace(identity=identity(size=110)),
        ONE._replace(identity=identity(mtime_ns=2)),
        ONE._replace(identity=identity(mtime_ns=0)),
        ONE._replace(identity=identity(ctime_ns=2)),
        ONE._replace(identity=identity(inode=9)),
        ONE._replace(path="drop/other.dcm"),
    ],
    ids=["shrank", "grew", "newer", "older", "ctime", "inode", "renamed"],
)
def test_any_change_of_a_file_starts_the_wait_anew(changed: SeriesFile) -> None:
    watcher = Watcher()
    assert watcher.waits(0.0, ONE, TWO) == "settle"
    assert watcher.waits(9.75, changed, TWO) == "settle"
    assert watcher.waits(19.5, changed, TWO) == "settle"
    assert watcher.waits(19.75, changed, TWO) == ""


@pytest.mark.parametrize("after", [(ONE,), (ONE, TWO, TWO._replace(path="drop/4.dcm"))])
def test_a_file_more_or_less_starts_the_wait_anew(after: Files) -> None:
    watcher = Watcher()
    watcher.look(0.0, ONE, TWO)
    assert watcher.waits(10.0, ONE, TWO) == ""
    assert watcher.waits(11.0, *after) == "settle"
    assert watcher.waits(20.75, *after) == "settle"
    assert watcher.waits(21.0, *after) == ""


def test_one_look_is_never_enough_however_late_or_short_the_wait() -> None:
    watcher = Watcher(Rules(settle_s=0.0, truncated_hold_s=0.0))
    assert watcher.waits(1e9, ONE) == "settle"
    assert watcher.waits(1e9, ONE) == ""


def test_a_truncated_file_holds_its_series_and_is_then_named() -> None:
    watcher = Watcher()
    watcher.look(0.0, ONE, CUT)
    held = watcher.look(10.0, ONE, CUT)
    assert held is not None
    assert (held.waits_for, held.due_s, held.tally.truncated) == ("truncated", 60.0, 1)
    assert watcher.waits(59.75, ONE, CUT) == "truncated"
    done = watcher.look(60.0, ONE, CUT)
    assert done is not None
    assert done.is_complete
    assert done.tally.truncated == 1


def test_a_truncated_file_that_is_mended_holds_no_longer_than_any() -> None:
    watcher = Watcher()
    mended = SeriesFile(CUT.path, identity(size=200, inode=3))
    watcher.look(0.0, ONE, CUT)
    watcher.look(20.0, ONE, mended)
    assert watcher.waits(30.0, ONE, mended) == ""


def test_a_series_that_went_away_and_came_back_settles_anew() -> None:
    watcher = Watcher()
    watcher.look(0.0, ONE)
    assert watcher.look(5.0) is None
    assert watcher.waits(10.0, ONE) == "settle"
    assert watcher.waits(20.0, ONE) == ""


def test_series_settle_each_for_itself_and_come_in_order() -> None:
    late, early = SeriesKey("b", "1"), SeriesKey("a", "2")
    known = {early: Growth(tally([ONE]), 0.0, 1)}
    found = arrivals(known, {late: tally([TWO]), early: tally([ONE])}, 10.0, RULES)
    assert [(a.key, a.waits_for) for a in found] == [(early, ""), (late, "settle")]


paths = st.binary(min_size=1, max_size=6).map(lambda raw: raw.replace(b"\0", b"\n"))
series_files = st.builds(
    SeriesFile, paths.map(lambda raw: raw.decode("utf-8", "surrogateescape")), identities
)
sets_of_files = st.lists(series_files, max_size=4, unique_by=lambda file: file.path)


@given(sets_of_files, st.randoms(use_true_random=False))
def test_the_order_of_files_does_not_matter_to_a_tally(
    files: list[SeriesFile], random: Random
) -> None:
    shuffled = list(files)
    random.shuffle(shuffled)
    assert tally(shuffled) == tally(files)


@given(sets_of_files, sets_of_files)
@example(
    [SeriesFile("a 100 1 1 1\nb", identity())],
    [SeriesFile("a", identity()), SeriesFile("b", identity())],
)
def test_other_files_have_another_fingerprint(
    some: list[SeriesFile], others: list[SeriesFile]
) -> None:
    is_same = {f[:2] for f in some} == {f[:2] for f in others}
    assert (tally(some).fingerprint == tally(others).fingerprint) is is_same


@given(sets_of_files)
def test_a_tally_counts_what_comes_and_goes(files: list[SeriesFile]) -> None:
    found = tally(files)
    assert found.files == len(files)
    assert found.bytes == sum(file.identity.size for file in files)
    assert found.truncated == sum(file.is_truncated for file in files)
    for file in files:
        found = found.minus(tally([file]))
    assert found == Tally()
    assert len(found.fingerprint) == 64


# --- holds and haste ---


class Gap:
    """Tells whether there is a gap, and counts how often it was asked."""

    def __init__(self, *, is_there: bool) -> None:
        self.is_there = is_there
        self.asked = 0

    def __call__(self, key: SeriesKey) -> bool:
        assert key == KEY
        self.asked += 1
        return self.is_there


def judged(
    known: Growth | None,
    now_s: float,
    *files: SeriesFile,
    rules: Rules = RULES,
    haste: Haste | None = None,
    gap: Gap | None = None,
) -> Arrival:
    (found,) = arrivals(
        {KEY: known} if known else {},
        {KEY: tally(files)},
        now_s,
        rules,
        haste={KEY.drop: haste} if haste else {},
        has_gap=gap or Gap(is_there=False),
    )
    return found


GAPPY = replace(RULES, gap_hold_s=30.0)


def test_a_gap_holds_its_series_for_a_while_and_is_looked_for_once() -> None:
    gap = Gap(is_there=True)
    first = judged(None, 0.0, ONE, TWO, rules=GAPPY, gap=gap)
    assert (first.waits_for, gap.asked) == ("settle", 0)
    held = judged(first.growth, 10.0, ONE, TWO, rules=GAPPY, gap=gap)
    assert (held.waits_for, held.due_s) == ("gap", 30.0)
    again = judged(held.growth, 29.75, ONE, TWO, rules=GAPPY, gap=gap)
    assert (again.waits_for, gap.asked) == ("gap", 1)
    assert judged(again.growth, 30.0, ONE, TWO, rules=GAPPY, gap=gap).is_complete
    assert gap.asked == 1


def test_a_file_that_comes_has_gaps_looked_for_anew() -> None:
    gap = Gap(is_there=True)
    growth = judged(None, 0.0, ONE, rules=GAPPY, gap=gap).growth
    growth = judged(growth, 10.0, ONE, rules=GAPPY, gap=gap).growth
    gap.is_there = False
    growth = judged(growth, 11.0, ONE, TWO, rules=GAPPY, gap=gap).growth
    assert judged(growth, 21.0, ONE, TWO, rules=GAPPY, gap=gap).is_complete


def test_without_a_gap_nothing_is_held_and_without_a_hold_nobody_asks() -> None:
    gap = Gap(is_there=False)
    growth = judged(None, 0.0, ONE, rules=GAPPY, gap=gap).growth
    assert judged(growth, 10.0, ONE, rules=GAPPY, gap=gap).is_complete
    gap = Gap(is_there=True)
    growth = judged(None, 0.0, ONE, gap=gap).growth
    assert judged(growth, 10.0, ONE, gap=gap).is_complete
    assert gap.asked == 0


@pytest.mark.parametrize("haste", Haste)
def test_haste_needs_no_settling_but_two_looks_that_agree(haste: Haste) -> None:
    first = judged(None, 5.0, ONE, haste=haste)
    assert (first.waits_for, first.due_s) == ("settle", 5.0)
    changed = judged(first.growth, 5.0, ONE, TWO, haste=haste)
    assert changed.waits_for == "settle"
    assert judged(changed.growth, 5.0, ONE, TWO, haste=haste).is_complete


def test_a_truncated_file_holds_what_was_moved_but_not_what_its_producer_says_is_complete() -> None:
    growth = judged(None, 0.0, ONE, CUT).growth
    moved = judged(growth, 0.0, ONE, CUT, haste=Haste.MOVED)
    assert (moved.waits_for, moved.due_s) == ("truncated", 60.0)
    assert judged(growth, 0.0, ONE, CUT, haste=Haste.MARKED).is_complete
    gap = Gap(is_there=True)
    growth = judged(None, 0.0, ONE, rules=GAPPY).growth
    assert judged(growth, 0.0, ONE, rules=GAPPY, haste=Haste.MOVED, gap=gap).waits_for == "gap"
    assert judged(growth, 0.0, ONE, rules=GAPPY, haste=Haste.MARKED, gap=gap).is_complete


def test_haste_is_of_one_drop() -> None:
    other = SeriesKey("other", "1")
    known = {key: Growth(tally([ONE]), 0.0, 1) for key in (KEY, other)}
    found = arrivals(
        known, {KEY: tally([ONE]), other: tally([ONE])}, 0.0, RULES, haste={"other": Haste.MOVED}
    )
    assert {a.key: a.is_complete for a in found} == {KEY: False, other: True}


@given(st.lists(st.integers(-20, 20)))
def test_gaps_are_the_numbers_that_are_missing_between_the_others(numbers: list[int]) -> None:
    missing = [n for first, last in gaps(numbers) for n in range(first, last + 1)]
    there = set(numbers)
    expected = set(range(min(there), max(there))) - there if there else set()
    assert missing == sorted(expected)
    assert all(b + 1 in there and a - 1 in there for a, b in gaps(numbers))
