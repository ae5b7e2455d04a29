"""A coverage-guided fuzzer of all that happens to a file before it is archived.

Not a test, and no dependency of the project: `pip install atheris`, then

    python tests/fuzz/atheris_headers.py                       # headers, documents, plans, views
    python tests/fuzz/atheris_headers.py --decode              # encapsulated frames as well
    python tests/fuzz/atheris_headers.py -runs=1000 crash-...  # any options of libFuzzer

Files of pydicom's own data are the corpus, copied to a folder that goes away at the end.
Decoders are C code and have a target of their own: in the daemon they run in a child process,
where a crash costs one job.
"""

from __future__ import annotations

import io
import json
import sys
import tempfile
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Final

import atheris  # type: ignore[import-not-found,import-untyped,unused-ignore]  # installed by hand
import pydicom

with atheris.instrument_imports(include=["dicomzarr_watch", "pydicom.encaps"]):
    from dicomzarr_watch.archive import layout, lines, ome
    from dicomzarr_watch.dicom.alike import Templates
    from dicomzarr_watch.dicom.fragments import encoded_frames
    from dicomzarr_watch.dicom.frames import FrameRun, stored_bytes
    from dicomzarr_watch.dicom.instance import Header, Instance, read_header
    from dicomzarr_watch.dicom.model import Elements
    from dicomzarr_watch.dicom.pixels import NotDecodedError, decode, decoders
    from dicomzarr_watch.dicom.views import is_verbatim, view
    from dicomzarr_watch.intake.peek import Peeks
    from dicomzarr_watch.kind import Kind

PYDICOM_DATA: Final = Path(pydicom.__file__).parent / "data"
CORPUS_LIMIT_BYTES: Final = 64 << 10
FRAME_LIMIT_BYTES: Final = 1 << 20
FRAMES_LIMIT: Final = 64
DEFAULTS: Final = ("-runs=200000", "-timeout=5", "-rss_limit_mb=1024", "-print_final_stats=1")


def corpus(folder: Path, *, decoded: bool) -> None:
    """Copy the small DICOM files that ship inside pydicom; of encoded frames alone if so said."""
    folder.mkdir()
    found = (p for p in sorted(PYDICOM_DATA.rglob("*")) if p.is_file())
    small = (p for p in found if p.stat().st_size < CORPUS_LIMIT_BYTES)
    for n, content in enumerate(p.read_bytes() for p in small):
        if content[128:132] == b"DICM" and (_is_encoded(content) or not decoded):
            (folder / f"{n:03}.dcm").write_bytes(content)


def _is_encoded(content: bytes) -> bool:
    frames = read_header(io.BytesIO(content)).instance.frames
    return isinstance(frames, FrameRun) and frames.needs_decoder


def neighbours() -> list[Instance]:
    """Return three slices for a fuzzed one to be laid out with."""
    content = (PYDICOM_DATA / "test_files" / "MR_small.dcm").read_bytes()
    instance = read_header(io.BytesIO(content)).instance
    (pose,) = instance.poses
    x, y, z = pose.position or (0.0, 0.0, 0.0)
    places = [(x, y, z + 2.5 * n) for n in range(1, 4)]
    return [replace(instance, poses=(replace(pose, position=place),)) for place in places]


def look(content: bytes, path: Path, others: list[Instance], *, decoded: bool) -> None:
    """Do with a file what the daemon and the planning do, and check what must hold."""
    path.write_bytes(content)
    found = Peeks()(path)
    if found.kind is not Kind.DICOM:
        return
    with path.open("rb") as stream:
        header = read_header(stream)
        templates = Templates()
        for _ in range(2):  # the second time it is compared with itself
            assert replace(read_header(stream, templates), cut=()) == header
    instance = header.instance
    assert found.series_uid == instance.series.series_instance_uid
    assert found.sop_uid == instance.sop_instance_uid
    assert min(instance.head_bytes, instance.pixel_bytes, instance.tail_bytes) >= 0
    elements = Elements()
    elements.add(header)
    json.loads(lines.as_json(elements.document([0], lambda value: str(value.start))))
    if isinstance(instance.frames, FrameRun):
        plan = layout.plan([*others, instance])
        for image in plan.images:
            lines.as_json(ome.image_attributes(image))
        _see(header, instance.frames, content, decoded=decoded)


def _see(header: Header, run: FrameRun, content: bytes, *, decoded: bool) -> None:
    pixels = run.format
    if pixels.view_bytes * pixels.tiles**2 > FRAME_LIMIT_BYTES:
        return
    if not run.needs_decoder:
        source = header.data if run.encoding else content
        for start in range(0, min(run.count, FRAMES_LIMIT), pixels.block_frames):
            count = min(pixels.block_frames, run.count - start)
            size = stored_bytes(pixels, count)
            offset = run.start + stored_bytes(pixels, start)
            stored = source[offset : offset + size]
            frames = view(stored, pixels)[:count]
            assert frames.shape == (count, *pixels.shape)
            is_verbatim(frames, stored, pixels)
        return
    stream = io.BytesIO(content)
    stream.seek(run.start)
    try:
        encoded = list(islice(encoded_frames(stream, run), FRAMES_LIMIT))
    except NotDecodedError:
        return
    for frame in encoded if decoded else ():
        if _is_decoded(frame, run, ""):
            for decoder in decoders(run)[1:]:  # as the second look does
                _is_decoded(frame, run, decoder)


def _is_decoded(frame: bytes, run: FrameRun, decoder: str) -> bool:
    try:
        samples = decode(frame, run, decoder)
    except NotDecodedError:
        return False
    assert samples.shape == (max(run.format.mosaic_slices, 1), *run.format.shape)
    return True


def main() -> None:
    """Fuzz; the first option may be --decode, the rest are libFuzzer's and win over DEFAULTS."""
    options = sys.argv[1:]
    decoded = "--decode" in options
    others = neighbours()
    with tempfile.TemporaryDirectory() as folder:
        path, seeds = Path(folder, "fuzzed.dcm"), Path(folder, "corpus")
        corpus(seeds, decoded=decoded)
        own = [o for o in options if o != "--decode"]
        files = [] if any(Path(o).is_file() for o in own) else [str(seeds)]
        # libFuzzer writes what is new to the first folder, so that one of the user's comes first
        atheris.Setup(
            [sys.argv[0], *DEFAULTS, *own, *files],
            lambda content: look(content, path, others, decoded=decoded),
        )
        atheris.Fuzz()


if __name__ == "__main__":
    main()
