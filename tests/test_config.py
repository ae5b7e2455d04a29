from __future__ import annotations

import os
import re
import tomllib
from itertools import combinations
from multiprocessing import Pipe
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from dicomzarr_watch.archive.work import AfterSuccess, Level
from dicomzarr_watch.config import Identifiers, LogFormat, Settings, load, state_folder
from dicomzarr_watch.errors import StopError

EXAMPLE = Path(__file__).parents[1] / "config" / "dicomzarr-watch.toml"
FOLDERS = 'inbox = "/in"\noutput = "/out"\n'
ENVIRONMENT = {"DICOMZARR_INBOX": "/in", "DICOMZARR_OUTPUT": "/out"}


def loaded(toml: str = "", environment: dict[str, str] | None = None, **flags: object) -> Settings:
    """Load settings whose folders are given in the environment unless told."""
    file = Path("settings.toml")
    file.write_text(toml, "utf-8")
    return load(file, environment=ENVIRONMENT | (environment or {}), flags=flags)


def problems(toml: str = "", environment: dict[str, str] | None = None, **flags: object) -> str:
    with pytest.raises(StopError) as error:
        loaded(toml, environment, **flags)
    assert error.value.code == "settings-wrong"
    return str(error.value)


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


# --- where a setting comes from ---


@pytest.mark.parametrize(
    ("toml", "environment", "flags", "expected"),
    [
        ("", {}, {}, 10.0),
        ("settle_s = 1", {}, {}, 1.0),
        ("", {"DICOMZARR_SETTLE_S": "2"}, {}, 2.0),
        ("settle_s = 1", {"DICOMZARR_SETTLE_S": "2"}, {}, 2.0),
        ("settle_s = 1", {"DICOMZARR_SETTLE_S": "2"}, {"settle_s": 3}, 3.0),
        ("settle_s = 1", {}, {"settle_s": 3}, 3.0),
        ("settle_s = 1", {"DICOMZARR_SETTLE_S": "2"}, {"settle_s": None}, 2.0),
        ("", {"SETTLE_S": "2", "XDICOMZARR_SETTLE_S": "2"}, {}, 10.0),
    ],
)
def test_flags_go_over_the_environment_and_that_over_the_file(
    toml: str, environment: dict[str, str], flags: dict[str, object], expected: float
) -> None:
    assert loaded(toml, environment, **flags).settle_s == expected


def test_every_kind_of_setting_can_come_from_the_environment() -> None:
    found = loaded(
        environment={
            "DICOMZARR_STATE": "/state",
            "DICOMZARR_WORKERS": "3",
            "DICOMZARR_VERIFY": "independent",
            "DICOMZARR_IDENTIFIERS": "plain",
            "DICOMZARR_LOG_FORMAT": "json",
            "DICOMZARR_LOG_FILE": "/var/log/x",
        }
    )
    assert (found.state, found.workers, found.verify) == (Path("/state"), 3, Level.INDEPENDENT)
    assert (found.identifiers, found.log_format) == (Identifiers.PLAIN, LogFormat.JSON)
    assert found.log_file == Path("/var/log/x")


def test_no_file_is_needed() -> None:
    assert load(environment={}, flags={"inbox": "/in", "output": "/out"}).inbox == Path("/in")


def test_the_state_folder_is_found_without_the_rest() -> None:
    file = Path("settings.toml")
    file.write_text('state = "/a"\nunknown = 1\n')
    assert state_folder(file, {}) == Path("/a")
    assert state_folder(file, {"DICOMZARR_STATE": "/b"}) == Path("/b")
    assert state_folder(None, {}) == Settings.model_fields["state"].default


@pytest.mark.parametrize("value", ["7", '["/a"]', '""'])
def test_a_state_folder_that_is_no_path_is_a_wrong_setting(value: str) -> None:
    file = Path("settings.toml")
    file.write_text(f"state = {value}")
    with pytest.raises(StopError, match="state: expected a path, found") as error:
        state_folder(file, {})
    assert error.value.code == "settings-wrong"


@pytest.mark.parametrize(("processors", "workers"), [(384, 256), (256, 256), (2, 2), (None, 1)])
def test_there_are_as_many_workers_as_processors_up_to_what_may_be_set(
    monkeypatch: pytest.MonkeyPatch, processors: int | None, workers: int
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: processors)
    assert loaded().workers == workers


def test_the_longest_job_can_be_waited_for() -> None:
    reader, writer = Pipe(duplex=False)
    writer.close()
    assert reader.poll(loaded("job_timeout_s = 1_000_000").job_timeout_s)


