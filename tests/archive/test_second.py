"""Decoded frames have no inverse: a second decoder has to say that they are right."""

from __future__ import annotations

import io
import json
import zlib
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from archive_cases import CASES, Archived, contents, image_paths, made, noise, planes, slices, uid
from dicom_files import (
    PYDICOM_DATA,
    Built,
    Encapsulated,
    Encoding,
    PixelCase,
    Plain,
    even,
    file_bytes,
    us,
    write_slice,
)

from dicomzarr_watch.archive import chunk, second
from dicomzarr_watch.archive.restore import restore
from dicomzarr_watch.archive.second import LOSSY_STEPS, Look
from dicomzarr_watch.archive.verify import differing, verdict
from dicomzarr_watch.archive.work import Finding
from dicomzarr_watch.dicom import pixels
from dicomzarr_watch.dicom.frames import FrameRun, Samples
from dicomzarr_watch.dicom.instance import read_header
from dicomzarr_watch.dicom.pixels import DEFLATED_FRAMES, decode, seen

FLATE = Encoding(DEFLATED_FRAMES)
FRAMES = noise(3, 6, 8, seed=5)


def deflated_frames(
    frames: np.ndarray[Any, Any] = FRAMES, *more: Plain, said: int | None = None
) -> bytes:
    """Make a file of deflated frames, which zlib alone decodes."""
    case = PixelCase("deflated", frames, FLATE)
    fragments = []
    for n in range(len(frames)):
        deflate = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        data = deflate.compress(replace(case, frames=frames[n : n + 1]).stored) + deflate.flush()
        fragments.append(even(data, b"\0"))
    elements: dict[int, Built] = {e.tag: e for e in (*case.elements[:-1], *more)}
    if said is not None:
        elements[0x00280008] = Plain(0x00280008, "IS", even(str(said).encode()))
    found = [elements[tag] for tag in sorted(elements)]
    return file_bytes([*found, Encapsulated((b"", *fragments))], FLATE)


def _deflated(folder: Path, **options: Any) -> None:
    (folder / "a.dcm").write_bytes(deflated_frames(**options))


def _put(content: bytes, folder: Path) -> None:
    (folder / "a.dcm").write_bytes(content)


def _shipped(name: str, folder: Path) -> None:
    (folder / "a.dcm").write_bytes((PYDICOM_DATA / "test_files" / name).read_bytes())


ENCODED: dict[str, Callable[[Path], object]] = {
    "RLE, many frames": partial(_shipped, "rtdose_rle.dcm"),
    "JPEG 2000": partial(_shipped, "MR_small_jp2klossless.dcm"),
    "JPEG-LS, lossy": partial(_shipped, "JPEGLSNearLossless_16.dcm"),
    "JPEG, one decoder may be all": partial(_shipped, "SC_rgb_jpeg_gdcm.dcm"),
    "JPEG, colour": partial(_shipped, "SC_rgb_small_odd_jpeg.dcm"),
    "deflated frames": _deflated,
    "deflated file": CASES["deflated"].write,
}


def _restored(done: Archived, destination: Path) -> dict[str, bytes]:
    restore(done.store, destination, done.store.files)
    return contents(destination)


@pytest.mark.parametrize("name", ENCODED)
def test_a_right_view_is_looked_at_again_and_stands(name: str, tmp_path: Path) -> None:
    done = made(tmp_path, ENCODED[name])
    (look,) = verdict(done.store).looks
    assert look is not Look.WRONG
    assert done.receipt.verified["second_look"] == {look.value: 1}
    assert done.receipt.counts["files_as_whole"] == (name == "deflated file")
    assert [f for f in done.receipt.findings if f.code == "view-did-not-verify"] == []
    assert _restored(done, tmp_path / "back") == contents(done.files)


def test_frames_that_come_back_from_the_arrays_need_no_second_look(tmp_path: Path) -> None:
    assert made(tmp_path, slices).receipt.verified["second_look"] == {}


