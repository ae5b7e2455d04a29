"""The commands that make stores and read them; none needs a daemon."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from dicomzarr_watch import console
from dicomzarr_watch.archive.work import KeepEncoded, Level
from dicomzarr_watch.cli.command import Json, app, complain
from dicomzarr_watch.cli.lookup import of_one_revision, stores_at, the_store
from dicomzarr_watch.errors import DicomzarrError, RejectError
from dicomzarr_watch.identity import Place
from dicomzarr_watch.kind import Kind

if TYPE_CHECKING:
    from dicomzarr_watch.archive.document import Receipt
    from dicomzarr_watch.archive.reader import Store, StoredFile
    from dicomzarr_watch.cli.lookup import Failures

ODD: Final = ("differ", "missing")
StorePath = Annotated[Path, typer.Argument(help="series.zarr, or a folder with such below it.")]


@app.command()
def convert(
    sources: Annotated[list[Path], typer.Argument(help="Folders or files.")],
    output: Annotated[Path, typer.Option(help="Folder that results appear in.")],
    verify: Annotated[Level, typer.Option(help="How strictly results are verified.")] = Level.EXACT,
    keep_reconstructed: Annotated[
        Path | None, typer.Option(help="Leave the rebuilt DICOM files there.")
    ] = None,
    keep_encoded: Annotated[
        KeepEncoded, typer.Option(help="Which encoded pixel data is kept beside its view.")
    ] = KeepEncoded.ALWAYS,
    *,
    as_json: Json = False,
) -> None:
    """Convert what stands in some folders now, without inbox and ledger."""
    from dicomzarr_watch.archive.claim import alone, claimed
    from dicomzarr_watch.archive.convert import convert as convert_series
    from dicomzarr_watch.batch import batch

    found = batch(
        sources,
        output,
        level=verify,
        keep_reconstructed=keep_reconstructed,
        keep_encoded=keep_encoded,
    )
    answers: list[dict[str, Any]] = []
    with claimed(output, is_shared=True) if found.works else nullcontext():
        for work in found.works:
            size = sum(source.identity.size for source in work.sources)
            with alone(output, work.drop), console.progress(work.drop, 3 * size) as advance:
                try:
                    receipt = convert_series(work, advance)
                except DicomzarrError as error:
                    answers.append({"drop": work.drop, "state": "rejected", "code": error.code})
                    complain(error)
                    continue
            own = {"drop": work.drop, "is_unchanged": receipt.is_unchanged}
            answers.append(own | receipt.as_json())
            if not as_json:
                console.say(f"{output / work.drop / receipt.folder}: {_told(receipt)}")
    if not found.works:
        console.complain("dicomzarr-watch: no DICOM found")
    ignored = [{"name": name, "code": code} for name, code in found.others]
    if as_json:
        console.as_json({"series": answers, "ignored": ignored})
    elif ignored:
        kinds = Counter(code for _, code in found.others)
        told = ", ".join(f"{count} {code}" for code, count in sorted(kinds.items()))
        console.say(f"left alone: {told}")
    is_unread = any(code == Kind.UNREADABLE for _, code in found.others)
    raise typer.Exit(is_unread or any(answer["state"] != "done" for answer in answers))


@app.command()
def restore(
    store: StorePath,
    destination: Annotated[Path, typer.Argument(help="Folder for the files.")],
    patterns: Annotated[
        list[str] | None, typer.Argument(help="Names to pick, such as '*.dcm'.")
    ] = None,
    *,
    as_json: Json = False,
) -> None:
    """Bring the DICOM files back: names, times and bytes; those of a damaged store that still come.

    A name that was used again, for a file of another series, has that series behind it.
    """
    from dicomzarr_watch.archive import reader
    from dicomzarr_watch.archive.names import set_apart
    from dicomzarr_watch.archive.restore import matching

    count = size = 0
    lost: list[dict[str, str]] = []
    taken: dict[Path, list[str]] = defaultdict(list)
    for path, below in stores_at(store):
        with of_one_revision(path) as failed:
            opened = reader.Store(path)
            files = matching(opened, patterns or [])
            names = set_apart(taken[below], (file.name for file in files), f"~{path.parent.name}")
            taken[below] += names
            files = [replace(file, name=name) for file, name in zip(files, names, strict=True)]
            count += _restored(opened, destination / below, files, failed)
            size += sum(file.size for file in files) - sum(file.size for file, _ in failed if file)
        lost += [_said(path, file.name if file else "", error) for file, error in failed]
    if as_json:
        console.as_json({"files": count, "bytes": size, "failed": lost})
    else:
        console.say(f"{count} files, {console.megabytes(size)}, restored to {destination}")
    raise typer.Exit(bool(lost) or not count)


def _restored(store: Store, folder: Path, files: list[StoredFile], failed: Failures) -> int:
    from dicomzarr_watch.archive.restore import restore

    with console.progress("restore", sum(file.size for file in files)) as advance:
        return restore(
            store,
            folder,
            files,
            is_durable=True,
            failed=lambda file, error: failed.append((file, error)),
            progress=lambda n: advance("", n),
        )


def _said(store: Path, name: str, error: RejectError) -> dict[str, str]:
    """Say what is not restored, and return it; name: of a file, or none for all of a store."""
    complain(error)
    console.complain(f"  of {store}, {name}" if name else f"  of {store}")
    return {"store": str(store), "file": name, "code": error.code}


@app.command()
def verify(
    stores: Annotated[list[Path], typer.Argument(help="series.zarr, or folders above such.")],
    against: Annotated[
        Path | None,
        typer.Option(help="The original drop, or for several drops the folder that they are in."),
    ] = None,
    *,
    as_json: Json = False,
) -> None:
    """Rebuild every file and compare, with the store's own hashes or with the originals.

    An original that is not there says nothing of the store: its file is compared with the hash.
    """
    if against is not None and not against.is_dir():
        raise typer.BadParameter("there is no such folder", param_hint="--against")
    found = [found for store in stores for found in stores_at(store)]
    answers = [_verified(path, against / below if against else None) for path, below in found]
    if as_json:
        console.as_json(answers)
    else:
        for answer in answers:
            _say_verified(answer)
    raise typer.Exit(any(map(_is_odd, answers)))


def _say_verified(answer: dict[str, Any]) -> None:
    odd = [f"{len(answer[how])} {how}" for how in ODD if answer[how]]
    state = answer["code"] or ", ".join(odd) or "ok"
    console.say(f"{answer['store']}: {answer['files']} files, {state}")
    for name in answer["differ"]:
        console.say(f"  {name}")
    for name in answer["missing"]:
        console.say(f"  {name} (no original)")


def _verified(store: Path, against: Path | None) -> dict[str, Any]:
    """Return what there is to say of a store, or of the revision that takes its place meanwhile."""
    while True:
        standing = Place.at(store)
        answer = _looked_at(store, against)
        if Place.at(store) == standing or not _is_odd(answer):
            return answer


def _is_odd(answer: dict[str, Any]) -> bool:
    return bool(answer["code"] or any(answer[how] for how in ODD))


def _looked_at(store: Path, against: Path | None) -> dict[str, Any]:
    from dicomzarr_watch.archive import reader
    from dicomzarr_watch.archive import verify as verifying

    files, code = 0, ""
    odd: tuple[str, ...] = ()
    missing: list[str] = []
    try:
        opened = reader.Store(store)
        files = len(opened.files)
        expected = _originals(opened, against) if against else {}
        missing = [f.name for f in opened.files if against and f.name not in expected]
        own = {f.name: f.sha256 for f in opened.files}
        with console.progress("verify", sum(f.size for f in opened.files)) as advance:
            odd = verifying.differing(opened, own | expected, progress=lambda n: advance("", n))
    except RejectError as error:
        code = error.code
    said = {"store": str(store), "files": files, "differ": list(odd), "missing": missing}
    return said | {"code": code}


@app.command()
def info(
    store: StorePath,
    *,
    dicom_json: Annotated[
        str | None, typer.Option(help="Print the data set of the file of this name.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Tell what is in a store."""
    from dicomzarr_watch.archive import describe, reader

    if dicom_json is not None:
        path = the_store(store)
        console.as_json(describe.dicom_json(reader.Store(path), dicom_json))
        return
    documents = [
        {"store": str(path)} | describe.described(reader.Store(path))
        for path, _ in stores_at(store)
    ]
    if as_json:
        console.as_json(documents)
        return
    for document in documents:
        console.say(document["store"])
        console.say(
            f"  {document['files']} files, {console.megabytes(document['bytes'])},"
            f" {document['files_in_residue']} of them not as frames"
        )
        for image in document["images"]:
            _say_image(image)
        for kind in document["unseen"]:
            _say_unseen(kind)


