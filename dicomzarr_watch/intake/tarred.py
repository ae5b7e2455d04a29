"""tar streams as streams of members.

The rule: what cannot be understood is refused and never passed over, since it would be lost.
Nothing is read in whole: what is hostile may say any size. The standard library's reader ends
silently at a header that it cannot read, and takes headers of any size into memory; of it only the
parser of a header is used.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from tarfile import (
    AREGTYPE,
    BLKTYPE,
    BLOCKSIZE,
    CHRTYPE,
    CONTTYPE,
    DIRTYPE,
    FIFOTYPE,
    GNUTYPE_LONGLINK,
    GNUTYPE_LONGNAME,
    GNUTYPE_SPARSE,
    LNKTYPE,
    NUL,
    REGTYPE,
    SYMTYPE,
    XGLTYPE,
    XHDTYPE,
    TarInfo,
)
from typing import Final

from dicomzarr_watch.intake.roll import Member, MemberKind, Members, Stream, damaged, truncated

HEADER_MOST_BYTES: Final = 1 << 20
"""Of what tar says of a member besides its fixed header; names are at most a few thousand."""

_PIECE_BYTES: Final = 1 << 16
_SAYING: Final = frozenset({XHDTYPE, XGLTYPE, GNUTYPE_LONGNAME, GNUTYPE_LONGLINK})
"""Types of headers that say something of the next one, or of all that follow."""
_KINDS: Final = {
    **dict.fromkeys((REGTYPE, AREGTYPE, CONTTYPE), MemberKind.FILE),
    DIRTYPE: MemberKind.FOLDER,
    **dict.fromkeys((SYMTYPE, LNKTYPE), MemberKind.LINK),
    **dict.fromkeys((CHRTYPE, BLKTYPE, FIFOTYPE), MemberKind.DEVICE),
    GNUTYPE_SPARSE: MemberKind.SPARSE,
}


@dataclass(slots=True)
class _Content:
    """The next bytes of a stream; fewer than were said are an error."""

    stream: Stream
    left: int

    def read(self, count: int, /) -> bytes:
        wanted = min(count, self.left)
        found = self.stream.read(wanted)
        if wanted and not found:
            raise truncated()
        self.left -= len(found)
        return found


def tarred(stream: Stream) -> Members:
    """Yield the members of a tar stream."""
    said: dict[str, bytes] = {}
    while (block := _exactly(stream, BLOCKSIZE)).strip(NUL):
        info = TarInfo.frombuf(block, "utf-8", "surrogateescape")
        if info.type in _SAYING:
            said |= _said(info.type, _header(stream, info.size))
            continue
        member = _member(info, said)
        said = {}
        content = _Content(stream, member.size)
        yield member, partial(_same, content)
        _exactly(stream, content.left)
        _exactly(stream, -member.size % BLOCKSIZE)
    while rest := stream.read(_PIECE_BYTES):
        if rest.strip(NUL):
            raise damaged("something behind the end, such as another tar file")


def _same(content: Stream) -> Stream:
    return content


def _exactly(stream: Stream, count: int) -> bytes:
    content = _Content(stream, count)
    return b"".join(iter(lambda: content.read(count), b""))


def _header(stream: Stream, size: int) -> bytes:
    """Read a header of variable length, and what fills it up."""
    if not 0 <= size <= HEADER_MOST_BYTES:
        raise damaged("a header of more bytes than names need")
    return _exactly(stream, size + -size % BLOCKSIZE)[:size]


def _said(kind: bytes, text: bytes) -> dict[str, bytes]:
    """Return what a header says of the next one, in the words of an extended header."""
    if kind == GNUTYPE_LONGNAME:
        return {"path": text.rstrip(NUL)}
    if kind == GNUTYPE_LONGLINK:
        return {}  # links are refused, wherever they lead
    found = dict(_records(text))
    if kind == XHDTYPE:
        return found
    if found.keys() & {"path", "size"}:
        raise damaged("one name or size for all members")
    return {}  # of all that follow: such as a comment


def _records(text: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield the lines of an extended header: `LENGTH KEY=VALUE`."""
    while text:
        number, _, _ = text.partition(b" ")
        record, text = text[: int(number)], text[int(number) :]
        key, equals, value = record[len(number) + 1 : -1].partition(b"=")
        if not equals or not record.endswith(b"\n"):
            raise damaged("an extended header that is none")
        yield key.decode(), value


def _member(info: TarInfo, said: Mapping[str, bytes]) -> Member:
    kind = _KINDS.get(info.type, MemberKind.UNKNOWN)
    if any(key.startswith("GNU.sparse.") for key in said):
        kind = MemberKind.SPARSE
    size = int(said.get("size", info.size)) if kind is MemberKind.FILE else 0
    if size < 0:
        raise damaged("a size below zero")
    name = os.fsdecode(said["path"]) if "path" in said else info.name
    mtime_s = said["mtime"].decode() if "mtime" in said else str(info.mtime)
    return Member(name, kind, size, int(Decimal(mtime_s) * 10**9))
