"""Inboxes for benchmarks, and the daemon over them: seconds, CPU and memory of all its processes.

The files are made here, byte by byte and without pydicom: a million of them are needed.
"""

from __future__ import annotations

import json
import os
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from processes import cpu_seconds, family, memory

from dicomzarr_watch.intake.arrival import SeriesFile, tally
from dicomzarr_watch.intake.listing import listing
from dicomzarr_watch.intake.peek import Peeks
from dicomzarr_watch.ledger.jobs import Patience, ended
from dicomzarr_watch.ledger.rows import FileRow
from dicomzarr_watch.ledger.store import Ledger
from dicomzarr_watch.outcome import Ended, Outcome

ROOT_UID = "1.2.826.0.1.3680043.8.498."
EXPLICIT_LITTLE = "1.2.840.10008.1.2.1"
MR_IMAGE = "1.2.840.10008.5.1.4.1.1.4"


def slice_bytes(series: int, number: int, side: int = 4) -> bytes:
    """Make one slice of an MR series: `side` by `side` pixels of 16 bits."""
    uid = f"{ROOT_UID}{10**12 + series}"
    sop_uid = f"{uid}.{number + 1}"
    meta = _element(0x0002, 0x0002, "UI", MR_IMAGE)
    meta += _element(0x0002, 0x0003, "UI", sop_uid)
    meta += _element(0x0002, 0x0010, "UI", EXPLICIT_LITTLE)
    values: list[tuple[int, int, str, str | int | bytes]] = [
        (0x0008, 0x0016, "UI", MR_IMAGE),
        (0x0008, 0x0018, "UI", sop_uid),
        (0x0008, 0x0060, "CS", "MR"),
        (0x0010, 0x0010, "PN", "Test^Person"),
        (0x0010, 0x0020, "LO", "0001"),
        (0x0018, 0x0050, "DS", "1"),
        (0x0020, 0x000D, "UI", f"{uid}.0"),
        (0x0020, 0x000E, "UI", uid),
        (0x0020, 0x0011, "IS", str(series % 1000)),
        (0x0020, 0x0013, "IS", str(number + 1)),
        (0x0020, 0x0032, "DS", f"0\\0\\{number}"),
        (0x0020, 0x0037, "DS", "1\\0\\0\\0\\1\\0"),
        (0x0028, 0x0002, "US", 1),
        (0x0028, 0x0004, "CS", "MONOCHROME2"),
        (0x0028, 0x0010, "US", side),
        (0x0028, 0x0011, "US", side),
        (0x0028, 0x0030, "DS", "1\\1"),
        (0x0028, 0x0100, "US", 16),
        (0x0028, 0x0101, "US", 16),
        (0x0028, 0x0102, "US", 15),
        (0x0028, 0x0103, "US", 0),
        (0x7FE0, 0x0010, "OW", _pixels(side, number)),
    ]
    data = b"".join(_element(*value) for value in values)
    return bytes(128) + b"DICM" + _element(0x0002, 0x0000, "UL", len(meta)) + meta + data


def _pixels(side: int, number: int) -> bytes:
    """Make something like an image: it changes along both sides and from slice to slice."""
    row = struct.pack(f"<{side}H", *((x * x + 31 * number) % 4096 for x in range(side)))
    return b"".join(row[2 * y :] + row[: 2 * y] for y in range(side))


def _element(group: int, number: int, vr: str, value: str | int | bytes) -> bytes:
    if isinstance(value, int):
        value = struct.pack({"US": "<H", "UL": "<I"}[vr], value)
    elif isinstance(value, str):
        value = value.encode()
        value += (b"\0" if vr == "UI" else b" ") * (len(value) % 2)
    head = struct.pack("<HH2s", group, number, vr.encode())
    if vr == "OW":
        return head + struct.pack("<HI", 0, len(value)) + value
    return head + struct.pack("<H", len(value)) + value


def fill(
    inbox: Path,
    series: int,
    slices: int,
    *,
    side: int = 4,
    series_per_drop: int = 1,
    first: int = 0,
) -> None:
    """Fill an inbox: a folder a drop, and below it a folder a series."""
    for n in range(first, first + series):
        folder = inbox / f"drop-{n // series_per_drop:06d}" / f"series-{n:06d}"
        folder.mkdir(parents=True)
        for k in range(slices):
            (folder / f"{k:05d}.dcm").write_bytes(slice_bytes(n, k, side))


