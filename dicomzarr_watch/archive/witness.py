"""SimpleITK as an independent witness: another decoder, another geometry.

It applies the rescale and changes some photometric interpretations, so it is asked only where it
is known to say the same; elsewhere the answer is why it cannot be compared.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import SimpleITK as sitk

from dicomzarr_watch.archive.layout import ImagePlan, Plan
from dicomzarr_watch.archive.planes import PlaneRun
from dicomzarr_watch.archive.reader import Store
from dicomzarr_watch.dicom.frames import FrameRun, Samples
from dicomzarr_watch.dicom.instance import Instance

GEOMETRY_TOLERANCE: Final = 1e-3
_COMPARABLE: Final = frozenset({"MONOCHROME2", "RGB"})


class _NotComparableError(Exception):
    """SimpleITK is not known to say the same, or there is nothing to compare voxel by voxel."""


@dataclass(frozen=True, slots=True)
class Testimony:
    """What was compared, what could not be and why, and what differs; by image path."""

    agree: tuple[str, ...]
    not_comparable: dict[str, str]
    differ: dict[str, str]

    def as_json(self) -> dict[str, Any]:
        """Return the testimony as it stands in the receipt."""
        return {
            "agree": list(self.agree),
            "not_comparable": self.not_comparable,
            "differ": self.differ,
        }


def testify(
    store: Store,
    plan: Plan,
    instances: Sequence[Instance],
    paths: Sequence[Path],
    *,
    not_verbatim: Collection[int],
    vouched: Collection[int],
) -> Testimony:
    """Compare every image with what SimpleITK reads from the sources.

    not_verbatim: numbers of files whose frames are seen without some of their bits.
    vouched: numbers of those that two other decoders see alike; SimpleITK's own takes RLE of more
    than 8 bits for other samples, and leaves out bits that are not stored.
    """
    agree: list[str] = []
    silent: dict[str, str] = {}
    differ: dict[str, str] = {}
    for number, image in enumerate(plan.images):
        try:
            _check_comparable(image, instances, not_verbatim)
            found = _difference(store, number, image, instances, paths, vouched=vouched)
        except _NotComparableError as error:
            silent[image.path] = str(error)
        # SimpleITK's only way to say that it cannot read a file, and a name that it cannot take
        except (RuntimeError, UnicodeDecodeError):
            silent[image.path] = "SimpleITK cannot read it"
        else:
            if found:
                differ[image.path] = found
            else:
                agree.append(image.path)
    return Testimony(tuple(agree), silent, differ)


def _check_comparable(
    image: ImagePlan, instances: Sequence[Instance], not_verbatim: Collection[int]
) -> None:
    found = image.image
    files = {frame.file for frame in found.frames}
    runs = [instances[file].frames for file in files]
    pixels = found.format
    reasons = {
        "SimpleITK does not lay out tiles": found.grid is not None,
        f"SimpleITK converts {pixels.photometric}": pixels.photometric not in _COMPARABLE,
        "SimpleITK reads multi-frame geometry from the first frame": any(
            isinstance(run, FrameRun) and run.count > 1 for run in runs
        ),
        "single-bit pixels": pixels.is_packed,
        "64-bit samples": pixels.bits == 64,
        "unused bits carry data": any(file in not_verbatim for file in files),
    }
    for reason, holds in reasons.items():
        if holds:
            raise _NotComparableError(reason)


def _difference(
    store: Store,
    number: int,
    image: ImagePlan,
    instances: Sequence[Instance],
    paths: Sequence[Path],
    *,
    vouched: Collection[int],
) -> str:
    """Return what differs, or nothing; one moment after the other."""
    moments, slices = image.image.shape
    for t in range(moments):
        frames = image.image.frames[t * slices : (t + 1) * slices]
        read = _read([paths[f.file] for f in frames])
        wrong = _geometry_difference(read, image) if t == 0 else ""
        if wrong:
            return wrong
        voxels = sitk.GetArrayViewFromImage(read)
        for z, (frame, plane) in enumerate(
            zip(frames, _planes(store, number, t, slices), strict=True)
        ):
            if voxels[z].shape != plane.shape:
                raise _NotComparableError("SimpleITK reads another matrix")
            expected = _rescaled(plane, frame.pose.rescale or instances[frame.file].rescale)
            if not np.allclose(voxels[z], expected, rtol=1e-6, atol=_rounding(voxels.dtype)):
                if frame.file in vouched:
                    raise _NotComparableError("SimpleITK decodes it otherwise than two decoders")
                return f"voxels of plane {t * slices + z}"
    return ""


def _read(paths: list[Path]) -> sitk.Image:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        reader = sitk.ImageSeriesReader()
        reader.SetImageIO("GDCMImageIO")
        reader.SetFileNames([os.fsencode(path).decode() for path in paths])
        image: sitk.Image = reader.Execute()
        return image


def _planes(store: Store, number: int, t: int, slices: int) -> Iterator[Samples]:
    stored = store.images[number]
    for z in range(slices):
        (plane,) = stored.planes(PlaneRun(number, t, z, 1, 1))
        yield np.moveaxis(plane, 0, -1) if stored.format.is_planar else plane


def _rescaled(plane: Samples, rescale: tuple[float, float] | None) -> Samples:
    if rescale is None or rescale == (1.0, 0.0):
        return plane
    return plane.astype(np.float64) * rescale[0] + rescale[1]


def _rounding(dtype: np.dtype[Any]) -> float:
    """Return how far a value may be cut when SimpleITK chose whole numbers for it."""
    return 1.0 if dtype.kind in "iu" else 1e-6


def _geometry_difference(read: sitk.Image, image: ImagePlan) -> str:
    """Compare what one regular, unsheared grid can say; a single slice has no spacing in z."""
    found = image.image.geometry
    if not found.is_placed:
        return ""
    is_grid = found.is_regular and found.tilt_deg == 0 and image.image.shape[1] > 1
    axes = 3 if is_grid else 2
    pairs = {
        "origin": (read.GetOrigin(), found.origin),
        "spacing": (read.GetSpacing()[:axes], found.spacing[:axes]),
        "direction": (read.GetDirection(), found.direction),
    }
    for name, (theirs, ours) in pairs.items():
        if not np.allclose(theirs, ours, atol=GEOMETRY_TOLERANCE):
            return name
    return ""