def _say_image(image: dict[str, Any]) -> None:
    sizes = zip(image["axes"], image["shape"], strict=True)
    shape = " × ".join(f"{axis} {size}" for axis, size in sizes)
    unmeasured = image.get("unmeasured", ())  # stores of before do not say it
    spacing = ", ".join(
        "?" if axis in unmeasured else f"{v:g}"
        for axis, v in zip("xyz", image["spacing"], strict=True)
    )
    console.say(f"  image {image['path']}: {shape}, {image['dtype']}, {spacing} mm")


def _say_unseen(kind: dict[str, Any]) -> None:
    facts = "".join(f", {name} {value}" for name, value in kind["first"].items())
    console.say(
        f"  {kind['files']} × {kind['what'] or 'no SOP class'}, kept unseen"
        f" ({kind['why']}), {kind['transfer_syntax'] or 'no transfer syntax'}{facts}"
    )


@app.command()
def demo() -> None:
    """Drop a small real series into an inbox and show what happens."""
    from dicomzarr_watch import demo as show

    raise typer.Exit(show.demo())


def _originals(store: Store, folder: Path) -> dict[str, bytes]:
    """Return the SHA-256 that files are to have whose originals are there, by name."""
    found = {}
    for file in store.files:
        path = folder / file.name
        if path.is_file():
            with path.open("rb") as stream:
                sha = hashlib.file_digest(stream, "sha256").digest()
            found[file.name] = file.sha256 if sha == file.original_sha256 else sha
    return found


def _told(receipt: Receipt) -> str:
    if receipt.is_unchanged:
        return f"unchanged, revision {receipt.revision}"
    counts = receipt.counts
    size_in, size_out = (console.megabytes(counts[key]) for key in ("bytes_in", "bytes_out"))
    return (
        f"revision {receipt.revision}, {counts['files']} files, {counts['images']} images,"
        f" {size_in} in, {size_out} out,"
        f" {sum(receipt.seconds.values()):.2f} s"
    )