def finish(state: Path, inbox: Path) -> None:
    """Have a ledger say that every series that stands in the inbox was archived."""
    found = listing(inbox)
    assert found is not None
    ledger = Ledger.own(state)
    patience = Patience(max_attempts=3, retry_max_s=1.0, jitter=0.0)
    for drop, folders in found.drops.items():
        with ledger.together():
            rows = []
            for folder in folders.values():
                entries = [folder.entry(n) for n in range(len(folder.names))]
                peeks = list(map(Peeks(), (inbox / entry.path for entry in entries)))
                rows += [
                    FileRow(e.path, e.drop, e.identity, p.kind.value, p.series_uid)
                    for e, p in zip(entries, peeks, strict=True)
                ]
            ledger.record(rows)
            for uid in sorted({row.series_uid for row in rows}):
                own = [row for row in rows if row.series_uid == uid]
                sums = tally(SeriesFile(row.path, row.identity) for row in own)
                job = ledger.jobs.offer(drop, uid, sums.fingerprint, sums.files, sums.bytes)
                assert job is not None
                outcome = Outcome(Ended.DONE, "done", summary={"folder": "MR", "revision": 1})
                after = ended(ledger.jobs.claim(job), outcome, 0.0, patience)
                ledger.conclude(after, ((row.path, row.identity) for row in own))
            ledger.drops.note_reported(drop)
    ledger.drops.note_arriving([])
    ledger.close()


@dataclass
class Used:
    """What a family of processes has used: CPU seconds, largest sums of memory in bytes.

    rss counts what processes share once for each, pss once in all.
    """

    cpu_s: float = 0.0
    rss: int = 0
    pss: int = 0

    def as_json(self) -> dict[str, Any]:
        return {
            "cpu_s": round(self.cpu_s, 2),
            "peak_rss_mb": round(self.rss / 1e6),
            "peak_pss_mb": round(self.pss / 1e6),
        }


class Daemon:
    """A daemon over three folders of a place, read by its log and sampled while it runs."""

    def __init__(
        self,
        place: Path,
        *arguments: str,
        inbox: Path,
        environment: dict[str, str] | None = None,
        **settings: object,
    ) -> None:
        given = {"inbox": inbox, "output": place / "output", "state": place / "state"} | settings
        named = {f"DICOMZARR_{key.upper()}": str(value) for key, value in given.items()}
        self.output = place / "output"
        self.started_s = time.time()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "dicomzarr_watch", "run", *arguments],
            env=os.environ | named | (environment or {}),
            stderr=subprocess.PIPE,
            text=True,
        )
        self.used = Used()
        self.events: list[dict[str, Any]] = []
        self._news = threading.Condition()
        self._is_over = threading.Event()
        self._cpu: dict[int, float] = {}
        self._threads = [threading.Thread(target=f) for f in (self._read, self._sample)]
        for thread in self._threads:
            thread.start()

    def wait(self, name: str, count: int = 1) -> dict[str, Any]:
        """Return the event that is the count-th of its kind."""
        with self._news:
            while True:
                found = [event for event in self.events if event["event"] == name]
                if len(found) >= count:
                    return found[count - 1]
                if self._is_over.is_set():
                    raise SystemExit(f"the daemon ended before {name}: {self.events[-1:]}")
                self._news.wait()

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.end()

    def end(self) -> int:
        code = self.process.wait()
        for thread in self._threads:
            thread.join()
        return code

    def _read(self) -> None:
        """Take in the log's lines as they come; each has `at_s`, seconds since the start."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            event = json.loads(line)
            event["at_s"] = datetime.fromisoformat(event["timestamp"]).timestamp() - self.started_s
            with self._news:
                self.events.append(event)
                self._news.notify_all()
        with self._news:
            self._is_over.set()
            self._news.notify_all()

    def cpu_s(self) -> float:
        """Return the CPU seconds used so far, by processes that have ended too."""
        self._measure()
        return self.used.cpu_s

    def memory(self) -> tuple[int, int]:
        """Return the memory of all processes now: sums of RSS and of PSS."""
        sizes = [memory(p) for p in family(self.process.pid)]
        return sum(rss for rss, _ in sizes), sum(pss for _, pss in sizes)

    def _sample(self) -> None:
        while not self._is_over.wait(0.25):
            self._measure()

    def _measure(self) -> None:
        rss = pss = 0
        for process in family(self.process.pid):
            one_rss, one_pss = memory(process)
            rss, pss = rss + one_rss, pss + one_pss
            self._cpu[process] = max(
                self._cpu.get(process, 0.0), cpu_seconds(process, with_ended=False)
            )
        self.used.rss, self.used.pss = max(self.used.rss, rss), max(self.used.pss, pss)
        self.used.cpu_s = sum(self._cpu.values())


@contextmanager
def running(place: Path, *arguments: str, inbox: Path, **settings: Any) -> Iterator[Daemon]:
    """Give a daemon that is killed at the end if it was not stopped."""
    daemon = Daemon(place, *arguments, inbox=inbox, **settings)
    try:
        yield daemon
    finally:
        if daemon.process.poll() is None:
            daemon.process.kill()
            daemon.end()
