"""The words beside the store: series.json for people and search, done.json as the receipt."""

from __future__ import annotations

import hashlib
import platform
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from importlib.metadata import version
from typing import Any, Final, TypeVar

from dicomzarr_watch.archive import layout, ome
from dicomzarr_watch.archive.layout import ImagePlan, Plan
from dicomzarr_watch.archive.tables import Written
from dicomzarr_watch.archive.work import Finding, Source
from dicomzarr_watch.dicom import uids
from dicomzarr_watch.dicom.frames import MORE_PIXEL_DATA, FrameRun
from dicomzarr_watch.dicom.instance import Instance
from dicomzarr_watch.dicom.model import ByReference, Elements
from dicomzarr_watch.dicom.quantity import Quantity, suv_factors
from dicomzarr_watch.dicom.stacks import Image
from dicomzarr_watch.dicom.tags import json_name
from dicomzarr_watch.dicom.tiles import NoTiling

T = TypeVar("T")

SCHEMA_VERSION: Final = 1
_RESCALE: Final = ("slope", "intercept")
_WINDOW: Final = ("center", "width")
_LIBRARIES: Final = ("dicomzarr-watch", "numcodecs", "numpy", "pydicom", "SimpleITK", "zarr")


@dataclass(frozen=True, slots=True)
class Receipt:
    """What done.json says."""

    series_instance_uid: str
    folder: str
    content: str
    revision: int
    counts: dict[str, int]
    verified: dict[str, Any]
    findings: tuple[Finding, ...]
    seconds: dict[str, float]
    is_unchanged: bool = False
    versions: Mapping[str, str] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return the document as it stands on disk."""
        return {
            "schema": SCHEMA_VERSION,
            "state": "done",
            "revision": self.revision,
            "series": {"SeriesInstanceUID": self.series_instance_uid, "folder": self.folder},
            "content": self.content,
            "counts": self.counts,
            "verified": self.verified,
            "findings": [asdict(f) for f in self.findings],
            "seconds": {k: round(v, 4) for k, v in self.seconds.items()},
            "versions": dict(self.versions),
            "store": layout.STORE_NAME,
        }

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> Receipt:
        """Return what `as_json` wrote down."""
        return cls(
            series_instance_uid=document["series"]["SeriesInstanceUID"],
            folder=document["series"]["folder"],
            content=document["content"],
            revision=document["revision"],
            counts=document["counts"],
            verified=document["verified"],
            findings=tuple(
                Finding(f["code"], tuple(f["files"]), f["image"], f["detail"])
                for f in document["findings"]
            ),
            seconds=document["seconds"],
            versions=document["versions"],
        )


def content_hash(files: Iterable[tuple[str, bytes]]) -> str:
    """Return the identity of a set of files: names and SHA-256, in no order."""
    lines = sorted(sha + name.encode("utf-8", "surrogateescape") for name, sha in files)
    return hashlib.sha256(b"\0".join(lines)).hexdigest()


@cache
def versions() -> Mapping[str, str]:
    """Return what the software was that made a store."""
    return {"python": platform.python_version()} | {name: version(name) for name in _LIBRARIES}


def findings(
    plan: Plan, sources: Sequence[Source], instances: Sequence[Instance], written: Written
) -> tuple[Finding, ...]:
    """Gather what a person should know, one finding per code or image."""
    odd = {
        MORE_PIXEL_DATA: list(written.holding_more),
        "unused-bits-carry-data": list(written.not_verbatim),
        "first-decoder-failed": list(written.by_others),
    }
    for number in plan.files:
        for code in _odd(instances[number]):
            odd.setdefault(code, []).append(sources[number].name)
    found = [Finding(code, tuple(names)) for code, names in sorted(odd.items()) if names]
    found += [
        Finding(code, image=image.path, detail=_detail(code, image.image))
        for image in plan.images
        for code in image.image.findings
    ]
    return tuple(found)


def _odd(instance: Instance) -> Iterator[str]:
    """Yield the codes of what its header alone tells of a file."""
    frames, tiling = instance.frames, instance.tiling
    if isinstance(frames, FrameRun):
        yield from frames.findings
    elif frames.is_odd:
        yield frames.reason
    if isinstance(tiling, NoTiling) and tiling.reason:
        yield tiling.reason
    if instance.quantity.is_by_table:
        yield "modality-lut"


def _detail(code: str, image: Image) -> str:
    if code != "tiles-missing" or not image.grid:
        return ""
    return f"{image.missing_tiles} of {image.grid.tiles}"


def counts(plan: Plan, sources: Sequence[Source], instances: Sequence[Instance]) -> dict[str, int]:
    """Count what went in, by how it is kept."""
    kept = Counter(kept_as(instance) for instance in instances)
    return {
        "files": len(instances),
        "files_pixel_exact": sum(bool(source.original_sha256) for source in sources),
        "frames": sum(len(places) for places in plan.planes.values()),
        "images": len(plan.images),
        "bytes_in": sum(instance.size for instance in instances),
        **{f"files_as_{how}": kept.get(how, 0) for how in ("frames", "residue", "whole")},
    }


def kept_as(instance: Instance) -> str:
    """Tell how a file is kept: as `frames`, with its pixel bytes in `residue`, or `whole`."""
    if isinstance(instance.frames, FrameRun) and not instance.frames.encoding:
        return "frames"
    return "residue" if instance.head_bytes else "whole"


def series_json(
    plan: Plan,
    sources: Sequence[Source],
    instances: Sequence[Instance],
    written: Written,
    *,
    elements: Elements,
    found: Sequence[Finding],
) -> dict[str, Any]:
    """Return series.json; files and columns stand in the order of the store's index."""
    facts = instances[plan.files[0]].series
    return {
        "schema": SCHEMA_VERSION,
        "series": {
            "SeriesInstanceUID": facts.series_instance_uid,
            "StudyInstanceUID": facts.study_instance_uid,
            "Modality": facts.modality,
            "SeriesNumber": facts.series_number,
            "SeriesDescription": facts.description,
        },
        "images": [_image(image, instances) for image in plan.images],
        "findings": [asdict(f) for f in found],
        "files": [
            _file(sources[n], instances[n], sha)
            for n, sha in zip(plan.files, written.sha256, strict=True)
        ],
        "tags": elements.document(plan.files, _placed(plan, instances, written)),
        "unreadable_tags": sorted(json_name(tag) for tag in elements.unreadable),
    }


