"""zip and tar files that are refused as a whole, each with the code that says why."""

from __future__ import annotations

import gzip
import os
import stat
import sys
import tarfile
import zipfile
from tarfile import TarInfo

from bundle_files import entry, extended, raw_zip, sealed, tar_file, unix, zip_file
from inbox_files import OTHER_UID, dicom

from dicomzarr_watch.intake.roll import Limits

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

LIMITS = Limits(members=12, bytes=4 << 20, ratio=100, depth=2)
"""What may come out of one of them."""

pieces = [entry("1.dcm", dicom()), entry("2.dcm", dicom(OTHER_UID))]
whole = tar_file(pieces)
second_is_broken = bytearray(whole)
second_is_broken[len(pieces[0]) + 5] ^= 1


def big(size: int, kind: bytes = tarfile.REGTYPE, name: str = "big") -> bytes:
    """Say a size that is not there."""
    info = TarInfo(name)
    info.size, info.type = size, kind
    return info.tobuf(tarfile.GNU_FORMAT)


def negative(block: bytes) -> bytes:
    return sealed(block[:124] + b"\xff" * 12 + block[136:512])


def said_larger(name: str) -> bytes:
    found = bytearray(zip_file([(name, b"four")], zipfile.ZIP_STORED))
    for signature, at in ((b"PK\1\2", 24), (b"PK\3\4", 22)):
        start = found.index(signature) + at
        found[start : start + 4] = (9).to_bytes(4, "little")
    return bytes(found)


def renamed_inside() -> bytes:
    found = bytearray(zip_file([("good", b"1")]))
    found[30:34] = b"evil"
    return bytes(found)


def nested(depth: int) -> bytes:
    content = b"the end"
    for _ in range(depth):
        content = zip_file([("x.zip", content)])
    return content


def of_itself() -> bytes:
    """A zip file in a zip file, as deep as anybody looks."""
    return nested(9)


wide_window = zstd.compress(
    bytes(1 << 20) + os.urandom(99),
    options={
        zstd.CompressionParameter.window_log: 28,
        zstd.CompressionParameter.content_size_flag: 0,
    },
)
bomb = bytes(5 << 20)
links = {"linkname": "/etc"}

