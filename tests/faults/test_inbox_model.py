"""A producer that does whatever it likes, and a model of what the daemon is to make of it.

Daemon and model agree if every file of the inbox has the outcome that its content and its name call
for, and all that was ever agreed on comes back from the archive of its drop, whatever became of the
originals.
"""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import time
from contextlib import ExitStack, suppress
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Final

import pytest
from daemon_process import running
from dicom_files import write_slice
from drops import all_brought_back, contents, document
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test
from judged import Judgement, Tally, half_visible, is_dicom

from dicomzarr_watch.errors import DicomzarrError
from dicomzarr_watch.intake.listing import LOOSE

STEPS: Final = 30
EXAMPLES: Final = 4
AT_LENGTH_S: Final = 600.0
ODD: Final = os.fsdecode(b"M\xfcller\n")
SETTINGS: Final[dict[str, Any]] = {"settle_s": 0.2, "poll_s": 0.5, "retry_max_s": 0.2}

folders = st.tuples(st.sampled_from(("a", ODD)), st.sampled_from(("", "/x", "/x/y"))).map("".join)
names = st.sampled_from(("1", "2", "3", "3.part", ".4"))
paths = st.tuples(folders, names).map("/".join) | names
numbers = st.integers(0, 8)


@cache
def content(number: int) -> bytes:
    """Return one of the contents: two series of four slices, and one that is no DICOM."""
    if number == 8:
        return b"no image"
    with tempfile.TemporaryDirectory() as place:
        uid, instance = f"1.2.{number % 2}", number // 2
        position = (0.0, 0.0, float(instance))
        path = Path(place, "slice")
        write_slice(path, series_uid=uid, instance_number=instance, position=position)
        return path.read_bytes()


class Inbox(RuleBasedStateMachine):
    """What a producer does to the inbox of a daemon that runs; what the system refuses, is not."""

    agreed: ClassVar[list[Judgement]] = []

    def __init__(self) -> None:
        super().__init__()
        self.ever: set[tuple[str, bytes]] = set()
        self.stack = ExitStack()
        self.place = Path(self.stack.enter_context(tempfile.TemporaryDirectory()))
        self.start()

    def start(self) -> None:
        self.daemon = self.stack.enter_context(running(self.place, **SETTINGS))
        self.inbox, self.output = self.daemon.inbox, self.daemon.output

    def teardown(self) -> None:
        with self.stack:
            self.agree()
            assert self.daemon.stop() == 0

    @initialize(folder=folders, some=st.sets(numbers, min_size=6))
    def begin(self, folder: str, some: set[int]) -> None:
        self.drop(folder, some)

    @rule(folder=folders, some=st.sets(numbers, min_size=3))
    def drop(self, folder: str, some: set[int]) -> None:
        for number in some:
            self.write(f"{folder}/{number}", number)

    @rule(path=paths, number=numbers)
    def write(self, path: str, number: int) -> None:
        with suppress(OSError):
            self._at(path).write_bytes(content(number))

    @rule(path=paths, number=numbers)
    def write_and_keep_the_time(self, path: str, number: int) -> None:
        with suppress(OSError):
            before = (self.inbox / path).stat()
            (self.inbox / path).write_bytes(content(number))
            os.utime(self.inbox / path, ns=(before.st_atime_ns, before.st_mtime_ns))

    @rule(old=paths | folders, new=paths | folders)
    def rename(self, old: str, new: str) -> None:
        with suppress(OSError):
            (self.inbox / old).rename(self._at(new))

    @rule(old=paths, new=paths)
    def copy(self, old: str, new: str) -> None:
        with suppress(OSError, shutil.SameFileError):
            shutil.copy2(self.inbox / old, self._at(new))

    @rule(old=folders, new=folders)
    def copy_folder(self, old: str, new: str) -> None:
        with suppress(OSError, shutil.Error):
            if f"{new}/".startswith(f"{old}/"):
                return  # a copy of itself into itself has no end
            shutil.copytree(self.inbox / old, self._at(new), dirs_exist_ok=True)

    @rule(old=paths, new=paths)
    def link(self, old: str, new: str) -> None:
        with suppress(OSError):
            self._at(new).hardlink_to(self.inbox / old)

    @rule(path=paths)
    def delete(self, path: str) -> None:
        with suppress(OSError):
            (self.inbox / path).unlink()

    @rule(path=folders)
    def delete_folder(self, path: str) -> None:
        with suppress(OSError):
            shutil.rmtree(self.inbox / path)

    @rule(path=folders)
    def make_folder(self, path: str) -> None:
        with suppress(OSError):
            self._at(path).mkdir()

    @rule(is_kill=st.booleans())
    def restart(self, is_kill: bool) -> None:
        self.daemon.signal(signal.SIGKILL if is_kill else signal.SIGTERM)
        self.daemon.end()
        self.start()

    @rule()
    def agree(self) -> None:
        """Wait until the daemon says of every file what the model does."""
        self.daemon.until(self._is_agreed, "what the model says")
        files = contents(self.inbox)
        self.ever |= {(_drop(path), data) for path, data in files.items() if is_dicom(path, data)}
        self.agreed.append(Judgement(len(files), half_visible=half_visible(self.output)))

    def _at(self, path: str) -> Path:
        (self.inbox / path).parent.mkdir(parents=True, exist_ok=True)
        return self.inbox / path

    def _is_agreed(self) -> bool:
        files = contents(self.inbox)
        here = {(_drop(path), data) for path, data in files.items() if is_dicom(path, data)}
        wanted = {
            path: "archived" if is_dicom(path, data) else "ignored" for path, data in files.items()
        }
        told: dict[str, str] = {}
        back: set[tuple[str, bytes]] = set()
        try:
            for account in self.output.glob("*/drop.json"):
                rows, drop = document(account)["files"], account.parent
                told |= {r["path"]: r["outcome"] for r in rows if r.get("present", True)}
                back |= {(drop.name, data) for _, data in all_brought_back(drop)}
        except (OSError, DicomzarrError):
            return False  # on its way
        return told == wanted and back >= here | self.ever


def _drop(path: str) -> str:
    top, slash, _ = path.partition("/")
    return top if slash else LOOSE


def played(examples: int) -> None:
    patience = settings(
        max_examples=examples,
        stateful_step_count=STEPS,
        phases=[Phase.generate],  # to make one smaller takes an hour; its steps are printed
        suppress_health_check=list(HealthCheck),
        database=None,
    )
    run_state_machine_as_test(Inbox, settings=patience)


@pytest.mark.integration
def test_daemon_and_model_agree(tally: Tally) -> None:
    played(EXAMPLES)
    counted(tally)


@pytest.mark.long
def test_daemon_and_model_agree_for_a_long_time(tally: Tally) -> None:
    until_s = time.monotonic() + AT_LENGTH_S
    while time.monotonic() < until_s:
        played(EXAMPLES)
    counted(tally)


def counted(tally: Tally) -> None:
    """Count how often they agreed, on how many files."""
    found, Inbox.agreed = Inbox.agreed, []
    odd = tuple(name for judgement in found for name in judgement.half_visible)
    tally("model", len(found), Judgement(sum(j.files for j in found), half_visible=odd))
