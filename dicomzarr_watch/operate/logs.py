"""The log: a fixed vocabulary of events, one canonical line per job, no names from the data.

Only this module imports structlog. What could name a patient is passed as `Name` and comes out as
a short keyed hash, unless the settings ask for plain identifiers; the key stays in the state
folder.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import secrets
import sys
import warnings
from collections.abc import Callable, MutableMapping
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, Self, TextIO, cast

import structlog

from dicomzarr_watch import private
from dicomzarr_watch.config import Identifiers, LogFormat, Settings
from dicomzarr_watch.operate.stream import Lines, LogFile, Stream

KEY_BYTES: Final = 32
HASH_BYTES: Final = 6


class Event(StrEnum):
    """Every event that is ever logged, with its meaning."""

    meaning: str

    def __new__(cls, name: str, meaning: str) -> Self:
        event = str.__new__(cls, name)
        event._value_ = name
        event.meaning = meaning
        return event

    DAEMON_STARTED = "daemon.started", "the daemon runs with these settings"
    DAEMON_STOPPING = "daemon.stopping", "no new job starts; those under way may end"
    DAEMON_STOPPED = "daemon.stopped", "the daemon has ended; what is given back or left is counted"
    DAEMON_FAILED = "daemon.failed", "the daemon cannot go on; `code` says why"
    CHECK_FAILED = "check.failed", "something is not as `check` wants it; `todo` says what to do"
    LEDGER_DAMAGED = "ledger.damaged", "the ledger cannot be used; it is set aside as `file`"
    LEDGER_REBUILT = "ledger.rebuilt", "a new ledger knows from the output what was done before"
    INBOX_MISSING = "inbox.missing", "the inbox is not there; nothing is concluded from that"
    INBOX_BACK = "inbox.back", "the inbox is there again"
    INBOX_REPLACED = "inbox.replaced", "the inbox is another folder than before"
    INBOX_UNREADABLE = (
        "inbox.unreadable",
        "folders in the inbox, or files in them, cannot be looked at",
    )
    WATCH_LOST = "watch.lost", "no events from the inbox; the listing goes on every poll_s"
    WATCH_STARTED = "watch.started", "events from the inbox shorten the wait"
    FILES_UNANNOUNCED = (
        "files.unannounced",
        "only the listing found these files; no event told of them",
    )
    FILE_UNREADABLE = "file.unreadable", "a file cannot be read, `cause` says why; tried again"
    SERIES_ARRIVING = "series.arriving", "a series has new or changed files"
    SERIES_HELD = (
        "series.held",
        "a truncated file, or a gap in its numbers, holds a series",
    )
    JOB_QUEUED = "job.queued", "a series is complete and waits for a worker"
    JOB_STARTED = "job.started", "an attempt begins"
    JOB_DONE = "job.done", "the canonical line: archived and verified, unchanged, or unpacked"
    JOB_RETRY = "job.retry", "an attempt failed; it is tried again after `pause_s`"
    JOB_REJECTED = "job.rejected", "a series is given up; `code` says why"
    JOB_WITHDRAWN = "job.withdrawn", "the files of a job changed; the series settles again"
    OUTPUT_PAUSED = (
        "output.paused",
        "the output is away or takes no results, or some have no room; they wait",
    )
    OUTPUT_RESUMED = "output.resumed", "the output takes results again"
    DROP_FINISHED = "drop.finished", "drop.json says what became of every file"
    DROP_WITHDRAWN = (
        "drop.withdrawn",
        "all that a drop had were temporary names, which are gone; so is its drop.json",
    )
    ORIGINALS_CLEARED = (
        "originals.cleared",
        "originals that the archive holds were moved or deleted",
    )
    ORIGINALS_KEPT = "originals.kept", "originals stay although archived; `code` says why"
    FOLDERS_REMOVED = "folders.removed", "folders that were left empty are gone as well"
    LOG_LOST = "log.lost", "the log could not be written for a while; so many lines are missing"
    LIBRARY_WARNING = "library.warning", "a library warned; its words only with plain identifiers"


class Name(str):
    """A name, path or UID from the data; shown as the settings say."""

    __slots__ = ()


class Log:
    """Writes events; there is one, made at start and passed on.

    A log that cannot be written is no reason to stop: lines are counted until one is taken again.
    """

    def __init__(self, logger: Any, key: bytes, identifiers: Identifiers) -> None:
        self._logger = logger
        self._key = key
        self._is_plain = identifiers is Identifiers.PLAIN
        self._lost = 0

    def info(self, event: Event, **fields: object) -> None:
        self._say(self._logger.info, event, fields)

    def warning(self, event: Event, **fields: object) -> None:
        self._say(self._logger.warning, event, fields)

    def error(self, event: Event, **fields: object) -> None:
        self._say(self._logger.error, event, fields)

    def shown(self, name: str) -> str:
        """Return a name as it stands in the log."""
        return name if self._is_plain else hashed(name, self._key)

    def private(self, text: str) -> dict[str, str]:
        """Return words that may name the data as a field, if the settings let them be seen."""
        return {"private": text} if self._is_plain and text else {}

    def _say(self, say: Callable[..., None], event: Event, fields: dict[str, object]) -> None:
        try:
            if self._lost:
                self._logger.warning(Event.LOG_LOST.value, lines=self._lost)
                self._lost = 0
            say(event.value, **{key: self._value(value) for key, value in fields.items()})
        except OSError:
            self._lost += 1

    def _value(self, value: object) -> object:
        if isinstance(value, Name):
            return self.shown(value)
        if isinstance(value, list | tuple):
            return [self._value(v) for v in value]
        return value


def hashed(name: str, key: bytes) -> str:
    """Return the short keyed hash that stands for a name."""
    raw = name.encode("utf-8", "surrogateescape")
    return hashlib.blake2b(raw, digest_size=HASH_BYTES, key=key).hexdigest()


def identifier_key(state: Path) -> bytes:
    """Return the state folder's key for hashes, made at the first call."""
    path = state / "identifiers.key"
    if path.exists():
        return path.read_bytes()
    key, part = secrets.token_bytes(KEY_BYTES), path.with_suffix(".part")
    private.make_file(part)
    with part.open("wb") as stream:
        stream.write(key)
        stream.flush()
        os.fsync(stream.fileno())
    part.rename(path)
    return key


