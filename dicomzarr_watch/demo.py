"""A small real series through the whole daemon, for somebody who sees it for the first time."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

import pydicom
from pydicom.data import get_testdata_file
from pydicom.uid import UID
from rich.tree import Tree

from dicomzarr_watch import console
from dicomzarr_watch.archive.reader import Store
from dicomzarr_watch.archive.restore import restore

SLICES: Final = 24
SETTLE_S: Final = 1.0
PATIENCE_S: Final = 60.0


def demo() -> int:
    """Drop, watch, archive, restore, compare; returns 0 if every file came back."""
    with tempfile.TemporaryDirectory(prefix="dicomzarr-demo-") as folder:
        place = Path(folder)
        inbox, output = place / "inbox", place / "archive"
        inbox.mkdir()
        console.say("A daemon watches an empty inbox; its log lines follow.")
        console.say("")
        daemon = subprocess.Popen(_daemon_command(place))  # noqa: S603 - this very program
        try:
            _drop(place / "made", inbox)
            done = _done(output, daemon)
        finally:
            daemon.send_signal(signal.SIGTERM)
            daemon.wait()
        if done is None:
            console.complain("The daemon did not publish a result in time.")
            return 1
        for line in ("", "The result:", ""):
            console.say(line)
        console.out.print(_tree(output))
        store = Store(done.parent / "series.zarr")
        count = restore(store, place / "restored", store.files)
        same = sum(
            path.read_bytes() == (inbox / "head-ct" / path.name).read_bytes()
            for path in (place / "restored").iterdir()
        )
        console.say("")
        console.say(f"{same} of {count} files came back byte for byte.")
        return 0 if same == count == SLICES else 1


def _daemon_command(place: Path) -> list[str]:
    flags = {"--inbox": place / "inbox", "--output": place / "archive", "--state": place / "state"}
    (place / "settings.toml").write_text(
        f'settle_s = {SETTLE_S}\nmin_free_bytes = 0\nlog_format = "text"\n'
    )
    command = [sys.executable, "-P", "-m", "dicomzarr_watch", "run"]
    command += ["--config", str(place / "settings.toml")]
    return command + [str(part) for flag in flags.items() for part in flag]


def _drop(made: Path, inbox: Path) -> None:
    """Make a series out of one real slice and copy it in file by file, as people do."""
    made.mkdir()
    series = pydicom.dcmread(str(get_testdata_file("CT_small.dcm")))
    uid = series.SeriesInstanceUID
    x, y, z = (float(v) for v in series.ImagePositionPatient)
    for n in range(SLICES):
        own = UID(f"{uid}.{n + 1}")
        series.SOPInstanceUID = series.file_meta.MediaStorageSOPInstanceUID = own
        series.InstanceNumber = n + 1
        series.ImagePositionPatient = [x, y, z + 5 * n]
        series.save_as(made / f"slice-{n + 1:02}.dcm")
    (inbox / "head-ct").mkdir()
    for path in sorted(made.iterdir()):
        shutil.copy2(path, inbox / "head-ct" / path.name)


def _done(output: Path, daemon: subprocess.Popen[bytes]) -> Path | None:
    """Wait for the done marker of the drop, and for the drop's own account."""
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until and daemon.poll() is None:
        found = next(output.glob("*/*/done.json"), None)
        if found is not None and (found.parent.parent / "drop.json").exists():
            return found
        time.sleep(0.1)
    return None


def _tree(folder: Path) -> Tree:
    tree = Tree(f"{folder.name}/")
    _grow(tree, folder)
    return tree


def _grow(tree: Tree, folder: Path) -> None:
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if path.is_dir():
            _grow(tree.add(f"{path.name}/"), path)
        else:
            tree.add(f"{path.name}  {path.stat().st_size:,}")