def _far_off(frame: bytes, run: FrameRun) -> tuple[Samples, bool]:
    """Decode with one sample wrong by more than rounding explains."""
    found = decode(frame, run).copy()
    found.reshape(-1)[-1] ^= np.asarray(64, found.dtype)
    return found, True


@pytest.mark.parametrize("name", [name for name in ENCODED if name != "deflated file"])
def test_a_wrong_decode_is_noticed_and_the_file_kept_whole(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # a fault put into the writer's decoder, as a library with a bug would have it
    monkeypatch.setattr(chunk, "seen", _far_off)
    done = made(tmp_path, ENCODED[name])
    assert Finding("view-did-not-verify", ("a.dcm",)) in done.receipt.findings
    assert done.receipt.counts["files_as_whole"] == 1
    assert done.receipt.counts["frames"] == 0
    assert image_paths(done.path) == []
    assert _restored(done, tmp_path / "back") == contents(done.files)


def test_only_the_file_that_was_decoded_wrongly_loses_its_view(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def sometimes(frame: bytes, run: FrameRun) -> tuple[Samples, bool]:
        right = seen(frame, run)
        return _far_off(frame, run) if np.array_equal(right[0][0], FRAMES[1]) else right

    def write(folder: Path) -> None:
        for n in range(3):
            (folder / f"{n}.dcm").write_bytes(deflated_frames(FRAMES[n : n + 1]))

    monkeypatch.setattr(chunk, "seen", sometimes)
    done = made(tmp_path, write)
    assert done.receipt.findings == (Finding("view-did-not-verify", ("1.dcm",)),)
    assert done.receipt.counts["files_as_residue"] == 2
    np.testing.assert_array_equal(planes(done.path, "0"), FRAMES[[0, 2]])
    assert _restored(done, tmp_path / "back") == contents(done.files)


def _second_is_off(by: int, frame: bytes, run: FrameRun, decoder: str = "") -> Samples:
    found = decode(frame, run, decoder)
    highest = np.iinfo(found.dtype.str).max - by
    off: Samples = np.minimum(found, highest) + np.asarray(by, found.dtype)
    return off if decoder else found


def test_a_second_decoder_that_disagrees_is_a_finding_and_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(second, "decode", partial(_second_is_off, 1))
    done = made(tmp_path, ENCODED["RLE, many frames"])
    assert done.receipt.findings == (Finding("decoders-disagree", ("a.dcm",)),)
    assert done.receipt.verified["second_look"] == {"decoders-disagree": 1}
    assert done.receipt.counts["files_as_residue"] == 1
    assert done.receipt.counts["frames"] == 15


@pytest.mark.parametrize(
    ("name", "by", "look"),
    [
        ("JPEG, colour", int(LOSSY_STEPS), Look.AGREES),
        ("JPEG, colour", int(LOSSY_STEPS) + 1, Look.DISAGREES),
        ("JPEG-LS, lossy", 1, Look.DISAGREES),
    ],
)
def test_decoders_may_differ_as_far_as_their_codec_has_them_round(
    name: str, by: int, look: Look, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = made(tmp_path, ENCODED[name])
    monkeypatch.setattr(second, "decode", partial(_second_is_off, by))
    assert verdict(done.store).looks == {look: ("a.dcm",)}


def test_where_there_is_but_one_decoder_it_is_asked_again_and_that_is_told(tmp_path: Path) -> None:
    done = made(tmp_path, _deflated)
    run = read_header(io.BytesIO(deflated_frames())).instance.frames
    assert isinstance(run, FrameRun)
    assert pixels.decoders(run) == ("zlib",)
    assert done.receipt.verified["second_look"] == {"no-second-decoder": 1}
    np.testing.assert_array_equal(planes(done.path, "0"), FRAMES)


@pytest.mark.parametrize("name", ENCODED)
def test_voxels_that_change_beside_the_bytes_are_noticed(name: str, tmp_path: Path) -> None:
    done = made(tmp_path, ENCODED[name])
    array = zarr.open_array(done.path / image_paths(done.path)[0], mode="a")
    voxels: Any = np.asarray(array[...])
    voxels.reshape(-1)[-1] ^= 64
    array[...] = voxels
    assert verdict(done.store).looks == {Look.WRONG: ("a.dcm",)}
    assert differing(done.store) == ("a.dcm",)


def _mixed(folder: Path) -> None:
    (folder / "0.dcm").write_bytes(deflated_frames(FRAMES[:1]))
    (folder / "1.dcm").write_bytes(deflated_frames(FRAMES[:2], said=3))
    (folder / "2.dcm").write_bytes(deflated_frames(np.zeros((1, 2, 2), "u2"), us(0x00280010, 9)))


def test_frames_that_no_decoder_can_read_are_kept_as_they_are_and_said(tmp_path: Path) -> None:
    done = made(tmp_path, _mixed)
    assert done.receipt.findings == (Finding("not-decodable", ("1.dcm", "2.dcm")),)
    assert done.receipt.counts["files_as_residue"] == 3
    assert done.receipt.verified["second_look"] == {"no-second-decoder": 1}
    np.testing.assert_array_equal(planes(done.path, "0"), FRAMES[:1])
    told = json.loads((done.final / "series.json").read_bytes())["files"]
    assert {file["name"]: (file["frames"], file["why"]) for file in told} == {
        "0.dcm": (1, ""),
        "1.dcm": (0, "not-decodable"),
        "2.dcm": (0, "not-decodable"),
    }
    assert _restored(done, tmp_path / "back") == contents(done.files)


def test_a_file_of_which_no_frame_can_be_read_has_no_image(tmp_path: Path) -> None:
    done = made(tmp_path, partial(_deflated, said=9))
    assert done.receipt.counts["images"] == 0
    assert _restored(done, tmp_path / "back") == contents(done.files)


def test_native_and_encoded_slices_of_a_series_make_one_image(tmp_path: Path) -> None:
    import pydicom

    def write(folder: Path) -> None:
        for n in range(3):
            path = folder / f"{n}.dcm"
            write_slice(path, pixels=FRAMES[n], position=(0, 0, 2.0 * n), sop_uid=uid(n))
        made = pydicom.dcmread(path)
        made.compress(pydicom.uid.RLELossless, generate_instance_uid=False)
        made.save_as(path)

    done = made(tmp_path, write)
    assert done.receipt.counts["images"] == 1
    assert done.receipt.counts["files_as_frames"] == 2
    assert done.receipt.verified["second_look"] == {"agrees": 1}
    np.testing.assert_array_equal(planes(done.path, "0"), FRAMES)


def test_a_mosaic_is_seen_as_slices_encoded_or_not(tmp_path: Path) -> None:
    used = FRAMES.copy()
    used[:, 3:, 4:] = 0
    mosaic = Plain(0x00080008, "CS", b"ORIGINAL\\PRIMARY\\M\\MOSAIC "), us(0x0019100A, 3)
    case = PixelCase("native", used)
    native = sorted((*case.elements, *mosaic), key=lambda e: e.tag)
    expected = [m[y : y + 3, x : x + 4] for m in used for y, x in ((0, 0), (0, 4), (3, 0))]
    for name, content in (("encoded", deflated_frames(used, *mosaic)), ("plain", b"")):
        data = content or file_bytes(native)
        done = made(tmp_path / name, partial(_put, data))
        assert done.receipt.findings == ()
        assert done.receipt.counts["frames"] == 9
        np.testing.assert_array_equal(planes(done.path, "0"), expected)
        assert done.receipt.counts["files_as_frames"] == (name == "plain")
        assert _restored(done, tmp_path / name / "back") == contents(done.files)
