"""`after_success`: originals leave the inbox when the archive is proven to hold them."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from bundle_files import bundled
from daemon_process import COMMAND, Daemon, begun, once, running
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
from supervised import Call, killed, passed, supervised

from dicomzarr_watch.intake.bundle import Form
from dicomzarr_watch.ledger.inquiry import about
from dicomzarr_watch.ledger.store import Ledger

# minutes in all, and the fast suite is to stay under two
pytestmark = pytest.mark.integration

DELETE: dict[str, Any] = {"after_success": "delete", "identifiers": "plain"}


def left(daemon: Daemon) -> list[str]:
    """Return what is in the inbox, folders included."""
    return sorted(p.relative_to(daemon.inbox).as_posix() for p in daemon.inbox.rglob("*"))


def rows(drop: Path) -> dict[str, dict[str, Any]]:
    return {file["path"]: file for file in document(drop / "drop.json")["files"]}


def told(daemon: Daemon, what: str) -> dict[str, Any]:
    ledger = Ledger.read(daemon.state)
    (found,) = about(ledger, what)
    ledger.close()
    return found


def test_what_is_archived_goes_with_its_folders_and_all_else_stays(tmp_path: Path) -> None:
    inbox = tmp_path / "inbox"
    files = made(inbox / "a" / "1" / "deep", 3)
    more = made(inbox / "b", 2, series_uid="1.2.3")
    (inbox / "b" / "notes.txt").write_text("no image")
    (inbox / "b" / ".hidden").touch()
    (inbox / "c" / "coming").mkdir(parents=True)
    loose = made(tmp_path / "made", 1, series_uid="1.2.4")["0000.dcm"]
    (inbox / "loose.dcm").write_bytes(loose)
    code, daemon = once(tmp_path, **DELETE)
    assert (code, left(daemon)) == (0, ["b", "b/.hidden", "b/notes.txt", "c", "c/coming"])
    assert brought_back(daemon.output / "a") == {f"1/deep/{n}": c for n, c in files.items()}
    assert brought_back(daemon.output / "b") == more
    assert brought_back(daemon.output / "_loose") == {"loose.dcm": loose}
    cleared = {e["drop"]: (e["files"], e["bytes"]) for e in daemon.all("originals.cleared")}
    assert cleared == {
        "a": (3, sum(map(len, files.values()))),
        "b": (2, sum(map(len, more.values()))),
        "_loose": (1, len(loose)),
    }
    assert sum(e["folders"] for e in daemon.all("folders.removed")) == 3
    assert {row.get("original") for row in rows(daemon.output / "a").values()} == {"deleted"}
    file = rows(daemon.output / "b")["b/0000.dcm"]
    assert (file["outcome"], file["present"], file["original"]) == ("archived", False, "deleted")
    assert told(daemon, "b/0000.dcm")["original"] == "deleted"
    assert "original" not in rows(daemon.output / "b")["b/notes.txt"]


def test_promise_6_by_default_the_inbox_is_as_it_was(tmp_path: Path) -> None:
    made(tmp_path / "inbox" / "a", 3)
    _, daemon = once(tmp_path)
    assert len(left(daemon)) == 4
    _, daemon = once(tmp_path, **DELETE)  # which holds for what was archived before, too
    assert left(daemon) == []
    assert daemon.all("job.started") == []


def test_originals_are_moved_with_their_paths(tmp_path: Path) -> None:
    files = made(tmp_path / "inbox" / "a" / "1", 3)
    (tmp_path / "moved" / "a" / "1").mkdir(parents=True)
    (tmp_path / "moved" / "a" / "1" / "0000.dcm").write_bytes(b"other bytes")
    settings = DELETE | {"after_success": "move", "move_to": tmp_path / "moved"}
    _, daemon = once(tmp_path, **settings)
    assert left(daemon) == []
    moved = contents(tmp_path / "moved" / "a" / "1")
    assert moved.pop("0000.dcm") == b"other bytes"
    assert moved == {name.replace("0000.dcm", "0000.dcm~"): c for name, c in files.items()}
    assert {row["original"] for row in rows(daemon.output / "a").values()} == {"moved"}


def test_originals_of_a_damaged_archive_stay_and_mend_it_when_they_get_another_time(
    tmp_path: Path,
) -> None:
    files = made(tmp_path / "inbox" / "a", 3)
    _, daemon = once(tmp_path)
    (result,) = (daemon.output / "a").glob("CT-*")
    (result / "series.zarr" / "dicom" / "headers" / "c.0").unlink()
    with running(tmp_path, **DELETE) as daemon:
        kept = daemon.wait("originals.kept")
        assert (kept["code"], kept["files"]) == ("archive-differs", 3)
        assert contents(daemon.inbox / "a") == files
        for path in (daemon.inbox / "a").iterdir():
            os.utime(path, ns=(1, 1))
        assert daemon.wait("originals.cleared")["files"] == 3
        assert daemon.stop() == 0
    (job,) = daemon.all("job.done")
    assert (job["revision"], job["findings"]) == (2, ["damaged-revision-replaced"])
    assert brought_back(daemon.output / "a") == files


def test_what_was_rejected_stays(tmp_path: Path) -> None:
    files = made(tmp_path / "inbox" / "a", 2)
    (tmp_path / "output" / "a" / "CT-1-6dadc91b").mkdir(parents=True)  # the name is taken
    code, daemon = once(tmp_path, **DELETE)
    assert (code, fates(daemon.output / "a")) == (1, {f"a/{name}": "rejected" for name in files})
    assert contents(daemon.inbox / "a") == files


def test_what_was_not_verified_stays_and_is_said_once(tmp_path: Path) -> None:
    files = made(tmp_path / "inbox" / "a", 2)
    once(tmp_path, verify="off")
    _, daemon = once(tmp_path, **DELETE)
    assert contents(daemon.inbox / "a") == files
    (kept,) = daemon.all("originals.kept")
    assert (kept["drop"], kept["code"], kept["files"]) == ("a", "not-verified", 2)
    assert {row.get("original") for row in rows(daemon.output / "a").values()} == {None}


def test_the_same_file_twice_and_the_same_series_in_two_drops_go(tmp_path: Path) -> None:
    inbox = tmp_path / "inbox"
    files = made(inbox / "a", 2)
    (inbox / "a" / "again.dcm").write_bytes(files["0000.dcm"])
    os.link(inbox / "a" / "0001.dcm", inbox / "a" / "linked.dcm")
    shutil.copytree(inbox / "a", inbox / "b")
    _, daemon = once(tmp_path, **DELETE)
    assert left(daemon) == []
    all_files = files | {"again.dcm": files["0000.dcm"], "linked.dcm": files["0001.dcm"]}
    for drop in ("a", "b"):
        assert brought_back(daemon.output / drop) == all_files
        assert [r["revision"] for r in receipts(daemon.output / drop)] == [1]


def test_a_series_without_an_archive_of_its_own_stays(tmp_path: Path) -> None:
    """Another drop holds the same bytes; that is not this drop's archive."""
    files = made(tmp_path / "inbox" / "a", 2)
    shutil.copytree(tmp_path / "inbox" / "a", tmp_path / "inbox" / "b")
    _, daemon = once(tmp_path)
    (series,) = (daemon.output / "b").glob("CT-*")
    shutil.rmtree(series)
    _, daemon = once(tmp_path, **DELETE)
    assert contents(daemon.inbox) == {f"b/{name}": content for name, content in files.items()}
    (kept,) = daemon.all("originals.kept")
    assert (kept["drop"], kept["code"]) == ("b", "no-receipt")