def test_settings_do_not_change() -> None:
    found = loaded()
    with pytest.raises(ValidationError, match="frozen"):
        found.settle_s = 1.0
    assert found.settle_s == 10.0


# --- what is wrong with them ---


@pytest.mark.parametrize(
    ("toml", "told"),
    [
        ("setle_s = 1", "setle_s: expected a known key, such as settle_s"),
        ("xyzzy = 1", "xyzzy: expected a known key"),
        ("settle_s = -1", "settle_s: Input should be greater than or equal to 0, found -1"),
        ("settle_s = inf", "settle_s: Input should be a finite number, found inf"),
        ("poll_s = nan", "poll_s: Input should be a finite number, found nan"),
        ("poll_s = 0", "poll_s: Input should be greater than 0, found 0"),
        ("workers = 0", "workers: Input should be greater than or equal to 1, found 0"),
        ("workers = 257", "workers: Input should be less than or equal to 256, found 257"),
        (
            "job_timeout_s = 1_000_001",
            "job_timeout_s: Input should be less than or equal to 1000000, found 1000001",
        ),
        ("max_attempts = 0", "max_attempts: Input should be greater than or equal to 1, found 0"),
        (
            'verify = "exactly"',
            "verify: Input should be 'exact', 'independent' or 'off', found 'exactly'",
        ),
        ('settle_s = "soon"', "settle_s: Input should be a valid number"),
        ('keep_reconstructed = ""', "keep_reconstructed: expected a path, found ''"),
        ('umask = "0700"', "umask: expected octal digits that take nothing from the owner"),
        ('umask = "0028"', "umask: expected octal digits that take nothing from the owner"),
        ("umask = 27", "umask: Input should be a valid string, found 27"),
        ("[workers]\nmost = 3", "workers: Input should be a valid integer"),
    ],
)
def test_a_problem_names_the_key_what_was_expected_and_what_was_found(toml: str, told: str) -> None:
    found = problems(toml)
    assert found.startswith("settings-wrong: found 1 problem(s):\n")
    assert told in found


AFTER = [
    ('after_success = "delete"\nverify = "off"', 'verify: expected "exact" or "independent" with'),
    (
        'after_success = "move"\nmove_to = "/moved"\nverify = "off"',
        'verify: expected "exact" or "independent" with after_success = "move"',
    ),
    ('after_success = "move"', 'move_to: expected a path with after_success = "move", found none'),
    ('after_success = "remove"', "after_success: Input should be 'keep', 'move' or 'delete'"),
    ('move_to = "/in/moved"', "move_to: expected a place apart from the inbox"),
    ('move_to = "/out/moved"', "move_to: expected a place apart from the output"),
    ('move_to = "/"\nstate = "/s"', "move_to: expected a place apart from the state"),
]


@pytest.mark.parametrize(("toml", "told"), AFTER)
def test_originals_go_only_with_proof_and_only_to_a_place_of_their_own(
    toml: str, told: str
) -> None:
    assert told in problems(toml)


def test_originals_stay_unless_somebody_says_otherwise() -> None:
    assert loaded().after_success is AfterSuccess.KEEP
    assert loaded('verify = "off"').after_success is AfterSuccess.KEEP
    moved = loaded('after_success = "move"\nmove_to = "/moved"')
    assert (moved.after_success, moved.move_to) == (AfterSuccess.MOVE, Path("/moved"))


def test_what_must_be_given_and_is_not_is_said_with_how_to_give_it() -> None:
    with pytest.raises(StopError) as error:
        load(environment={}, flags={})
    for key in ("inbox", "output"):
        assert f"{key}: expected a value, found none; set it in the file or with --{key}" in str(
            error.value
        )


def test_all_problems_are_told_at_once() -> None:
    found = problems(
        'setle_s = 1\npoll_s = 0\noutput = "/elsewhere"\n',
        {"DICOMZARR_OUTPUT": "/in/out", "DICOMZARR_WORKERS": "many", "DICOMZARR_UNKNOWN": "1"},
        state="/in/state",
    )
    assert found.startswith("settings-wrong: found 6 problem(s):\n")
    for key in ("setle_s", "poll_s", "output", "workers", "unknown", "state"):
        assert f"\n  {key}: " in found


@pytest.mark.parametrize(
    ("content", "told"),
    [(b"settle_s = ", "expected TOML"), (b"\xff\xfe", "expected TOML"), (None, "No such file")],
    ids=["broken", "not text", "missing"],
)
def test_a_file_that_cannot_be_read_is_a_problem_of_the_settings(
    content: bytes | None, told: str
) -> None:
    file = Path("settings.toml")
    if content is not None:
        file.write_bytes(content)
    for read in (
        lambda: load(file, environment={}, flags={}),
        lambda: state_folder(file, {}),
    ):
        with pytest.raises(StopError, match=told) as error:
            read()
        assert error.value.code == "settings-wrong"


