from __future__ import annotations

import logging
import os
import resource
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import SimpleQueue

import pytest
from inbox_files import put
from watchdog.utils import BaseThread

from dicomzarr_watch.intake.wakeup import Wakeup, quieten

SOON_S = 10.0
"""How long a test waits for what must come; nothing is ever waited for that long."""


class Wakes:
    """Counts wake-ups."""

    def __init__(self) -> None:
        self._came: SimpleQueue[None] = SimpleQueue()

    def __call__(self) -> None:
        self._came.put(None)

    def wait(self) -> None:
        self._came.get(timeout=SOON_S)

    @property
    def are_over(self) -> bool:
        return self._came.empty()


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    put(tmp_path / "inbox" / "drop" / "1.dcm")
    return tmp_path / "inbox"


@pytest.fixture
def wakes() -> Wakes:
    return Wakes()


@pytest.fixture
def watch(inbox: Path, wakes: Wakes) -> Iterator[Wakeup]:
    watch = Wakeup(inbox, wakes)
    assert watch.start()
    yield watch
    watch.stop()


def threads() -> dict[str, BaseThread]:
    """Return watchdog's threads by their kind."""
    found = (t for t in threading.enumerate() if isinstance(t, BaseThread))
    return {type(thread).__name__: thread for thread in found}


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def is_healthy(watch: Wakeup) -> bool:
    return watch.is_healthy


def move_in(inbox: Path) -> None:
    put(inbox.parent / "elsewhere" / "2.dcm").rename(inbox / "drop" / "2.dcm")


def move_folder_in(inbox: Path) -> None:
    put(inbox.parent / "elsewhere" / "2.dcm")
    (inbox.parent / "elsewhere").rename(inbox / "elsewhere")


def rewrite(inbox: Path) -> None:
    with (inbox / "drop" / "1.dcm").open("r+b") as stream:
        stream.write(b"x")


@pytest.mark.parametrize(
    "happen",
    [
        pytest.param(lambda inbox: put(inbox / "2.dcm"), id="a file is written"),
        pytest.param(lambda inbox: put(inbox / "drop" / "2.dcm"), id="a file below is written"),
        pytest.param(rewrite, id="a file is rewritten"),
        pytest.param(lambda inbox: (inbox / "new").mkdir(), id="a folder is made"),
        pytest.param(move_in, id="a file is moved in"),
        pytest.param(move_folder_in, id="a folder is moved in"),
        pytest.param(
            lambda inbox: (inbox / "drop" / "1.dcm").rename(inbox / "drop" / "2.dcm"),
            id="a file is renamed",
        ),
        pytest.param(lambda inbox: (inbox / "drop" / "1.dcm").unlink(), id="a file is removed"),
    ],
)
@pytest.mark.usefixtures("watch")
def test_it_wakes_when_something_happens(
    inbox: Path, wakes: Wakes, happen: Callable[[Path], object]
) -> None:
    happen(inbox)
    wakes.wait()


def test_it_wakes_for_folders_that_were_made_after_the_start(
    inbox: Path, wakes: Wakes, watch: Wakeup
) -> None:
    (inbox / "new").mkdir()
    wakes.wait()
    put(inbox / "new" / "1.dcm")
    wakes.wait()
    assert is_healthy(watch)


@pytest.mark.usefixtures("watch")
def test_our_own_reading_does_not_wake(inbox: Path, wakes: Wakes) -> None:
    """Each new folder is one event: were reads events too, they would stand before those."""
    for n in range(20):
        for _ in range(10):
            (inbox / "drop" / "1.dcm").read_bytes()
            list(inbox.iterdir())
        (inbox / f"sentinel{n}").mkdir()
        wakes.wait()
        assert wakes.are_over


def test_a_folder_that_is_missing_cannot_be_watched_and_can_when_it_is_there(
    tmp_path: Path, wakes: Wakes
) -> None:
    watch = Wakeup(tmp_path / "inbox", wakes)
    assert not is_healthy(watch)
    assert not watch.start()
    assert not is_healthy(watch)
    (tmp_path / "inbox").mkdir()
    assert watch.start()
    assert is_healthy(watch)
    put(tmp_path / "inbox" / "1.dcm")
    wakes.wait()
    watch.stop()


def test_starting_in_vain_leaves_nothing_behind(tmp_path: Path, wakes: Wakes) -> None:
    watch = Wakeup(tmp_path / "inbox", wakes)
    before = descriptors()
    assert not any(watch.start() for _ in range(3))
    assert (descriptors(), threads()) == (before, {})


def test_a_system_without_room_for_another_watch_is_no_reason_to_end(
    inbox: Path, wakes: Wakes
) -> None:
    watch = Wakeup(inbox, wakes)
    lowest = os.dup(0)
    os.close(lowest)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
    try:
        assert not watch.start()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert watch.start()
    watch.stop()


