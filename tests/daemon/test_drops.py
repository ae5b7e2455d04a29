"""What people drop, and what becomes of it."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from daemon_process import Daemon, once, running
from drops import (
    brought_back,
    contents,
    document,
    dropped,
    fates,
    late_slice,
    made,
    put,
    receipts,
)

from dicomzarr_watch.archive.reader import Store
from dicomzarr_watch.archive.restore import restore
from dicomzarr_watch.ledger.inquiry import about
from dicomzarr_watch.ledger.store import Ledger


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """One daemon for the tests of this module, each with a drop of its own name."""
    place = tmp_path_factory.mktemp("drops")
    with running(place, identifiers="plain") as daemon:
        yield daemon


def test_a_folder_is_archived_once_with_its_receipts(daemon: Daemon) -> None:
    files = dropped(daemon, "once", 5)
    told = daemon.wait("drop.finished", drop="once")
    (job,) = daemon.all("job.done", drop="once")
    (receipt,) = receipts(daemon.output / "once")
    assert (job["code"], job["revision"], job["attempt"]) == ("done", 1, 1)
    assert (receipt["state"], receipt["revision"], receipt["counts"]["files"]) == ("done", 1, 5)
    assert told["archived"] == 5
    assert fates(daemon.output / "once") == {f"once/{name}": "archived" for name in files}
    assert brought_back(daemon.output / "once") == files


def test_slow_copying_gives_one_result_and_not_too_early(tmp_path: Path) -> None:
    files = made(tmp_path / "made", 30)
    with running(tmp_path, settle_s=1.0) as daemon:
        (daemon.inbox / "slow").mkdir()
        for name, content in files.items():
            (daemon.inbox / "slow" / name).write_bytes(content)
            last_s = time.time()
            time.sleep(0.02)  # the producer's pace
        daemon.wait("drop.finished")
        assert daemon.stop() == 0
    (started,) = daemon.all("job.started")
    assert datetime.fromisoformat(started["timestamp"]).timestamp() >= last_s + 1.0
    assert len(daemon.all("job.done")) == len(receipts(daemon.output / "slow")) == 1
    assert brought_back(daemon.output / "slow") == files


def test_two_series_in_one_folder_give_two_results(daemon: Daemon) -> None:
    one = made(daemon.place / "made" / "two" / "a", series_uid="1.2.3")
    other = made(daemon.place / "made" / "two" / "b", series_uid="1.2.4", SeriesNumber=2)
    folder = daemon.place / "interleaved"
    folder.mkdir()
    for name in one:
        (folder / f"{name}-a").write_bytes(one[name])
        (folder / f"{name}-b").write_bytes(other[name])
    folder.rename(daemon.inbox / "two")
    daemon.wait("drop.finished", drop="two")
    found = {r["series"]["SeriesInstanceUID"]: r for r in receipts(daemon.output / "two")}
    assert found.keys() == {"1.2.3", "1.2.4"}
    assert [r["counts"]["files"] for r in found.values()] == [3, 3]
    assert len(daemon.all("job.done", drop="two")) == 2


def test_nested_folders_come_back_nested(daemon: Daemon) -> None:
    folder = daemon.place / "made" / "nested"
    made(folder / "study" / "1", 2, series_uid="1.2.5")
    files = made(folder / "study" / "2" / "deep", 2, series_uid="1.2.6", SeriesNumber=2)
    folder.rename(daemon.inbox / "nested")
    daemon.wait("drop.finished", drop="nested")
    found = brought_back(daemon.output / "nested")
    assert found.keys() == {
        *(f"study/1/{name}" for name in files),
        *(f"study/2/deep/{name}" for name in files),
    }
    assert found["study/2/deep/0001.dcm"] == files["0001.dcm"]


def test_a_file_straight_in_the_inbox_is_a_loose_one(daemon: Daemon) -> None:
    files = made(daemon.place / "made" / "loose", 1, series_uid="1.2.7")
    put(daemon, "loose.dcm", files["0000.dcm"])
    daemon.wait("drop.finished", drop="_loose")
    assert brought_back(daemon.output / "_loose") == {"loose.dcm": files["0000.dcm"]}


def test_a_late_file_makes_a_revision_with_all_files(daemon: Daemon) -> None:
    files = made(daemon.place / "made" / "all", 5, series_uid="1.2.8")
    late = files.popitem()
    folder = daemon.place / "made" / "all"
    (folder / late[0]).unlink()
    folder.rename(daemon.inbox / "late")
    daemon.wait("drop.finished", drop="late")
    put(daemon, f"late/{late[0]}", late[1])
    daemon.wait("drop.finished", drop="late", count=2)
    (receipt,) = receipts(daemon.output / "late")
    assert (receipt["revision"], receipt["counts"]["files"]) == (2, 5)
    assert brought_back(daemon.output / "late") == files | dict([late])


def test_a_revision_keeps_the_files_whose_originals_are_gone(daemon: Daemon) -> None:
    files = dropped(daemon, "gone", 3, series_uid="1.2.9")
    daemon.wait("drop.finished", drop="gone")
    for name in files:
        (daemon.inbox / "gone" / name).unlink()
    daemon.wait("drop.finished", drop="gone", count=2)
    late = late_slice(daemon.place / "made" / "more", series_uid="1.2.9")
    put(daemon, "gone/late.dcm", late)
    daemon.wait("job.done", drop="gone", count=2)
    (receipt,) = receipts(daemon.output / "gone")
    assert receipt["revision"] == 2
    assert brought_back(daemon.output / "gone") == files | {"late.dcm": late}


def test_a_file_that_went_before_it_was_archived_is_said_to_be_gone(tmp_path: Path) -> None:
    made(tmp_path / "inbox" / "a", 2)
    with running(tmp_path, settle_s=3600.0) as daemon:
        daemon.wait("series.arriving")
        assert daemon.stop() == 0
    (tmp_path / "inbox" / "a" / "0001.dcm").unlink()
    code, daemon = once(tmp_path)
    assert (code, fates(daemon.output / "a")) == (
        0,
        {"a/0000.dcm": "archived", "a/0001.dcm": "gone"},
    )
    gone = document(daemon.output / "a" / "drop.json")["files"][1]
    assert datetime.fromisoformat(gone["gone_at"]) <= datetime.now(UTC)
    ledger = Ledger.read(tmp_path / "state")
    (told,) = about(ledger, "a/0001.dcm")
    ledger.close()
    assert (told["outcome"], told["gone_at"]) == ("gone", gone["gone_at"])
    assert told["why"] == "it went before it was archived"


def test_the_same_drop_again_makes_no_revision(daemon: Daemon) -> None:
    files = dropped(daemon, "again", 3, series_uid="1.2.10")
    daemon.wait("drop.finished", drop="again")
    before = (daemon.output / "again").stat().st_mtime_ns, receipts(daemon.output / "again")
    shutil.copytree(daemon.inbox / "again", daemon.place / "copy")
    shutil.rmtree(daemon.inbox / "again")
    (daemon.place / "copy").rename(daemon.inbox / "again")
    job = daemon.wait("job.done", drop="again", count=2)
    assert (job["code"], job["revision"]) == ("unchanged", 1)
    assert receipts(daemon.output / "again") == before[1]
    assert brought_back(daemon.output / "again") == files


def test_a_temporary_name_is_left_until_it_is_renamed(daemon: Daemon) -> None:
    files = made(daemon.place / "made" / "part", 2, series_uid="1.2.11")
    folder = daemon.place / "made" / "part"
    (folder / "0001.dcm").rename(folder / "0001.dcm.part")
    folder.rename(daemon.inbox / "part")
    daemon.wait("drop.finished", drop="part")
    assert brought_back(daemon.output / "part").keys() == {"0000.dcm"}
    assert fates(daemon.output / "part")["part/0001.dcm.part"] == "ignored"
    (daemon.inbox / "part" / "0001.dcm.part").rename(daemon.inbox / "part" / "0001.dcm")
    daemon.wait("job.done", drop="part", revision=2)
    assert brought_back(daemon.output / "part") == files


@pytest.mark.parametrize("hidden", [".coming", "coming.part"])
def test_a_folder_that_is_renamed_has_no_account_under_its_temporary_name(
    tmp_path: Path, hidden: str
) -> None:
    with running(tmp_path, identifiers="plain", ready_marker=".ready") as daemon:
        files = made(daemon.inbox / hidden / "1", 2)
        (daemon.inbox / hidden / ".ready").touch()
        daemon.wait("drop.finished", drop=hidden, ignored=3)  # the sender pauses
        assert set(fates(daemon.output / hidden).values()) == {"ignored"}
        (daemon.inbox / hidden).rename(daemon.inbox / "a")
        daemon.wait("drop.finished", drop="a")
        daemon.wait("drop.withdrawn", drop=hidden)
        assert daemon.stop() == 0
    assert [path.name for path in daemon.output.iterdir()] == ["a"]
    assert brought_back(daemon.output / "a") == {f"1/{name}": c for name, c in files.items()}
    assert len(daemon.all("drop.finished")) == 2


def test_what_went_on_from_a_temporary_name_at_once_makes_no_folder(tmp_path: Path) -> None:
    made(tmp_path / "inbox" / ".coming", 2)
    made(tmp_path / "inbox" / "b", 1, series_uid="1.2.3")
    with running(tmp_path, settle_s=3600.0) as daemon:
        daemon.wait("series.arriving")  # so the other has been seen as well
        assert daemon.stop() == 0
    (tmp_path / "inbox" / ".coming").rename(tmp_path / "inbox" / "a")
    _, daemon = once(tmp_path)
    assert {path.name for path in daemon.output.iterdir()} == {"a", "b"}
    assert len(daemon.all("drop.finished")) == 2
    ledger = Ledger.read(tmp_path / "state")
    (told,) = about(ledger, ".coming/0001.dcm")
    ledger.close()
    assert (told["outcome"], told["present"]) == ("ignored", False)


def test_every_file_of_a_drop_has_one_outcome(daemon: Daemon) -> None:
    folder = daemon.place / "made" / "mixed"
    made(folder, 2, series_uid="1.2.12")
    (folder / "notes.txt").write_text("not an image")
    (folder / "empty").touch()
    (folder / ".hidden").touch()
    folder.rename(daemon.inbox / "mixed")
    daemon.wait("drop.finished", drop="mixed")
    assert fates(daemon.output / "mixed") == {
        "mixed/.hidden": "ignored",
        "mixed/0000.dcm": "archived",
        "mixed/0001.dcm": "archived",
        "mixed/empty": "ignored",
        "mixed/notes.txt": "ignored",
    }


def test_a_folder_without_dicom_gets_its_account_too(daemon: Daemon) -> None:
    folder = daemon.place / "papers"
    folder.mkdir()
    (folder / "notes.txt").write_text("not an image")
    folder.rename(daemon.inbox / "papers")
    told = daemon.wait("drop.finished", drop="papers")
    assert told["ignored"] == 1
    (file,) = document(daemon.output / "papers" / "drop.json")["files"]
    assert (file["outcome"], file["code"]) == ("ignored", "not-dicom")


def test_a_link_out_of_the_inbox_is_not_followed(daemon: Daemon) -> None:
    outside = made(daemon.place / "outside", 1, series_uid="1.2.13")
    folder = daemon.place / "made" / "links"
    files = made(folder, 1, series_uid="1.2.14")
    (folder / "file").symlink_to(daemon.place / "outside" / "0000.dcm")
    (folder / "folder").symlink_to(daemon.place / "outside")
    folder.rename(daemon.inbox / "links")
    daemon.wait("drop.finished", drop="links")
    assert brought_back(daemon.output / "links") == files
    assert files != outside


def test_links_straight_in_the_inbox_are_no_drops(daemon: Daemon) -> None:
    made(daemon.place / "outside-too", 1, series_uid="1.2.16")
    for name, target in (("to-folder", "../outside-too"), ("to-itself", "."), ("nowhere", "none")):
        (daemon.inbox / name).symlink_to(target)
    (daemon.inbox / "to-file.dcm").symlink_to("../outside-too/0000.dcm")
    files = dropped(daemon, "beside-links", 1, series_uid="1.2.17")
    daemon.wait("drop.finished", drop="beside-links")
    assert brought_back(daemon.output / "beside-links") == files
    seen = {event["drop"] for event in daemon.all("series.arriving")}
    assert seen.isdisjoint({"to-folder", "to-itself", "nowhere"})
    assert not daemon.all("series.arriving", series="1.2.16")


LONG = {
    "loose": ("", "L" * 255),
    "folder": ("D" * 255, "short"),
    "deep": ("deep", "/".join(c * 255 for c in "abc")),
    "like-loose-ones": ("_loose" + "D" * 249, "D" * 255),
    "utf-8": ("é" * 127, "ä" * 127 + "b"),
    "no-text": (os.fsdecode(b"\xff" * 255), os.fsdecode(b"\n" * 254 + b"\xff")),
}


@pytest.mark.parametrize("kind", LONG)
def test_names_as_long_as_can_be_work_from_drop_to_restore(daemon: Daemon, kind: str) -> None:
    top, name = LONG[kind]
    uid = f"1.2.20.{list(LONG).index(kind)}"
    content = made(daemon.place / "made" / kind, 1, series_uid=uid)["0000.dcm"]
    whole = daemon.place / "long"
    (whole / name).parent.mkdir(parents=True)
    (whole / name).write_bytes(content)
    (whole if top else whole / name).rename(daemon.inbox / (top or name))
    drop = daemon.wait("job.done", series=uid)["drop"]
    path = f"{top}/{name}" if top else name
    daemon.wait("drop.finished", drop=drop)
    count = 1  # the drop of all loose files may have been finished before
    while path not in fates(daemon.output / drop):
        count += 1
        daemon.wait("drop.finished", count=count, drop=drop)
    shutil.rmtree(whole, ignore_errors=True)
    assert fates(daemon.output / drop)[path] == "archived"
    (store,) = [
        found
        for found in (daemon.output / drop).glob("*/series.zarr")
        if {file.name for file in Store(found).files} == {name}
    ]
    back = daemon.place / "back" / kind
    assert restore(Store(store), back, Store(store).files) == 1
    assert contents(back) == {name: content}


def test_names_that_are_no_text_are_archived(daemon: Daemon) -> None:
    folder = daemon.place / "made" / "odd"
    files = made(folder, 1, series_uid="1.2.15")
    name = os.fsdecode(b"caf\xe9.dcm")
    (folder / "0000.dcm").rename(folder / name)
    drop = "odd \n [bold] ☃"
    folder.rename(daemon.inbox / drop)
    daemon.wait("drop.finished", drop=drop)
    assert fates(daemon.output / drop) == {f"{drop}/{name}": "archived"}
    assert brought_back(daemon.output / drop) == {name: files["0000.dcm"]}
