"""The arrays of a store, all read through zarr-python, with zarrs where it can serve them.

Each is read in the thread that asks, as handing small reads to other threads takes longer than
the reading. What is damaged is told as such, and never taken for values.
"""

from __future__ import annotations

import asyncio
import atexit
import json
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from functools import lru_cache, partial
from pathlib import Path
from threading import Lock
from typing import Any, Final, TypeVar, TypeVarTuple

import numpy as np
import numpy.typing as npt
import zarr
from zarr.storage import LocalStore, MemoryStore, StorePath

from dicomzarr_watch.archive import layout
from dicomzarr_watch.archive.threads import resolved
from dicomzarr_watch.errors import RejectError

_PIECE_BYTES: Final = 8 << 20
_KEPT_BYTES: Final = 32 << 20
"""What threads are at, each in a batch of its own, stands within so much of a blob."""
_NODE: Final = "zarr.json"
ZARR_PYTHON: Final = "zarr.core.codec_pipeline.BatchedCodecPipeline"
"""zarr-python's own codecs; those of zarrs take ten times as long to turn samples around."""
_ZARRS: Final = "zarrs.ZarrsCodecPipeline"

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


def fastest(store: Path) -> str:
    """Return the codec pipeline that reads fastest; zarrs takes paths in UTF-8 only."""
    try:
        str(store).encode()
    except UnicodeEncodeError:
        return ZARR_PYTHON
    return _ZARRS


@contextmanager
def read_by(pipeline: str) -> Iterator[None]:
    """Have the arrays that are opened meanwhile read by a codec pipeline."""
    with zarr.config.set({"codec_pipeline.path": pipeline}):
        yield


def attributes(group: Path) -> dict[str, Any]:
    """Return the attributes of a group; raises TypeError if it is none."""
    found = _node((group / _NODE).read_bytes(), "group")["attributes"]
    if not isinstance(found, dict):
        raise TypeError("attributes")
    return found


def opened(store: Path, name: str) -> zarr.AsyncArray[Any]:
    """Have zarr-python make an array of its document.

    To look for the document itself takes it twice as long, and there are eight in each store.
    """
    metadata = _metadata((store / name / _NODE).read_bytes())
    return zarr.AsyncArray(metadata, StorePath(_folder(store), name))


def values(store: Path, name: str) -> npt.NDArray[Any]:
    """Read a whole array that is no image."""
    return read(opened(store, f"{layout.DICOM_GROUP}/{name}"), ...)


def read(array: zarr.AsyncArray[Any], selection: Any) -> npt.NDArray[Any]:
    """Read a part of an array; raises RejectError for what is damaged."""
    with _damage_told():
        return np.asarray(_run(array.getitem(selection)))


class Blob:
    """A uint8 array that is read front to back, by several threads; chunks read last are kept."""

    def __init__(self, store: Path, name: str) -> None:
        """Open it; raises what `opened` raises."""
        self._array = opened(store, f"{layout.DICOM_GROUP}/{name}")
        self._chunk_bytes = int(self._array.chunks[0])
        self._kept: dict[int, memoryview] = {}
        self._most = max(2, _KEPT_BYTES // self._chunk_bytes)
        self._lock = Lock()

    def pieces(self, start: int, end: int) -> Iterator[memoryview]:
        """Yield the bytes from start to end."""
        while start < end:
            number, at = divmod(start, self._chunk_bytes)
            piece = self._chunk(number)[at : min(at + end - start, at + _PIECE_BYTES)]
            if not piece:
                raise RejectError("store-damaged", expected="bytes", found="the array's end")
            start += len(piece)
            yield piece

    def _chunk(self, number: int) -> memoryview:
        with self._lock:  # one thread reads, the others that need the same chunk wait for it
            chunk = self._kept.pop(number, None)
            if chunk is None:
                first = number * self._chunk_bytes
                chunk = read(self._array, slice(first, first + self._chunk_bytes)).data
            self._kept[number] = chunk  # behind those that wait longer
            if len(self._kept) > self._most:
                del self._kept[next(iter(self._kept))]
            return chunk


@contextmanager
def _damage_told() -> Iterator[None]:
    """Raise RejectError for what the codecs raise when bytes are not what they wrote."""
    try:
        yield
    except (IndexError, OSError, RuntimeError, ValueError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the system's own, not zarrs' for data that it cannot decompress
        raise RejectError(
            "store-damaged",
            expected="chunks that can be decoded",
            found=type(error).__name__,
            todo="bring the store back from a copy",
        ) from error


class _Here(asyncio.SelectorEventLoop):
    """Does what is meant for other threads in its own, so that nothing is ever waited for."""

    def run_in_executor(
        self,
        executor: Any,  # noqa: ARG002 - the name and the place are asyncio's
        func: Callable[[*Ts], T],
        *args: *Ts,
    ) -> asyncio.Future[T]:
        """Call a function and return what came of it."""
        return resolved(self.create_future(), partial(func, *args))


_RESTING: Final[deque[_Here]] = deque()
"""Loops that no thread uses: making one takes as long as a small read."""


def _run(coroutine: Coroutine[Any, Any, T]) -> T:
    try:
        loop = _RESTING.pop()
    except IndexError:
        loop = _Here()
    try:
        return loop.run_until_complete(coroutine)
    finally:
        _RESTING.append(loop)


@atexit.register
def _close() -> None:
    while _RESTING:
        _RESTING.pop().close()


@lru_cache(maxsize=64)
def _folder(store: Path) -> LocalStore:
    """Return a folder that is open already: of threads that find it closed, each would open it.

    To open it is to look whether it is there; nothing is held.
    """
    return _run(LocalStore.open(store, read_only=True))


@lru_cache(maxsize=64)
def _metadata(document: bytes) -> Any:
    """Return what zarr-python makes of an array's document; many are the same in many stores."""
    return zarr.Array.from_dict(StorePath(MemoryStore()), _node(document, "array")).metadata


def _node(document: bytes, kind: str) -> dict[str, Any]:
    node: dict[str, Any] = json.loads(document)
    if (node["zarr_format"], node["node_type"]) != (3, kind):
        raise TypeError(kind)
    return node
