"""Frames are decoded in processes of their own, where that is worth it; one that ends costs one."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from archive_cases import CASES, Archived, archived, contents, made, noise, planes, uid
from dicom_files import write_slice
from pydicom.uid import RLELossless

from dicomzarr_watch.archive import chunk, second
from dicomzarr_watch.archive import decoding as place
from dicomzarr_watch.archive.decoding import WORTH_BYTES, Processes, decoding
from dicomzarr_watch.archive.restore import restore
from dicomzarr_watch.archive.second import Look
from dicomzarr_watch.archive.verify import verdict
from dicomzarr_watch.archive.work import Finding
from dicomzarr_watch.dicom.frames import FrameRun, Samples
from dicomzarr_watch.dicom.pixels import NotDecodedError, decode, seen
from dicomzarr_watch.errors import RetryError

ENCODED = [
    "JPEG2000.dcm",
    "JPEGLSNearLossless_16.dcm",
    "SC_rgb_rle_16bit_2frame.dcm",
    "SC_rgb_small_odd_jpeg.dcm",
    "deflated",
]
FRAMES = noise(3, 6, 8, seed=5)


def _write(folder: Path) -> None:
    """Write a series of three slices, encoded by RLE."""
    for n in range(3):
        path = folder / f"{n}.dcm"
        write_slice(path, pixels=FRAMES[n], position=(0, 0, 2.0 * n), sop_uid=uid(n))
        dataset = pydicom.dcmread(path)
        dataset.compress(RLELossless, generate_instance_uid=False)
        dataset.save_as(path)


@pytest.fixture
def always_worth_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(place, "WORTH_BYTES", 0)


def _doubled(values: Any) -> Any:
    return values * 2


def _refuse() -> None:
    raise NotDecodedError("in words")


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _process() -> int:
    return os.getpid()


def test_calls_are_made_in_other_processes_and_answered_in_order() -> None:
    with Processes(2) as processes:
        futures = [processes.submit(_doubled, noise(300, 300, seed=n)) for n in range(20)]
        for n, future in enumerate(futures):
            np.testing.assert_array_equal(future.result(), noise(300, 300, seed=n) * 2)
        found = {processes.submit(_process).result() for _ in range(20)}
    assert 1 <= len(found) <= 2
    assert os.getpid() not in found


def test_what_a_call_raises_is_raised_where_it_was_asked_for() -> None:
    with Processes(1) as processes:
        with pytest.raises(NotDecodedError, match="in words"):
            processes.submit(_refuse).result()
        assert processes.submit(_doubled, 2).result() == 4


def test_a_process_that_ends_costs_one_call_and_another_takes_its_place() -> None:
    with Processes(2) as processes:
        futures = [processes.submit(_doubled, n) for n in range(5)]
        died = [processes.submit(_die) for _ in range(3)]
        more = [processes.submit(_doubled, n) for n in range(5)]
        assert [f.result() for f in (*futures, *more)] == [0, 2, 4, 6, 8] * 2
        for future in died:
            with pytest.raises(NotDecodedError, match="ended its process"):
                future.result()


def _lack() -> None:
    raise FileNotFoundError


def test_what_the_system_says_in_a_call_is_no_end_of_its_process() -> None:
    with Processes(1) as processes:
        before = processes.submit(_process).result()
        with pytest.raises(FileNotFoundError):
            processes.submit(_lack).result()
        assert processes.submit(_process).result() == before


def _refuse_to_fork() -> int:
    raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))


def test_a_process_that_cannot_be_replaced_is_made_anew_once_there_is_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And the number of the one that ended, which may be another's by then, is not signalled."""
    kill, killed = os.kill, list[int]()

    def recorded(process: int, number: int) -> None:
        killed.append(process)
        kill(process, number)

    with Processes(1) as processes:
        first = processes.submit(_process).result()
        with monkeypatch.context() as patch:
            patch.setattr(os, "fork", _refuse_to_fork)
            with pytest.raises(NotDecodedError, match="ended its process"):
                processes.submit(_die).result()
            patch.setattr(os, "kill", recorded)
            with pytest.raises(RetryError, match="no-child"):
                processes.submit(_doubled, 2).result()
        monkeypatch.setattr(os, "kill", recorded)
        assert processes.submit(_doubled, 2).result() == 4
    assert first not in killed


def test_without_room_for_processes_nothing_is_decoded_and_nothing_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(os, "fork", _refuse_to_fork)
        processes = Processes(2)
        with pytest.raises(RetryError, match="EAGAIN"):
            processes.submit(_doubled, 2).result()
    with processes:
        assert processes.submit(_doubled, 2).result() == 4


