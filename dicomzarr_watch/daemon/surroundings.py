"""Whether the machine gives the daemon what it relies on; every answer that is no says what to do.

Nothing is left behind: what is tried out, is tried in private folders, and in the inbox, which is
the producers', only if somebody asks.
"""

from __future__ import annotations

import os
import queue
import resource
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dicomzarr_watch import private
from dicomzarr_watch.archive.disk import STAGING, swap_names, sync
from dicomzarr_watch.archive.work import AfterSuccess
from dicomzarr_watch.config import Settings
from dicomzarr_watch.daemon.mounts import file_system, is_remote
from dicomzarr_watch.daemon.room import existing
from dicomzarr_watch.intake.wakeup import Wakeup, quieten
from dicomzarr_watch.libc import NAME_MOST_BYTES

LEAST_FREE_INODES: Final = 10_000
LEAST_DESCRIPTORS: Final = 1024
LONGEST_POLL_S: Final = 10.0
PROBE_S: Final = 3.0


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at; `todo` is empty where all is well."""

    name: str
    found: str
    todo: str = ""

    @property
    def code(self) -> str:
        """What was looked at, as a word for monitoring."""
        return "-".join(self.name.replace(",", "").split())

    @property
    def is_well(self) -> bool:
        return not self.todo


def checks(settings: Settings, mounted: str, *, is_thorough: bool = False) -> Iterator[Check]:
    """Yield what was looked at.

    mounted: the text of `mounts.mounts`.
    is_thorough: count the folders of the inbox and put a file into it, to see whether it raises an
    event; else nothing there is touched and everything takes moments.
    """
    yield _inbox(settings.inbox)
    yield _remote_inbox(settings, file_system(settings.inbox.resolve(), mounted))
    if is_thorough and settings.inbox.is_dir():
        yield _watches(settings.inbox)
        yield _event(settings.inbox)
    if settings.after_success is not AfterSuccess.KEEP:
        yield _originals(settings)
    for name, folder in (("output", settings.output), ("state", settings.state)):
        yield _space(name, folder, settings.min_free_bytes)
    yield _output(settings.output)
    yield _state(settings.state, file_system(settings.state.resolve(), mounted))
    yield _descriptors()


def _inbox(inbox: Path) -> Check:
    if not inbox.is_dir():
        return Check("inbox", "no folder", "make it, or mount what it is on")
    if not os.access(inbox, os.R_OK | os.X_OK):
        return Check("inbox", "cannot be listed", "let this user read it and the folders in it")
    return Check("inbox", "can be listed")


def _originals(settings: Settings) -> Check:
    """Look whether originals can leave the inbox, without trying it."""
    name = f"originals, {settings.after_success.value}"
    if not os.access(settings.inbox, os.W_OK | os.X_OK):
        return Check(name, "the inbox cannot be written", "let this user write there")
    if settings.after_success is AfterSuccess.MOVE and settings.move_to is not None:
        place = existing(settings.move_to)
        if not os.access(place, os.W_OK | os.X_OK):
            return Check(name, "move_to cannot be written", "let this user write there")
    return Check(name, "they can leave the inbox")


def _remote_inbox(settings: Settings, kind: str) -> Check:
    if is_remote(kind) and settings.poll_s > LONGEST_POLL_S:
        todo = f"set poll_s to {LONGEST_POLL_S:g} or less: others' changes raise no events there"
        return Check("inbox events", f"file system {kind}, poll_s {settings.poll_s:g}", todo)
    return Check("inbox events", f"file system {kind}")


def _watches(inbox: Path) -> Check:
    folders = sum(1 for _ in os.walk(inbox))
    try:
        limit = int(Path("/proc/sys/fs/inotify/max_user_watches").read_text("ascii"))
    except OSError:  # a service may be kept from seeing it
        return Check("inbox watches", f"{folders} folders, watches a user unknown")
    todo = f"sysctl fs.inotify.max_user_watches={max(4 * folders, 1 << 16)}"
    told = f"{folders} folders, {limit} watches a user"
    return Check("inbox watches", told, todo if 2 * folders > limit else "")


def _event(inbox: Path) -> Check:
    """Put a file into the inbox under a name that is passed over, and wait for its event."""
    quieten()
    woken: queue.SimpleQueue[bool] = queue.SimpleQueue()
    watch = Wakeup(inbox, lambda: woken.put(True))
    todo = "set poll_s to 5 or so; see fs.inotify.max_user_instances and max_user_watches"
    try:
        if not watch.start():
            return Check("inbox probe", "the system refuses to watch", todo)
        with tempfile.NamedTemporaryFile(dir=inbox, prefix=".", suffix=".probe"):
            woken.get(timeout=PROBE_S)
    except queue.Empty:
        return Check("inbox probe", "a new file raised no event", todo)
    except OSError as error:
        return Check("inbox probe", f"not tried: {error.strerror}")  # it may be read-only to us
    finally:
        watch.stop()
    return Check("inbox probe", "a new file raised an event")


def _space(name: str, folder: Path, least_bytes: int) -> Check:
    found = os.statvfs(existing(folder))
    free, nodes = found.f_bavail * found.f_frsize, found.f_favail
    told = f"{free / 1e9:.1f} GB and {nodes} files free"
    has_nodes = found.f_files == 0 or nodes >= LEAST_FREE_INODES  # some file systems count none
    is_well = free >= least_bytes and has_nodes
    todo = "free some, move the folder, or set min_free_bytes lower"
    return Check(f"{name} space", told, "" if is_well else todo)


def _output(output: Path) -> Check:
    """Do what publishing does, in the place where results are staged."""
    try:
        with (
            _present(output / STAGING) as staging,
            tempfile.TemporaryDirectory(dir=staging, ignore_cleanup_errors=True) as place,
        ):
            return _published(Path(place))
    except OSError as error:
        return Check("output", error.strerror or "an error", "let this user write there")


@contextmanager
def _present(folder: Path) -> Iterator[Path]:
    """Have a folder that is there; what was missing goes again: it might be the wrong user's."""
    missing = [p for p in (folder.absolute(), *folder.absolute().parents) if not p.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=private.FOLDER_MODE)
        yield folder
    finally:
        for place in missing:
            with suppress(OSError):  # not empty if a daemon was started meanwhile
                place.rmdir()


def _published(place: Path) -> Check:
    try:
        for name in ("a", "b" * NAME_MOST_BYTES):
            (place / name).mkdir()
            (place / name / name).write_bytes(b"probe")
            sync(place / name / name)
            sync(place / name)
        return _swapped(place / "a", place / ("b" * NAME_MOST_BYTES))
    except OSError as error:
        todo = "use a file system that takes names of 255 bytes and syncs, such as ext4 or xfs"
        return Check("output", error.strerror or "an error", todo)


def _swapped(one: Path, other: Path) -> Check:
    try:
        swap_names(one, other)
    except OSError:
        return Check("output", "writes and syncs; a revision leaves a moment without its series")
    return Check("output", "writes, syncs and swaps names")


def _state(state: Path, kind: str) -> Check:
    if is_remote(kind):
        return Check("state", f"file system {kind}", "move it to a local disk, for the ledger")
    try:
        with _present(state), tempfile.TemporaryFile(dir=state) as stream:
            os.fsync(stream.fileno())
    except OSError as error:
        return Check("state", error.strerror or "an error", "let this user write there")
    return Check("state", f"writes and syncs, file system {kind}")


def _descriptors() -> Check:
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    todo = f"allow {LEAST_DESCRIPTORS} (ulimit -n, LimitNOFILE)"
    return Check("open files", f"{limit}", todo if limit < LEAST_DESCRIPTORS else "")
