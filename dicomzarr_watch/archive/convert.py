"""The story of one series: headers, plan, write while hashing, verify, publish."""

from __future__ import annotations

import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from dicomzarr_watch.archive import document, layout, lines, publish, verify, writer
from dicomzarr_watch.archive.decoding import decoding
from dicomzarr_watch.archive.disk import Syncing, staging, write_seen
from dicomzarr_watch.archive.document import Receipt
from dicomzarr_watch.archive.layout import Plan
from dicomzarr_watch.archive.reader import Store
from dicomzarr_watch.archive.revision import carried
from dicomzarr_watch.archive.second import Look
from dicomzarr_watch.archive.tables import Written
from dicomzarr_watch.archive.threads import worth
from dicomzarr_watch.archive.transcode import Transcoded, transcoded
from dicomzarr_watch.archive.twins import Twins, twins
from dicomzarr_watch.archive.work import Finding, KeepEncoded, Level, Source, Work, opened
from dicomzarr_watch.archive.writer import UndecodedError
from dicomzarr_watch.dicom.alike import Templates
from dicomzarr_watch.dicom.frames import FrameRun
from dicomzarr_watch.dicom.instance import Instance, read_header, read_series
from dicomzarr_watch.dicom.model import Elements
from dicomzarr_watch.errors import RejectError, from_output_error

Progress = Callable[[str, int], None]
"""Told the stage and how many more bytes it has worked off."""


@dataclass(slots=True)
class _Clock:
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - start


def convert(work: Work, progress: Progress = lambda _stage, _bytes: None) -> Receipt:
    """Convert one series and publish it, verified, below `work.output / work.drop`.

    A series that is published already becomes a new revision that holds the old one's files as
    well; with no new file it stays as it is, if all of it comes back (which `Level.OFF` does not
    ask). Where that is not so, a new revision has what is at hand and what still comes back; if a
    file would be in neither, the damaged one stays, and RejectError is raised.

    Raises RetryError, SourceChangedError or RejectError; then nothing has changed under the final
    name.
    """
    try:
        return _convert(work, progress)
    except OSError as error:
        raise from_output_error(error) from error


def _convert(work: Work, progress: Progress) -> Receipt:
    clock = _Clock()
    with opened(work.sources[0]) as stream:
        facts = read_series(stream)
    results = work.output / work.drop
    folder = publish.standing(results, layout.series_folder(facts), facts.series_instance_uid)
    final = results / folder
    previous = publish.published(final)
    with staging(work.output, work.drop, folder) as stage, Syncing() as syncing:
        sources = work.sources
        if previous:
            with clock("previous"):
                taken = carried(final / layout.STORE_NAME, work, stage, previous)
            if taken is None:
                return replace(previous, is_unchanged=True)
            work = replace(work, findings=(*work.findings, *taken.findings))
            sources = tuple(sorted((*sources, *taken.sources), key=lambda s: s.name))
        with clock("transcode"):
            keep = work.keep_encoded if work.is_decoded else KeepEncoded.ALWAYS
            found = transcoded(sources, keep, stage / "native")
        draft = _Draft(work, stage, folder, found, syncing, clock, progress)
        receipt = draft.finished(previous)
        with clock("publish"):
            syncing.wait()
            publish.publish(stage / "new", final)
        return replace(receipt, seconds=clock.seconds)