HOSTILE: dict[str, tuple[str, bytes, str]] = {
    "a tar name that leads out": ("a.tar", tar_file([entry("../x")]), "unsafe-name"),
    "a tar name that leads out further on": (
        "a.tar",
        tar_file([entry("a/../../x")]),
        "unsafe-name",
    ),
    "an absolute tar name": ("a.tar", tar_file([entry("/etc/x")]), "unsafe-name"),
    "a tar name that leads out elsewhere": ("a.tar", tar_file([entry("..\\x")]), "unsafe-name"),
    "a tar name with a NUL": (
        "a.tar",
        tar_file([extended(path=b"a\0b"), entry("a")]),
        "unsafe-name",
    ),
    "a tar file without a name": ("a.tar", tar_file([entry("")]), "unsafe-name"),
    "a folder that leads out": (
        "a.tar",
        tar_file([entry("../x", kind=tarfile.DIRTYPE)]),
        "unsafe-name",
    ),
    "an extended name that leads out": (
        "a.tar",
        tar_file([extended(path=b"../../x"), entry("a")]),
        "unsafe-name",
    ),
    "a long name that leads out": (
        "a.tar",
        tar_file([entry("././@LongLink", b"../x\0", tarfile.GNUTYPE_LONGNAME), entry("a")]),
        "unsafe-name",
    ),
    "a symbolic link": ("a.tar", tar_file([entry("a", b"", tarfile.SYMTYPE, **links)]), "link"),
    "a file behind a symbolic link": (
        "a.tar",
        tar_file([entry("a", b"", tarfile.SYMTYPE, **links), entry("a/x", b"1")]),
        "link",
    ),
    "a hard link": ("a.tar", tar_file([entry("a", b"", tarfile.LNKTYPE, **links)]), "link"),
    "a character device": ("a.tar", tar_file([entry("a", b"", tarfile.CHRTYPE)]), "device"),
    "a block device": ("a.tar", tar_file([entry("a", b"", tarfile.BLKTYPE)]), "device"),
    "a pipe": ("a.tar", tar_file([entry("a", b"", tarfile.FIFOTYPE)]), "device"),
    "a sparse file": ("a.tar", tar_file([big(0, tarfile.GNUTYPE_SPARSE)]), "sparse"),
    "a sparse file of the newer kind": (
        "a.tar",
        tar_file([extended(GNU__sparse__realsize=b"9999999999999"), entry("a")]),
        "sparse",
    ),
    "a member of an unknown type": ("a.tar", tar_file([entry("a", b"", b"Z")]), "odd-member"),
    "a name twice": ("a.tar", tar_file([entry("a", b"1"), entry("./a", b"2")]), "name-twice"),
    "a file in a file": ("a.tar", tar_file([entry("a", b"1"), entry("a/b", b"2")]), "name-twice"),
    "a name of 256 bytes": ("a.tar", tar_file([entry("x" * 256)]), "name-too-long"),
    "a path of 4,000 bytes": ("a.tar", tar_file([entry("x/" * 2000 + "y")]), "name-too-long"),
    "too many members": ("a.tar", tar_file([entry(str(n)) for n in range(13)]), "too-many"),
    "too much in a member": ("a.tar.gz", gzip.compress(tar_file([entry("a", bomb)])), "too-large"),
    "too much in all": (
        "a.tar.zst",
        zstd.compress(tar_file([entry(str(n), bytes(1 << 20)) for n in range(5)])),
        "too-large",
    ),
    "more than there can be": ("a.tar", tar_file([big(1 << 60)]), "too-large"),
    "too much behind the end": ("a.tar.gz", gzip.compress(tar_file([], bomb)), "too-large"),
    "a header as large as memory": (
        "a.tar.gz",
        gzip.compress(big(1 << 40, tarfile.XHDTYPE) + bytes(1 << 20)),
        "damaged",
    ),
    "a long name as large as memory": (
        "a.tar.gz",
        gzip.compress(big(1 << 33, tarfile.GNUTYPE_LONGNAME) + bytes(1 << 20)),
        "damaged",
    ),
    "an extended header that makes no sense": (
        "a.tar",
        tar_file([entry("pax", b"-7 path=../x\n", tarfile.XHDTYPE), entry("a")]),
        "damaged",
    ),
    "one name for all members": (
        "a.tar",
        tar_file([extended(tarfile.XGLTYPE, path=b"b"), entry("a")]),
        "damaged",
    ),
    "a time that is none": ("a.tar", tar_file([extended(mtime=b"nan"), entry("a")]), "damaged"),
    "a size below zero": ("a.tar", tar_file([negative(entry("a"))]), "damaged"),
    "an extended size below zero": (
        "a.tar",
        tar_file([extended(size=b"-512"), entry("a")]),
        "damaged",
    ),
    "a header that was changed": ("a.tar", bytes(second_is_broken), "damaged"),
    "a tar file that is none": ("a.tar", b"hello" * 1000, "damaged"),
    "a tar file that is nothing": ("a.tar", b"", "truncated"),
    "a tar file cut in a member": ("a.tar", whole[:600], "truncated"),
    "a tar file cut between members": ("a.tar", pieces[0], "truncated"),
    "a tar file behind another": ("a.tar", whole + whole, "damaged"),
    "gzip that ends early": ("a.tgz", gzip.compress(whole)[:-9], "truncated"),
    "gzip that is none": ("a.tar.gz", whole, "damaged"),
    "gzip with something behind": ("a.tar.gz", gzip.compress(whole) + b"more", "damaged"),
    "zstd that ends early": ("a.tar.zst", zstd.compress(whole)[:-9], "truncated"),
    "zstd that is none": ("a.tar.zst", whole, "damaged"),
    "zstd that wants all the memory": ("a.tar.zst", wide_window, "damaged"),
    "a zip name that leads out": ("a.zip", zip_file([("../x", b"1")]), "unsafe-name"),
    "an absolute zip name": ("a.zip", raw_zip((b"/etc/x", b"1")), "unsafe-name"),
    "a zip name of another system": ("a.zip", raw_zip((b"C:\\x", b"1")), "unsafe-name"),
    "a zip name with a NUL": ("a.zip", raw_zip((b"a\0../x", b"1")), "unsafe-name"),
    "a zip name of 300 bytes": ("a.zip", zip_file([("x" * 300, b"1")]), "name-too-long"),
    "a symbolic link in a zip file": (
        "a.zip",
        zip_file([(unix("a", stat.S_IFLNK | 0o777), b"/etc/passwd")]),
        "link",
    ),
    "a device in a zip file": ("a.zip", zip_file([(unix("a", stat.S_IFBLK), b"")]), "device"),
    "a zip name twice": ("a.zip", raw_zip((b"a", b"1"), (b"a", b"2")), "name-twice"),
    "a zip name that is two": ("a.zip", renamed_inside(), "damaged"),
    "a password": ("a.zip", raw_zip((b"a", b"1"), flags=1), "encrypted"),
    "a directory under a password": ("a.zip", raw_zip((b"a", b"1"), flags=0x2000), "encrypted"),
    "an AES password": ("a.zip", raw_zip((b"a", b"1"), flags=1, method=99), "encrypted"),
    "a method that wants memory": (
        "a.zip",
        zip_file([("a", b"1" * 999)], zipfile.ZIP_LZMA),
        "method",
    ),
    "a method of the future": ("a.zip", raw_zip((b"a", b"1"), method=77), "method"),
    "a checksum that is wrong": ("a.zip", raw_zip((b"a", b"1"), crc=7), "damaged"),
    "more said than there is": ("a.zip", said_larger("a"), "damaged"),
    "more said than there can be": ("a.zip", raw_zip((b"a", b"1"), size=0xFFFFFFF0), "too-large"),
    "a zip file that unfolds": ("a.zip", zip_file([("a", bomb)]), "too-large"),
    "too many in a zip file": (
        "a.zip",
        zip_file([(str(n), b"") for n in range(13)]),
        "too-many",
    ),
    "a directory of a million": (
        "a.zip",
        b"PK\3\4" + b"PK\1\2" * 300_000 + raw_zip()[-22:-10] + b"\x80\x4f\x12\0\4\0\0\0\0\0",
        "damaged",
    ),
    "a folder with something in it": ("a.zip", zip_file([("a/", b"hidden")]), "damaged"),
    "something before the zip file": ("a.zip", b"hidden" + zip_file([("a", b"1")]), "damaged"),
    "a zip file behind another": (
        "a.zip",
        zip_file([("a", b"1")]) + zip_file([("b", b"2")]),
        "damaged",
    ),
    "something behind the zip file": ("a.zip", zip_file([("a", b"1")]) + b"hidden", "damaged"),
    "a zip file that ends early": ("a.zip", zip_file([("a", b"1")])[:-10], "truncated"),
    "a zip file that is none": ("a.zip", b"<html>not found</html>", "damaged"),
    "a zip file that is nothing": ("a.zip", b"", "damaged"),
    "three in one another": ("a.zip", nested(3), "too-deep"),
    "one in another without end": ("a.zip", of_itself(), "too-deep"),
    "a bad one in a good one": (
        "a.tar",
        tar_file([entry("1.dcm", dicom()), entry("b.zip", b"no zip")]),
        "damaged",
    ),
    "one that leads out of another": (
        "a.tar",
        tar_file([entry("b.zip", zip_file([("../../x", b"1")]))]),
        "unsafe-name",
    ),
    "too many in one and another": (
        "a.tar",
        tar_file(
            [entry(f"{n}.zip", zip_file([(str(k), b"") for k in range(6)])) for n in range(2)]
        ),
        "too-many",
    ),
}
