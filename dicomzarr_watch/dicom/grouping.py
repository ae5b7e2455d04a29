"""Which frames may stand in one image: those whose voxels mean the same and are stored the same.

SPLIT_RULES is the list; a series with several values of one of them becomes several images.
Numbers count as the first one that was seen within a tolerance of them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from dicomzarr_watch.dicom.frames import PixelFormat
from dicomzarr_watch.dicom.pose import MEANINGS, Pose
from dicomzarr_watch.dicom.tiles import TileGrid

COSINE_TOLERANCE: Final = 1.5e-3
"""More than the last digit of cosines that are written with three."""
SPACING_TOLERANCE: Final = 1e-3
"""Of the spacing: half a pixel among five hundred."""
_KNOWN_MOST: Final = 64
"""Values that others are compared with; further ones are taken as they are, for time's sake."""

Numbers = tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame: the number of its file, its own number in it, and what is known of it.

    copy: which copy of the same file it is from, 0 being the first.
    grid, tile: the matrix that it is a tile of, and which one.
    """

    file: int
    number: int
    format: PixelFormat
    pose: Pose
    copy: int = 0
    grid: TileGrid | None = None
    tile: int = 0


def _meaning(name: str) -> Callable[[Frame], Hashable]:
    return lambda frame: dict(frame.pose.meaning).get(name, "")


SPLIT_RULES: Final[dict[str, Callable[[Frame], Hashable]]] = {
    "matrix size": lambda f: (f.format.rows, f.format.columns),
    "sample type": lambda f: (f.format.kind, f.format.bits),
    "samples per pixel": lambda f: f.format.samples,
    "photometric interpretation": lambda f: f.format.photometric,
    "storage": lambda f: (
        f.format.is_planar,
        f.format.is_big_endian,
        f.format.is_word_swapped,
        f.format.is_subsampled,
        f.format.mosaic_slices,
    ),
    "total pixel matrix": lambda f: f.grid.matrix if f.grid else "",
    "matrix origin": lambda f: (f.grid and f.pose.position) or "",
    "copy": lambda f: f.copy,
    "orientation": lambda f: f.pose.orientation,
    "place": lambda f: "unknown" if not f.grid and f.pose.position is None else "",
    "frame of reference": lambda f: f.pose.frame_of_reference,
    "pixel spacing": lambda f: f.pose.spacing,
} | {name: _meaning(name) for name in MEANINGS}


def groups(frames: Sequence[Frame]) -> Iterator[tuple[list[Frame], dict[str, str]]]:
    """Yield the frames that belong together, with the rules that set them apart from others."""
    rounded = {
        "orientation": _Rounded(lambda _: COSINE_TOLERANCE),
        "pixel spacing": _Rounded(lambda spacing: SPACING_TOLERANCE * min(spacing)),
    }
    known: dict[Hashable, tuple[Hashable, ...]] = {}
    found: dict[tuple[Hashable, ...], list[Frame]] = defaultdict(list)
    for frame in frames:
        looked_at = _looked_at(frame)
        if looked_at not in known:
            known[looked_at] = tuple(
                rounded[name].of(rule(frame)) if name in rounded else rule(frame)
                for name, rule in SPLIT_RULES.items()
            )
        found[known[looked_at]].append(frame)
    told = [i for i in range(len(SPLIT_RULES)) if len({key[i] for key in found}) > 1]
    names = list(SPLIT_RULES)
    for key, members in found.items():
        yield members, {names[i]: _said(key[i]) for i in told}


def _looked_at(frame: Frame) -> Hashable:
    """Return all that the rules look at: most frames of a series have the same."""
    pose = frame.pose
    return (
        frame.format,
        frame.copy,
        frame.grid,
        frame.grid and pose.position,
        pose.position is None,
        pose.orientation,
        pose.spacing,
        pose.frame_of_reference,
        pose.meaning,
    )


@dataclass(slots=True)
class _Rounded:
    """Tuples of numbers, each as the first one that it is within a tolerance of."""

    tolerance: Callable[[Numbers], float]
    known: dict[Hashable, Hashable] = field(default_factory=lambda: {None: None})
    firsts: list[Numbers] = field(default_factory=list)

    def of(self, value: Hashable) -> Hashable:
        if value not in self.known:
            assert isinstance(value, tuple)
            self.known[value] = self._first(value)
        return self.known[value]

    def _first(self, value: Numbers) -> Numbers:
        allowed = self.tolerance(value)
        for first in self.firsts:
            if all(abs(a - b) <= allowed for a, b in zip(first, value, strict=True)):
                return first
        if len(self.firsts) < _KNOWN_MOST:
            self.firsts.append(value)
        return value


def _said(value: Hashable) -> str:
    if isinstance(value, tuple):
        return " ".join(str(round(v, 4) + 0.0 if isinstance(v, float) else v) for v in value)
    return str(value)