@pytest.mark.parametrize("kind", ["InotifyObserver", "InotifyFullEmitter", "InotifyFD"])
def test_it_is_not_healthy_once_a_thread_has_ended_and_can_be_started_again(
    inbox: Path, wakes: Wakes, watch: Wakeup, kind: str
) -> None:
    assert is_healthy(watch)
    thread = threads()[kind]
    thread.stop()
    thread.join(SOON_S)
    assert not is_healthy(watch)
    assert watch.start()
    assert is_healthy(watch)
    put(inbox / "2.dcm")
    wakes.wait()


def test_it_is_not_healthy_once_the_inbox_was_removed(inbox: Path, watch: Wakeup) -> None:
    emitter = threads()["InotifyFullEmitter"]
    shutil.rmtree(inbox)
    emitter.join(SOON_S)
    assert not is_healthy(watch)
    inbox.mkdir()
    assert watch.start()
    assert is_healthy(watch)


def test_stopping_ends_every_thread_and_may_be_done_twice(watch: Wakeup) -> None:
    watch.stop()
    watch.stop()
    assert not is_healthy(watch)
    assert threads() == {}


def test_promise_8_watchdog_prints_no_paths(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "watchdog")
    logger = logging.getLogger("watchdog.observers.inotify")
    logger.warning("overflow below %r", "/inbox/Doe^Jane")
    assert len(caplog.records) == 1
    quieten()
    logger.warning("overflow below %r", "/inbox/Doe^Jane")
    assert len(caplog.records) == 1


# --- folders that came in whole ---


def drop_moved_in(inbox: Path, name: str = "whole", *, source: Path | None = None) -> None:
    put((source or inbox.parent / "made") / "1.dcm")
    (source or inbox.parent / "made").rename(inbox / name)


def told_after(inbox: Path, watch: Wakeup, happen: Callable[[Path], object]) -> frozenset[str]:
    """Let something happen, and return what is told of it once a later event has come."""
    happen(inbox)
    (inbox.parent / "last").mkdir()
    (inbox.parent / "last").rename(inbox / "last")
    until_s = time.monotonic() + SOON_S
    while ("last", True) not in watch._handler.tops and time.monotonic() < until_s:
        time.sleep(0.01)
    found = watch.moved()
    assert "last" in found
    return found - {"last"}


def renamed_in_the_inbox(inbox: Path, before: str) -> None:
    put(inbox / before / "1.dcm")
    (inbox / before).rename(inbox / "whole")


def gone_and_made_again(inbox: Path) -> None:
    drop_moved_in(inbox)
    shutil.rmtree(inbox / "whole")
    put(inbox / "whole" / "1.dcm")


def moved_out_and_made_again(inbox: Path) -> None:
    drop_moved_in(inbox)
    (inbox / "whole").rename(inbox.parent / "out")
    put(inbox / "whole" / "1.dcm")


def from_a_hidden_name(inbox: Path) -> None:
    renamed_in_the_inbox(inbox, ".copying")


def from_a_temporary_name(inbox: Path) -> None:
    renamed_in_the_inbox(inbox, "a.part")


def from_a_final_name(inbox: Path) -> None:
    renamed_in_the_inbox(inbox, "a")


# a folder that comes while its event is on the way may be watched twice, which changes nothing
@pytest.mark.filterwarnings("ignore:Callback with id:RuntimeWarning")
@pytest.mark.parametrize(
    ("happen", "expected"),
    [
        pytest.param(drop_moved_in, {"whole"}, id="moved in"),
        pytest.param(from_a_hidden_name, {"whole"}, id="from a hidden name"),
        pytest.param(from_a_temporary_name, {"whole"}, id="from a temporary name"),
        pytest.param(from_a_final_name, set(), id="from a final name"),
        pytest.param(lambda inbox: put(inbox / "whole" / "1.dcm"), set(), id="made and filled"),
        pytest.param(
            lambda inbox: drop_moved_in(inbox, "drop/whole"), set(), id="moved in further down"
        ),
        pytest.param(
            lambda inbox: put(inbox.parent / "1.dcm").rename(inbox / "whole"), set(), id="a file"
        ),
        pytest.param(gone_and_made_again, set(), id="gone and made again"),
        pytest.param(moved_out_and_made_again, set(), id="moved out and made again"),
    ],
)
def test_it_tells_which_folders_came_in_whole(
    inbox: Path, watch: Wakeup, happen: Callable[[Path], object], expected: set[str]
) -> None:
    assert told_after(inbox, watch, happen) == expected
    assert watch.moved() == frozenset()


def test_a_folder_that_came_in_whole_is_watched(inbox: Path, watch: Wakeup, wakes: Wakes) -> None:
    assert told_after(inbox, watch, drop_moved_in) == {"whole"}
    while not wakes.are_over:
        wakes.wait()
    put(inbox / "whole" / "late.dcm")
    wakes.wait()