@pytest.mark.parametrize("key", ["output", "state", "keep_reconstructed", "log_file"])
@pytest.mark.parametrize(
    "place", ["inbox", "inbox/deep/er", ".", "away/../inbox/x", "link/x", "inbox/../inbox"]
)
def test_nothing_of_ours_is_inside_the_inbox_nor_it_inside_that(
    tmp_path: Path, key: str, place: str
) -> None:
    (tmp_path / "inbox").mkdir()
    (tmp_path / "link").symlink_to("inbox")
    flags: dict[str, Any] = {"inbox": tmp_path / "inbox", key: tmp_path / place}
    assert f"{key}: expected a place apart from the inbox" in problems(**flags)


OWN = ("move_to", "keep_reconstructed", "state", "output")


@pytest.mark.parametrize(("key", "other"), list(combinations(OWN, 2)))
@pytest.mark.parametrize(
    ("one", "within"), [("a", "a"), ("a/b", "a"), ("a", "a/b"), ("link/b", "a"), ("a", "link/b")]
)
def test_none_of_our_places_is_inside_another(
    tmp_path: Path, key: str, other: str, one: str, within: str
) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "link").symlink_to("a")
    flags: dict[str, Any] = {key: tmp_path / one, other: tmp_path / within}
    assert f"{key}: expected a place apart from the {other}" in problems(**flags)


def test_places_of_ours_beside_one_another_are_apart(tmp_path: Path) -> None:
    flags: dict[str, Any] = {key: tmp_path / "all" / key for key in OWN}
    assert loaded(**flags).output == tmp_path / "all" / "output"


def test_the_default_places_are_apart_from_the_inbox_as_well() -> None:
    assert "state: expected a place apart from the inbox" in problems(inbox="/var/lib")
    assert "state: expected a place apart from the output" in problems(output="/var/lib")


@pytest.mark.parametrize("place", ["inbox2", "in", "inbo", "away/inbox", ".inbox"])
def test_a_place_beside_the_inbox_is_apart_from_it(tmp_path: Path, place: str) -> None:
    found = loaded(inbox=tmp_path / "inbox", output=tmp_path / place)
    assert found.output == tmp_path / place


# --- the example ---

# `# key = value` shows a default, `key = value` is one to set
_LINE = re.compile(r"^(# )?([a-z_]+) = .+$")
_LINES = EXAMPLE.read_text("utf-8").splitlines()
SHOWN = {m[2]: (bool(m[1]), n) for n, line in enumerate(_LINES) if (m := _LINE.match(line))}
# these have no value of their own by default, so an example stands for one
BY_EXAMPLE = {
    "workers",
    "job_memory_bytes",
    "keep_reconstructed",
    "log_file",
    "move_to",
    "ready_marker",
}


def example() -> dict[str, Any]:
    """Return the values of the example, as if no key were behind `#`."""
    return tomllib.loads("\n".join(_LINES[n].removeprefix("# ") for _, n in SHOWN.values()))


def test_the_example_shows_every_key_once_and_no_other() -> None:
    found = [match[2] for line in _LINES if (match := _LINE.match(line))]
    assert sorted(found) == sorted(Settings.model_fields)


@pytest.mark.parametrize("key", sorted(SHOWN))
def test_the_example_gives_a_reason_above_every_key(key: str) -> None:
    _, number = SHOWN[key]
    above = _LINES[number - 1]
    assert re.match(r"# [A-Za-z\"<]", above)
    assert not _LINE.match(above)


@pytest.mark.parametrize("key", sorted(SHOWN))
def test_the_example_shows_the_default(key: str) -> None:
    is_behind, _ = SHOWN[key]
    field = Settings.model_fields[key]
    if field.is_required():
        assert not is_behind
    elif key in BY_EXAMPLE:
        assert is_behind
        assert field.default is None or field.default_factory is not None
    else:
        shown = example()[key]
        assert type(field.default)(shown) == field.default
        assert isinstance(shown, float) is isinstance(field.default, float)


def test_the_example_is_valid_as_it_stands_and_with_every_key_set() -> None:
    assert load(EXAMPLE, environment={}, flags={}).settle_s == 10.0
    everything = load(environment={}, flags=example())
    assert everything.log_file == Path(example()["log_file"])