def test_a_copy_that_pauses_keeps_its_file_until_it_is_whole(tmp_path: Path) -> None:
    content = made(tmp_path / "made", 1)["0000.dcm"]
    with running(tmp_path, **DELETE) as daemon:
        (daemon.inbox / "a").mkdir()
        with (daemon.inbox / "a" / "1.dcm").open("wb") as stream:
            stream.write(content[:-100] + bytes(100))  # the room is taken up, the end is to come
            stream.flush()
            assert daemon.wait("originals.kept")["code"] == "original-in-use"
            stream.seek(-100, os.SEEK_END)
            stream.write(content[-100:])
        daemon.wait("originals.cleared")
        assert daemon.stop() == 0
    assert content in brought_back(daemon.output / "a").values()


def test_what_is_left_of_a_series_goes_after_the_next_start(tmp_path: Path) -> None:
    made(tmp_path / "inbox" / "a", 3)
    with (tmp_path / "inbox" / "a" / "0001.dcm").open("r+b"):
        _, daemon = once(tmp_path, max_attempts=1, **DELETE)
        assert left(daemon) == ["a", "a/0001.dcm"]
    _, daemon = once(tmp_path, **DELETE)
    assert left(daemon) == []


def test_no_original_goes_while_the_output_may_not_be_mounted(tmp_path: Path) -> None:
    made(tmp_path / "inbox" / "a", 2)
    once(tmp_path)
    (tmp_path / "output").rename(tmp_path / "elsewhere")
    files = made(tmp_path / "inbox" / "b", 2, series_uid="1.2.3")
    before = contents(tmp_path / "inbox")
    code, daemon = once(tmp_path, **DELETE)
    assert code == 0
    assert daemon.all("check.failed", code="output-empty")
    assert brought_back(daemon.output / "b") == files
    assert contents(daemon.inbox) == before
    shutil.rmtree(daemon.output)
    (tmp_path / "elsewhere").rename(daemon.output)
    _, daemon = once(tmp_path, **DELETE)
    assert contents(daemon.inbox) == {f"b/{name}": content for name, content in files.items()}
    assert [kept["code"] for kept in daemon.all("originals.kept")] == ["no-receipt"]


