"""The commands.

Exit codes: 0 all well, 1 something was rejected or differs, 2 usage, 78 settings.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from dicomzarr_watch import __version__, config, console
from dicomzarr_watch.archive.work import KeepEncoded, Level
from dicomzarr_watch.errors import DicomzarrError, RejectError, StopError

if TYPE_CHECKING:
    from dicomzarr_watch.archive.document import Receipt

EX_CONFIG: Final = 78

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Turn folders of DICOM into verified Zarr archives, byte for byte.",
)

Json = Annotated[bool, typer.Option("--json", help="Answer for a program.")]
Config = Annotated[Path | None, typer.Option("--config", help="Settings file (TOML).")]
Inbox = Annotated[Path | None, typer.Option(help="Folder that people drop folders into.")]
Output = Annotated[Path | None, typer.Option(help="Folder that results appear in.")]
State = Annotated[Path | None, typer.Option(help="Folder of the ledger.")]
Verify = Annotated[Level | None, typer.Option(help="How strictly results are verified.")]
Workers = Annotated[int | None, typer.Option(help="Conversions at a time.")]
Store = Annotated[Path, typer.Argument(help="series.zarr, or a folder with such below it.")]


def main() -> None:
    """Run the command line; errors of ours become one message and an exit code."""
    try:
        app()
    except StopError as error:
        _complain(error)
        sys.exit(EX_CONFIG if error.code == "settings-wrong" else 1)
    except DicomzarrError as error:
        _complain(error)
        sys.exit(1)
    except OSError as error:
        console.complain(f"dicomzarr-watch: {error}")
        sys.exit(1)


@app.command()
def run(
    *,
    config_file: Config = None,
    inbox: Inbox = None,
    output: Output = None,
    state: State = None,
    verify: Verify = None,
    workers: Workers = None,
    once: Annotated[
        bool, typer.Option("--once", help="Work off what is there, taking it as all there is.")
    ] = False,
) -> None:
    """Watch the inbox and archive every series that is complete."""
    flags = {"inbox": inbox, "output": output, "state": state, "verify": verify}
    settings = _settings(config_file, flags | {"workers": workers})
    # structlog, watchdog and the engine are for this command alone
    from dicomzarr_watch import daemon
    from dicomzarr_watch.operate import logs

    settings.state.mkdir(parents=True, exist_ok=True, mode=0o700)
    log = logs.open_log(settings, logs.identifier_key(settings.state))
    try:
        code = daemon.run(settings, log, is_once=once)
    except (OSError, sqlite3.Error) as error:
        log.error(
            logs.Event.DAEMON_FAILED,
            code="state-or-inbox-failed",
            told=f"{type(error).__name__}; check the state folder, the inbox and their disks",
            **log.private(str(error)),
        )
        raise typer.Exit(1) from None
    except StopError as error:
        log.error(logs.Event.DAEMON_FAILED, code=error.code, told=str(error))
        raise typer.Exit(1) from None
    raise typer.Exit(code)


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
    for work in found.works:
        size = sum(source.identity.size for source in work.sources)
        with console.progress(work.drop, 3 * size) as advance:
            try:
                receipt = convert_series(work, advance)
            except DicomzarrError as error:
                answers.append({"drop": work.drop, "state": "rejected", "code": error.code})
                _complain(error)
                continue
        own = {"drop": work.drop, "is_unchanged": receipt.is_unchanged}
        answers.append(own | receipt.as_json())
        if not as_json:
            console.say(f"{output / work.drop / receipt.folder}: {_told(receipt)}")
    ignored = [{"name": name, "code": code} for name, code in found.others]
    if as_json:
        console.as_json({"series": answers, "ignored": ignored})
    elif ignored:
        kinds = Counter(code for _, code in found.others)
        told = ", ".join(f"{count} {code}" for code, count in sorted(kinds.items()))
        console.say(f"left alone: {told}")
    is_unread = any(code == "unreadable" for _, code in found.others)
    raise typer.Exit(is_unread or any(answer["state"] != "done" for answer in answers))


@app.command()
def restore(
    store: Store,
    destination: Annotated[Path, typer.Argument(help="Folder for the files.")],
    patterns: Annotated[
        list[str] | None, typer.Argument(help="Names to pick, such as '*.dcm'.")
    ] = None,
    *,
    as_json: Json = False,
) -> None:
    """Bring the DICOM files back: names, times and bytes."""
    from dicomzarr_watch.archive import reader
    from dicomzarr_watch.archive import restore as restoring

    count = size = 0
    for path, below in _stores(store):
        opened = reader.Store(path)
        files = restoring.matching(opened, patterns or [])
        total = sum(file.size for file in files)
        with console.progress("restore", total) as advance:
            count += restoring.restore(
                opened,
                destination / below,
                files,
                progress=lambda n, a=advance: a("", n),  # type: ignore[misc]
            )
        size += total
    if as_json:
        console.as_json({"files": count, "bytes": size})
    else:
        console.say(f"{count} files, {console.megabytes(size)}, restored to {destination}")
    if not count:
        raise typer.Exit(1)


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
    """Rebuild every file and compare, with the store's own hashes or with the originals."""
    from dicomzarr_watch.archive import reader
    from dicomzarr_watch.archive import verify as verifying

    answers: list[dict[str, Any]] = []
    for path, below in (found for store in stores for found in _stores(store)):
        try:
            opened = reader.Store(path)
            expected = _originals(opened, against / below) if against else None
            with console.progress("verify", sum(f.size for f in opened.files)) as advance:
                odd = verifying.differing(
                    opened,
                    expected,
                    progress=lambda n, a=advance: a("", n),  # type: ignore[misc]
                )
            answers.append(
                {"store": str(path), "files": len(opened.files), "differ": list(odd), "code": ""}
            )
        except RejectError as error:
            answers.append({"store": str(path), "files": 0, "differ": [], "code": error.code})
    if as_json:
        console.as_json(answers)
    for answer in [] if as_json else answers:
        state = answer["code"] or (f"{len(answer['differ'])} differ" if answer["differ"] else "ok")
        console.say(f"{answer['store']}: {answer['files']} files, {state}")
        for name in answer["differ"]:
            console.say(f"  {name}")
    raise typer.Exit(any(answer["differ"] or answer["code"] for answer in answers))


