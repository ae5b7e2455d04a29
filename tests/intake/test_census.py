"""The census against a dictionary of files: whatever comes, changes, goes and is read."""

from __future__ import annotations

import time
from itertools import islice

from hypothesis import given
from hypothesis import strategies as st

from dicomzarr_watch.identity import Identity
from dicomzarr_watch.intake.arrival import SeriesFile, SeriesKey, Tally, tally
from dicomzarr_watch.intake.census import HUGE_FILES, Census, Remembered
from dicomzarr_watch.intake.listing import LOOSE, Drops, Entry, Folder

LONG_S = 2.0
"""Of the processor's time: what is gone through once takes moments, else ten times that."""
paths = st.sampled_from(("1", "2", "a/1", "a/2", "a/deep/1", "b/1"))
# what a file says is read from its state, so that a change of the one is a change of the other
states = st.builds(Identity, st.integers(0, 5), st.just(2), st.just(3), st.just(4))
stands = st.lists(
    st.tuples(st.dictionaries(paths, states, max_size=6), st.integers(0, 6)), max_size=6
)


def uid(identity: Identity) -> str | None:
    return (None, "", "1.2", "1.3", "1.2", "1.3")[identity.size]


def is_truncated(identity: Identity) -> bool:
    return identity.size > 3


def listed(files: dict[str, Identity], before: Drops) -> Drops:
    """Make what a listing finds: folders that are the same are the same objects."""
    found: Drops = {}
    for path, identity in files.items():
        entry = Entry(path, identity)
        place, _, name = path.rpartition("/")
        folder = found.setdefault(entry.drop, {}).setdefault(place, Folder(place))
        folder.names.append(name)
        folder.states.extend(identity)
    for drop, folders in found.items():
        for place, folder in folders.items():
            if before.get(drop, {}).get(place) == folder:
                folders[place] = before[drop][place]
    return found


def tallies(files: dict[str, Identity]) -> dict[SeriesKey, Tally]:
    found: dict[SeriesKey, list[SeriesFile]] = {}
    for path, identity in files.items():
        said = uid(identity)
        if said is not None:
            key = SeriesKey(Entry(path, identity).drop, said)
            found.setdefault(key, []).append(SeriesFile(path, identity, is_truncated(identity)))
    return {key: tally(of) for key, of in found.items()}


@given(stands)
def test_series_are_what_their_read_files_make_them(
    history: list[tuple[dict[str, Identity], int]],
) -> None:
    census, before = Census(), dict[str, Identity]()
    read: dict[str, Identity] = {}
    for files, count in history:
        changes = census.take_in(listed(files, census.drops))
        assert set(changes.gone) == before.keys() - files.keys()
        assert changes.new == len(files.keys() - before.keys())
        differing = {p for p in before.keys() | files.keys() if before.get(p) != files.get(p)}
        assert changes.drops == {Entry(p, Identity(0, 0, 0, 0)).drop for p in differing}
        read = {path: state for path, state in read.items() if files.get(path) == state}
        before = files
        unread = census.files()
        for _, (drop, folder, number) in zip(range(count), unread, strict=False):
            entry = folder.entry(number)
            assert (drop, entry.identity) == (entry.drop, files[entry.path])
            assert entry.path not in read
            census.count(
                folder, number, uid(entry.identity), is_truncated=is_truncated(entry.identity)
            )
            read[entry.path] = entry.identity
        assert census.tallies == tallies(read)
        assert sorted(census.read_of([*files, *differing])) == sorted(read)
        assert census.unread.keys() >= {
            Entry(path, state).drop for path, state in files.items() if path not in read
        }


@given(st.dictionaries(paths, states), st.dictionaries(paths, states))
def test_what_was_remembered_is_as_if_it_had_been_read(
    known: dict[str, Identity], files: dict[str, Identity]
) -> None:
    census = Census()
    census.remember(
        Remembered(path, state, uid(state), is_truncated(state)) for path, state in known.items()
    )
    assert census.tallies == tallies(known)
    changes = census.take_in(listed(files, {}))
    assert set(changes.gone) == known.keys() - files.keys()
    same = {path: state for path, state in known.items() if files.get(path) == state}
    assert census.tallies == tallies(same)
    unread = {folder.entry(number).path for _, folder, number in census.files()}
    assert unread == files.keys() - same.keys()


@given(st.dictionaries(paths, states, min_size=1), st.data())
def test_a_file_that_is_forgotten_is_read_again(
    files: dict[str, Identity], data: st.DataObject
) -> None:
    census = Census()
    census.remember(Remembered(path, state, None) for path, state in files.items())
    paths = data.draw(st.sets(st.sampled_from(sorted(files))))
    census.forget(paths)
    assert set(census.read_of(files)) == files.keys() - paths
    assert {folder.entry(n).path for _, folder, n in census.files()} == paths


def test_folders_are_gone_through_once_for_all_that_are_asked_for() -> None:
    names = [f"drop/{number:05}" for number in range(20_000)]
    census = Census()
    census.remember(Remembered(path, Identity(1, 2, 3, 4), None) for path in names)
    start_s = time.thread_time()
    assert sum(1 for _ in census.read_of(names)) == len(names)
    census.forget(names)
    assert time.thread_time() - start_s < LONG_S


def test_headers_of_a_huge_drop_are_read_after_those_of_others() -> None:
    """In whatever order they came; and it is judged after them, too."""
    state = Identity(0, 1, 1, 1)
    census = Census()
    huge = {f"huge/{n}": state for n in range(HUGE_FILES + 1)}
    census.take_in(listed(huge, census.drops))
    census.take_in(listed(huge | {"small/1": state, "1": state}, census.drops))
    assert list(census.unread) == ["small", LOOSE, "huge"]
    first, second, third = (drop for drop, _, _ in islice(census.files(), 3))
    assert (first, second, third) == ("small", LOOSE, "huge")