def test_no_process_is_left() -> None:
    with Processes(3) as processes:
        found = {processes.submit(_process).result() for _ in range(30)}
    for process in found:
        with pytest.raises(ProcessLookupError):
            os.kill(process, 0)


_SLEEPING_ORPHAN = """
import os, signal, time
from dicomzarr_watch.archive.decoding import Processes
processes = Processes(1)
print(processes.submit(os.getpid).result(), flush=True)
processes.submit(time.sleep, 600)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_process_that_is_at_work_ends_with_the_one_that_it_works_for() -> None:
    program = [sys.executable, "-c", _SLEEPING_ORPHAN]
    told = subprocess.run(program, check=False, stdout=subprocess.PIPE).stdout
    orphan = int(told)
    until = time.monotonic() + 60
    while Path(f"/proc/{orphan}").exists() and _state(orphan) != "Z":
        assert time.monotonic() < until
        os.sched_yield()


def _state(process: int) -> str:
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return "Z"


@pytest.mark.parametrize(
    ("size", "threads", "kind"),
    [
        (WORTH_BYTES, 2, Processes),
        (WORTH_BYTES - 1, 2, ThreadPoolExecutor),
        (WORTH_BYTES, 1, ThreadPoolExecutor),
    ],
)
def test_little_is_decoded_on_threads(size: int, threads: int, kind: type) -> None:
    with decoding(size, threads) as found:
        assert type(found) is kind


@pytest.mark.parametrize("name", ENCODED)
def test_where_frames_are_decoded_changes_nothing(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_threads = made(tmp_path, CASES[name].write)
    monkeypatch.setattr(place, "WORTH_BYTES", 0)
    elsewhere = archived(on_threads.files, tmp_path / "again")
    assert contents(elsewhere.path) == contents(on_threads.path)
    assert elsewhere.receipt.verified == on_threads.receipt.verified
    assert elsewhere.receipt.findings == on_threads.receipt.findings
    assert verdict(elsewhere.store) == verdict(on_threads.store)


def _fatal(frame: bytes, run: FrameRun) -> tuple[Samples, bool]:
    """Decode as a library does that one frame is too much for."""
    found = seen(frame, run)
    if np.array_equal(found[0][0], FRAMES[1]):
        _die()
    return found


def test_a_decoder_that_ends_its_process_costs_that_file_its_view_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, always_worth_it: None
) -> None:
    monkeypatch.setattr(chunk, "seen", _fatal)
    done = made(tmp_path, _write)
    assert done.receipt.findings == (Finding("not-decodable", ("1.dcm",)),)
    np.testing.assert_array_equal(planes(done.path, "0"), FRAMES[[0, 2]])
    assert _restored(done, tmp_path / "back") == contents(done.files)


def test_little_is_decoded_elsewhere_as_well_where_that_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunk, "seen", _fatal)
    done = made(tmp_path, _write, is_apart=True, threads=1)
    assert done.receipt.findings == (Finding("not-decodable", ("1.dcm",)),)
    assert done.receipt.counts["frames"] == 2


def _fatal_second(frame: bytes, run: FrameRun, decoder: str = "") -> Samples:
    if decoder:
        _die()
    return decode(frame, run)


def test_a_second_decoder_that_ends_its_process_leaves_the_first_to_be_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, always_worth_it: None
) -> None:
    monkeypatch.setattr(second, "decode", _fatal_second)
    done = made(tmp_path, _write)
    assert done.receipt.verified["second_look"] == {Look.ALONE.value: 3}
    assert done.receipt.counts["frames"] == 3


def test_voxels_that_no_decoder_can_vouch_for_any_more_are_not_published_as_a_view(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, always_worth_it: None
) -> None:
    monkeypatch.setattr(second, "decode", _always_fatal)
    done = made(tmp_path, _write)
    assert done.receipt.findings[0].code == "view-did-not-verify"
    assert done.receipt.counts["files_as_whole"] == 3
    assert _restored(done, tmp_path / "back") == contents(done.files)


def _always_fatal(*_: object) -> Samples:
    _die()
    raise AssertionError


def test_series_that_need_no_decoder_are_archived_as_ever(
    tmp_path: Path, always_worth_it: None
) -> None:
    done = made(tmp_path, CASES["not only frames"].write)
    assert _restored(done, tmp_path / "back") == contents(done.files)


def _restored(done: Archived, destination: Path) -> dict[str, bytes]:
    restore(done.store, destination, done.store.files)
    return contents(destination)