@app.command()
def info(
    store: Store,
    *,
    dicom_json: Annotated[
        str | None, typer.Option(help="Print the data set of the file of this name.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Tell what is in a store."""
    from dicomzarr_watch.archive import describe, reader

    if dicom_json is not None:
        path = _the_store(store)
        console.as_json(describe.dicom_json(reader.Store(path), dicom_json))
        return
    documents = [
        {"store": str(path)} | describe.described(reader.Store(path)) for path, _ in _stores(store)
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
            shape = " × ".join(
                f"{axis} {size}" for axis, size in zip(image["axes"], image["shape"], strict=True)
            )
            spacing = ", ".join(f"{v:g}" for v in image["spacing"])
            console.say(f"  image {image['path']}: {shape}, {image['dtype']}, {spacing} mm")
        for kind in document["unseen"]:
            facts = "".join(f", {name} {value}" for name, value in kind["first"].items())
            console.say(
                f"  {kind['files']} × {kind['what'] or 'no SOP class'}, kept unseen"
                f" ({kind['why']}), {kind['transfer_syntax'] or 'no transfer syntax'}{facts}"
            )


@app.command()
def status(
    config_file: Config = None,
    state: State = None,
    *,
    as_json: Json = False,
) -> None:
    """Tell what the daemon is doing."""
    from dicomzarr_watch.ledger.jobs import State as JobState
    from dicomzarr_watch.ledger.store import Ledger, is_owned

    folder = state or config.state_folder(config_file, os.environ)
    ledger = Ledger.read(folder)
    arriving = ledger.arriving()
    counts = {found.value: count for found, count in ledger.counts().items()}
    rejected = ledger.jobs(JobState.REJECTED)
    document = {
        "running": is_owned(folder),
        "arriving": [
            {"drop": a.drop, "series": a.series_uid, "files": a.files, "waits_for": a.waits_for}
            for a in arriving
        ],
        "jobs": counts,
        "rejected": [
            {"job": job.id, "drop": job.drop, "series": job.series_uid, "code": job.code}
            for job in rejected
        ],
    }
    if as_json:
        console.as_json(document)
        return
    console.say(f"daemon: {'running' if document['running'] else 'not running'}")
    for row in arriving:
        console.say(f"arriving: {row.drop}, {row.files} files, waits for {row.waits_for}")
    console.say(", ".join(f"{count} {name}" for name, count in counts.items()))
    for job in rejected:
        console.say(f"rejected: job {job.id}, {job.drop}, {job.code}")


@app.command()
def check(
    *,
    config_file: Config = None,
    inbox: Inbox = None,
    output: Output = None,
    state: State = None,
    as_json: Json = False,
) -> None:
    """Look whether settings and machine are fit for the daemon; say what to do where not."""
    from dicomzarr_watch.daemon import surroundings

    settings = _settings(config_file, {"inbox": inbox, "output": output, "state": state})
    found = list(surroundings.checks(settings, surroundings.mounts(), is_thorough=True))
    if as_json:
        console.as_json([asdict(one) | {"is_well": one.is_well} for one in found])
    for one in [] if as_json else found:
        console.say(f"{'ok' if one.is_well else 'NO':<3} {one.name}: {one.found}")
        if one.todo:
            console.say(f"    {one.todo}")
    raise typer.Exit(not all(one.is_well for one in found))


@app.command()
def demo() -> None:
    """Drop a small real series into an inbox and show what happens."""
    from dicomzarr_watch import demo as show

    raise typer.Exit(show.demo())


def _version(wanted: bool) -> None:
    if wanted:
        console.say(__version__)
        raise typer.Exit


@app.callback()
def _root(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Take what stands before the command."""


def _settings(file: Path | None, flags: dict[str, object]) -> config.Settings:
    return config.load(file, environment=os.environ, flags=flags)


def _stores(place: Path) -> Iterator[tuple[Path, Path]]:
    """Yield stores at or below a place, with the folder, relative to it, that their drop is in."""
    direct = (place, place / "series.zarr")
    for path in direct:
        if (path / "zarr.json").is_file():
            yield path, Path()
            return
    found = sorted(
        path
        for path in place.rglob("series.zarr")
        if not any(part.startswith(".") for part in path.relative_to(place).parts)
    )
    if not found:
        raise RejectError(
            "no-store",
            expected="series.zarr, or a folder with such below it",
            found="none",
            private=str(place),
        )
    for path in found:
        yield path, path.relative_to(place).parent.parent


def _the_store(place: Path) -> Path:
    """Return the one store at a place."""
    found = [path for path, _ in _stores(place)]
    if len(found) > 1:
        raise RejectError("several-stores", expected="one store", found=str(len(found)))
    return found[0]


def _originals(store: Any, folder: Path) -> dict[str, bytes]:
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


def _complain(error: DicomzarrError) -> None:
    console.complain(f"dicomzarr-watch: {error}")
    if error.private:
        console.complain(f"  at {error.private}")
