"""Where everything of a series stands in its store: decided here, before a byte is written.

Arrays have the axes (t, c,) z, y, x; t only if there are moments, c only if there are samples.
Frames that are tiles have (c,) y, x, each at its place. An inner chunk is one frame, its bytes as
in the file. Shards bound the number of files. The files' rows stand in the order of their planes,
so that writing and reading go straight through.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from dicomzarr_watch.dicom.frames import FrameRun, PixelFormat
from dicomzarr_watch.dicom.grouping import Frame
from dicomzarr_watch.dicom.instance import Instance, SeriesFacts
from dicomzarr_watch.dicom.pose import Pose
from dicomzarr_watch.dicom.stacks import Image, stack
from dicomzarr_watch.dicom.tiles import Tiling

STORE_VERSION: Final = 1
STORE_NAME: Final = "series.zarr"
SERIES_JSON: Final = "series.json"
DONE_JSON: Final = "done.json"
DICOM_GROUP: Final = "dicom"
SHARD_BYTES: Final = 64 << 20
SHARD_PLANES: Final = 1 << 16
"""Whoever reads one plane reads the shard's index first: 16 bytes for each."""
BLOB_CHUNK_BYTES: Final = 4 << 20
"""Who wants one file's header decompresses a chunk; what repeats does so within less of it."""
INDEX_COLUMNS: Final = (
    "header_offset",
    "head_bytes",
    "tail_bytes",
    "pixel_bytes",
    "residue_offset",
    "first_frame",
    "frame_count",
    "mtime_ns",
)
"""A file is head + pixels + tail. Head and tail follow each other in `headers`; the pixels are
`residue` from residue_offset on, or, where that is -1, the frames with their view undone."""

ORIGINALS: Final = "original_sha256"
"""SHA-256 of the files that came in, where some stand in the store with their pixels alone."""

FRAME_COLUMNS: Final = ("image", "plane")
"""plane: t * z_count + z; of tiles, the number of the tile, row by row."""


