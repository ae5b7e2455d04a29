"""Room on disk before a job starts: what it is taken to need, and what becomes of it without."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from bundle_files import zip_file
from daemon_process import begun, once, running
from dicom_files import write_series
from disturbed import encoded
from drops import brought_back, dropped, made
from pydicom import dcmread

from dicomzarr_watch.archive.work import KeepEncoded, Source, Work
from dicomzarr_watch.config import Settings
from dicomzarr_watch.daemon.room import SERIES_BYTES, UNFOLDS, VIEW_MOST, Room
from dicomzarr_watch.engine.task import Task
from dicomzarr_watch.identity import Identity
from dicomzarr_watch.intake.bundle import Form
from dicomzarr_watch.intake.roll import Limits
from dicomzarr_watch.intake.unpack import Unpacking, put_away, unpack
from dicomzarr_watch.ledger.inquiry import about
from dicomzarr_watch.ledger.store import Ledger

MORE_THAN_THERE_IS = 1 << 60


def room(place: Path, **settings: Any) -> Room:
    folders = {name: place / name for name in ("inbox", "output", "state")}
    return Room(Settings(**(folders | settings)))


def work(folder: Path) -> Work:
    sources = [Source(p.name, p, Identity.of(p.stat())) for p in sorted(folder.iterdir())]
    return Work("drop", tuple(sources), folder.parent / "output")


def size(files: dict[str, bytes]) -> int:
    return sum(map(len, files.values()))


def bundle(place: Path, data: bytes, form: Form = Form.ZIP) -> Unpacking:
    path = place / "inbox" / f"a.{form}"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    limits = Limits(100, 1 << 20, 100.0, 2)
    identity = Identity.of(path.stat())
    return Unpacking(place / "inbox", path.name, form, identity, place / "state", limits)


# --- what a job is taken to need ---


def test_a_series_needs_what_its_files_take_and_a_little_more(tmp_path: Path) -> None:
    files = made(tmp_path / "a")
    assert room(tmp_path).need(Task(work=work(tmp_path / "a")), 0) == {
        "state": 0,
        "output": SERIES_BYTES + size(files),
    }


def test_an_encoded_series_needs_its_bytes_and_its_view(tmp_path: Path) -> None:
    encoded(tmp_path / "a", 3)
    (tmp_path / "a" / "0000.dcm").write_bytes(b"no DICOM, and small")
    asked = work(tmp_path / "a")
    encoded_bytes = sum(source.identity.size for source in asked.sources)
    found = room(tmp_path).need(Task(work=asked), 0)["output"] - SERIES_BYTES - encoded_bytes
    *_, last = sorted(source.identity.size for source in asked.sources)
    (native,) = write_series(tmp_path / "b", 1)
    assert 0 < found <= encoded_bytes * native.stat().st_size / last
    unseen = Task(work=replace(asked, is_decoded=False))
    assert room(tmp_path).need(unseen, 0)["output"] == SERIES_BYTES + encoded_bytes
    given_up = room(tmp_path, keep_encoded=KeepEncoded.NEVER)
    assert given_up.need(Task(work=asked), 0)["output"] == SERIES_BYTES + encoded_bytes + 2 * found


def test_a_view_that_nobody_can_believe_keeps_no_series_waiting(tmp_path: Path) -> None:
    encoded(tmp_path / "a", 1)
    (path,) = (tmp_path / "a").iterdir()
    dataset = dcmread(path)
    dataset.Rows = dataset.Columns = 3000
    dataset.save_as(path)
    asked = work(tmp_path / "a")
    most = SERIES_BYTES + (1 + VIEW_MOST) * asked.sources[0].identity.size
    assert room(tmp_path).need(Task(work=asked), 0)["output"] == most


def test_what_cannot_be_looked_at_needs_what_it_weighs(tmp_path: Path) -> None:
    files = made(tmp_path / "a")
    asked = work(tmp_path / "a")
    for source in asked.sources:
        source.path.unlink()
    assert room(tmp_path).need(Task(work=asked), 0)["output"] == SERIES_BYTES + size(files)


def test_a_revision_needs_what_it_takes_over_twice_restored_and_written(tmp_path: Path) -> None:
    files = made(tmp_path / "a")
    kept = tmp_path / "kept"
    asked = Task(work=replace(work(tmp_path / "a"), keep_reconstructed=kept))
    assert room(tmp_path, keep_reconstructed=kept).need(asked, 1000) == {
        "state": 0,
        "output": SERIES_BYTES + size(files) + 2000,
        "keep_reconstructed": size(files) + 1000,
    }


@pytest.mark.parametrize(("form", "times"), [(Form.ZIP, UNFOLDS), (Form.TAR, 1)])
def test_a_bundle_that_nobody_looked_into_needs_a_guess(
    tmp_path: Path, form: Form, times: int
) -> None:
    task = Task((bundle(tmp_path, bytes(1000), form),))
    assert room(tmp_path).need(task, 0) == {"state": 1000 * times}


def test_a_bundle_that_was_unpacked_needs_what_came_out_unless_it_is_there(tmp_path: Path) -> None:
    asked = bundle(tmp_path, zip_file([("a", bytes(5000)), ("b", bytes(500))]))
    unpack(asked)
    assert room(tmp_path).need(Task((asked,)), 0) == {"state": 0}
    put_away(asked.folder)
    assert room(tmp_path).need(Task((asked,)), 0) == {"state": 5500}


# --- whether it is there ---


def test_there_is_room_for_what_leaves_enough_free(tmp_path: Path) -> None:
    one = room(tmp_path, min_free_bytes=1)
    assert one.lack([{"output": 1, "state": 1}, {"output": 1}]) is None
    lack = one.lack([{"output": 1}, {"output": MORE_THAN_THERE_IS}])
    assert lack is not None
    assert str(lack).startswith("no-space: expected 1,152,921,504,606,846,9")
    assert "where output is" in str(lack)


def test_folders_on_one_disk_share_its_room(tmp_path: Path) -> None:
    half = MORE_THAN_THERE_IS // 2
    one = room(tmp_path, min_free_bytes=1)
    lack = one.lack([{"output": half}, {"state": half}])
    assert lack is not None
    assert str(lack).startswith("no-space: expected 576,460,752,303,423,489 bytes")  # the first
    free = room(tmp_path, min_free_bytes=1).lack([{"output": 1}, {"state": half}])
    assert "where state is" in str(free)


def test_without_a_least_nothing_is_looked_at(tmp_path: Path) -> None:
    made(tmp_path / "a")
    one = room(tmp_path, min_free_bytes=0)
    assert one.need(Task(work=work(tmp_path / "a")), 0) == {}
    assert one.lack([{"output": MORE_THAN_THERE_IS}]) is None


# --- what becomes of a job without room ---


def test_what_has_no_room_is_said_once_and_does_not_start(tmp_path: Path) -> None:
    with running(tmp_path, min_free_bytes=MORE_THAN_THERE_IS, retry_max_s=0.2) as daemon:
        for drop in "ab":
            dropped(daemon, drop)
        assert daemon.wait("output.paused")["code"] == "no-space"
        daemon.wait("job.queued", count=2)
        assert daemon.stop() == 0
    ledger = Ledger.read(daemon.state)
    facts = about(ledger, "a/0001.dcm")[0]
    ledger.close()
    assert (facts["why"], facts["attempts"]) == ("it waits for room on the disk", 0)
    assert len(daemon.all("output.paused")) == 1
    assert daemon.all("job.started") == daemon.all("output.resumed") == []
    files = made(tmp_path / "made" / "a"), made(tmp_path / "made" / "b")
    code, daemon = once(tmp_path)
    assert code == 0
    assert [job["attempt"] for job in daemon.all("job.done")] == [1, 1]
    assert tuple(brought_back(daemon.output / drop) for drop in "ab") == files


def test_working_off_what_is_there_ends_without_room(tmp_path: Path) -> None:
    made(tmp_path / "inbox" / "a")
    settings = {"min_free_bytes": MORE_THAN_THERE_IS, "retry_max_s": 0.1, "max_attempts": 5}
    with begun(tmp_path, "--once", **settings) as daemon:
        assert daemon.end() == 1
    assert len(daemon.all("output.paused")) == 1
    assert daemon.all("job.started") == []
    ledger = Ledger.read(daemon.state)
    (job,) = ledger.jobs.select()
    ledger.close()
    assert (job.tries, job.attempts) == (5, 0)