def _placed(
    plan: Plan, instances: Sequence[Instance], written: Written
) -> Callable[[ByReference], str]:
    """Name where a value stands: in the headers, or in the residue where the file is whole."""
    headers = dict(zip(plan.files, written.header_offsets, strict=True))
    residue = dict(zip(plan.files, written.residue_offsets, strict=True))

    def place(value: ByReference) -> str:
        is_whole = instances[value.file].head_bytes == 0
        name, offsets = ("residue", residue) if is_whole else ("headers", headers)
        start = offsets[value.file] + value.start
        if not is_whole and value.start > instances[value.file].head_bytes:
            start -= instances[value.file].pixel_bytes  # head and tail follow each other
        return f"{layout.STORE_NAME}/dicom/{name}#{start},{value.end - value.start}"

    return place


def _image(plan: ImagePlan, instances: Sequence[Instance]) -> dict[str, Any]:
    image = plan.image
    own = [(frame, instances[frame.file]) for frame in image.frames]
    return {
        "path": plan.path,
        "shape": list(plan.shape),
        "dtype": image.format.dtype.name,
        "axes": list(plan.axes),
        "samples_per_pixel": image.format.samples,
        "photometric_interpretation": image.format.photometric,
        "bits_stored": image.format.bits_stored,
        "geometry": ome.geometry_json(plan),
        "total_pixel_matrix": ome.matrix_json(plan),
        "rescale": _per_plane([f.pose.rescale or i.rescale for f, i in own], _RESCALE),
        "units": _once([i.quantity.units for _, i in own]),
        "suv": _suv([i.quantity for _, i in own]),
        "window": _per_plane([f.pose.window or i.window for f, i in own], _WINDOW),
        "split_by": image.split_by,
        "z_by": image.z_by,
        "t_by": image.t_by,
        "moments": {name: list(map(list, told)) for name, told in image.moments.items()},
        "findings": list(image.findings),
    }


def _per_plane(
    pairs: Sequence[tuple[float, float] | None], names: tuple[str, str]
) -> dict[str, Any] | None:
    """Return a pair of numbers once where all planes share it, else as lists in plane order."""
    if not any(pairs):
        return None
    if len(set(pairs)) == 1 and pairs[0]:
        return dict(zip(names, pairs[0], strict=True))
    return {name: [pair[i] if pair else None for pair in pairs] for i, name in enumerate(names)}


def _once(values: Sequence[T]) -> T | list[T]:
    """Return a value once where all planes share it, else a list in plane order."""
    return values[0] if len(set(values)) == 1 else list(values)


def _suv(quantities: Sequence[Quantity]) -> dict[str, Any] | None:
    """Return what makes rescaled PET values standardized uptake values, or why nothing does."""
    if not any(q.tracer for q in quantities):
        return None
    found = suv_factors(quantities)
    if isinstance(found, str):
        return {"why_not": found}
    return {"by": "body weight", "units": "g/ml", "factor": _once(found)}


def _file(source: Source, instance: Instance, sha256: bytes) -> dict[str, Any]:
    frames = instance.frames
    return {
        "name": source.name,
        "size": instance.size,
        "sha256": sha256.hex(),
        "original_sha256": (source.original_sha256 or sha256).hex(),
        "sop_instance_uid": instance.sop_instance_uid,
        "sop_class_uid": instance.sop_class_uid,
        "transfer_syntax": instance.transfer_syntax,
        "kept": kept_as(instance),
        "frames": frames.count if isinstance(frames, FrameRun) else 0,
        "why": "" if isinstance(frames, FrameRun) else frames.reason,
        "what": "" if isinstance(frames, FrameRun) else uids.name(instance.sop_class_uid),
    }