def open_log(settings: Settings, key: bytes, stream: Stream | None = None) -> Log:
    """Start logging as the settings say; libraries' warnings are counted in, not quoted.

    stream: what takes the lines where the settings name no file; stderr if it is not given.
    """
    if settings.log_file is not None:
        settings.log_file.parent.mkdir(parents=True, exist_ok=True)
        stream = LogFile(settings.log_file)
    stream = stream or Lines(sys.stderr.fileno())
    is_text = settings.log_format is LogFormat.TEXT or (
        settings.log_format is LogFormat.AUTO and stream.isatty()
    )
    logger = structlog.wrap_logger(
        structlog.WriteLogger(cast("TextIO", stream)),
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _readable(stream) if is_text else _json_line,
        ],
    )
    log = Log(logger, key, settings.identifiers)
    _take_over_warnings(log)
    return log


def _readable(stream: Stream) -> Callable[[Any, str, MutableMapping[str, Any]], str]:
    return structlog.dev.ConsoleRenderer(colors=stream.isatty(), pad_event_to=18)


def _json_line(_logger: Any, _method: str, fields: MutableMapping[str, Any]) -> str:
    """Return one line, what a person looks for first at its start."""
    first = {name: fields.pop(name) for name in ("timestamp", "level", "event")}
    return json.dumps(first | dict(fields), default=str)


def _take_over_warnings(log: Log) -> None:
    """Turn what libraries say into our one event; their words may hold names."""

    def shown(
        message: Warning | str, category: type[Warning], *_args: object, **_kwargs: object
    ) -> None:
        log.warning(Event.LIBRARY_WARNING, kind=category.__name__, **log.private(str(message)))

    warnings.showwarning = shown
    logging.basicConfig(handlers=[_Forward(log)], level=logging.WARNING, force=True)


class _Forward(logging.Handler):
    """The standard library's logging, handed on."""

    def __init__(self, log: Log) -> None:
        super().__init__()
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        try:
            said = record.getMessage()
        except (TypeError, ValueError, KeyError):
            said = str(record.msg)  # its arguments do not fit; no reason to fail where it is said
        self._log.warning(Event.LIBRARY_WARNING, kind=record.name, **self._log.private(said))
