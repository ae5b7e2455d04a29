"""What the processes of a daemon see and may take: no more than they need."""

from __future__ import annotations

import os
import re
import struct
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest
from daemon_process import COMMAND, FAULTY, clean_environment, held_at, running
from dicom_files import write_slice
from disturbed import descendants
from drops import brought_back, dropped
from pydicom import dcmread
from pydicom.encaps import encapsulate
from pydicom.uid import RLELossless

from dicomzarr_watch.engine.limits import MOST_FILES

SECRETS: Final = {"SECRET": "1", "AWS_ACCESS_KEY_ID": "2", "HOME": "/3", "NOTIFY_SOCKET": "/4"}
MEMORY_BYTES: Final = 700_000_000
SIDE: Final = 20_000


def limits(process: int) -> dict[str, str]:
    """Return the soft limits of a process by their names."""
    text = Path(f"/proc/{process}/limits").read_text()
    return dict(re.findall(r"^Max (.+?)  +(\S+)", text, re.MULTILINE))


def seen(process: int) -> set[str]:
    """Return the names of the environment that a process was started with."""
    words = Path(f"/proc/{process}/environ").read_bytes().split(b"\0")
    return {os.fsdecode(word.partition(b"=")[0]) for word in words if word}


def opened(process: int) -> set[str]:
    """Return what a process has open, as the system calls it."""
    return {str(path.readlink()) for path in Path(f"/proc/{process}/fd").iterdir()}


def test_what_the_daemon_starts_sees_nothing_that_it_does_not_need(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "gate")
    settings = {"command": FAULTY, "FAULTS": tmp_path, "job_memory_bytes": MEMORY_BYTES}
    with running(tmp_path, **settings, **SECRETS) as daemon:
        dropped(daemon, "a")
        with held_at(tmp_path / "gate") as let_go:
            assert limits(daemon.process.pid)["core file size"] == "0"
            started = descendants(daemon.process.pid)
            (child,) = [p for p in started if limits(p)["data size"] == str(MEMORY_BYTES)]
            names = set.union(*map(seen, started))
            log = str(Path(f"/proc/{daemon.process.pid}/fd/2").readlink())
            ours = {p: opened(p) for p in started}
            found = limits(child)
            text = Path(f"/proc/{child}/status").read_text()
            status = dict(re.findall(r"^(\w+):\t(.*)$", text, re.MULTILINE))
            let_go()
        daemon.wait("drop.finished")
    assert not names & SECRETS.keys()
    assert [name for name in names if name.startswith("DICOMZARR")] == []
    assert log.startswith("pipe:")
    assert log not in set.union(*ours.values())
    files = {p: {x for x in links if x.startswith(f"{tmp_path}/")} for p, links in ours.items()}
    places = {Path(link).relative_to(tmp_path).parts[:2] for link in files.pop(child)}
    assert places - {("gate (deleted)",)} <= {
        ("state", "children.lock"),
        ("output", ".staging"),
        ("inbox", "a"),
    }
    assert set.union(*files.values()) == set()
    assert found["core file size"] == "0"
    assert int(found["open files"]) <= MOST_FILES
    assert status["NoNewPrivs"] == "1"


INSTALLED: Final = (str(Path(sys.executable).with_name("dicomzarr-watch")),)
IMPORTED: Final = ("dl", "multiprocessing", "numpy", "selectors", "typer")


@pytest.mark.parametrize("command", [COMMAND, INSTALLED], ids=["module", "installed"])
def test_no_code_that_lies_in_the_inbox_runs_though_it_is_the_working_directory(
    tmp_path: Path, command: tuple[str, ...]
) -> None:
    inbox = tmp_path / "inbox"
    write_slice(inbox / "a" / "a.dcm")
    for name in IMPORTED:
        (inbox / f"{name}.py").write_text(f"open({str(tmp_path / name)!r}, 'w')\n")
    folders = ["--inbox", ".", "--output", "../output", "--state", "../state"]
    environment = clean_environment() | {"DICOMZARR_MIN_FREE_BYTES": "0"}
    subprocess.run([*command, "run", "--once", *folders], cwd=inbox, env=environment, check=False)
    assert {path.name for path in tmp_path.iterdir()} == {"inbox", "output", "state"}
    assert list((tmp_path / "output").glob("a/*/done.json"))


@pytest.mark.integration
def test_what_needs_more_memory_than_it_may_costs_attempts_and_no_file(tmp_path: Path) -> None:
    """A picture of 800 MB, encoded in 13: it is not seen in the end, but kept."""
    settings = {"job_memory_bytes": MEMORY_BYTES, "max_attempts": 3, "retry_max_s": 0.2}
    (tmp_path / "made").mkdir()
    path = write_slice(tmp_path / "made" / "large.dcm")
    dataset = dcmread(path)
    dataset.Rows = dataset.Columns = SIDE
    segment = bytes([129, 0]) * (SIDE * SIDE // 128)
    segment += bytes(len(segment) % 2)
    header = struct.pack("<16I", 2, 64, 64 + len(segment), *(13 * [0]))
    dataset.PixelData = encapsulate([header + 2 * segment])
    dataset["PixelData"].VR = "OB"
    dataset.file_meta.TransferSyntaxUID = RLELossless
    dataset.save_as(path)
    with running(tmp_path, **settings) as daemon:
        content = path.read_bytes()
        path.rename(daemon.inbox / "large.dcm")
        dropped(daemon, "small")
        daemon.wait("drop.finished", count=2)
    assert [e["code"] for e in daemon.all("job.retry")] == ["out-of-memory"] * 2
    assert sorted(job["attempt"] for job in daemon.all("job.done")) == [1, 3]
    assert brought_back(daemon.output / "_loose") == {"large.dcm": content}
