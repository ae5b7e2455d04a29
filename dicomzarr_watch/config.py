"""The settings: one TOML file, environment variables over it, flags over those; frozen.

`config/dicomzarr-watch.toml` explains every key. All problems are collected and told at once, each
with the key, what was expected and what was found.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Mapping
from enum import StrEnum
from itertools import combinations
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from dicomzarr_watch.archive.work import AfterSuccess, KeepEncoded, Level
from dicomzarr_watch.errors import StopError

ENVIRONMENT_PREFIX: Final = "DICOMZARR_"


class Identifiers(StrEnum):
    """How names from the data stand in logs."""

    HASHED = "hashed"
    PLAIN = "plain"


class LogFormat(StrEnum):
    """How log lines look; auto is text on a terminal and JSON elsewhere."""

    AUTO = "auto"
    JSON = "json"
    TEXT = "text"


def _named(value: object) -> object:
    """Refuse a path of no letters: it would mean the folder that the program runs in."""
    if value == "":
        raise ValueError("expected a path")
    return value


NamedPath = Annotated[Path, BeforeValidator(_named)]


def _one_part(value: str) -> str:
    """Refuse what cannot be the name of a file in a folder."""
    if "/" in value or "\0" in value or value in ("", ".", ".."):
        raise ValueError("expected the name of a file, without folders")
    return value


FileName = Annotated[str, AfterValidator(_one_part)]


def _octal(value: str) -> str:
    """Refuse what is no umask, or would keep the daemon from its own files."""
    if not re.fullmatch("0?[0-7]{3}", value) or int(value, 8) & 0o700:
        raise ValueError('expected octal digits that take nothing from the owner, such as "0027"')
    return value


Umask = Annotated[str, AfterValidator(_octal)]
MOST_WORKERS: Final = 256
LONGEST_JOB_S: Final = 1_000_000
"""poll(2) counts milliseconds in 31 bits."""


def _processors() -> int:
    return min(os.cpu_count() or 1, MOST_WORKERS)


def _memory_bytes() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


class Settings(BaseModel):
    """Everything that can be set; seconds end in _s."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False
    )

    inbox: NamedPath
    output: NamedPath
    state: NamedPath = Path("/var/lib/dicomzarr-watch")

    settle_s: float = Field(10.0, ge=0)
    poll_s: float = Field(60.0, gt=0)
    truncated_hold_s: float = Field(3600.0, ge=0)
    gap_hold_s: float = Field(0.0, ge=0)
    ready_marker: FileName | None = None
    drop_is_complete_on_move: bool = False

    archive_depth: int = Field(2, ge=0)
    archive_max_members: int = Field(200_000, ge=1)
    archive_max_bytes: int = Field(100_000_000_000, ge=1)
    archive_max_ratio: float = Field(200.0, ge=1)

    workers: int = Field(default_factory=_processors, ge=1, le=MOST_WORKERS)
    job_timeout_s: float = Field(3600.0, gt=0, le=LONGEST_JOB_S)
    job_memory_bytes: int = Field(default_factory=_memory_bytes, ge=0)
    max_attempts: int = Field(3, ge=1)
    retry_max_s: float = Field(300.0, gt=0)
    drain_s: float = Field(60.0, ge=0)
    min_free_bytes: int = Field(1_000_000_000, ge=0)

    verify: Level = Level.EXACT
    keep_reconstructed: NamedPath | None = None
    keep_encoded: KeepEncoded = KeepEncoded.ALWAYS
    umask: Umask = "0027"

    after_success: AfterSuccess = AfterSuccess.KEEP
    move_to: NamedPath | None = None

    identifiers: Identifiers = Identifiers.HASHED
    log_format: LogFormat = LogFormat.AUTO
    log_file: NamedPath | None = None


def load(
    file: Path | None = None,
    *,
    environment: Mapping[str, str],
    flags: Mapping[str, object],
) -> Settings:
    """Read the settings; raises StopError `settings-wrong` that lists every problem."""
    given = _from_file(file) if file else {}
    given |= _from_environment(environment)
    given |= {key: value for key, value in flags.items() if value is not None}
    problems = [*_not_apart(given), *_at_odds(given)]
    try:
        settings = Settings(**given)
    except ValidationError as error:
        problems = [_problem(e) for e in error.errors()] + problems
    if problems:
        raise _stop(problems)
    return settings


def state_folder(file: Path | None, environment: Mapping[str, str]) -> Path:
    """Return the state folder alone, for commands that only look at it.

    Raises StopError `settings-wrong` if it is no path.
    """
    given = (_from_file(file) if file else {}) | _from_environment(environment)
    found = given.get("state", Settings.model_fields["state"].default)
    if not isinstance(found, str | Path) or found == "":
        raise _stop([f"state: expected a path, found {found!r}"])
    return Path(found)


def _from_file(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text("utf-8"))
    except OSError as error:
        raise _stop([f"{file}: expected a readable file, found {error.strerror}"]) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise _stop([f"{file}: expected TOML, found: {error}"]) from error


def _from_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    """Take DICOMZARR_SETTLE_S=2 as settle_s; an unknown name is told like an unknown key."""
    return {
        name.removeprefix(ENVIRONMENT_PREFIX).lower(): value
        for name, value in environment.items()
        if name.startswith(ENVIRONMENT_PREFIX)
    }


def _not_apart(given: Mapping[str, Any]) -> list[str]:
    """Keep the folders apart: results must not be taken for input, whatever links lead to it.

    Nor must what is moved, rebuilt, published or known of it be taken for one another: each of the
    places is cleared in its own way.
    """
    keys = ("inbox", "output", "state", "keep_reconstructed", "log_file", "move_to")
    wanted = {key: given.get(key, Settings.model_fields[key].default) for key in keys}
    folders = {
        key: Path(os.path.realpath(place))
        for key, place in wanted.items()
        if isinstance(place, str | Path)
    }
    pairs = [(key, "inbox") for key in folders if key != "inbox"]
    pairs += combinations(("move_to", "keep_reconstructed", "state", "output"), 2)
    return [
        f"{key}: expected a place apart from the {other}, found one inside the other"
        for key, other in pairs
        if key in folders and other in folders and overlap(folders[key], folders[other])
    ]


def overlap(one: Path, other: Path) -> bool:
    """Tell whether two places are one, or one is inside the other; both with no link in them."""
    return one.is_relative_to(other) or other.is_relative_to(one)


def _at_odds(given: Mapping[str, Any]) -> list[str]:
    """Let originals go only where there is proof that they come back, and a place to go to."""
    after = given.get("after_success")
    found = []
    if after in (AfterSuccess.MOVE, AfterSuccess.DELETE) and given.get("verify") == Level.OFF:
        found.append(f'verify: expected "exact" or "independent" with after_success = "{after}"')
    if after == AfterSuccess.MOVE and given.get("move_to") is None:
        found.append('move_to: expected a path with after_success = "move", found none')
    return found


def _problem(error: Any) -> str:
    key = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        near = difflib.get_close_matches(key, Settings.model_fields, n=1)
        return f"{key}: expected a known key{f', such as {near[0]}' if near else ''}"
    if error["type"] == "missing":
        return f"{key}: expected a value, found none; set it in the file or with --{key}"
    said = error["msg"].removeprefix("Value error, ")
    return f"{key}: {said}, found {error['input']!r}"


def _stop(problems: list[str]) -> StopError:
    lines = "\n".join(f"  {problem}" for problem in problems)
    return StopError("settings-wrong", found=f"{len(problems)} problem(s):\n{lines}")