def test_what_stays_as_its_archive_is_away_goes_when_the_output_is_back(tmp_path: Path) -> None:
    made(tmp_path / "inbox" / "a", 2)
    _, daemon = once(tmp_path)
    (series,) = (daemon.output / "a").glob("CT-*")
    series.rename(tmp_path / "series")  # as an output does that goes while originals are looked at
    with running(tmp_path, **DELETE) as daemon:
        assert daemon.wait("originals.kept")["code"] == "no-receipt"
        daemon.output.rename(tmp_path / "away")
        daemon.wait("output.paused")
        (tmp_path / "series").rename(tmp_path / "away" / "a" / series.name)
        (tmp_path / "away").rename(daemon.output)
        daemon.wait("originals.cleared", files=2)


def test_a_bundle_goes_when_all_of_its_members_are_archived(tmp_path: Path) -> None:
    files = made(tmp_path / "made", 3)
    inside = bundled(Form.TAR_GZ, made(tmp_path / "more", 2, series_uid="1.2.3", SeriesNumber=2))
    (tmp_path / "inbox" / "in").mkdir(parents=True)
    for name, content in {
        "whole.zip": bundled(Form.ZIP, files | {"inner.tar.gz": inside}),
        "in/whole.tar": bundled(Form.TAR, files),
        "mixed.zip": bundled(Form.ZIP, files | {"notes.txt": b"no image"}),
        "broken.zip": bundled(Form.ZIP, files)[:-40],
    }.items():
        (tmp_path / "inbox" / name).write_bytes(content)
    _, daemon = once(tmp_path, **DELETE)
    assert left(daemon) == ["broken.zip", "mixed.zip"]
    (kept,) = daemon.all("originals.kept")
    assert (kept["drop"], kept["code"]) == ("mixed", "members-not-archived")
    assert len(brought_back(daemon.output / "whole")) == 5
    found = {row["path"]: row.get("original") for row in rows(daemon.output / "whole").values()}
    assert found.pop("whole.zip//inner.tar.gz") is None
    assert set(found.values()) == {"deleted"}
    assert [p for p in (daemon.state / "unpacked").iterdir() if p.is_dir()] == []


def test_a_late_file_makes_a_revision_with_the_files_that_were_cleared(tmp_path: Path) -> None:
    with running(tmp_path, **DELETE) as daemon:
        files = dropped(daemon, "a")
        daemon.wait("folders.removed")
        (daemon.inbox / "a").mkdir()
        late = late_slice(tmp_path / "late")
        put(daemon, "a/late.dcm", late)
        daemon.wait("job.done", revision=2)
        daemon.wait("originals.cleared", count=2)
        assert daemon.stop() == 0
    assert brought_back(daemon.output / "a") == files | {"late.dcm": late}
    code, daemon = once(tmp_path, **DELETE)
    assert (code, left(daemon), daemon.all("job.started")) == (0, [], [])
    assert {row["original"] for row in rows(daemon.output / "a").values()} == {"deleted"}


