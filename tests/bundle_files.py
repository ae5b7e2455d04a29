"""zip and tar files for tests: good ones of every form, and such as only an enemy makes."""

from __future__ import annotations

import gzip
import io
import struct
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from tarfile import TarInfo

from dicomzarr_watch.intake.bundle import Form

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

MTIME_S = 1_700_000_000
Content = Mapping[str, bytes]


def bundled(form: Form, files: Content) -> bytes:
    """Pack files as a person would."""
    if form is Form.ZIP:
        return zip_file((name, content) for name, content in files.items())
    return squeezed(form, tar_file(entry(name, content) for name, content in files.items()))


def squeezed(form: Form, tar: bytes) -> bytes:
    """Compress a tar file as its form demands."""
    match form:
        case Form.TAR_GZ:
            return gzip.compress(tar)
        case Form.TAR_ZST:
            return zstd.compress(tar)
    return tar


# --- tar ---


def entry(name: str, content: bytes = b"", kind: bytes = tarfile.REGTYPE, **said: object) -> bytes:
    """Make a member of a tar file: header, content and what fills it up."""
    info = TarInfo(name)
    info.size, info.mtime, info.type = len(content), MTIME_S, kind
    for key, value in said.items():
        setattr(info, key, value)
    return header(info) + padded(content)


def header(info: TarInfo) -> bytes:
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


def padded(content: bytes) -> bytes:
    return content + bytes(-len(content) % 512)


def sealed(block: bytes) -> bytes:
    """Give a header that was changed by hand its checksum."""
    blank = block[:148] + b" " * 8 + block[156:]
    return blank[:148] + b"%06o\0 " % sum(blank) + blank[156:]


def extended(kind: bytes = tarfile.XHDTYPE, **said: bytes) -> bytes:
    """Make an extended header."""
    return entry("pax", b"".join(_record(k, v) for k, v in said.items()), kind)


def _record(key: str, value: bytes) -> bytes:
    rest = b" " + key.replace("__", ".").encode() + b"=" + value + b"\n"
    length = len(rest) + 1
    while len(b"%d" % length) + len(rest) != length:
        length += 1
    return b"%d" % length + rest


def tar_file(entries: Iterable[bytes], end: bytes = bytes(1024)) -> bytes:
    return b"".join(entries) + end


# --- zip ---


def zip_file(
    members: Iterable[tuple[str | zipfile.ZipInfo, bytes]],
    method: int = zipfile.ZIP_DEFLATED,
    comment: bytes = b"",
) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", method) as file:
        for name, content in members:
            file.writestr(name, content)
        file.comment = comment
    return target.getvalue()


def unix(name: str, mode: int) -> zipfile.ZipInfo:
    """Make a member that says what it is, as programs on Unix do."""
    info = zipfile.ZipInfo(name)
    info.create_system, info.external_attr = 3, mode << 16
    return info


def raw_zip(*members: tuple[bytes, bytes], **said: int) -> bytes:
    """Make a zip file of stored members by hand; said: fields that lie, the same of all."""
    body, directory = b"", b""
    for name, content in members:
        crc = said.get("crc", zlib.crc32(content))
        size = said.get("size", len(content))
        flags, method = said.get("flags", 0), said.get("method", 0)
        numbers = struct.pack("<HHHHHIII", 20, flags, method, 0, 0x21, crc, len(content), size)
        directory += struct.pack("<4sH", b"PK\1\2", 20) + numbers
        directory += struct.pack("<HHHHHII", len(name), 0, 0, 0, 0, 0, len(body)) + name
        body += b"PK\3\4" + numbers + struct.pack("<HH", len(name), 0) + name + content
    count = said.get("count", len(members))
    end = struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, count, count, len(directory), len(body), 0)
    return body + directory + end