@dataclass(frozen=True, slots=True)
class _Checked:
    """What verification says for the receipt, and the names of files that did not come back."""

    said: dict[str, Any]
    odd: frozenset[str] = frozenset()
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, slots=True)
class _Draft:
    """A series on its way, in the staged folder."""

    work: Work
    stage: Path
    folder: str
    transcoded: Transcoded
    syncing: Syncing
    clock: _Clock
    progress: Progress

    @property
    def sources(self) -> tuple[Source, ...]:
        return self.transcoded.sources

    def finished(self, previous: Receipt | None) -> Receipt:
        """Write, verify, and say all that is to be said of it."""
        with self.clock("headers"):
            instances, elements = self._headers()
            if not self.work.is_decoded:
                instances = [_undecoded(instance) for instance in instances]
            same = twins(self.sources, instances)
        size, is_apart = _decoded_bytes(instances), self.work.is_apart
        with decoding(size, self.work.threads, is_apart=is_apart) as decode_pool:
            instances, plan, written, checked = self._proven(instances, same, decode_pool)
        found = (
            *self.work.findings,
            *self.transcoded.findings,
            *document.findings(plan, self.sources, instances, written),
            *self._repeated(same),
            *checked.findings,
        )
        with self.clock("metadata"):
            series = document.series_json(
                plan, self.sources, instances, written, elements=elements, found=found
            )
            write_seen(self.stage / "new" / layout.SERIES_JSON, lines.as_json(series))
        receipt = Receipt(
            series_instance_uid=instances[plan.files[0]].series.series_instance_uid,
            folder=self.folder,
            content=document.content_hash(
                (self.sources[n].name, self.sources[n].original_sha256 or sha)
                for n, sha in zip(plan.files, written.sha256, strict=True)
            ),
            revision=previous.revision + 1 if previous else 1,
            counts=document.counts(plan, self.sources, instances)
            | {"bytes_out": _size(self.stage / "new")},
            verified=checked.said,
            findings=found,
            seconds=self.clock.seconds,
            versions=document.versions(),
        )
        write_seen(self.stage / "new" / layout.DONE_JSON, lines.as_json(receipt.as_json()))
        return receipt

    def _proven(
        self, instances: list[Instance], same: Twins, decode_pool: Executor
    ) -> tuple[list[Instance], Plan, Written, _Checked]:
        """Write and verify; once more with the files kept whole that did not come back.

        A store that cannot be read back is written once more as it was.
        """
        odd_files = 0
        for _ in range(2):
            instances, plan, written = self._written(instances, same, decode_pool)
            try:
                checked = self._verified(plan, instances, written, decode_pool)
            except RejectError:  # it cannot even be read; what was written is not on the disk
                odd_files = len(self.sources)
                continue
            if not checked.odd:
                return instances, plan, written, checked
            odd_files = len(checked.odd)
            instances = [
                i.kept_whole("view-did-not-verify") if s.name in checked.odd else i
                for s, i in zip(self.sources, instances, strict=True)
            ]
        publish.keep_evidence(self.stage / "new", self.work.output, self.work.drop, self.folder)
        raise RejectError(
            "verification-failed",
            expected="every file to come back byte for byte",
            found=f"{odd_files} that did not",
            todo=f"look at {publish.EVIDENCE} in the output and check memory and disk",
        )

    def _repeated(self, same: Twins) -> tuple[Finding, ...]:
        same_bytes = sorted(same.copies.keys() - set(same.unlike))
        found = {"same-file-twice": same_bytes, "sop-instance-uid-repeats": same.unlike}
        return tuple(
            Finding(code, tuple(self.sources[n].name for n in numbers))
            for code, numbers in found.items()
            if numbers
        )

    def _headers(self) -> tuple[list[Instance], Elements]:
        instances, elements, templates = [], Elements(), Templates()
        for source in self.sources:
            with opened(source) as stream:
                header = read_header(stream, templates)
            instances.append(header.instance)
            elements.add(header)
            self.progress("headers", header.instance.size)
        return instances, elements

    @property
    def _threads(self) -> int:
        """How many threads read and compress."""
        size = sum(source.identity.size for source in self.sources)
        return worth(self.work.threads, size, len(self.sources))

    def _written(
        self, instances: list[Instance], same: Twins, decode_pool: Executor
    ) -> tuple[list[Instance], Plan, Written]:
        """Write; anew, without a view of what cannot be decoded, as often as there is such."""
        while True:
            with self.clock("plan"):
                plan = layout.plan(instances, same.copies)
            store = self._empty_store()
            try:
                with self.clock("write"):
                    written = writer.write(
                        store,
                        plan,
                        self.sources,
                        instances,
                        threads=self._threads,
                        decode_pool=decode_pool,
                        put=self.syncing.put_large,
                        progress=lambda count: self.progress("write", count),
                    )
            except UndecodedError as error:
                instances = [
                    i.not_viewed("not-decodable") if n in error.files else i
                    for n, i in enumerate(instances)
                ]
            else:
                return instances, plan, written

    def _verified(
        self, plan: Plan, instances: list[Instance], written: Written, decode_pool: Executor
    ) -> _Checked:
        level = self.work.verify
        if level is Level.OFF:
            return _Checked({"level": level.value})
        with self.clock("verify"):
            store = Store(self.stage / "new" / layout.STORE_NAME)
            verdict = verify.verdict(
                store,
                dict(zip((self.sources[n].name for n in plan.files), written.sha256, strict=True)),
                keep_in=self._kept_in(),
                temporary=self.stage,
                threads=self.work.threads,
                decode_pool=decode_pool,
                progress=lambda count: self.progress("verify", count),
            )
        looks = Counter(self.transcoded.looks)
        looks.update({look: len(names) for look, names in verdict.looks.items()})
        said: dict[str, Any] = {
            "level": level.value,
            "files": len(store.files),
            "method": "rebuilt from the store alone, SHA-256 compared",
            "second_look": {look.value: count for look, count in looks.items()},
        }
        odd = verdict.differ
        if level is Level.INDEPENDENT and not odd:
            with self.clock("witness"):
                vouched = verdict.looks.get(Look.AGREES, ())
                said["independent"], odd = self._testimony(store, plan, instances, written, vouched)
        disagreeing = verdict.looks.get(Look.DISAGREES, ())
        found = (Finding(Look.DISAGREES.value, disagreeing),) if disagreeing else ()
        return _Checked(said, frozenset(odd), found)

    def _kept_in(self) -> Path | None:
        """Return the folder to leave rebuilt files in, without those of an earlier revision."""
        if self.work.keep_reconstructed is None:
            return None
        place = self.work.keep_reconstructed / self.work.drop / self.folder
        shutil.rmtree(place, ignore_errors=True)
        return place

    def _testimony(
        self,
        store: Store,
        plan: Plan,
        instances: list[Instance],
        written: Written,
        vouched: Sequence[str],
    ) -> tuple[dict[str, Any], tuple[str, ...]]:
        # half a second and 100 MB that only this level pays for
        from dicomzarr_watch.archive import witness  # noqa: PLC0415

        found = witness.testify(
            store,
            plan,
            instances,
            [source.path for source in self.sources],
            not_verbatim=self._numbers(written.not_verbatim),
            vouched={n for n in self._numbers(vouched) if _needs_decoder(instances[n])},
        )
        odd = {
            self.sources[frame.file].name
            for image in plan.images
            if image.path in found.differ
            for frame in image.image.frames
        }
        return found.as_json(), tuple(odd)

    def _numbers(self, names: Sequence[str]) -> set[int]:
        wanted = set(names)
        return {n for n, source in enumerate(self.sources) if source.name in wanted}

    def _empty_store(self) -> Path:
        new = self.stage / "new"
        self.syncing.wait()
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir()
        return new / layout.STORE_NAME


def _decoded_bytes(instances: Sequence[Instance]) -> int:
    """Return how many bytes of samples decoders have to make."""
    runs = [i.frames for i in instances if isinstance(i.frames, FrameRun)]
    return sum(run.count * run.format.view_bytes for run in runs if run.needs_decoder)


def _undecoded(instance: Instance) -> Instance:
    """Leave an instance unseen that only a decoder could see."""
    return instance.not_viewed("not-decoded") if _needs_decoder(instance) else instance


def _needs_decoder(instance: Instance) -> bool:
    run = instance.frames
    return isinstance(run, FrameRun) and run.needs_decoder


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
