"""Bundles as streams of members, whatever their form; what is hostile may end in a RejectError."""

from __future__ import annotations

import gzip
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO, Final

from dicomzarr_watch.errors import DicomzarrError
from dicomzarr_watch.intake.bundle import Form
from dicomzarr_watch.intake.roll import Member, Members, Stream, damaged, truncated
from dicomzarr_watch.intake.tarred import tarred
from dicomzarr_watch.intake.zipped import zipped

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_PIECE_BYTES: Final = 1 << 16

Spend = Callable[[int], None]
"""Told how many bytes have come out; raises if they are too many."""


def members(
    form: Form, file: BinaryIO, spend: Spend, most: int
) -> Iterator[tuple[Member, Iterator[bytes]]]:
    """Yield each member with its bytes, which are to be taken before the next is asked for.

    most: how many members there may be. Raises RejectError for what is not understood.
    """
    with _strictly():
        match form:
            case Form.ZIP:
                yield from _with_bytes(zipped(file, most), spend)
            case Form.TAR:
                yield from _with_bytes(tarred(_Counted(file, spend)))
            case Form.TAR_GZ:
                with gzip.GzipFile(fileobj=file, mode="rb") as stream:
                    yield from _with_bytes(tarred(_Counted(stream, spend)))
            case Form.TAR_ZST:
                with zstd.ZstdFile(file) as stream:
                    yield from _with_bytes(tarred(_Counted(stream, spend)))


@dataclass(frozen=True, slots=True)
class _Counted:
    """A stream that tells how much came out of it, be it of members or between them."""

    stream: Stream
    spend: Spend

    def read(self, count: int, /) -> bytes:
        found = self.stream.read(count)
        self.spend(len(found))
        return found


def _with_bytes(
    found: Members, spend: Spend = lambda _: None
) -> Iterator[tuple[Member, Iterator[bytes]]]:
    return ((member, _pieces(member, opened, spend)) for member, opened in found)


def _pieces(member: Member, opened: Callable[[], Stream], spend: Spend) -> Iterator[bytes]:
    """Yield a member's bytes; as many as were said, or they are not believed."""
    left = member.size
    with _strictly():
        stream = opened()
        while piece := stream.read(_PIECE_BYTES):
            spend(len(piece))
            left -= len(piece)
            yield piece
        if left:
            raise damaged("a member of another size than said")


@contextmanager
def _strictly() -> Iterator[None]:
    """Turn whatever a parser says of hostile bytes into a RejectError."""
    try:
        yield
    except (DicomzarrError, MemoryError):
        raise
    except EOFError as error:
        raise truncated() from error
    except gzip.BadGzipFile as error:  # which is an OSError
        raise damaged("gzip that cannot be read") from error
    except OSError:
        raise
    except Exception as error:  # parsers have no common word for what they cannot parse
        raise damaged(type(error).__name__) from error
