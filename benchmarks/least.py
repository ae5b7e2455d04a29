"""The least that any verified, durable archive of some files does, on all cores.

    python benchmarks/least.py FOLDER OUTPUT

Every byte is read, hashed (SHA-256), compressed (Blosc: bitshuffle and zstd level 1, as the images
are), written and put on disk, read back, decompressed and compared. Nothing is known of DICOM.
Prints one JSON line with `total_s`. OUTPUT is wiped.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numcodecs.blosc
import numpy as np

OBJECT_BYTES = 16 << 20
PIECE_BYTES = 1 << 20


def main() -> None:
    folder, output = Path(sys.argv[1]), Path(sys.argv[2])
    shutil.rmtree(output, ignore_errors=True)
    output.mkdir(parents=True)
    numcodecs.blosc.set_nthreads(1)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    sizes = [path.stat().st_size for path in files]
    start = time.perf_counter()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        jobs = (
            pool.submit(kept, own, output / str(n)) for n, own in enumerate(objects(files, sizes))
        )
        for job in list(jobs):
            job.result()
    seconds = time.perf_counter() - start
    print(json.dumps({"total_s": round(seconds, 4), "bytes": sum(sizes)}))


def objects(files: list[Path], sizes: list[int]) -> Iterator[list[tuple[Path, int, int]]]:
    """Cut files into stretches, and put these together to objects of about the same size."""
    found: list[tuple[Path, int, int]] = []
    taken = 0
    for path, size in zip(files, sizes, strict=True):
        for start in range(0, size, OBJECT_BYTES):
            count = min(OBJECT_BYTES, size - start)
            found.append((path, start, count))
            taken += count
            if taken >= OBJECT_BYTES:
                yield found
                found, taken = [], 0
    if found:
        yield found


def kept(stretches: list[tuple[Path, int, int]], path: Path) -> None:
    codec = numcodecs.Blosc(cname="zstd", clevel=1, shuffle=numcodecs.Blosc.BITSHUFFLE)
    sources, sizes = [], []
    with path.open("xb", buffering=0) as stream:
        for source, start, count in stretches:
            with source.open("rb", buffering=0) as read:
                read.seek(start)
                data = read.read(count)
            hashlib.sha256(data).digest()
            sources.append(data)
            for at in range(0, count, PIECE_BYTES):
                piece = np.frombuffer(data[at : at + PIECE_BYTES], np.uint8)
                words = piece[: len(piece) & ~1].view(np.uint16)
                packed = codec.encode(words) + piece[len(words) * 2 :].tobytes()
                sizes.append((len(packed), len(piece) & 1))
                stream.write(packed)
        os.fsync(stream.fileno())
    with path.open("rb", buffering=0) as stream:
        back = iter(sizes)
        for data in sources:
            for at in range(0, len(data), PIECE_BYTES):
                size, odd = next(back)
                packed = stream.read(size)
                found = bytes(codec.decode(packed[: size - odd])) + packed[size - odd :]
                if found != data[at : at + PIECE_BYTES]:
                    sys.exit("a file did not come back")


if __name__ == "__main__":
    main()
