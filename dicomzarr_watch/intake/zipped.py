"""zip files as streams of members, read by the standard library.

The rule: what cannot be understood is refused and never passed over, since it would be lost.
"""

from __future__ import annotations

import os
import stat
import time
from functools import partial
from typing import BinaryIO, Final
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile, ZipFile, ZipInfo

from dicomzarr_watch.errors import RejectError
from dicomzarr_watch.intake.roll import (
    Member,
    MemberKind,
    Members,
    Stream,
    damaged,
    too_many,
    truncated,
)

_START: Final = b"PK\3\4"
_ENTRY: Final = b"PK\1\2"
_ENTRY_BYTES: Final = 1024
"""More than the entry of a member takes, in the mean over many."""
_END: Final = b"PK\5\6"
_END_BYTES: Final = 22
_ENCRYPTED: Final = 0x1 | 0x40 | 0x2000
_UTF_8: Final = 0x800


class _Directory:
    """A zip file, the directory of which is read in one piece: but not if that is too large.

    most: how many entries there may be, None once the directory has been read.
    """

    def __init__(self, file: BinaryIO, most: int) -> None:
        self.most: int | None = most
        self.seek, self.tell, self.seekable = file.seek, file.tell, file.seekable
        self._read = file.read

    def read(self, count: int = -1, /) -> bytes:
        if self.most is None:
            return self._read(count)
        if count > (self.most + 64) * _ENTRY_BYTES:
            raise damaged("a directory of more bytes than its members need")
        found = self._read(count)
        if found.count(_ENTRY) > self.most:
            raise too_many(self.most)
        return found


def zipped(file: BinaryIO, most: int) -> Members:
    """Yield the members of a zip file; most: how many there may be."""
    start = file.read(len(_START))
    directory = _Directory(file, most)
    try:
        found = ZipFile(directory)
    except BadZipFile as error:
        if start == _START:
            raise truncated() from error  # the directory is at the end
        raise
    directory.most = None
    with found:
        infos = found.infolist()
        if min((info.header_offset for info in infos), default=0):
            raise damaged("something before the first member, such as another zip file")
        file.seek(-_END_BYTES - len(found.comment), os.SEEK_END)
        if file.read(len(_END)) != _END:
            raise damaged("something behind the end")
        if any(info.file_size for info in infos if info.orig_filename.endswith("/")):
            raise damaged("a folder that holds bytes")
        for info in infos:
            yield _member(info), partial(_opened, found, info)


def _opened(found: ZipFile, info: ZipInfo) -> Stream:
    """Open a member; methods whose decoders take as much memory as the data says are not taken."""
    if info.compress_type not in (ZIP_STORED, ZIP_DEFLATED):
        raise RejectError(
            "archive-method",
            expected="members that are stored or deflated",
            found=f"method {info.compress_type}",
            todo="pack it again, or unpack it by hand",
        )
    return found.open(info)


def _member(info: ZipInfo) -> Member:
    name = info.orig_filename
    if not info.flag_bits & _UTF_8:
        name = os.fsdecode(name.encode("cp437"))  # many write UTF-8 and do not say so
    return Member(
        name,
        _kind(info),
        info.file_size,
        _local_ns(info.date_time),
        bool(info.flag_bits & _ENCRYPTED),
    )


def _kind(info: ZipInfo) -> MemberKind:
    match stat.S_IFMT(info.external_attr >> 16):
        case stat.S_IFLNK:
            return MemberKind.LINK
        case stat.S_IFBLK | stat.S_IFCHR | stat.S_IFIFO | stat.S_IFSOCK:
            return MemberKind.DEVICE
    return MemberKind.FOLDER if info.orig_filename.endswith("/") else MemberKind.FILE


def _local_ns(date: tuple[int, int, int, int, int, int]) -> int:
    """Return a time of day without a zone, as zip has it; what is no time is the epoch."""
    try:
        return int(time.mktime((*date, 0, 1, -1))) * 10**9
    except (OverflowError, ValueError):
        return 0
