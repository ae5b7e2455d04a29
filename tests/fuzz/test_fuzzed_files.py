"""Files that nobody wrote on purpose: a bounded time and memory for each, and the bytes kept."""

from __future__ import annotations

import io
import json
import shutil
import struct
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Final

import pytest
from archive_cases import Archived, archived, contents
from dicom_files import (
    AXIAL,
    BIG,
    DEFLATED,
    EXPLICIT,
    IMPLICIT,
    JPEG,
    PIXEL_CASES,
    UNDEFINED,
    Built,
    Encapsulated,
    Encoding,
    Plain,
    dataset_bytes,
    even,
    file_bytes,
    meta_bytes,
    pydicom_files,
    us,
    write_slice,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from slide_files import MATRIX, Place, places, slide, tiles
from slide_files import content as content_of

from dicomzarr_watch.archive import layout, lines, ome
from dicomzarr_watch.archive.restore import restore
from dicomzarr_watch.dicom.alike import Templates
from dicomzarr_watch.dicom.elements import ELEMENTS_LIMIT
from dicomzarr_watch.dicom.frames import FRAMES_LIMIT, FrameRun, NoFrames
from dicomzarr_watch.dicom.instance import Header, Instance, read_header
from dicomzarr_watch.dicom.model import VALUE_LIMIT_BYTES, ByReference, Elements, of_file
from dicomzarr_watch.dicom.part10 import INFLATED_LIMIT_BYTES
from dicomzarr_watch.dicom.pixels import NotDecodedError, decode
from dicomzarr_watch.dicom.pose import FARTHEST_MM, Pose
from dicomzarr_watch.intake.peek import Peeks
from dicomzarr_watch.kind import Kind

SECONDS_MOST: Final = 5.0
MEMORY_PER_BYTE: Final = 500
"""A number of two characters becomes a Python object; pydicom's take so much."""
MEMORY_AT_LEAST: Final = 4 << 20
SEED_LIMIT_BYTES: Final = 16 << 10

SEQUENCE: Final = 0x00081140
ROWS: Final = 0x00280010
COLUMNS: Final = 0x00280011
FRAMES: Final = 0x00280008
POSITION: Final = 0x00200032
ORIENTATION: Final = 0x00200037


def image(
    *more: Plain,
    pixels: Built | None = None,
    rows: int = 4,
    columns: int = 4,
    encoding: Encoding = EXPLICIT,
) -> bytes:
    """Make a file with an image of 8 bits and these further elements, which win."""
    elements: dict[int, Built] = {
        0x00280004: said(0x00280004, "CS", "MONOCHROME2"),
        ROWS: us(ROWS, rows, encoding),
        COLUMNS: us(COLUMNS, columns, encoding),
        0x00280100: us(0x00280100, 8, encoding),
        0x7FE00010: pixels or Plain(0x7FE00010, "OB", bytes(range(16))),
    }
    elements |= {element.tag: element for element in more}
    return file_bytes([elements[tag] for tag in sorted(elements)], encoding)


def said(tag: int, vr: str, text: str) -> Plain:
    return Plain(tag, vr, even(text.encode("latin-1")))


def nested(depth: int, *, is_undefined: bool) -> bytes:
    """Encode sequences in one another; the builders of elements would need a deep call stack."""
    head = struct.pack("<HH2sH", 0x0008, 0x1140, b"SQ", 0)
    item, end, last = (struct.pack("<HH", 0xFFFE, n) for n in (0xE000, 0xE00D, 0xE0DD))
    if is_undefined:
        unknown = struct.pack("<I", UNDEFINED)
        closed = end + bytes(4) + last + bytes(4)
        return (head + unknown + item + unknown) * depth + closed * depth
    found = b""
    for _ in range(depth):
        inner = item + struct.pack("<I", len(found)) + found
        found = head + struct.pack("<I", len(inner)) + inner
    return found


def bare(dataset: bytes, encoding: Encoding = EXPLICIT) -> bytes:
    """Make a file of a data set that stands already as bytes."""
    return bytes(128) + b"DICM" + meta_bytes(encoding.uid) + dataset


def csa(name: str, *words: bytes) -> Plain:
    """Make a CSA image header of Siemens with the values of one name."""
    found = name.encode().ljust(76, b"\0") + struct.pack("<II", len(words), 77)
    for word in words:
        found += struct.pack("<4I", len(word), len(word), 77, len(word))
        found += word.ljust((len(word) + 3) // 4 * 4, b"\0")
    return Plain(0x00291010, "OB", found)


def encoded(*fragments: bytes) -> Encapsulated:
    return Encapsulated((b"", *(even(f, b"\0") for f in fragments)))


JPEG_2000: Final = Encoding("1.2.840.10008.1.2.4.90")
NO_SIZES: Final = b"\xff\x4f\xff\x51\x00\x29" + b"text where the sizes of the image should be" * 2
RLE: Final = Encoding("1.2.840.10008.1.2.5")
LONG_RUNS: Final = struct.pack("<16I", 2, 64, 66, *[0] * 13) + b"\xf1\x01\x81\x01"
"""Two segments for 16 pixels of 16 bits; the second is of 128 bytes."""

MOSAIC: Final = said(0x00080008, "CS", "ORIGINAL\\PRIMARY\\MOSAIC")
FAR_OFF: Final = (4_000_000, 4_000_000)
FAR: Final = "1e308\\1e308\\1e308"


@dataclass(frozen=True, slots=True)
class Fuzzed:
    """A file with a name, why it has no frames, and what is said of it; empty where it has some."""

    make: Callable[[], bytes]
    why: str = ""
    found: str = ""


def _creators() -> bytes:
    """Encode private creators by the thousand, and one element that breaks all of them."""
    tags = ((0x2001 + 2 * (n // 240) << 16) | 0x10 + n % 240 for n in range(600))
    return nested(1000, is_undefined=True) + dataset_bytes(
        [Plain(tag, "LO") for tag in tags], EXPLICIT
    )


def _items(count: int) -> Plain:
    """Make functional groups for so many frames, all of them empty."""
    item = struct.pack("<HHI", 0xFFFE, 0xE000, 0)
    return Plain(0x52009230, "SQ", item * count)


NAMED: Final = {
    "sequences 1,000 deep": Fuzzed(lambda: bare(nested(1000, is_undefined=False)), "no-pixel-data"),
    "sequences of undefined length 1,000 deep": Fuzzed(
        lambda: bare(nested(1000, is_undefined=True)), "no-pixel-data"
    ),
    "sequences 1,000 deep that never end": Fuzzed(
        lambda: bare(nested(1000, is_undefined=True)[: 1000 * 20]), "truncated"
    ),
    "rows × columns of gigabytes": Fuzzed(
        lambda: image(rows=65535, columns=65535), "frame-too-large"
    ),
    "rows × columns of terabytes": Fuzzed(
        lambda: image(
            said(ROWS, "IS", "2000000"), said(COLUMNS, "IS", "2000000"), pixels=encoded(b"x")
        ),
        "frame-too-large",
    ),
    "rows of 1e300": Fuzzed(lambda: image(said(ROWS, "IS", "1e300")), "frame-too-large"),
    "more pixels than bytes": Fuzzed(lambda: image(rows=5), "pixel-data-too-short"),
    "zero rows": Fuzzed(lambda: image(rows=0), "no-matrix-size"),
    "negative rows": Fuzzed(
        lambda: image(Plain(ROWS, "SS", struct.pack("<h", -4))), "no-matrix-size"
    ),
    "negative columns": Fuzzed(lambda: image(said(COLUMNS, "IS", "-4")), "no-matrix-size"),
    "zero frames": Fuzzed(lambda: image(said(FRAMES, "IS", "0"))),
    "negative frames": Fuzzed(lambda: image(said(FRAMES, "IS", "-1")), "number-of-frames"),
    "frames that are no number": Fuzzed(lambda: image(said(FRAMES, "IS", "x")), "number-of-frames"),
    "2 billion frames": Fuzzed(lambda: image(said(FRAMES, "IS", "2000000000")), "too-many-frames"),
    "2 billion encoded frames": Fuzzed(
        lambda: image(said(FRAMES, "IS", "2000000000"), pixels=encoded(b"x"), encoding=JPEG),
        "too-many-frames",
    ),
    "1e300 encoded frames": Fuzzed(
        lambda: image(said(FRAMES, "IS", "1e300"), pixels=encoded(b"x"), encoding=JPEG),
        "too-many-frames",
    ),
    "more encoded frames than there is room for": Fuzzed(
        lambda: image(said(FRAMES, "IS", "1000"), pixels=encoded(b"x"), encoding=JPEG),
        "pixel-data-too-short",
    ),
    "a mosaic of 16 million slices": Fuzzed(
        lambda: image(
            MOSAIC,
            Plain(0x0019100A, "UL", struct.pack("<I", 4096 * 4096)),
            pixels=encoded(b"x"),
            rows=4096,
            columns=4096,
            encoding=JPEG,
        ),
        "too-many-frames",
    ),
    "a mosaic of ² slices": Fuzzed(
        lambda: image(MOSAIC, csa("NumberOfImagesInMosaic", b"\xb2")), found="mosaic-not-unfolded"
    ),
    "a mosaic of 5,000 digits": Fuzzed(
        lambda: image(MOSAIC, csa("NumberOfImagesInMosaic", b"1" * 5000)),
        found="mosaic-not-unfolded",
    ),
    "fragments in no transfer syntax": Fuzzed(
        lambda: (
            bytes(128)
            + b"DICM"
            + meta_bytes(None)
            + image(pixels=encoded(bytes(16)))[132 + len(meta_bytes(EXPLICIT.uid)) :]
        ),
        "encapsulated",
    ),
    "fragments in a native transfer syntax": Fuzzed(
        lambda: image(pixels=encoded(bytes(16))), "encapsulated"
    ),
    "fragments in a deflated data set": Fuzzed(
        lambda: image(pixels=encoded(bytes(16)), encoding=DEFLATED), "encapsulated"
    ),
    "fragments of 4 GB": Fuzzed(
        lambda: image(pixels=encoded(b"x"), encoding=JPEG).replace(
            b"\xfe\xff\x00\xe0\x02\0\0\0", b"\xfe\xff\x00\xe0\xfe\xff\xff\xff"
        ),
        "truncated",
    ),
    "a frame that is no JPEG": Fuzzed(
        lambda: image(pixels=encoded(b"no image"), encoding=JPEG), "not-decodable"
    ),
    "a JPEG 2000 frame that ends the process in GDCM": Fuzzed(
        lambda: image(pixels=encoded(NO_SIZES), encoding=JPEG_2000), "not-decodable"
    ),
    "runs that go on behind the last pixel": Fuzzed(
        lambda: image(us(0x00280100, 16), pixels=encoded(LONG_RUNS), encoding=RLE),
        found="first-decoder-failed",
    ),
    "zeros where elements should be": Fuzzed(
        lambda: bare(dataset_bytes([us(ROWS, 4, IMPLICIT)], IMPLICIT) + bytes(600_000), IMPLICIT),
        "malformed",
    ),
    "a deflated megabyte of zeros": Fuzzed(
        lambda: file_bytes([Plain(0x00091001, "OB", bytes(1 << 20))], DEFLATED), "no-pixel-data"
    ),
    "what does not inflate": Fuzzed(lambda: bare(b"\xff" * 100, DEFLATED), "malformed"),
    "private creators by the thousand": Fuzzed(lambda: bare(_creators()), "no-pixel-data"),
    "functional groups by the thousand": Fuzzed(lambda: image(_items(500))),
    "numbers by the thousand": Fuzzed(
        lambda: file_bytes([said(0x3004000C, "DS", "1\\" * 10_000 + "1")]), "no-pixel-data"
    ),
    "numbers by the hundred thousand": Fuzzed(
        lambda: file_bytes([said(0x3004000C, "DS", "1\\" * VALUE_LIMIT_BYTES)], IMPLICIT),
        "no-pixel-data",
    ),
    "a place beyond all numbers": Fuzzed(
        lambda: image(said(POSITION, "DS", FAR), said(ORIENTATION, "DS", "1\\0\\0\\0\\1\\0"))
    ),
    "a direction beyond all numbers": Fuzzed(
        lambda: image(said(POSITION, "DS", "0\\0\\0"), said(ORIENTATION, "DS", f"{FAR}\\{FAR}"))
    ),
    "a direction of no length": Fuzzed(
        lambda: image(said(POSITION, "DS", "0\\0\\0"), said(ORIENTATION, "DS", "0\\0\\0\\0\\0\\0"))
    ),
    "distances beyond all numbers": Fuzzed(
        lambda: image(
            said(0x00180050, "DS", "1e308"),
            said(0x00180088, "DS", "1e308"),
            said(0x00280030, "DS", "1e308\\1e308"),
        )
    ),
    "not a number": Fuzzed(
        lambda: image(said(POSITION, "DS", "nan\\inf\\-inf"), said(0x00281053, "DS", "nan"))
    ),
    "one tile of terabytes": Fuzzed(
        lambda: content_of(slide(tiles(1), [Place(1, 1)], matrix=FAR_OFF, sop_uid="1.2.3"))
    ),
    "nothing behind the preamble": Fuzzed(lambda: bytes(128) + b"DICM", "no-pixel-data"),
}


def bounded(content: bytes) -> Header:
    """Read a header within the time and the memory that a file of its size may take."""
    start = time.process_time()
    headed(content)
    assert time.process_time() - start < SECONDS_MOST
    tracemalloc.start()  # slows everything down: the time is taken without it
    try:
        header = headed(content)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    size = max(len(content), len(header.part10.inflated or b""))
    assert peak < MEMORY_AT_LEAST + MEMORY_PER_BYTE * size
    return header


def place(value: ByReference) -> str:
    return f"{value.start},{value.end - value.start}"


def neighbours(instance: Instance) -> list[Instance]:
    """Return three slices of the same kind, at places that are true."""
    pose = instance.poses[0] if instance.poses else Pose()
    places = [replace(pose, orientation=AXIAL, position=(0.0, 0.0, 2.5 * n)) for n in range(3)]
    return [replace(instance, poses=(p,)) for p in places]


def headed(content: bytes) -> Header:
    """Do all that comes before a file is written, and check what holds for every file."""
    header = read_header(io.BytesIO(content))
    instance = header.instance
    elements = Elements()
    elements.add(header)
    json.loads(lines.as_json(elements.document([0], place)))
    lengths = instance.head_bytes, instance.pixel_bytes, instance.tail_bytes
    assert min(lengths) >= 0
    assert sum(lengths) == len(content)
    run = instance.frames
    if isinstance(run, FrameRun) and run.count <= 1000:
        plan = layout.plan([*neighbours(instance), instance])
        assert len(plan.planes[3]) == run.count
        for planned in plan.images:
            attributes = lines.as_json(ome.image_attributes(planned))
            assert b'"NaN"' not in attributes
            assert b'inf"' not in attributes
    return header


def reason(frames: FrameRun | NoFrames) -> str:
    return frames.reason if isinstance(frames, NoFrames) else ""


def convert_with_a_good_slice(content: bytes, folder: Path) -> Archived:
    """Archive a fuzzed file with a good one beside it, and check that both come back."""
    write_slice(folder / "files" / "good.dcm")
    (folder / "files" / "fuzzed.dcm").write_bytes(content)
    done = archived(folder / "files", folder / "output")
    restore(done.store, folder / "back", done.store.files)
    assert contents(folder / "back") == contents(done.files)
    return done


@pytest.mark.parametrize("name", NAMED)
def test_a_strange_file_costs_little_and_its_header_is_read(name: str, tmp_path: Path) -> None:
    content = NAMED[name].make()
    header = bounded(content)
    if NAMED[name].why != "not-decodable":
        assert reason(header.instance.frames) == NAMED[name].why
    (tmp_path / "a.dcm").write_bytes(content)
    assert Peeks()(tmp_path / "a.dcm").kind is Kind.DICOM


@pytest.mark.parametrize("name", NAMED)
def test_promise_4_a_strange_file_comes_back_and_is_spoken_of(name: str, tmp_path: Path) -> None:
    case = NAMED[name]
    done = convert_with_a_good_slice(case.make(), tmp_path)
    series = json.loads((done.final / layout.SERIES_JSON).read_bytes())
    told = {file["name"]: file["why"] for file in series["files"]}
    assert told == {"fuzzed.dcm": case.why, "good.dcm": ""}
    found = {f.code for f in done.receipt.findings if "fuzzed.dcm" in f.files}
    assert found == {case.why, case.found} - {"", "no-pixel-data"}


def test_a_file_has_no_more_elements_than_a_person_would_believe() -> None:
    content = bare(bytes(8) * (ELEMENTS_LIMIT + 1), IMPLICIT)
    part10 = read_header(io.BytesIO(content)).part10
    assert part10.problem == "malformed"
    fewer = read_header(io.BytesIO(content[:-8])).part10
    assert fewer.problem == ""


def test_a_decoder_that_panics_is_one_that_cannot_read_the_frame() -> None:
    content = image(us(0x00280100, 16), pixels=encoded(LONG_RUNS), encoding=RLE)
    run = read_header(io.BytesIO(content)).instance.frames
    assert isinstance(run, FrameRun)
    with pytest.raises(NotDecodedError, match="PanicException"):
        decode(LONG_RUNS, run, "pylibjpeg")


def test_a_data_set_that_inflates_without_end_is_kept_as_it_is() -> None:
    size = INFLATED_LIMIT_BYTES
    content = file_bytes([Plain(0x00091001, "OB", bytes(size))], DEFLATED)
    assert len(content) < size // 500
    header = read_header(io.BytesIO(content))
    assert reason(header.instance.frames) == "inflated-too-large"
    assert (header.instance.head_bytes, header.instance.pixel_bytes) == (0, len(content))


@pytest.mark.parametrize(("more", "why"), [(0, ""), (1, "too-many-frames")])
def test_a_file_has_no_more_frames_than_have_a_place_in_memory(more: int, why: str) -> None:
    count = FRAMES_LIMIT + more
    pixels = Plain(0x7FE00010, "OB", bytes(count + count % 2))
    content = image(said(FRAMES, "IS", str(count)), pixels=pixels, rows=1, columns=1)
    assert reason(read_header(io.BytesIO(content)).instance.frames) == why


@pytest.mark.parametrize("far", [FARTHEST_MM * 1.1, -FARTHEST_MM * 1.1])
@pytest.mark.parametrize("tag", [POSITION, ORIENTATION])
def test_numbers_that_no_patient_has_are_no_geometry(tag: int, far: float) -> None:
    axial = "1\\0\\0\\0\\1\\0"
    near = {POSITION: "1\\2\\3", ORIENTATION: axial}
    elements = [
        said(t, "DS", f"{far}\\{text[2:]}" if t == tag else text) for t, text in near.items()
    ]
    (pose,) = headed(image(*elements)).instance.poses
    assert (pose.position is None) is (tag == POSITION)
    assert (pose.orientation is None) is (tag == ORIENTATION)


def _seeds() -> tuple[bytes, ...]:
    small = [p.read_bytes() for p in pydicom_files() if p.stat().st_size < SEED_LIMIT_BYTES]
    built = [case.content for case in PIXEL_CASES]
    slides = [
        slide(tiles(), places()),
        slide(tiles(18), paths=("A", "B")),
        slide(tiles(2), [Place(1, 1, z_mm="1"), Place(1, 1, z_mm="2")]),
        slide(tiles(1), places()[:1], matrix=(2**32 - 1, 2**32 - 1)),
        slide(tiles(5), ConcatenationUID="1.2", ConcatenationFrameOffsetNumber=3, matrix=MATRIX),
    ]
    named = [case.make() for case in NAMED.values()]
    built += [content_of(one) for one in slides]
    return (*small, *built, *(content for content in named if len(content) < SEED_LIMIT_BYTES))


SEEDS: Final = _seeds()
LENGTHS: Final = (UNDEFINED, 0xFFFFFFFE, 0x7FFFFFFF, 0x80000000, 0)
SPLICED: Final = (
    *(us(tag, n) for tag in (ROWS, COLUMNS, 0x00280002) for n in (0, 1, 0xFFFF)),
    *(said(FRAMES, "IS", n) for n in ("0", "-1", "99999999", "1e99")),
    *(said(tag, "DS", FAR) for tag in (POSITION, ORIENTATION, 0x00280030)),
    MOSAIC,
    csa("NumberOfImagesInMosaic", b"9"),
    csa("SliceNormalVector", b"nan", b"1e308", b"-1e308"),
    encoded(b"\xff\xd8\xff\xd9"),
    _items(3),
)
Mutation = Callable[[bytes], bytes]


def _flipped(at: float, bit: int) -> Mutation:
    def mutate(content: bytes) -> bytes:
        place = int(at * (len(content) - 1))
        return content[:place] + bytes([content[place] ^ 1 << bit]) + content[place + 1 :]

    return mutate


def _cut(at: float) -> Mutation:
    return lambda content: content[: max(132, int(at * len(content)))]


def _overwritten(at: float, length: int, order: str) -> Mutation:
    def mutate(content: bytes) -> bytes:
        place = int(at * (len(content) - 4))
        return content[:place] + struct.pack(order + "I", length) + content[place + 4 :]

    return mutate


def _spliced(at: float, element: bytes) -> Mutation:
    def mutate(content: bytes) -> bytes:
        place = 132 + int(at * (len(content) - 132))
        return content[:place] + element + content[place:]

    return mutate


def _crossed(at: float, other: bytes, behind: float) -> Mutation:
    def mutate(content: bytes) -> bytes:
        return content[: max(132, int(at * len(content)))] + other[int(behind * len(other)) :]

    return mutate


PLACES = st.floats(0, 1)
ELEMENTS = st.builds(
    lambda element, encoding: dataset_bytes([element], encoding),
    st.sampled_from(SPLICED),
    st.sampled_from([EXPLICIT, IMPLICIT, BIG]),
)
MUTATIONS = st.one_of(
    st.builds(_flipped, PLACES, st.integers(0, 7)),
    st.builds(_cut, PLACES),
    st.builds(_overwritten, PLACES, st.sampled_from(LENGTHS), st.sampled_from("<>")),
    st.builds(_spliced, PLACES, ELEMENTS),
    st.builds(_crossed, PLACES, st.sampled_from(SEEDS), PLACES),
)


@st.composite
def generations(draw: st.DrawFn) -> list[bytes]:
    """Draw a file, and what becomes of it by one mutation after the other."""
    found = [draw(st.sampled_from(SEEDS))]
    for mutate in draw(st.lists(MUTATIONS, min_size=1, max_size=4)):
        found.append(mutate(found[-1]))
    return found


def fuzzed_files() -> st.SearchStrategy[bytes]:
    """Draw a file with a few mutations."""
    return generations().map(lambda found: found[-1])


@settings(max_examples=250)
@given(content=fuzzed_files())
def test_no_header_raises(content: bytes) -> None:
    headed(content)


def hexed(content: bytes) -> Callable[[ByReference], str]:
    return lambda v: content[v.start : v.end].hex()


@settings(max_examples=100)
@given(found=generations(), order=st.randoms(use_true_random=False))
def test_files_that_are_alike_are_read_as_each_is_read_alone(
    found: list[bytes], order: Random
) -> None:
    contents = [*found, *found]
    order.shuffle(contents)
    templates, together = Templates(), Elements()
    singles = []
    for content in contents:
        alone = read_header(io.BytesIO(content))
        header = read_header(io.BytesIO(content), templates)
        assert replace(header, cut=()) == alone
        together.add(header)
        own = Elements()
        own.add(alone)
        singles.append(own.document([0], hexed(content)))
    document = together.document(
        range(len(contents)), lambda v: contents[v.file][v.start : v.end].hex()
    )
    for n, single in enumerate(singles):
        assert json.dumps(of_file(document, n)) == json.dumps(single["shared"])


@settings(max_examples=40)
@given(content=fuzzed_files())
def test_no_header_takes_much_memory_or_time(content: bytes) -> None:
    bounded(content)


@settings(max_examples=10)
@given(content=fuzzed_files())
def test_promise_4_every_fuzzed_file_comes_back_beside_a_good_one(content: bytes) -> None:
    folder = Path(tempfile.mkdtemp())
    try:
        convert_with_a_good_slice(content, folder)
    finally:
        shutil.rmtree(folder)
