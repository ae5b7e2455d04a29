"""Series to archive: one table of them, and what it takes to convert and to look at them."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pydicom
import slide_files
import zarr
from dicom_files import (
    BIG,
    DEFLATED,
    IMPLICIT,
    PIXEL_CASES,
    PYDICOM_DATA,
    PixelCase,
    Plain,
    decimals,
    file_bytes,
    slice_dataset,
    write_series,
    write_slice,
)
from pydicom.dataset import Dataset
from pydicom.uid import PositronEmissionTomographyImageStorage

from dicomzarr_watch.archive.convert import convert
from dicomzarr_watch.archive.document import Receipt
from dicomzarr_watch.archive.layout import STORE_NAME
from dicomzarr_watch.archive.reader import Store
from dicomzarr_watch.archive.work import Source, Work
from dicomzarr_watch.identity import Identity

FIRST_MTIME_NS: Final = 1_234_567_890_123_456_789
Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Case:
    """A series: how its files are made, and how many frames and images are to be seen in it.

    stored: the samples of its only file, where they are known without reading it. missing: tiles
    that no file has.
    """

    write: Callable[[Path], object]
    frames: int
    images: int = 1
    stored: Array | None = None
    missing: int = 0


def noise(*shape: int, seed: int = 0, below: int = 4096) -> npt.NDArray[np.uint16]:
    """Make samples without order."""
    return np.random.default_rng(seed).integers(0, below, shape, np.uint16)


def uid(number: int) -> str:
    """Return a UID that is the same every time."""
    return f"1.2.826.0.1.3680043.8.498.1.{number}"


def slices(folder: Path, count: int = 3, size: int = 8, **keywords: Any) -> None:
    """Write a series whose names are in the opposite order of z."""
    for n in range(count):
        own: dict[str, Any] = {"instance_number": n + 1, "sop_uid": uid(n)}
        own |= {"pixels": noise(size, size, seed=n), "position": (0.0, 0.0, 2.5 * n)}
        write_slice(folder / f"{count - n:03}.dcm", **(own | keywords))


def enhanced(places_mm: Sequence[float], **keywords: Any) -> Dataset:
    """Make one file with a frame at each of these places along z."""
    made = slice_dataset(position=None, sop_uid=uid(0), **keywords)
    made.NumberOfFrames = len(places_mm)
    made.PixelData = noise(len(places_mm), made.Rows, made.Columns).tobytes()
    made.PerFrameFunctionalGroupsSequence = []
    for place in places_mm:
        position, groups = Dataset(), Dataset()
        position.ImagePositionPatient = decimals([0, 0, place])
        groups.PlanePositionSequence = [position]
        made.PerFrameFunctionalGroupsSequence.append(groups)
    return made


def _one(content: bytes, folder: Path) -> None:
    (folder / "a.dcm").write_bytes(content)


def _copied(name: str, folder: Path) -> None:
    (folder / name).write_bytes((PYDICOM_DATA / "test_files" / name).read_bytes())


def _out_of_order(folder: Path) -> None:
    pydicom.dcmwrite(folder / "a.dcm", enhanced([5.0, 0.0, 7.5, 2.5]), enforce_file_format=True)


def _unused_bits(folder: Path) -> None:
    """Overlays once stood in the bits above the stored ones; here they do in one file of three."""
    slices(folder, 2, BitsStored=12, HighBit=11)
    busy = noise(8, 8, seed=9) | np.uint16(0x9000)
    keywords: dict[str, Any] = {"position": (0, 0, 9), "sop_uid": uid(9)}
    write_slice(folder / "0.dcm", pixels=busy, BitsStored=12, HighBit=11, **keywords)


def _trailing(folder: Path) -> None:
    """Pixels of odd length, the byte that pads them, an element behind, and what is none."""
    odd = next(case for case in PIXEL_CASES if case.name == "8 bit, odd")
    padding = Plain(0xFFFCFFFC, "OB", bytes(6))
    (folder / "a.dcm").write_bytes(file_bytes([*odd.elements, padding]))
    (folder / "b.dcm").write_bytes(odd.content + b"not an element")


def _moments(folder: Path) -> None:
    for n in range(6):
        place, moment = divmod(n, 2)
        write_slice(
            folder / f"{n}.dcm",
            pixels=noise(5, 4, seed=n),
            position=(0.0, 0.0, 4.0 * place),
            instance_number=n,
            sop_uid=uid(n),
            TemporalPositionIdentifier=moment + 1,
        )


def pet(folder: Path, **keywords: Any) -> None:
    """Write slices of activity that is corrected to the time of the injection."""
    dose = Dataset()
    dose.RadionuclideTotalDose = "350000000"
    facts: dict[str, Any] = {
        "SOPClassUID": PositronEmissionTomographyImageStorage,
        "Modality": "PT",
        "Units": "BQML",
        "CorrectedImage": ["ATTN", "DECY"],
        "DecayCorrection": "ADMN",
        "PatientWeight": "70",
        "RescaleSlope": "0.5",
        "RescaleIntercept": "0",
        "RadiopharmaceuticalInformationSequence": [dose],
    }
    slices(folder, **(facts | keywords))


def _mixed_sizes(folder: Path) -> None:
    slices(folder / "small", 2, size=4)
    slices(folder / "large", 3, size=7)


def _truncated(folder: Path) -> None:
    slices(folder)
    path = folder / "002.dcm"
    path.write_bytes(path.read_bytes()[:-11])


def _report(folder: Path) -> None:
    """No pixels, and a private value that is too long to stand in series.json."""
    made = pydicom.dcmread(PYDICOM_DATA / "test_files" / "test-SR.dcm")
    made.private_block(0x0099, "ACME", create=True).add_new(0x01, "OB", bytes(range(256)) * 8)
    pydicom.dcmwrite(folder / "a.dcm", made, enforce_file_format=True)


def _strange_names(folder: Path) -> None:
    names = ["sub/deeper/ä.dcm", "new\nline", os.fsdecode(b"\xff\xfe.dcm"), "~1", " a  b "]
    for n, name in enumerate(names):
        write_slice(folder / name, position=(0.0, 0.0, n), sop_uid=uid(n))


def _twins(folder: Path) -> None:
    slices(folder, 2)
    (folder / "twin.dcm").write_bytes((folder / "001.dcm").read_bytes())


def _not_only_frames(folder: Path) -> None:
    slices(folder)
    (folder / "bare.dcm").write_bytes(bytes(128) + b"DICM")
    (folder / "empty").write_bytes(b"")
    (folder / "notes.txt").write_bytes(b"no DICOM at all\n" * 20)


def _slide(folder: Path, *, of: Callable[..., Dataset] = slide_files.slide, **facts: Any) -> None:
    slide_files.write(of(**facts), folder / "a.dcm")


def _pyramid(folder: Path) -> None:
    """Two levels and a label, the larger level in two files."""
    tiles = slide_files.tiles(colours=3)
    level: dict[str, Any] = {"ConcatenationUID": uid(90)}
    for n, (start, end) in enumerate([(5, 9), (0, 5)]):
        part = slide_files.slide(
            tiles[start:end], ConcatenationFrameOffsetNumber=start, sop_uid=uid(n), **level
        )
        slide_files.write(part, folder / f"{n}.dcm")
    small = slide_files.slide(tiles[:2], matrix=(4, 7), sop_uid=uid(2))
    slide_files.write(small, folder / "2.dcm")
    label: dict[str, Any] = {"DimensionOrganizationType": None, "sop_uid": uid(3)}
    label["ImageType"] = ["ORIGINAL", "PRIMARY", "LABEL", "NONE"]
    slide_files.write(slide_files.slide(tiles[:1], matrix=(50, 60), **label), folder / "3.dcm")


def _bits(*shape: int) -> npt.NDArray[np.uint8]:
    return noise(*shape, below=2).astype(np.uint8)


_MORE_PIXELS: Final = (
    PixelCase("1 bit, room for a frame that is none", _bits(5, 1, 5), bits=1, vr="OB"),
    PixelCase("1 bit, many frames", _bits(37, 3, 3), bits=1, vr="OB"),
)

_TILES: Final = slide_files.tiles()
_COLOUR_TILES: Final = slide_files.tiles(colours=3)
_PLACES: Final = slide_files.places()
_ORDER: Final = (8, 2, 0, 5, 3)

SLIDES: Final = {
    "slide": Case(partial(_slide, frames=_TILES), 9),
    "slide, big endian": Case(
        partial(_slide, frames=slide_files.tiles(dtype="u2"), syntax=BIG.uid), 9
    ),
    "slide, colour": Case(partial(_slide, frames=_COLOUR_TILES), 9),
    "slide, planar": Case(
        partial(_slide, frames=_COLOUR_TILES.reshape(9, 3, *slide_files.TILE)), 9
    ),
    "slide, out of order, with missing tiles": Case(
        partial(_slide, frames=_COLOUR_TILES[:5], at=[_PLACES[n] for n in _ORDER]), 5, missing=4
    ),
    "slide, paths and focal planes": Case(
        partial(
            _slide,
            frames=slide_files.tiles(36),
            paths=("A", "B"),
            TotalPixelMatrixFocalPlanes=2,
        ),
        36,
        images=4,
    ),
    "slide, segments of one bit": Case(
        partial(
            _slide, of=slide_files.segmentation, frames=slide_files.tiles(18) % 2, segments=[1, 2]
        ),
        18,
        images=2,
        stored=slide_files.tiles(18) % 2,
    ),
    "slide, overlapping tiles": Case(
        partial(_slide, frames=slide_files.tiles(10), at=[*_PLACES, _PLACES[0]]), 10
    ),
    "slide, too many frames": Case(partial(_slide, frames=slide_files.tiles(10)), 10),
    "slide, JPEG": Case(partial(_slide, of=slide_files.jpeg_slide, frames=_COLOUR_TILES), 9),
    "slide, pyramid": Case(_pyramid, 12, images=3),
}

CASES: Final = {
    **SLIDES,
    **{
        case.name: Case(partial(_one, case.content), len(case.frames), stored=case.frames)
        for case in (*PIXEL_CASES, *_MORE_PIXELS)
    },
    "series": Case(slices, 3),
    "PET": Case(pet, 3),
    "series, implicit": Case(partial(slices, syntax=IMPLICIT.uid), 3),
    "series, big endian": Case(partial(slices, syntax=BIG.uid), 3),
    "series, all zero": Case(partial(write_series, count=1, pixels=np.zeros((4, 4), np.uint16)), 1),
    "frames out of order": Case(_out_of_order, 4),
    "unused bits carry data": Case(_unused_bits, 3),
    "odd, padded and trailed": Case(_trailing, 6, images=2),
    "moments": Case(_moments, 6),
    "mixed sizes": Case(_mixed_sizes, 5, images=2),
    "truncated": Case(_truncated, 2),
    "one instance under two names": Case(_twins, 3, images=2),
    "strange names": Case(_strange_names, 5),
    "not only frames": Case(_not_only_frames, 3),
    "report": Case(_report, 0, images=0),
    "deflated": Case(
        partial(_one, file_bytes(PIXEL_CASES[0].elements, DEFLATED)),
        1,
        stored=PIXEL_CASES[0].frames,
    ),
    "nothing but a preamble": Case(partial(_one, bytes(128) + b"DICM"), 0, images=0),
    "not one byte": Case(partial(_one, b""), 0, images=0),
    **{
        name: Case(partial(_copied, name), frames, images=min(frames, 1))
        for name, frames in {
            "JPEG2000.dcm": 1,
            "JPEGLSNearLossless_16.dcm": 1,
            "MR_small_RLE.dcm": 1,
            "MR_small_padded.dcm": 1,
            "MR_truncated.dcm": 0,
            "SC_rgb_rle_16bit_2frame.dcm": 2,
            "SC_rgb_small_odd_jpeg.dcm": 1,
            "rtplan.dcm": 0,
        }.items()
    },
}


def sources(folder: Path) -> tuple[Source, ...]:
    """Return all files below a folder as they are found there."""
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    return tuple(Source(str(p.relative_to(folder)), p, Identity.of(p.stat())) for p in found)


def contents(folder: Path) -> dict[str, bytes]:
    """Return all files below a folder by name."""
    return {source.name: source.path.read_bytes() for source in sources(folder)}


@dataclass(frozen=True, slots=True)
class Archived:
    """A series that has been converted: its files and what came of them."""

    files: Path
    receipt: Receipt
    final: Path

    @property
    def path(self) -> Path:
        return self.final / STORE_NAME

    @property
    def store(self) -> Store:
        return Store(self.path)


def archived(files: Path, output: Path, **options: Any) -> Archived:
    """Convert all files of a folder; the options are those of `Work`."""
    receipt = convert(Work("drop", sources(files), output, **options))
    return Archived(files, receipt, output / "drop" / receipt.folder)


def made(folder: Path, write: Callable[[Path], object], **options: Any) -> Archived:
    """Write a series, every file with a time of its own, and convert it."""
    files = folder / "files"
    files.mkdir(parents=True)
    write(files)
    for n, source in enumerate(sources(files)):
        os.utime(source.path, ns=(FIRST_MTIME_NS + n, FIRST_MTIME_NS + n))
    return archived(files, folder / "output", **options)


def image_paths(store: Path) -> list[str]:
    """Return the paths of the image arrays, from the metadata alone."""
    own: Any = zarr.open_group(store, mode="r").attrs["dicomzarr"]
    return ["0"] if "format" in own else [f"{n}/0" for n in range(own["images"])]


def planes(store: Path, path: str) -> Array:
    """Read an image by zarr-python alone; (planes, y, x) or (planes, y, x, samples)."""
    array: Any = zarr.open_array(store / path, mode="r")
    axes = array.metadata.dimension_names
    values = np.asarray(array[...])
    if "c" in axes:
        values = np.moveaxis(values, axes.index("c"), -1)
    samples = values.shape[-1:] if "c" in axes else ()
    if "z" in axes:
        height, width = array.shape[-2:]
        return values.reshape(-1, height, width, *samples)
    rows, columns = array.chunks[-2:]
    return np.stack(
        [
            values[y : y + rows, x : x + columns]
            for y in range(0, len(values), rows)
            for x in range(0, values.shape[1], columns)
        ]
    )


def chunk_files(store: Path) -> Iterator[Path]:
    """Return the files of a store that are not metadata."""
    found = (path for path in sorted(store.rglob("*")) if path.is_file())
    return (path for path in found if path.suffix not in (".json", ".xml"))


@contextmanager
def files_end_at(size: int) -> Iterator[None]:
    """Have the system cut short the write that crosses this size, and refuse the next."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
