"""What a store says of its images: to viewers as OME-Zarr 0.5, to us under `dicomzarr`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from itertools import pairwise
from typing import Any, Final
from xml.etree.ElementTree import Element, SubElement, tostring

from dicomzarr_watch.archive.layout import STORE_VERSION, ImagePlan
from dicomzarr_watch.dicom.frames import PixelFormat
from dicomzarr_watch.dicom.order import Moments

GROUP: Final = "OME"
DOCUMENT: Final = "METADATA.ome.xml"
_XMLNS: Final = "http://www.openmicroscopy.org/Schemas/OME/2016-06"
_TYPES: Final = {"float32": "float", "float64": "double"}
_SPACE: Final = ("space", "millimeter")
_EVEN_MS: Final = 1e-5
"""More than the rounding of sums."""
_COLOURS: Final = ("FF0000", "00FF00", "0000FF")


def root_attributes(images: Sequence[ImagePlan]) -> dict[str, Any]:
    """Return the attributes of the store's root group."""
    if len(images) == 1:
        return image_attributes(images[0])
    own: dict[str, Any] = {"dicomzarr": {"version": STORE_VERSION, "images": len(images)}}
    if images:
        own["ome"] = {"version": "0.5", "bioformats2raw.layout": 3}
    return own


def series_attributes(images: Sequence[ImagePlan]) -> dict[str, Any]:
    """Return what the group OME of several images says: which groups are images."""
    return {"ome": {"version": "0.5", "series": [image.group for image in images]}}


def document(images: Sequence[ImagePlan]) -> bytes:
    """Return the document by which readers of `bioformats2raw.layout` find the images.

    Of the OME data model (2016-06) no more than it demands; it has no name for 64-bit integers, so
    that images of such are left out.
    """
    ome = Element("OME", xmlns=_XMLNS)
    for image in images:
        pixel_format = image.image.format
        if pixel_format.kind != "f" and pixel_format.bits == 64:
            continue
        moments, slices = image.image.shape
        sizes = {
            "SizeX": pixel_format.columns,
            "SizeY": pixel_format.rows,
            "SizeZ": slices,
            "SizeC": pixel_format.samples,
            "SizeT": moments,
        }
        name = image.group
        pixels = SubElement(
            SubElement(ome, "Image", ID=f"Image:{name}", Name=name),
            "Pixels",
            {key: str(size) for key, size in sizes.items()},
            ID=f"Pixels:{name}",
            DimensionOrder="XYZCT",
            Type=_TYPES.get(pixel_format.dtype.name, pixel_format.dtype.name),
        )
        SubElement(
            pixels, "Channel", ID=f"Channel:{name}:0", SamplesPerPixel=str(pixel_format.samples)
        )
        SubElement(pixels, "MetadataOnly")
    written: bytes = tostring(ome, encoding="UTF-8", xml_declaration=True)
    return written


def image_attributes(image: ImagePlan) -> dict[str, Any]:
    """Return one image's OME-Zarr 0.5 metadata, and what that cannot say under `dicomzarr`."""
    geometry = image.image.geometry
    interval_ms = _interval_ms(image.image.moments)
    spacing = dict(zip("xyzt", (*geometry.spacing, interval_ms), strict=True))
    origin = dict(zip("xyz", geometry.origin, strict=True))
    dataset = {
        "path": "0",
        "coordinateTransformations": [
            {"type": "scale", "scale": [abs(spacing.get(a, 1.0)) or 1.0 for a in image.axes]},
            {"type": "translation", "translation": [origin.get(a, 0.0) for a in image.axes]},
        ],
    }
    multiscale = {
        "name": image.group or "0",
        "axes": [_axis(a, geometry.unmeasured + "t" * (not interval_ms)) for a in image.axes],
        "datasets": [dataset],
    }
    return {
        "ome": {"version": "0.5", "multiscales": [multiscale], "omero": _omero(image)},
        "dicomzarr": {
            "version": STORE_VERSION,
            "format": asdict(image.image.format),
            "geometry": geometry_json(image),
            "total_pixel_matrix": matrix_json(image),
            "z_by": image.image.z_by,
            "t_by": image.image.t_by,
        },
    }


def _omero(image: ImagePlan) -> dict[str, Any]:
    """Return how a viewer should show the image at first."""
    samples, photometric = image.image.format.samples, image.image.format.photometric
    start, end = image.contrast
    window = {"min": start, "max": end, "start": start, "end": end}
    colours = _COLOURS if photometric == "RGB" else ("FFFFFF",) * samples
    return {
        "channels": [
            {
                "label": photometric if samples == 1 else f"{photometric} {n + 1}",
                "color": colour,
                "active": True,
                "inverted": photometric == "MONOCHROME1",
                "window": window,
            }
            for n, colour in enumerate(colours)
        ]
    }


def geometry_json(image: ImagePlan) -> dict[str, Any]:
    """Return the geometry in SimpleITK's order and units: (x, y, z), mm, LPS or the slide's."""
    found = image.image.geometry
    extent = dict(zip(image.axes, image.shape, strict=True))
    return {
        "coordinates": found.coordinates,
        "origin": list(found.origin),
        "spacing": list(found.spacing),
        "direction": list(found.direction),
        "size": [extent["x"], extent["y"], extent.get("z", 1)],
        "affine": [list(found.affine[i : i + 4]) for i in range(0, 16, 4)],
        "unmeasured": list(found.unmeasured),
        "positions": list(found.positions),
        "missing": list(found.missing),
        "tilt_deg": found.tilt_deg,
        "regular": found.is_regular,
        "placed": found.is_placed,
    }


def matrix_json(image: ImagePlan) -> dict[str, int] | None:
    """Return how much of a picture of tiles is not the padding of the last ones."""
    grid = image.image.grid
    return dict(zip(("rows", "columns"), grid.matrix, strict=True)) if grid else None


def pixel_format(attributes: dict[str, Any]) -> PixelFormat:
    """Return the format that `image_attributes` wrote down."""
    return PixelFormat(**attributes["dicomzarr"]["format"])


def _axis(name: str, unmeasured: str) -> dict[str, str]:
    kind, unit = {"t": ("time", "millisecond"), "c": ("channel", "")}.get(name, _SPACE)
    is_measured = unit and name not in unmeasured
    return {"name": name, "type": kind, **({"unit": unit} if is_measured else {})}


def _interval_ms(moments: Moments) -> float:
    """Return the time from frame to frame of a cine, or 0 where it varies or nothing says it."""
    times = [moment[0] for moment in moments.get("frame time", ())]
    steps = [later - time for time, later in pairwise(times)]
    is_even = steps and max(steps) - min(steps) <= _EVEN_MS
    return steps[0] if is_even and steps[0] > 0 else 0.0
