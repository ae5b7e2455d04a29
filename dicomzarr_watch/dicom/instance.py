"""One instance as the rest of the program sees it: what its header says, without its bytes."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from typing import IO, Final

from dicomzarr_watch.dicom import tags
from dicomzarr_watch.dicom.alike import Templates, header_end
from dicomzarr_watch.dicom.elements import Element
from dicomzarr_watch.dicom.frames import FrameRun, NoFrames, frame_run
from dicomzarr_watch.dicom.functional import frame_poses
from dicomzarr_watch.dicom.memory import Memory
from dicomzarr_watch.dicom.part10 import Part10
from dicomzarr_watch.dicom.pose import Pose
from dicomzarr_watch.dicom.quantity import NOTHING_SAID, Quantity, quantity, rescale
from dicomzarr_watch.dicom.siemens import is_mosaic
from dicomzarr_watch.dicom.slides import tiling
from dicomzarr_watch.dicom.tiles import NoTiling, Tiling
from dicomzarr_watch.dicom.values import Values

TAIL_LIMIT_BYTES: Final = 16 << 20


@dataclass(frozen=True, slots=True)
class Instance:
    """The facts of one file.

    poses: one per frame, or one for all of them, or none without geometry.
    tiling: the tiles that the frames are, if they are.
    head_bytes: where the pixel data's value starts; the file's length where there is none.
    pixel_bytes: length of that value; what follows it is the tail.
    """

    size: int
    transfer_syntax: str
    sop_instance_uid: str
    sop_class_uid: str
    series: SeriesFacts
    frames: FrameRun | NoFrames
    poses: tuple[Pose, ...]
    tiling: Tiling | NoTiling
    head_bytes: int
    pixel_bytes: int
    rescale: tuple[float, float] | None
    window: tuple[float, float] | None
    quantity: Quantity = NOTHING_SAID

    @property
    def tail_bytes(self) -> int:
        return self.size - self.head_bytes - self.pixel_bytes

    def not_viewed(self, reason: str) -> Instance:
        """Return the same instance, kept as it is cut, its frames not to be seen."""
        return replace(self, frames=NoFrames(reason, is_odd=True))

    def kept_whole(self, reason: str) -> Instance:
        """Return the same instance, its pixels not to be seen as frames."""
        return replace(self.not_viewed(reason), head_bytes=0, pixel_bytes=self.size)


@dataclass(frozen=True, slots=True)
class SeriesFacts:
    """What an instance says of its series; empty where it says nothing."""

    series_instance_uid: str
    study_instance_uid: str
    modality: str
    series_number: str
    description: str


@dataclass(frozen=True, slots=True)
class Header:
    """An instance with the bytes it was read from; not to be kept for many files at once.

    data: the bytes up to the pixel data, or the inflated data set. tail: elements behind it.
    cut: the values of the elements up to the pixel data, where they have been cut already. memory:
    the same one in files whose elements have the same tags, VRs and lengths up to the pixel data.
    """

    instance: Instance
    part10: Part10
    data: bytes
    tail: bytes = b""
    cut: tuple[bytes, ...] = ()
    memory: Memory | None = field(default=None, repr=False, compare=False)

    def value(self, element: Element) -> bytes:
        """Return an element's value; the pixel data's is not at hand."""
        return self._cut(element.value, element.end)

    def encoded(self, element: Element) -> bytes:
        """Return an element as it stands in the file: tag, VR, length and value."""
        return self._cut(element.start, element.end)

    def _cut(self, start: int, end: int) -> bytes:
        pixel = self.part10.pixel
        if pixel is None or self.part10.inflated is not None or start < pixel.end:
            return self.data[start:end]
        return self.tail[start - pixel.end : end - pixel.end]


def read_header(stream: IO[bytes], templates: Templates | None = None) -> Header:
    """Read a file up to its pixel data; raises OSError only.

    templates: what is known of files before this one, which are likely to be alike.
    """
    values, cut = _read(stream, templates)
    tail = _tail(values.part10, stream)
    return Header(_instance(values), values.part10, values.data, tail, cut, values.memory)


def read_series(stream: IO[bytes]) -> SeriesFacts:
    """Read what a file says of its series alone; raises OSError only."""
    values, _ = _read(stream)
    return _series(values)


def read_frames(
    stream: IO[bytes], templates: Templates | None = None
) -> tuple[FrameRun | NoFrames, bytes]:
    """Read how a file's frames stand, and the data that `Header` has; raises OSError only.

    templates: as for `read_header`.
    """
    values, _ = _read(stream, templates)
    return frame_run(values), values.data


def _read(
    stream: IO[bytes], templates: Templates | None = None
) -> tuple[Values, tuple[bytes, ...]]:
    """Return the values of a file and, where they have been cut already, all of them in a row."""
    templates = templates or Templates()
    part10, begin, cut, memory = templates.spans(partial(_at, stream), stream.seek(0, 2))
    if memory is not None:
        memory.turn_to(cut)
    data = part10.inflated
    if data is None:
        end = header_end(part10)
        data = begin[:end] + _at(stream, len(begin), end - len(begin))
    return Values(part10, data, memory), cut


def _at(stream: IO[bytes], offset: int, count: int) -> bytes:
    """Read so many bytes from an offset; fewer only at the end of the file."""
    if count <= 0:
        return b""
    stream.seek(offset)
    return stream.read(count)


def _tail(part10: Part10, stream: IO[bytes]) -> bytes:
    """Read the elements behind the pixel data, if they are such as people read."""
    if part10.pixel is None or part10.inflated is not None:
        return b""
    size = part10.elements[-1].end - part10.pixel.end
    return _at(stream, part10.pixel.end, size) if size <= TAIL_LIMIT_BYTES else b""


def _instance(values: Values) -> Instance:
    """Say what a file says; what files of a series mostly share is asked for as a part."""
    part10 = values.part10
    # where encoded frames end is told by no value
    is_encoded = part10.pixel is not None and part10.pixel.is_undefined_length
    frames, tiles = _view(values) if is_encoded else values.part(_view)
    head, pixel = _spans(part10, frames)
    return Instance(
        size=part10.size,
        transfer_syntax=part10.transfer_syntax,
        sop_instance_uid=values.text(tags.SOP_INSTANCE_UID),
        sop_class_uid=values.part(_sop_class),
        series=values.part(_series),
        frames=frames,
        poses=_poses(values, frames, tiles),
        tiling=tiles,
        head_bytes=head,
        pixel_bytes=pixel,
        rescale=values.part(_rescale),
        window=values.part(_window),
        quantity=values.part(quantity) if isinstance(frames, FrameRun) else NOTHING_SAID,
    )


def _view(values: Values) -> tuple[FrameRun | NoFrames, Tiling | NoTiling]:
    frames = frame_run(values)
    if not isinstance(frames, FrameRun):
        return frames, NoTiling()
    if is_mosaic(values) and not frames.format.mosaic_slices and frames.count == 1:
        return frames, NoTiling("mosaic-not-unfolded")
    return frames, tiling(values, frames)


def _sop_class(values: Values) -> str:
    return values.text(tags.SOP_CLASS_UID)


def _window(values: Values) -> tuple[float, float] | None:
    return values.decimal_pair(tags.WINDOW_CENTER, tags.WINDOW_WIDTH)


def _series(values: Values) -> SeriesFacts:
    return SeriesFacts(
        values.text(tags.SERIES_INSTANCE_UID),
        values.text(tags.STUDY_INSTANCE_UID),
        values.text(tags.MODALITY),
        values.text(tags.SERIES_NUMBER),
        values.text(tags.SERIES_DESCRIPTION),
    )


def _poses(
    values: Values, frames: FrameRun | NoFrames, tiles: Tiling | NoTiling
) -> tuple[Pose, ...]:
    if isinstance(tiles, Tiling):
        return tiles.poses
    return frame_poses(values, frames) if isinstance(frames, FrameRun) else ()


def _spans(part10: Part10, frames: FrameRun | NoFrames) -> tuple[int, int]:
    """Return the lengths of the head and of the pixel bytes; a file without frames may be whole."""
    if part10.pixel is None or part10.inflated is not None or part10.problem:
        return 0, part10.size
    if isinstance(frames, FrameRun):
        return frames.start, frames.stored_bytes
    return part10.pixel.value, part10.pixel.end - part10.pixel.value


def _rescale(values: Values) -> tuple[float, float] | None:
    """Return slope and intercept; an RT dose has a scaling instead (PS3.3 C.8.8.3)."""
    scaling = values.decimal(tags.DOSE_GRID_SCALING)
    dose = (scaling, 0.0) if scaling is not None else None
    return rescale(values) or dose