@dataclass(frozen=True, slots=True)
class ImagePlan:
    """One image and its array; shapes in the array's axes.

    contrast: the stored values that a viewer shows as darkest and brightest at first.
    """

    group: str
    path: str
    image: Image
    contrast: tuple[float, float] = (0.0, 1.0)

    @property
    def axes(self) -> tuple[str, ...]:
        samples = ("c",) * (self.image.format.samples > 1)
        if self.image.grid:
            return (*samples, "y", "x")
        return ("t",) * (self.image.shape[0] > 1) + (*samples, "z", "y", "x")

    @property
    def shape(self) -> tuple[int, ...]:
        return self._in_axes(*self.image.shape)

    @property
    def chunk(self) -> tuple[int, ...]:
        return self._in_axes(1, 1)

    @property
    def shard_planes(self) -> tuple[int, int]:
        """How many planes a shard holds along each of `_grid`: part of a line, or whole lines."""
        lines, line = self.image.shape
        room = max(1, min(SHARD_BYTES // self.image.format.view_bytes, SHARD_PLANES))
        if line > room:
            return 1, room
        return min(lines, room // line), line

    @property
    def shard(self) -> tuple[int, ...]:
        return self._in_axes(*self.shard_planes)

    @property
    def transpose(self) -> tuple[int, ...] | None:
        """The codec's order that keeps interleaved samples as they stand in the file."""
        if self.image.format.samples == 1 or self.image.format.is_planar:
            return None
        at = self.axes.index("c")
        return (*(i for i in range(len(self.axes)) if i != at), at)

    def shard_of(self, plane: int) -> tuple[str, int]:
        """Return the shard's file name and the number of the plane's chunk in it."""
        line, place = divmod(plane, self.image.shape[1])
        lines, places = self.shard_planes
        at = dict(zip(self._grid, (line // lines, place // places), strict=True))
        name = ".".join(["c", *(str(at.get(a, 0)) for a in self.axes)])
        return name, line % lines * places + place % places

    def planes_in(self, name: str) -> int:
        """Return how many planes of the image stand in the shard of this name."""
        at = dict(zip(self.axes, map(int, name.split(".")[1:]), strict=True))
        (lines, line), (held_lines, held) = self.image.shape, self.shard_planes
        first_line, first = at.get(self._grid[0], 0) * held_lines, at[self._grid[1]] * held
        # a part of a line, or whole lines: the planes of a shard follow each other
        start = first_line * line + first
        end = start + min(held, line - first) + (min(held_lines, lines - first_line) - 1) * line
        planes = self.image.planes
        return bisect_left(planes, end) - bisect_left(planes, start)

    @property
    def _grid(self) -> tuple[str, str]:
        """The axes along which frames stand, the slower one first."""
        return ("y", "x") if self.image.grid else ("t", "z")

    def _in_axes(self, lines: int, places: int) -> tuple[int, ...]:
        """Return the shape of so many frames along each of `_grid`."""
        pixels = self.image.format
        sizes = {"t": 1, "c": pixels.samples, "z": 1, "y": pixels.rows, "x": pixels.columns}
        for axis, count in zip(self._grid, (lines, places), strict=True):
            sizes[axis] *= count
        return tuple(sizes[a] for a in self.axes)


@dataclass(frozen=True, slots=True)
class Plan:
    """The images and, in the order of the rows, the files.

    files: numbers of the instances. planes: per instance, (image, plane) of each of its frames.
    """

    images: tuple[ImagePlan, ...]
    files: tuple[int, ...]
    planes: dict[int, tuple[tuple[int, int], ...]]


def plan(instances: Sequence[Instance], copies: Mapping[int, int] | None = None) -> Plan:
    """Lay out a series; copies: which copy of the same bytes a file is, where it is not the first.

    Copies make images of their own, so that an instance under two names is one slice of its volume.
    """
    images = stack(_frames(instances, copies or {}))
    is_single = len(images) == 1
    plans = tuple(
        ImagePlan(
            "" if is_single else str(n),
            "0" if is_single else f"{n}/0",
            image,
            _contrast(instances[image.frames[0].file], image.frames[0].pose, image.format),
        )
        for n, image in enumerate(images)
    )
    found: dict[int, dict[int, tuple[int, int]]] = {}
    for n, image in enumerate(images):
        for plane, frame in zip(image.planes, image.frames, strict=True):
            found.setdefault(frame.file, {})[frame.number] = (n, plane)
    planes = {file: tuple(at[k] for k in sorted(at)) for file, at in found.items()}
    nowhere = ((len(images), 0),)
    files = sorted(range(len(instances)), key=lambda i: (planes.get(i, nowhere)[0], i))
    return Plan(plans, tuple(files), planes)


def _frames(instances: Sequence[Instance], copies: Mapping[int, int]) -> list[Frame]:
    found: list[Frame] = []
    for number, instance in enumerate(instances):
        if not isinstance(instance.frames, FrameRun):
            continue
        poses = instance.poses or (Pose(),)
        tiling = instance.tiling if isinstance(instance.tiling, Tiling) else None
        for k in range(instance.frames.count):
            frame = Frame(
                number,
                k,
                instance.frames.format,
                poses[k] if len(poses) == instance.frames.count else poses[0],
                copies.get(number, 0),
                tiling.grid if tiling else None,
                tiling.tiles[k] if tiling else 0,
            )
            found.append(frame)
    return found


def _contrast(instance: Instance, pose: Pose, pixel_format: PixelFormat) -> tuple[float, float]:
    """Return the window in stored values (PS3.3 C.11.2.1.2), or all that could be stored."""
    slope, intercept = pose.rescale or instance.rescale or (1.0, 0.0)
    center, width = pose.window or instance.window or (0.0, 0.0)
    if width > 0 and slope:
        ends = [(center + side * width / 2 - intercept) / slope for side in (-1, 1)]
        return min(ends), max(ends)
    if pixel_format.kind == "f":
        return 0.0, 1.0
    values = 2.0**pixel_format.bits_stored
    return (-values / 2, values / 2 - 1) if pixel_format.kind == "i" else (0.0, values - 1)


def series_folder(facts: SeriesFacts) -> str:
    """Return the name of a series' folder; from letters, digits and the UID's hash alone."""
    if not facts.series_instance_uid:
        return "unassigned"
    modality, number = (_cleaned(v) for v in (facts.modality, facts.series_number))
    uid = hashlib.sha256(facts.series_instance_uid.encode()).hexdigest()[:8]
    return f"{modality}-{number}-{uid}"


def may_be_one(folder: str, other: str) -> bool:
    """Tell whether two folders may be of one series: the hash of its UID ends the name of each."""
    return folder.rpartition("-")[2] == other.rpartition("-")[2]


def _cleaned(text: str) -> str:
    kept = "".join(c for c in text if c.isascii() and c.isalnum())
    return kept[:16] or "NA"


def names_blob(names: Sequence[str]) -> bytes:
    """Return the files' names as bytes; a name may hold anything but NUL."""
    return b"\0".join(name.encode("utf-8", "surrogateescape") for name in names)


def names_from(blob: bytes) -> list[str]:
    """Return the names that `names_blob` joined."""
    return [name.decode("utf-8", "surrogateescape") for name in blob.split(b"\0")]
