"""Promises that a real disk keeps or breaks: no space left, and what is on it when."""

from __future__ import annotations

import errno
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from daemon_process import COMMAND, running
from drops import brought_back, contents, dropped, late_slice, made

pytestmark = pytest.mark.integration


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """Give an output on a small file system of its own."""
    output = tmp_path / "output"
    output.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", output], check=True)
    try:
        yield output
    finally:
        subprocess.run(["umount", output], check=True)


@pytest.fixture
def full_disk(disk: Path) -> Path:
    """Give an output with a ballast that takes all its space."""
    _fill(disk / ".ballast")
    return disk


def _fill(path: Path) -> None:
    with path.open("wb", buffering=0) as stream:
        try:
            while stream.write(bytes(4096)):
                pass
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise


def _enlarge(output: Path) -> None:
    subprocess.run(["mount", "-o", "remount,size=8m", output], check=True)


@pytest.mark.parametrize("free", [lambda output: (output / ".ballast").unlink(), _enlarge])
def test_a_full_disk_pauses_the_daemon_until_there_is_space(
    tmp_path: Path, full_disk: Path, free: Callable[[Path], None]
) -> None:
    with running(tmp_path, retry_max_s=0.5, max_attempts=1) as daemon:
        files = [dropped(daemon, drop) for drop in "ab"]
        paused = daemon.wait("output.paused")
        daemon.wait("job.started", count=5)
        assert (paused["code"], daemon.all("job.done")) == ("no-space", [])
        free(full_disk)
        daemon.wait("output.resumed")
        daemon.wait("drop.finished", count=2)
        assert daemon.stop() == 0
        assert [brought_back(full_disk / drop) for drop in "ab"] == files
    assert [len(daemon.all(f"output.{word}")) for word in ("paused", "resumed")] == [1, 1]
    assert [job["attempt"] for job in daemon.all("job.done")] == [1, 1]


def _traced(place: Path, drop: Path, output: Path) -> list[str]:
    """Convert a drop and return the system calls, in their order, that make names and sync."""
    calls = place / "calls"
    traced = ["strace", "-f", "-y", "-qq", "-s", "4096", "-o", str(calls)]
    traced += ["-e", "trace=fsync,fdatasync,rename,renameat,renameat2"]
    command = [*traced, *COMMAND, "convert", str(drop), "--output", str(output)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return calls.read_text().splitlines()


def test_all_of_a_result_is_synced_before_its_name_is_visible(tmp_path: Path, disk: Path) -> None:
    """Promise 2: done means done."""
    made(tmp_path / "a")
    lines = _traced(tmp_path, tmp_path / "a", disk)
    (series,) = (disk / "a").glob("CT-*/")
    (visible,) = (n for n, line in enumerate(lines) if f'"{series}"' in line)
    staged = re.search(r'"([^"]*\.staging[^"]*)"', lines[visible])
    assert staged
    before, after = (_synced(part) for part in (lines[:visible], lines[visible:]))
    assert before >= {f"{staged[1]}/{name}" for name in contents(series)}
    assert before >= {str(staged[1] / p.relative_to(series)) for p in series.rglob("*/")}
    assert after >= {str(series.parent), str(disk)}


def test_a_revision_takes_the_place_of_the_old_one_in_one_step(tmp_path: Path, disk: Path) -> None:
    """Promise 2: there is no moment without an archive, where the system can swap two names."""
    made(tmp_path / "a")
    _traced(tmp_path, tmp_path / "a", disk)
    late_slice(tmp_path / "a")
    lines = _traced(tmp_path, tmp_path / "a", disk)
    (series,) = (disk / "a").glob("CT-*/")
    (visible,) = (line for line in lines if f'"{series}"' in line)
    assert visible.endswith("RENAME_EXCHANGE) = 0")
    assert brought_back(disk / "a") == contents(tmp_path / "a")


def _synced(lines: list[str]) -> set[str]:
    """Return what was put on disk; a call that others came between has its end on another line."""
    found, begun = set(), dict[str, str]()
    for line in lines:
        process = line.split()[0]
        call = re.search(r"f(?:data)?sync\(\d+<(.*)>(?:\)\s+= 0| <unfinished \.\.\.>)$", line)
        if call:
            begun[process] = call[1]
        if process in begun and line.endswith("= 0"):
            found.add(begun.pop(process))
    return found
