"""`check`: what the machine must give, and what to do where it does not."""

from __future__ import annotations

import json
import resource
import subprocess
from pathlib import Path

import pytest
from daemon_process import COMMAND, clean_environment, once
from drops import made

from dicomzarr_watch.config import Settings
from dicomzarr_watch.daemon.mounts import file_system, is_remote
from dicomzarr_watch.daemon.surroundings import LEAST_DESCRIPTORS, Check, checks

MOUNTS = """\
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
23 22 0:21 / /proc rw,nosuid - proc proc rw
30 22 0:44 / /srv/in\\040box rw shared:7 - nfs4 server:/export rw
31 30 0:45 / /srv/in\\040box/local rw - tmpfs tmpfs rw
33 22 0:47 / /mnt/B\u00fcro\u3000A\x85B rw - nfs4 server:/export rw
34 22 0:48 / /mnt/\udcff\\134x rw - cifs server rw
32 22 0:46 / /mnt/sshfs rw - fuse.sshfs host: rw
"""


@pytest.mark.parametrize(
    ("path", "kind", "remote"),
    [
        ("/", "ext4", False),
        ("/srv", "ext4", False),
        ("/srv/in box", "nfs4", True),
        ("/srv/in box/drop/slice", "nfs4", True),
        ("/srv/in boxes", "ext4", False),
        ("/srv/in box/local/drop", "tmpfs", False),
        ("/mnt/B\u00fcro\u3000A\x85B/inbox", "nfs4", True),
        ("/mnt/\udcff\\x", "cifs", True),
        ("/mnt/sshfs/x", "fuse.sshfs", True),
    ],
)
def test_a_path_is_on_the_file_system_of_the_nearest_mount(
    path: str, kind: str, remote: bool
) -> None:
    assert file_system(Path(path), MOUNTS) == kind
    assert is_remote(kind) is remote


def test_without_mounts_nothing_is_said_of_a_file_system() -> None:
    assert file_system(Path("/srv"), "") == ""


def _settings(place: Path, **more: object) -> Settings:
    folders = {name: place / name for name in ("inbox", "output", "state")}
    return Settings(**(folders | more))  # type: ignore[arg-type]  # pydantic checks them


def _found(settings: Settings, mounted: str = MOUNTS) -> dict[str, Check]:
    return {check.name: check for check in checks(settings, mounted, is_thorough=True)}


def test_a_good_place_is_well_and_stays_clean(tmp_path: Path) -> None:
    (tmp_path / "inbox" / "drop").mkdir(parents=True)
    found = _found(_settings(tmp_path))
    assert {name for name, check in found.items() if not check.is_well} == set()
    assert found["inbox probe"].found == "a new file raised an event"
    assert found["inbox watches"].found.startswith("2 folders, ")
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["drop", "inbox"]


def test_folders_that_are_there_stay(tmp_path: Path) -> None:
    for name in ("inbox", "output", "state"):
        (tmp_path / name).mkdir()
    _found(_settings(tmp_path))
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["inbox", "output", "state"]


def test_an_inbox_that_is_not_there_is_told(tmp_path: Path) -> None:
    found = _found(_settings(tmp_path))
    assert not found["inbox"].is_well
    assert "inbox probe" not in found


@pytest.mark.parametrize(("poll_s", "well"), [(60.0, False), (5.0, True)])
def test_a_remote_inbox_wants_to_be_listed_often(tmp_path: Path, poll_s: float, well: bool) -> None:
    mounted = f"30 22 0:44 / {tmp_path}/inbox rw - cifs server rw\n"
    found = _found(_settings(tmp_path, poll_s=poll_s), mounted)
    assert found["inbox events"].is_well is well


def test_a_remote_state_folder_is_no_place_for_a_ledger(tmp_path: Path) -> None:
    mounted = f"30 22 0:44 / {tmp_path}/state rw - nfs server rw\n"
    assert not _found(_settings(tmp_path), mounted)["state"].is_well


def test_folders_that_cannot_be_written_to_are_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    found = _found(_settings(tmp_path, output=tmp_path / "file" / "a", state=tmp_path / "file"))
    assert not found["output"].is_well
    assert not found["state"].is_well


def test_a_disk_without_what_is_to_stay_free_is_told(tmp_path: Path) -> None:
    found = _found(_settings(tmp_path, min_free_bytes=1 << 60))
    for name in ("output", "state"):
        assert "min_free_bytes" in found[f"{name} space"].todo


def test_few_open_files_are_told(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (LEAST_DESCRIPTORS - 1, before[1]))
    try:
        assert not _found(_settings(tmp_path))["open files"].is_well
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_the_command_answers_people_and_programs(tmp_path: Path) -> None:

    (tmp_path / "inbox").mkdir()
    flags = [f"--{n}={tmp_path / n}" for n in ("inbox", "output", "state")]

    def asked(*more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*COMMAND, "check", *flags, *more],
            env=clean_environment(),
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    well = asked()
    assert (well.returncode, well.stderr) == (0, "")
    assert all(line.startswith("ok  ") for line in well.stdout.splitlines())
    (tmp_path / "inbox").rmdir()
    missing = asked("--json")
    assert missing.returncode == 1
    (first, *_) = json.loads(missing.stdout)
    assert first["name"] == "inbox"
    assert first["todo"]


def test_originals_can_leave_only_an_inbox_that_can_be_written(tmp_path: Path) -> None:
    assert not any(name.startswith("originals") for name in _found(_settings(tmp_path)))
    settings = _settings(tmp_path, after_success="move", move_to=tmp_path / "a" / "b")
    assert _found(settings)["originals, move"].todo == "let this user write there"
    settings.inbox.mkdir()
    assert _found(settings)["originals, move"].is_well
    assert not (tmp_path / "a").exists()


def test_what_is_amiss_is_said_once_as_the_daemon_starts(tmp_path: Path) -> None:
    """Too few open files, as nothing else can be amiss here that lets a daemon start."""
    made(tmp_path / "inbox" / "a", 1)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (LEAST_DESCRIPTORS - 1, before[1]))
    try:
        code, daemon = once(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert code == 0
    found = {e["code"]: e for e in daemon.all("check.failed", level="warning")}
    assert found["open-files"]["found"] == f"{LEAST_DESCRIPTORS - 1}"
    assert "ulimit" in found["open-files"]["todo"]
    assert len(daemon.all("check.failed", code="open-files")) == 1
    assert len(daemon.all("job.done")) == 1


def test_what_was_looked_at_has_a_word_for_monitoring() -> None:
    assert Check("output space", "").code == "output-space"
    assert Check("originals, move", "").code == "originals-move"
