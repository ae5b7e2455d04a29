from __future__ import annotations

import io
import json
import logging
import os
import re
import resource
import stat
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicomzarr_watch.config import Settings
from dicomzarr_watch.operate.logs import (
    HASH_BYTES,
    KEY_BYTES,
    Event,
    Log,
    Name,
    hashed,
    identifier_key,
    open_log,
)

KEY = b"k" * KEY_BYTES
OTHER_KEY = b"o" * KEY_BYTES


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def settings(**more: Any) -> Settings:
    return Settings(inbox=Path("/inbox"), output=Path("/output"), **more)


@contextmanager
def logging_to(
    stream: io.StringIO | None = None, key: bytes = KEY, **more: Any
) -> Iterator[tuple[Log, Callable[[], list[str]]]]:
    """Open a log on a stream; afterwards warnings go where they went."""
    stream = stream or io.StringIO()
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    root.handlers = []  # what takes the root over closes its handlers
    with warnings.catch_warnings():
        try:
            yield open_log(settings(**more), key, stream), lambda: stream.getvalue().splitlines()
        finally:
            root.handlers = handlers
            root.setLevel(level)


# --- the vocabulary ---


@pytest.mark.parametrize("event", Event)
def test_an_event_is_two_lower_case_words_and_has_a_meaning(event: Event) -> None:
    assert re.fullmatch(r"[a-z]+\.[a-z]+", event.value)
    assert event.name == event.value.replace(".", "_").upper()
    assert len(event.meaning) > 10


def test_no_event_is_there_twice() -> None:
    assert len(set(Event.__members__)) == len(list(Event))
    assert len({event.meaning for event in Event}) == len(list(Event))


# --- lines ---


@pytest.mark.parametrize("level", ["info", "warning", "error"])
def test_a_line_is_json_with_what_a_person_looks_for_first_at_its_start(level: str) -> None:
    with logging_to() as (log, lines):
        getattr(log, level)(Event.JOB_DONE, job=7, seconds={"write": 0.5}, place=Path("/x"))
    (line,) = lines()
    found = json.loads(line)
    assert list(found)[:3] == ["timestamp", "level", "event"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", found.pop("timestamp"))
    assert found == {
        "level": level,
        "event": "job.done",
        "job": 7,
        "seconds": {"write": 0.5},
        "place": "/x",
    }


names = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"])),
    st.binary().map(lambda raw: raw.decode("utf-8", "surrogateescape")),
)


@given(names)
def test_a_line_is_one_line_of_json_whatever_a_name_holds(name: str) -> None:
    with logging_to(identifiers="plain") as (log, lines):
        log.info(Event.JOB_STARTED, file=Name(name))
    (line,) = lines()
    assert json.loads(line)["file"] == name


@given(names)
def test_a_line_of_text_is_one_line_whatever_a_name_holds(name: str) -> None:
    stream = io.StringIO()
    with logging_to(stream, identifiers="plain", log_format="text") as (log, _):
        log.info(Event.JOB_STARTED, file=Name(name))
    assert stream.getvalue().count("\n") == 1


@pytest.mark.parametrize(
    ("log_format", "stream", "is_json"),
    [
        ("auto", io.StringIO, True),
        ("auto", Terminal, False),
        ("json", Terminal, True),
        ("text", io.StringIO, False),
    ],
)
def test_lines_are_text_for_people_and_json_for_programs(
    log_format: str, stream: type[io.StringIO], *, is_json: bool
) -> None:
    with logging_to(stream(), log_format=log_format) as (log, lines):
        log.info(Event.JOB_DONE, job=7)
    (line,) = lines()
    assert line.startswith("{") is is_json
    assert "job.done" in line
    assert ("\x1b" in line) is (stream is Terminal and not is_json)


WRITING = """
import os, sys
from pathlib import Path
from dicomzarr_watch.config import Settings
from dicomzarr_watch.operate.logs import Event, Name, open_log
log = open_log(Settings(inbox="/i", output="/o", log_file=sys.argv[1], identifiers="plain",
                        log_format=sys.argv[2]), b"k" * 32)
log.info(Event.JOB_DONE, file=Name(os.fsdecode(b"M\\xfcller")))
"""


@pytest.mark.parametrize(
    ("log_format", "ending"), [("json", r'"file": "M\udcfcller"}'), ("text", r"M\udcfcller")]
)
def test_a_log_file_is_made_with_its_folder_and_appended_to(
    tmp_path: Path, log_format: str, ending: str
) -> None:
    """In a process of its own, at whose end a log ends; with a name that is not text."""
    path = tmp_path / "deep" / "log.jsonl"
    for count in (1, 2):
        command = [sys.executable, "-c", WRITING, str(path), log_format]
        done = subprocess.run(command, capture_output=True, check=True)
        assert done.stderr == b""
        lines = path.read_text("utf-8").splitlines()
        assert len(lines) == count
        assert lines[-1].endswith(ending)


def test_a_log_file_that_was_moved_away_is_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log = open_log(settings(log_file=path), KEY)
    log.info(Event.DAEMON_STARTED, number=1)
    path.rename(tmp_path / "log.1")
    log.info(Event.DAEMON_STARTED, number=2)
    log.info(Event.DAEMON_STARTED, number=3)
    numbers = [
        [json.loads(line)["number"] for line in place.read_text().splitlines()]
        for place in (tmp_path / "log.1", path)
    ]
    assert numbers == [[1], [2, 3]]


