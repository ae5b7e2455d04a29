"""`restore`, `verify` and `info`: stores that are there already."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import copy, copytree
from threading import Thread

import pydicom
import pytest
from command_line import Ask, Converted
from dicom_files import PYDICOM_DATA, slice_dataset, write_slice
from drops import contents, made
from pydicom.encaps import encapsulate
from pydicom.uid import MPEG4HP41, EncapsulatedPDFStorage, VideoEndoscopicImageStorage

# --- restore ---


def test_an_output_comes_back_in_the_layout_of_its_drops(
    ask: Ask, converted: Converted, tmp_path: Path
) -> None:
    answer = ask("restore", converted.output, tmp_path / "back", "--json")
    assert answer.code == 0
    size = sum(map(len, converted.files.values()))
    assert answer.json == {"files": len(converted.files), "bytes": size, "failed": []}
    assert contents(tmp_path / "back") == converted.files
    for name in converted.files:
        times = [(top / name).stat().st_mtime_ns for top in (converted.drops, tmp_path / "back")]
        assert times[0] == times[1]


def test_a_name_that_two_series_had_in_turn_comes_back_for_both(ask: Ask, tmp_path: Path) -> None:
    drop, output = tmp_path / "drop", tmp_path / "output"
    first = made(drop, 2, series_uid="1.2.3")
    assert ask("convert", drop, "--output", output).code == 0
    second = made(drop, 3, series_uid="1.2.4", SeriesNumber=2)
    assert ask("convert", drop, "--output", output).code == 0
    assert ask("restore", output, tmp_path / "back").code == 0
    (later,) = (output / "drop").glob("CT-2-*")
    assert contents(tmp_path / "back" / "drop") == second | first | {
        f"{name}~{later.name}": second[name] for name in first
    }


def test_a_drop_that_is_called_like_a_store_is_a_drop(ask: Ask, tmp_path: Path) -> None:
    drops, output = tmp_path / "drops", tmp_path / "output"
    made(drops / "series.zarr", series_uid="1.2.3")
    made(drops / "two", series_uid="1.2.4")
    assert ask("convert", drops / "series.zarr", drops / "two", "--output", output).code == 0
    assert ask("restore", output, tmp_path / "back").code == 0
    assert contents(tmp_path / "back") == contents(drops)
    assert ask("verify", output, "--against", drops).code == 0
    assert ask("restore", output / "series.zarr", tmp_path / "alone").code == 0
    assert contents(tmp_path / "alone") == contents(drops / "series.zarr")


@pytest.mark.parametrize("is_series_folder", [True, False])
def test_one_series_comes_back_alone(
    ask: Ask, converted: Converted, tmp_path: Path, is_series_folder: bool
) -> None:
    store = converted.store("one", 2)
    answer = ask("restore", store.parent if is_series_folder else store, tmp_path / "back")
    assert answer.out.startswith("2 files, 0.0 MB, restored to ")
    found = contents(tmp_path / "back")
    assert found.keys() == {"more/0000.dcm", "more/0001.dcm"}
    assert found["more/0000.dcm"] == converted.files["one/more/0000.dcm"]


@pytest.mark.parametrize(
    ("patterns", "names"),
    [
        (["0001.dcm"], {"one/deep/0001.dcm", "one/more/0001.dcm", "two/0001.dcm"}),
        (["deep/*2*"], {"one/deep/0002.dcm"}),
        (["deep/0000.dcm", "more/0001.*"], {"one/deep/0000.dcm", "one/more/0001.dcm"}),
    ],
)
def test_patterns_pick_files(
    ask: Ask, converted: Converted, tmp_path: Path, patterns: list[str], names: set[str]
) -> None:
    assert ask("restore", converted.output, tmp_path / "back", *patterns).code == 0
    assert contents(tmp_path / "back").keys() == names


def test_patterns_that_pick_nothing_are_an_answer_of_no(
    ask: Ask, converted: Converted, tmp_path: Path
) -> None:
    answer = ask("restore", converted.output, tmp_path / "back", "*.jpg")
    assert (answer.code, answer.out[:8]) == (1, "0 files,")


def test_nothing_that_is_there_is_overwritten(
    ask: Ask, converted: Converted, tmp_path: Path
) -> None:
    (tmp_path / "back" / "two").mkdir(parents=True)
    (tmp_path / "back" / "two" / "0001.dcm").write_text("mine")
    answer = ask("restore", converted.output, tmp_path / "back")
    assert answer.code == 1
    assert "destination-exists" in answer.err
    assert str(tmp_path / "back" / "two" / "0001.dcm") in answer.err
    assert (tmp_path / "back" / "two" / "0001.dcm").read_text() == "mine"


def test_a_destination_that_cannot_be_written_is_a_problem_told(
    ask: Ask, converted: Converted, tmp_path: Path
) -> None:
    (tmp_path / "back").touch()
    answer = ask("restore", converted.output, tmp_path / "back")
    assert answer.code == 1
    assert answer.err.startswith("dicomzarr-watch: ")


@pytest.mark.parametrize(
    ("damage", "lost"),
    [
        (lambda store: (store / "zarr.json").unlink(), {""}),
        (lambda store: _flip(store / "0" / "c.0.0.0"), {"deep/0001.dcm"}),
    ],
)
def test_what_is_damaged_keeps_no_other_file_from_coming_back(
    ask: Ask, converted: Converted, tmp_path: Path, damage: Callable[[Path], None], lost: set[str]
) -> None:
    store = converted.store("one", 1)
    damage(store)
    answer = ask("restore", converted.output, tmp_path / "back", "--json")
    assert answer.code == 1
    assert {row["file"] for row in answer.json["failed"]} == lost
    assert all(answer.err.count(name) == 1 for name in lost - {""}), "each is named once"
    assert {row["store"] for row in answer.json["failed"]} == {str(store)}
    assert str(store) in answer.err
    back = contents(tmp_path / "back")
    deep = {name for name in converted.files if name.startswith("one/deep/")}
    gone = {f"one/{name}" for name in lost} if lost != {""} else deep
    assert back == {name: data for name, data in converted.files.items() if name not in gone}
    size = sum(map(len, back.values()))
    assert (answer.json["files"], answer.json["bytes"]) == (len(back), size)


STRANGE = os.fsdecode(b"\xff\x1b[31m\n\xc3\xa9:smile:\xe2\x80\xae")


def test_names_that_are_no_text_or_would_steer_the_terminal_are_shown_by_numbers(
    ask: Ask, tmp_path: Path
) -> None:
    drop, output = tmp_path / STRANGE, tmp_path / "output"
    made(drop, 2)
    shown = r"\xff\x1b[31m\né:smile:\u202e"
    assert shown in ask("convert", drop, "--output", output).out
    for command in ("verify", "info"):
        answer = ask(command, output)
        assert answer.code == 0
        assert shown in answer.out
    answer = ask("restore", tmp_path / f"{STRANGE}2", tmp_path / "back")
    assert f"{shown}2" in answer.err


# --- verify ---


def test_sound_stores_verify(ask: Ask, converted: Converted) -> None:
    answer = ask("verify", converted.output)
    assert answer.code == 0
    assert [line.split(": ")[1] for line in answer.out.splitlines()] == [
        "3 files, ok",
        "2 files, ok",
        "2 files, ok",
    ]


def test_the_answer_for_a_program_is_one_row_a_store(ask: Ask, converted: Converted) -> None:
    stores = (converted.store("two", 3), converted.output / "one")
    answer = ask("verify", *stores, "--json")
    assert (answer.code, len(answer.json)) == (0, 3)
    (first, *_) = answer.json
    assert first == {"store": str(stores[0]), "files": 2, "differ": [], "missing": [], "code": ""}


def test_stores_verify_against_their_originals(ask: Ask, converted: Converted) -> None:
    for store, drop in {"": "", "one": "one", "two": "two"}.items():
        against = converted.drops / drop
        assert ask("verify", converted.output / store, "--against", against).code == 0


def test_a_changed_and_a_missing_original_are_named(ask: Ask, converted: Converted) -> None:
    folder = converted.drops / "one"
    (folder / "deep" / "0001.dcm").write_bytes(b"other bytes")
    (folder / "deep" / "0002.dcm").unlink()
    answer = ask("verify", converted.output / "one", "--against", folder)
    assert answer.code == 1
    assert "3 files, 1 differ, 1 missing" in answer.out
    told = {line.strip() for line in answer.out.splitlines()}
    assert told >= {"deep/0001.dcm", "deep/0002.dcm (no original)"}
    rows = ask("verify", converted.output / "one", "--against", folder, "--json").json
    assert [(row["differ"], row["missing"]) for row in rows] == [
        (["deep/0001.dcm"], ["deep/0002.dcm"]),
        ([], []),
    ]


def test_originals_that_are_nowhere_are_a_matter_of_usage(ask: Ask, converted: Converted) -> None:
    answer = ask("verify", converted.output, "--against", converted.drops / "three")
    assert answer.code == 2
    assert "--against" in answer.err


def _cut_metadata(store: Path) -> None:
    metadata = store / "zarr.json"
    metadata.write_bytes(metadata.read_bytes()[:40])


def _lose_index(store: Path) -> None:
    (store / "dicom" / "index" / "c.0.0").unlink()


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 1
    path.write_bytes(content)


DAMAGES: dict[str, Callable[[Path], None]] = {
    "metadata": _cut_metadata,
    "index": _lose_index,
    "pixels": lambda store: _flip(store / "0" / "c.0.0.0"),
    "headers": lambda store: _flip(store / "dicom" / "headers" / "c.0"),
    "hashes": lambda store: _flip(store / "dicom" / "sha256" / "c.0.0"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_store_does_not_verify_and_is_named(
    ask: Ask, converted: Converted, damage: str
) -> None:
    store = converted.store("one", 1)
    DAMAGES[damage](store)
    answer = ask("verify", converted.output)
    assert answer.code == 1
    (line,) = (line for line in answer.out.splitlines() if line.startswith(f"{store}: "))
    assert not line.endswith("ok")
    assert sum(line.endswith("ok") for line in answer.out.splitlines()) == 2
    rows = ask("verify", converted.output, "--json").json
    assert [row["store"] for row in rows if row["differ"] or row["code"]] == [str(store)]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_store_gives_no_wrong_files(
    ask: Ask, converted: Converted, tmp_path: Path, damage: str
) -> None:
    store = converted.store("one", 1)
    DAMAGES[damage](store)
    answer = ask("restore", store, tmp_path / "back")
    assert answer.code == 1
    assert answer.err.startswith("dicomzarr-watch: ")
    for name, content in contents(tmp_path / "back").items():
        assert converted.files[f"one/{name}"] == content


@contextmanager
def replaced_as_it_is_read(store: Path) -> Iterator[None]:
    """Have a newer revision take a store's place while the first is read, which shows as damage.

    Its document is a pipe, so that who reads it waits until the place is taken.
    """
    newer, document = store.with_name("newer"), store / "zarr.json"
    copytree(store, newer)
    document.unlink()
    os.mkfifo(document)

    def replace() -> None:
        with document.open("wb") as pipe:
            store.rename(store.with_name("older"))
            newer.rename(store)
            pipe.write(b"{}")

    replacing = Thread(target=replace, daemon=True)
    replacing.start()
    yield
    replacing.join(timeout=60)
    assert not replacing.is_alive()


def test_a_store_that_is_replaced_meanwhile_is_not_taken_for_damaged(
    ask: Ask, converted: Converted
) -> None:
    with replaced_as_it_is_read(converted.store("one", 1)):
        answer = ask("verify", converted.output)
    assert answer.code == 0
    assert all(line.endswith("ok") for line in answer.out.splitlines())


def test_who_restores_a_store_that_is_replaced_meanwhile_is_told(
    ask: Ask, converted: Converted, tmp_path: Path
) -> None:
    with replaced_as_it_is_read(converted.store("one", 1)):
        answer = ask("restore", converted.output, tmp_path / "back")
    assert answer.code == 1
    assert "store-replaced" in answer.err
    assert ask("restore", converted.output, tmp_path / "again").code == 0
    assert contents(tmp_path / "again") == converted.files


def test_a_store_that_goes_meanwhile_is_none(ask: Ask, converted: Converted) -> None:
    store = converted.store("one", 1)
    with replaced_as_it_is_read(store):
        (store.with_name("newer") / "zarr.json").unlink()
        answer = ask("verify", converted.output, "--json")
    assert answer.code == 1
    assert [row["code"] for row in answer.json if row["code"]] == ["not-a-store"]


def test_an_original_is_known_though_its_pixels_alone_were_kept(ask: Ask, tmp_path: Path) -> None:
    (tmp_path / "drop").mkdir()
    name = "MR_small_RLE.dcm"
    copy(PYDICOM_DATA / "test_files" / name, tmp_path / "drop")
    output = tmp_path / "output"
    asked = ask("convert", tmp_path / "drop", "--output", output, "--keep-encoded", "never")
    assert asked.code == 0
    assert ask("verify", output, "--against", tmp_path).code == 0
    (tmp_path / "drop" / name).write_bytes(b"another")
    assert ask("verify", output, "--against", tmp_path).code == 1


# --- info ---


def test_info_tells_a_person_what_is_in_a_store(ask: Ask, converted: Converted) -> None:
    store = converted.store("one", 1)
    answer = ask("info", store)
    assert answer.out.splitlines() == [
        str(store),
        "  3 files, 0.0 MB, 0 of them not as frames",
        "  image 0: z 3 × y 8 × x 6, uint16, 0.5, 0.7, 1.5 mm",
    ]


def document(path: Path) -> None:
    write_slice(
        path,
        SOPClassUID=EncapsulatedPDFStorage,
        Modality="DOC",
        Rows=None,
        Columns=None,
        DocumentTitle="Report",
        MIMETypeOfEncapsulatedDocument="application/pdf",
        EncapsulatedDocument=b"%PDF-1.4",
    )
    made = pydicom.dcmread(path)
    del made.PixelData
    pydicom.dcmwrite(path, made)


def video(path: Path) -> None:
    made = slice_dataset(CineRate="25", NumberOfFrames="40")
    made.SOPClassUID = VideoEndoscopicImageStorage
    made.file_meta.TransferSyntaxUID = MPEG4HP41
    made.PixelData = encapsulate([b"\0\0\0\x18ftyp"])
    made["PixelData"].is_undefined_length = True
    made["PixelData"].VR = "OB"
    pydicom.dcmwrite(path, made)


def waveforms(path: Path) -> None:
    copy(PYDICOM_DATA / "test_files" / "waveform_ecg.dcm", path)


def structures(path: Path) -> None:
    copy(PYDICOM_DATA / "test_files" / "rtstruct.dcm", path)


@pytest.mark.parametrize(
    ("write", "what", "facts"),
    [
        (
            document,
            "Encapsulated PDF Storage, kept unseen (no-pixel-data)",
            "document title Report, MIME type application/pdf",
        ),
        (
            video,
            "Video Endoscopic Image Storage, kept unseen (video), MPEG-4 AVC/H.264 High",
            "columns 6, rows 8, frames 40, frame rate 25",
        ),
        (waveforms, "12-lead ECG Waveform Storage, kept unseen (no-pixel-data)", "waveforms 2"),
        (
            structures,
            "RT Structure Set Storage, kept unseen (no-pixel-data), no transfer syntax",
            "structure set sep30",
        ),
    ],
)
def test_info_describes_what_is_not_seen_as_images(
    ask: Ask, tmp_path: Path, write: Callable[[Path], object], what: str, facts: str
) -> None:
    (tmp_path / "drop").mkdir()
    write(tmp_path / "drop" / "a.dcm")
    assert ask("convert", tmp_path / "drop", "--output", tmp_path / "output").code == 0
    (line,) = ask("info", tmp_path / "output").out.splitlines()[2:]
    assert line.startswith(f"  1 × {what}")
    assert line.endswith(f", {facts}")


def test_info_tells_a_program_of_every_store(ask: Ask, converted: Converted) -> None:
    rows = ask("info", converted.output, "--json").json
    assert [row["files"] for row in rows] == [3, 2, 2]
    assert rows[0]["store"] == str(converted.store("one", 1))
    assert rows[0]["images"][0]["shape"] == [3, 8, 6]
    assert rows[0]["names"] == ["deep/0000.dcm", "deep/0001.dcm", "deep/0002.dcm"]


@pytest.mark.parametrize("command", ["info", "verify", "restore"])
def test_a_place_without_a_store_is_named(ask: Ask, tmp_path: Path, command: str) -> None:
    for place in (tmp_path, tmp_path / "none"):
        arguments = [place, tmp_path / "back"] if command == "restore" else [place]
        answer = ask(command, *arguments)
        assert answer.code == 1
        assert "no-store: expected series.zarr, or a folder with such below it" in answer.err
        assert str(place) in answer.err


def test_what_is_hidden_in_an_output_is_no_store_of_it(ask: Ask, converted: Converted) -> None:
    hidden = converted.output / ".evidence" / "one"
    hidden.mkdir(parents=True)
    converted.store("two", 3).parent.rename(hidden / "CT")
    assert len(ask("verify", converted.output, "--json").json) == 2
