from __future__ import annotations

from collections.abc import Sequence

import pytest
from dicom_files import Built, Nested, Plain, even, file_bytes, us, within

from dicomzarr_watch.dicom.frames import FrameRun, PixelFormat
from dicomzarr_watch.dicom.functional import frame_poses
from dicomzarr_watch.dicom.grouping import Frame
from dicomzarr_watch.dicom.part10 import split
from dicomzarr_watch.dicom.pose import Pose
from dicomzarr_watch.dicom.stacks import Image, stack
from dicomzarr_watch.dicom.values import Values

GRAY = PixelFormat(4, 6, 1, 16, "u", 16, "MONOCHROME2", is_planar=False, is_big_endian=False)
NUCLEAR = Plain(0x00080016, "UI", b"1.2.840.10008.5.1.4.1.1.20")
ENERGY, DETECTOR, PHASE, SLOT, SLICE, VIEW = (
    0x00540010,
    0x00540020,
    0x00540030,
    0x00540070,
    0x00540080,
    0x00540090,
)
BETWEEN, SPACING = 0x00180088, 0x00280030


def ds(tag: int, value: str) -> Plain:
    return Plain(tag, "DS", even(value.encode()))


def vector(tag: int, numbers: Sequence[int]) -> Plain:
    return Plain(tag, "US", b"".join(us(tag, n).value for n in numbers))


def kind(value: str) -> Plain:
    return Plain(0x00080008, "CS", even(f"ORIGINAL\\PRIMARY\\{value}".encode()))


PLACE = (ds(0x00200032, "-100\\-120\\300"), ds(0x00200037, "1\\0\\0\\0\\1\\0"))
DETECTORS = Nested(0x00540022, (PLACE,))


def poses_of(*elements: Built, frames: int) -> tuple[Pose, ...]:
    data = file_bytes(sorted((NUCLEAR, *elements), key=lambda e: e.tag))
    values = Values(split(within(data), len(data)), data)
    return frame_poses(values, FrameRun(GRAY, frames, 0, 48 * frames))


def images_of(*elements: Built, frames: int) -> tuple[Image, ...]:
    poses = poses_of(ds(SPACING, "4.8\\4.8"), *elements, frames=frames)
    return stack([Frame(0, n, GRAY, pose) for n, pose in enumerate(poses)])


@pytest.mark.parametrize(("between", "step"), [("4.8", 4.8), ("-4.8", -4.8)])
@pytest.mark.parametrize("where", [(DETECTORS,), PLACE], ids=["detector", "top level"])
def test_slices_of_a_reconstruction_lie_along_the_normal_as_the_sign_of_their_distance_says(
    where: tuple[Built, ...], between: str, step: float
) -> None:
    said = (kind("RECON TOMO"), vector(SLICE, (1, 2, 3)), ds(BETWEEN, between))
    found = poses_of(*said, *where, frames=3)
    assert [pose.position for pose in found] == [
        pytest.approx((-100, -120, 300 + n * step)) for n in range(3)
    ]


def test_a_reconstruction_without_a_vector_has_its_slices_in_order() -> None:
    (image,) = images_of(kind("RECON TOMO"), ds(BETWEEN, "4.8"), DETECTORS, frames=5)
    assert (image.shape, image.z_by) == ((1, 5), "position")
    assert image.geometry.spacing == pytest.approx((4.8, 4.8, 4.8))


def test_slots_of_a_gated_reconstruction_are_moments() -> None:
    slots, slices = zip(*[(t, z) for t in (1, 2, 3) for z in (1, 2)], strict=True)
    said = (kind("RECON GATED TOMO"), vector(SLOT, slots), vector(SLICE, slices))
    (image,) = images_of(*said, ds(BETWEEN, "4.8"), DETECTORS, frames=6)
    assert (image.shape, image.t_by) == ((3, 2), "frame increment")
    assert [f.number for f in image.frames] == list(range(6))


def test_windows_and_detectors_are_images_and_projections_have_no_place() -> None:
    rows = [(e, d, v) for e in (1, 2) for d in (1, 2) for v in (1, 2, 3)]
    windows, detectors, views = zip(*rows, strict=True)
    vectors = (vector(ENERGY, windows), vector(DETECTOR, detectors), vector(VIEW, views))
    images = images_of(kind("TOMO"), *vectors, *PLACE, ds(BETWEEN, "4.8"), frames=12)
    assert [image.shape for image in images] == [(3, 1)] * 4
    assert not any(image.geometry.is_placed for image in images)
    assert images[1].split_by == {"energy window": "1", "detector": "2"}


@pytest.mark.parametrize(
    "said",
    [
        (vector(SLICE, (1, 2)), ds(BETWEEN, "4.8"), DETECTORS),
        (vector(SLICE, (1, 2, 3)), DETECTORS),
        (vector(SLICE, (1, 2, 3)), ds(BETWEEN, "4.8")),
    ],
    ids=["a vector of another length", "no distance", "no place"],
)
def test_without_what_it_takes_no_slice_is_placed(said: tuple[Built, ...]) -> None:
    found = poses_of(kind("TOMO"), *said, frames=3)
    assert [pose.position for pose in found] == [None] * 3
