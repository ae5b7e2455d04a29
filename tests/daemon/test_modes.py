"""Who may see what: results as the settings say, what is staged and the state nobody else."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest
from bundle_files import bundled
from daemon_process import COMMAND, FAULTY, Daemon, held_at, once, running
from drops import dropped, late_slice, made, put

from dicomzarr_watch.intake.bundle import Form
from dicomzarr_watch.ledger.requests import wish_retries

# minutes in all, and the fast suite is to stay under two
pytestmark = pytest.mark.integration


def started_under(umask: str, command: tuple[str, ...] = COMMAND) -> tuple[str, ...]:
    """Return the words that start a daemon from a shell with this umask."""
    return ("sh", "-c", f'umask {umask} && exec "$@"', "sh", *command)


def modes(folder: Path) -> tuple[set[int], set[int]]:
    """Return the modes of the folders below a folder, itself included, and those of the files."""
    found = [(path, stat.S_IMODE(path.stat().st_mode)) for path in (folder, *folder.rglob("*"))]
    return {m for path, m in found if path.is_dir()}, {m for path, m in found if path.is_file()}


@pytest.mark.parametrize(
    ("started", "umask", "folders", "files"),
    [
        ("0000", None, 0o750, 0o640),
        ("0077", None, 0o750, 0o640),
        ("0000", "0077", 0o700, 0o600),
        ("0077", "022", 0o755, 0o644),
    ],
)
def test_results_have_the_modes_of_the_settings_whoever_starts_the_daemon(
    tmp_path: Path, started: str, umask: str | None, folders: int, files: int
) -> None:
    settings = {"umask": umask} if umask else {}
    made(tmp_path / "inbox" / "a")
    kept = tmp_path / "kept"
    for _ in "first", "revision":
        code, daemon = once(
            tmp_path, command=started_under(started), keep_reconstructed=kept, **settings
        )
        assert code == 0
        late_slice(tmp_path / "inbox" / "a")
    assert len(list(daemon.output.glob("a/*/series.zarr/0/*"))) > 1
    assert modes(daemon.output) == ({folders}, {files})
    assert modes(kept) == ({folders}, {files})


def test_what_is_staged_is_seen_by_nobody_else(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "gate")
    command = started_under("0000", FAULTY)
    with running(tmp_path, command=command, FAULTS=tmp_path, umask="0000") as daemon:
        dropped(daemon, "a")
        with held_at(tmp_path / "gate") as let_go:
            staging = daemon.output / ".staging"
            assert stat.S_IMODE(staging.stat().st_mode) == 0o700
            assert len(list(staging.glob("a/*/new/series.zarr"))) == 1
            assert stat.S_IMODE((daemon.output / ".lock").stat().st_mode) == 0o600
            let_go()
        daemon.wait("drop.finished")
        assert daemon.stop() == 0
    assert modes(daemon.output) == ({0o777}, {0o666})


@pytest.mark.parametrize("state_mode", [None, 0o755])
def test_the_state_is_seen_by_nobody_else(tmp_path: Path, state_mode: int | None) -> None:
    if state_mode:
        (tmp_path / "state").mkdir()
        (tmp_path / "state").chmod(state_mode)
        (tmp_path / "state" / "ledger.sqlite").touch(0o644)
    os.mkfifo(tmp_path / "gate")
    command = started_under("0000", FAULTY)
    with running(tmp_path, command=command, FAULTS=tmp_path, umask="0000") as daemon:
        put(daemon, "a.zip", bundled(Form.ZIP, made(tmp_path / "made")))
        with held_at(tmp_path / "gate") as let_go:
            assert _names(daemon) >= {"ledger.sqlite", "ledger.sqlite-wal", "identifiers.key"}
            assert len(list(daemon.state.glob("unpacked/*/*"))) == 3
            assert modes(daemon.state) == ({0o700}, {0o600})
            let_go()
        daemon.wait("drop.finished")
        daemon.kill()
    before = os.umask(0)
    try:
        wish_retries(daemon.state, [7])
    finally:
        os.umask(before)
    assert "retry.7" in _names(daemon)
    assert modes(daemon.state) == ({0o700}, {0o600})


def test_the_log_is_read_by_the_group_at_most(tmp_path: Path) -> None:
    log = tmp_path / "logs" / "log.jsonl"
    assert once_logged(tmp_path, log, umask="0000") == 0
    assert stat.S_IMODE(log.stat().st_mode) == 0o640


def once_logged(place: Path, log: Path, **settings: Any) -> int:
    daemon = Daemon(place, "--once", log_file=log, **settings)
    try:
        return daemon.end()
    finally:
        assert daemon.process.stderr is not None
        daemon.process.stderr.close()


def _names(daemon: Daemon) -> set[str]:
    return {path.name for path in daemon.state.rglob("*")}