def test_a_log_file_that_cannot_be_made_anew_goes_on_where_it_was_moved(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "log"
    log = open_log(settings(log_file=path), KEY)
    path.parent.rename(tmp_path / "moved")
    log.info(Event.DAEMON_STARTED)
    assert len((tmp_path / "moved" / "log").read_text().splitlines()) == 1


def test_a_line_that_nobody_takes_is_not_kept_for_later(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as stream, logging_to() as _:
        monkeypatch.setattr(sys, "stderr", stream)
        open_log(settings(), KEY).info(Event.JOB_DONE, job=7)
        stream.flush()  # as multiprocessing does before it starts a child


# --- names ---

# a caret stands in no field, level or event of ours, as it does in every name of a patient
patients = st.tuples(names, names).map("^".join)


@given(patients)
def test_promise_8_with_hashed_identifiers_no_name_is_in_the_log(name: str) -> None:
    with logging_to() as (log, lines):
        log.info(Event.JOB_QUEUED, drop=Name(name), series=Name(f"{name}/1.2.3"), files=3)
        log.info(Event.JOB_DONE, files=[Name(name)], pairs=[(1, Name(name))])
        log.warning(Event.FILE_UNREADABLE, file=Name(name), **log.private(name))
    for line in lines():
        assert "^" not in line
        assert all(name not in str(value) for value in json.loads(line).values())


@given(names, names)
def test_a_name_has_one_hash_under_one_key_and_another_under_another(name: str, other: str) -> None:
    assert re.fullmatch(rf"[0-9a-f]{{{2 * HASH_BYTES}}}", hashed(name, KEY))
    assert (hashed(name, KEY) == hashed(other, KEY)) is (name == other)
    assert hashed(name, KEY) != hashed(name, OTHER_KEY)


def test_only_names_are_hashed_and_the_same_way_everywhere() -> None:
    with logging_to() as (log, lines):
        log.info(Event.JOB_QUEUED, drop=Name("Doe^Jane"), code="Doe^Jane")
        assert log.shown("Doe^Jane") == hashed("Doe^Jane", KEY)
    found = json.loads(lines()[0])
    assert (found["drop"], found["code"]) == (hashed("Doe^Jane", KEY), "Doe^Jane")


def test_plain_identifiers_show_names_because_they_were_asked_for() -> None:
    with logging_to(identifiers="plain") as (log, lines):
        log.info(Event.JOB_QUEUED, drop=Name("Doe^Jane"), **log.private("at /Doe^Jane"))
        log.info(Event.JOB_QUEUED, **log.private(""))
    first, second = map(json.loads, lines())
    assert (first["drop"], first["private"]) == ("Doe^Jane", "at /Doe^Jane")
    assert "private" not in second


# --- the key ---


def test_the_key_stays_the_same_and_is_for_its_owner_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        key = identifier_key(tmp_path)
    finally:
        os.umask(before)
    assert len(key) == KEY_BYTES
    assert identifier_key(tmp_path) == key
    (path,) = tmp_path.iterdir()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_log_on_a_full_disk_ends_nobody() -> None:
    with logging_to(log_file=Path("/dev/full")) as (log, _):
        log.info(Event.DAEMON_STARTED)
        log.error(Event.DAEMON_FAILED, code="x")


def test_lines_that_a_full_disk_did_not_take_are_counted_and_none_is_cut(tmp_path: Path) -> None:
    path = tmp_path / "log"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with logging_to(log_file=path) as (log, _):
        log.info(Event.DAEMON_STARTED)
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 10, limits[1]))
            for _ in range(3):
                log.info(Event.WATCH_STARTED)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        log.info(Event.DAEMON_STOPPING)
        log.info(Event.DAEMON_STOPPED)
    found = [json.loads(line) for line in path.read_text().splitlines()]
    names = ["daemon.started", "log.lost", "daemon.stopping", "daemon.stopped"]
    assert [event["event"] for event in found] == names
    assert found[1]["lines"] == 3


def test_every_state_folder_has_a_key_of_its_own(tmp_path: Path) -> None:
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder in folders:
        folder.mkdir()
    assert identifier_key(folders[0]) != identifier_key(folders[1])


def test_promise_7_a_key_that_was_half_written_when_the_end_came_is_made_anew(
    tmp_path: Path,
) -> None:
    (tmp_path / "identifiers.part").write_bytes(b"half")
    assert len(identifier_key(tmp_path)) == KEY_BYTES


# --- what libraries say ---


@pytest.mark.parametrize("identifiers", ["hashed", "plain"])
def test_promise_8_a_librarys_warning_is_told_without_its_words(identifiers: str) -> None:
    with logging_to(identifiers=identifiers) as (_, lines):
        warnings.simplefilter("always")
        warnings.warn("odd value in Doe^Jane", UserWarning, stacklevel=1)
        logging.getLogger("pydicom").warning("odd value in %s", "Doe^Jane")
        logging.getLogger("pydicom").info("no warning")
    found = [json.loads(line) for line in lines()]
    assert [(f["event"], f["level"]) for f in found] == [("library.warning", "warning")] * 2
    assert [f["kind"] for f in found] == ["UserWarning", "pydicom"]
    words = ["odd value in Doe^Jane"] * 2 if identifiers == "plain" else [None] * 2
    assert [f.get("private") for f in found] == words


def test_promise_8_a_librarys_traceback_is_not_told() -> None:
    with logging_to() as (_, lines):
        try:
            raise ValueError("Doe^Jane")
        except ValueError:
            logging.getLogger("zarr").exception("failed")
    (line,) = lines()
    assert "Doe" not in line
    assert json.loads(line)["kind"] == "zarr"


def test_a_librarys_words_that_do_not_fit_their_arguments_do_no_harm() -> None:
    with logging_to(identifiers="plain") as (_, lines):
        logging.getLogger("gdcm").warning("%d files in %s", *["three"])
    (line,) = lines()
    assert json.loads(line)["private"] == "%d files in %s"
