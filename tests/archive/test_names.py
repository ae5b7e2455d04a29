from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicomzarr_watch.archive.names import set_apart
from dicomzarr_watch.libc import NAME_MOST_BYTES

parts = st.sampled_from(["a", "b", "a~1", "a~1~1", "x" * 254, "x" * 255, "\udcff" * 255, "é" * 127])
names = st.lists(parts, min_size=1, max_size=3).map("/".join)


def can_stand_together(found: list[str]) -> bool:
    folders = {name[:at] for name in found for at, c in enumerate(name) if c == "/"}
    return len(set(found)) == len(found) and not folders & set(found)


@given(st.lists(names, max_size=6), st.lists(names, max_size=6))
def test_names_that_are_set_apart_can_stand_in_one_folder(
    taken: list[str], others: list[str]
) -> None:
    together = [name for n, name in enumerate(taken) if can_stand_together(taken[: n + 1])]
    if not can_stand_together(together):
        return
    found = set_apart(together, others, "~1")
    assert len(found) == len(others)
    assert can_stand_together([*together, *found])
    for name in found:
        assert all(len(os.fsencode(part)) <= NAME_MOST_BYTES for part in name.split("/"))


@given(st.sets(names, max_size=6).map(sorted))
def test_names_that_are_in_nobodys_way_stay_as_they_are(wanted: list[str]) -> None:
    if can_stand_together(wanted):
        assert set_apart([], wanted, "~1") == wanted


@pytest.mark.parametrize(
    ("taken", "name", "expected"),
    [
        ("a", "a", "a~1"),
        ("a", "a/b", "a~1/b"),
        ("a/b", "a", "a~1"),
        ("a/b", "a/b", "a/b~1"),
        ("x" * 255, "x" * 255, "x" * 253 + "~1"),
    ],
)
def test_the_part_that_is_in_the_way_is_marked(taken: str, name: str, expected: str) -> None:
    assert set_apart([taken], [name], "~1") == [expected]