def test_the_same_drop_again_goes_again_without_a_revision(tmp_path: Path) -> None:
    files = made(tmp_path / "inbox" / "a", 2)
    once(tmp_path, **DELETE)
    made(tmp_path / "inbox" / "a", 2)
    _, daemon = once(tmp_path, **DELETE)
    assert left(daemon) == []
    assert [job["code"] for job in daemon.all("job.done")] == ["unchanged"]
    assert brought_back(daemon.output / "a") == files


def test_a_drop_that_is_never_quiet_is_cleared_all_the_same(tmp_path: Path) -> None:
    with running(tmp_path, truncated_hold_s=3600, **DELETE) as daemon:
        folder = made(tmp_path / "made" / "x", 1, series_uid="1.2.4")["0000.dcm"]
        put(daemon, "cut.dcm", folder[:-9])
        daemon.wait("series.held")
        put(daemon, "whole.dcm", made(tmp_path / "made" / "y", 1, series_uid="1.2.5")["0000.dcm"])
        daemon.wait("originals.cleared", drop="_loose", files=1)
        assert daemon.stop() == 0
    assert left(daemon) == ["cut.dcm"]


def test_an_inbox_that_cannot_be_written_keeps_its_files_and_nothing_else_suffers(
    tmp_path: Path,
) -> None:
    files = made(tmp_path / "inbox" / "a", 2)

    def refused(call: Call) -> tuple[int, int, int]:
        is_meant = call.where == "inbox" and call.name in ("unlink", "unlinkat", "rmdir")
        return (0, -errno.EROFS, 0) if is_meant else passed(call)

    with supervised(tmp_path) as supervisor:
        supervisor.set(refused)
        command = supervisor.command(*COMMAND)
        settings = DELETE | {"max_attempts": 2, "retry_max_s": 0.1}
        code, daemon = once(tmp_path, command=command, **settings)
    assert (code, contents(daemon.inbox / "a")) == (0, files)
    (kept,) = daemon.all("originals.kept")
    assert (kept["code"], kept["files"]) == ("cannot-clear", 2)
    code, daemon = once(tmp_path, **DELETE)
    assert left(daemon) == []


@pytest.mark.integration
@pytest.mark.parametrize("how", ["delete", "move"])
@pytest.mark.parametrize("is_child", [False, True], ids=["daemon", "child"])
def test_promise_7_a_kill_before_any_removal_or_rename_loses_nothing(
    tmp_path: Path, *, is_child: bool, how: str
) -> None:
    """Also between what a daemon is told and what it writes down of it."""
    settings = DELETE | {"after_success": how, "workers": 1, "retry_max_s": 0.1}
    files = {}
    kills = 0
    for number in range(8) if is_child else range(secrets.randbelow(7), 60, 7):
        place = tmp_path / f"{number}"
        files = made(place / "inbox" / "a" / "1", 3)
        moved = {"move_to": place / "moved"} if how == "move" else {}
        with supervised(place) as supervisor:
            supervisor.set(_killing(number, is_child))
            command = supervisor.command(*COMMAND)
            with begun(place, "--once", command=command, **settings, **moved) as daemon:
                code = daemon.end()
        kills += code == -signal.SIGKILL or bool(daemon.all("originals.kept"))
        for _ in range(code != 0):
            assert daemon.process.returncode == -signal.SIGKILL
            code, daemon = once(place, **settings, **moved)
        assert (code, left(daemon)) == (0, [])
        assert brought_back(daemon.output / "a") == {f"1/{n}": c for n, c in files.items()}
        assert [r["revision"] for r in receipts(daemon.output / "a")] == [1]
        if how == "move":
            assert contents(place / "moved" / "a" / "1") == files
        assert {row["outcome"] for row in rows(daemon.output / "a").values()} == {"archived"}
        shutil.rmtree(place)
    assert kills > 2


def _killing(number: int, is_child: bool) -> Callable[[Call], tuple[int, int, int]]:
    """Kill who changes inbox, drop.json or the ledger for the so-manieth time after the archive."""
    seen = 0

    def fault(call: Call) -> tuple[int, int, int]:
        nonlocal seen
        is_late = call.where in ("inbox", "moved") or call.path.endswith("drop.json")
        if call.is_child is not is_child or not (is_late or (seen and call.where == "state")):
            return passed(call)
        seen += 1
        return killed(call) if seen == number + 1 else passed(call)

    return fault
