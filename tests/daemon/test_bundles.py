"""zip and tar files in the inbox: what comes out of them is archived like what was dropped."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bundle_files import bundled, entry, tar_file, zip_file
from daemon_process import COMMAND, Daemon, clean_environment, once, running
from drops import brought_back, document, fates, late_slice, made, put, receipts, results

from dicomzarr_watch.intake.bundle import Form

# minutes in all, and the fast suite is to stay under two
pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """One daemon for the tests of this module, each with a drop of its own name."""
    with running(tmp_path_factory.mktemp("bundles"), identifiers="plain") as daemon:
        yield daemon


def series(place: Path, uid: str, count: int = 3, folder: str = "ct") -> dict[str, bytes]:
    """Make the files of a series as they stand in a folder."""
    found = made(place / "made" / uid, count, series_uid=uid)
    return {f"{folder}/{name}": content for name, content in found.items()}


def copies(daemon: Daemon) -> list[str]:
    """Return what is in the state folder of what came out of bundles, lists left aside."""
    return [path.name for path in (daemon.state / "unpacked").glob("*") if path.is_dir()]


def codes(drop: Path) -> dict[str, str]:
    return {file["path"]: file["code"] for file in document(drop / "drop.json")["files"]}


@pytest.mark.parametrize("how", Form)
def test_what_comes_out_is_archived_and_comes_back_under_its_name(
    daemon: Daemon, how: Form
) -> None:
    drop, number = f"of-{how.name}", list(Form).index(how)
    files = series(daemon.place, f"1.2.30.{number}") | series(
        daemon.place, f"1.2.31.{number}", 2, "mr/deep"
    )
    others = {"notes.txt": b"no image", "DICOMDIR.bak": b"neither"}
    content = bundled(how, files | others)
    put(daemon, f"{drop}.{how}", content)
    daemon.wait("drop.finished", drop=drop, archived=5, ignored=2, unpacked=1)
    assert brought_back(daemon.output / drop) == files
    path = f"{drop}.{how}"
    assert fates(daemon.output / drop) == (
        {path: "unpacked"}
        | {f"{path}//{name}": "archived" for name in files}
        | {f"{path}//{name}": "ignored" for name in others}
    )
    assert (daemon.inbox / path).read_bytes() == content
    assert len(receipts(daemon.output / drop)) == 2
    assert len(daemon.all("job.done", drop=drop, code="unpacked")) == 1
    assert len(daemon.all("drop.finished", drop=drop)) == 1


def test_a_bundle_in_a_folder_belongs_to_its_drop(daemon: Daemon) -> None:
    folder = daemon.place / "made" / "with-a-bundle"
    beside = made(folder, 2, series_uid="1.2.40")
    inside = series(daemon.place, "1.2.41")
    deeper = series(daemon.place, "1.2.42")
    (folder / "more.tar").write_bytes(
        bundled(Form.TAR, inside | {"in/most.zip": bundled(Form.ZIP, deeper)})
    )
    folder.rename(daemon.inbox / "with-a-bundle")
    daemon.wait("drop.finished", drop="with-a-bundle", archived=8, unpacked=2)
    assert brought_back(daemon.output / "with-a-bundle") == (
        beside
        | {f"more.tar/{name}": content for name, content in inside.items()}
        | {f"more.tar/in/most.zip/{name}": content for name, content in deeper.items()}
    )


def test_a_folder_and_a_bundle_of_one_name_are_one_drop(daemon: Daemon) -> None:
    files = series(daemon.place, "1.2.43", folder="x")
    more = late_slice(daemon.place / "made" / "43", series_uid="1.2.43")
    (daemon.place / "both" / "x").mkdir(parents=True)
    (daemon.place / "both" / "x" / "0000.dcm").write_bytes(more)
    put(daemon, "both.zip", bundled(Form.ZIP, files))
    daemon.wait("drop.finished", drop="both")
    (daemon.place / "both").rename(daemon.inbox / "both")
    daemon.wait("drop.finished", drop="both", count=2)
    (receipt,) = receipts(daemon.output / "both")
    assert (receipt["revision"], receipt["counts"]["files"]) == (2, 4)
    found = brought_back(daemon.output / "both")
    assert found == {f"both.zip/{n}": c for n, c in files.items()} | {"both/x/0000.dcm": more}


def test_a_late_file_has_what_came_out_made_again(daemon: Daemon) -> None:
    folder = daemon.place / "made" / "late"
    folder.mkdir(parents=True)
    files = series(daemon.place, "1.2.44")
    (folder / "a.tar.gz").write_bytes(bundled(Form.TAR_GZ, files))
    folder.rename(daemon.inbox / "late")
    daemon.wait("drop.finished", drop="late")
    late = late_slice(daemon.place / "made" / "44", series_uid="1.2.44")
    put(daemon, "late/late.dcm", late)
    daemon.wait("drop.finished", drop="late", count=2)
    (receipt,) = receipts(daemon.output / "late")
    assert receipt["revision"] == 2
    assert brought_back(daemon.output / "late") == {
        f"a.tar.gz/{n}": c for n, c in files.items()
    } | {"late.dcm": late}
    assert len(daemon.all("job.done", drop="late", code="unpacked")) == 1


def test_a_bundle_that_is_refused_is_taken_once_it_was_mended(daemon: Daemon) -> None:
    files = series(daemon.place, "1.2.45")
    content = bundled(Form.ZIP, files)
    put(daemon, "cut.zip", content[:-30])
    rejected = daemon.wait("job.rejected", drop="cut")
    assert rejected["code"] == "archive-truncated"
    daemon.wait("drop.finished", drop="cut", rejected=1)
    assert codes(daemon.output / "cut") == {"cut.zip": "archive-truncated"}
    assert receipts(daemon.output / "cut") == []
    put(daemon, "cut.zip", content)
    daemon.wait("drop.finished", drop="cut", archived=3, unpacked=1)
    assert brought_back(daemon.output / "cut") == files


def test_another_bundle_under_the_same_name_makes_a_revision_with_all_files(
    daemon: Daemon,
) -> None:
    files = series(daemon.place, "1.2.46")
    put(daemon, "again.tar", bundled(Form.TAR, files))
    daemon.wait("drop.finished", drop="again")
    late = {"late.dcm": late_slice(daemon.place / "made" / "46", series_uid="1.2.46")}
    put(daemon, "again.tar", bundled(Form.TAR, late))
    daemon.wait("drop.finished", drop="again", count=2)
    (receipt,) = receipts(daemon.output / "again")
    assert receipt["revision"] == 2
    assert brought_back(daemon.output / "again") == files | late


def test_a_bundle_that_goes_takes_nothing_with_it_and_leaves_nothing(daemon: Daemon) -> None:
    files = series(daemon.place, "1.2.47")
    put(daemon, "gone.zip", bundled(Form.ZIP, files))
    daemon.wait("drop.finished", drop="gone")
    before = {path.name for path in (daemon.state / "unpacked").glob("*")}
    (daemon.inbox / "gone.zip").unlink()
    daemon.wait("drop.finished", drop="gone", count=2)
    assert brought_back(daemon.output / "gone") == files
    assert fates(daemon.output / "gone")["gone.zip//ct/0000.dcm"] == "archived"
    after = {path.name for path in (daemon.state / "unpacked").glob("*.json")}
    assert len(before) > len(after)
    assert after < before


HOSTILE = {
    "leads-out.tar": (tar_file([entry("../../../evil.dcm", b"1")]), "archive-unsafe-name"),
    "link.tar": (tar_file([entry("a", b"", b"2", linkname="/etc/passwd")]), "archive-link"),
    "deep.zip": (
        zip_file([("a.zip", zip_file([("b.zip", zip_file([("1", b"")]))]))]),
        "archive-too-deep",
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_hostile_is_refused_with_its_code_and_writes_nowhere(
    daemon: Daemon, name: str
) -> None:
    content, code = HOSTILE[name]
    drop = name.partition(".")[0]
    put(daemon, name, content)
    daemon.wait("drop.finished", drop=drop, rejected=1)
    assert codes(daemon.output / drop) == {name: code}
    assert not list(daemon.place.rglob("evil*"))
    assert daemon.wait("job.rejected", drop=drop)["attempt"] == 1


def test_names_that_are_no_text_come_out_and_back(daemon: Daemon) -> None:
    content = series(daemon.place, "1.2.48", 1)["ct/0000.dcm"]
    names = [os.fsdecode(b"caf\xe9/\n\xff"), "x" * 255, "ä" * 127]
    files = {name: content + bytes([n]) for n, name in enumerate(names)}
    put(daemon, "odd-names.tar.zst", bundled(Form.TAR_ZST, files))
    daemon.wait("drop.finished", drop="odd-names", archived=3)
    assert brought_back(daemon.output / "odd-names") == files


def test_copies_go_when_the_work_is_done_and_only_their_owner_sees_them(daemon: Daemon) -> None:
    put(daemon, "private.zip", bundled(Form.ZIP, series(daemon.place, "1.2.49")))
    daemon.wait("drop.finished", drop="private")
    assert copies(daemon) == []
    assert (daemon.state / "unpacked").stat().st_mode & 0o777 == 0o700


def test_explain_tells_of_a_bundle_and_of_what_came_out(daemon: Daemon) -> None:
    put(daemon, "explained.zip", bundled(Form.ZIP, series(daemon.place, "1.2.50")))
    daemon.wait("drop.finished", drop="explained")

    def explained(path: str) -> str:
        command = [*COMMAND, "explain", path, "--state", str(daemon.state)]
        return subprocess.run(
            command, env=clean_environment(), capture_output=True, text=True, check=True
        ).stdout

    assert "unpacked" in explained("explained.zip")
    assert "archived" in explained(f"{daemon.inbox}/explained.zip//ct/0000.dcm")


# --- with a daemon of its own ---


def test_with_a_depth_of_0_a_bundle_is_a_file_that_is_no_dicom(tmp_path: Path) -> None:
    (tmp_path / "inbox").mkdir()
    files = series(tmp_path, "1.2.3")
    (tmp_path / "inbox" / "a.zip").write_bytes(bundled(Form.ZIP, files))
    code, daemon = once(tmp_path, archive_depth=0)
    assert code == 0
    assert fates(daemon.output / "a") == {"a.zip": "ignored"}
    code, daemon = once(tmp_path)
    assert brought_back(daemon.output / "a") == files


def test_over_a_limit_it_is_refused_and_tried_again_when_somebody_asks(tmp_path: Path) -> None:
    (tmp_path / "inbox").mkdir()
    files = series(tmp_path, "1.2.3")
    (tmp_path / "inbox" / "a.zip").write_bytes(bundled(Form.ZIP, files))
    code, daemon = once(tmp_path, archive_max_members=2)
    assert (code, codes(daemon.output / "a")) == (1, {"a.zip": "archive-too-many"})
    (daemon.state / "requests" / "retry.1").touch()
    code, daemon = once(tmp_path)
    assert (code, brought_back(daemon.output / "a")) == (0, files)


def test_a_list_that_was_lost_is_made_again(tmp_path: Path) -> None:
    (tmp_path / "inbox").mkdir()
    files = series(tmp_path, "1.2.3")
    (tmp_path / "inbox" / "a.zip").write_bytes(bundled(Form.ZIP, files))
    code, daemon = once(tmp_path)
    shutil.rmtree(daemon.state / "unpacked")
    before = results(daemon.output)
    code, daemon = once(tmp_path)
    assert code == 0
    assert [job["code"] for job in daemon.all("job.done")] == ["unpacked"]
    assert len(list((daemon.state / "unpacked").glob("*.json"))) == 1
    assert results(daemon.output) == before
    assert brought_back(daemon.output / "a") == files


KILLS: dict[str, tuple[str, dict[str, Any]]] = {
    "seen": ("series.arriving", {}),
    "unpacking": ("job.started", {}),
    "unpacked": ("job.done", {"code": "unpacked"}),
    "converting": ("job.started", {"job": 2}),
    "half done": ("job.done", {"code": "done"}),
    "reported": ("drop.finished", {}),
}


@pytest.mark.integration
@pytest.mark.parametrize("when", KILLS)
def test_promise_7_a_kill_at_any_step_comes_to_the_same_result(tmp_path: Path, when: str) -> None:
    files = series(tmp_path, "1.2.3") | series(tmp_path, "1.2.4", folder="mr")
    event, fields = KILLS[when]
    with running(tmp_path, workers=1) as daemon:
        put(daemon, "a.tar.gz", bundled(Form.TAR_GZ, files))
        daemon.wait(event, **fields)
        daemon.signal(signal.SIGKILL)
        daemon.end()
    code, daemon = once(tmp_path)
    assert code == 0
    assert brought_back(daemon.output / "a") == files
    assert [receipt["revision"] for receipt in receipts(daemon.output / "a")] == [1, 1]
    assert set(fates(daemon.output / "a").values()) == {"archived", "unpacked"}
    assert copies(daemon) == []
