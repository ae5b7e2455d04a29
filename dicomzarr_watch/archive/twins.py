"""Files that bear one SOP Instance UID: the same bytes are one instance under several names.

Other bytes of the same place and time are the instance once more, sent again with another header.
Else they are instances that somebody gave one UID, as careless tools do to whole series.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Final

from dicomzarr_watch.archive.work import Source, sha256
from dicomzarr_watch.dicom.frames import FrameRun
from dicomzarr_watch.dicom.gathering import gathered
from dicomzarr_watch.dicom.instance import Instance

RESENT_MOST: Final = 3
"""An instance is not sent again more often; a UID that more have says nothing of any of them."""


@dataclass(frozen=True, slots=True)
class Twins:
    """What the files of one series have to do with each other.

    copies: number of a file → which copy of one instance it is, where it is not the first.
    unlike: numbers of files that share a SOP Instance UID with another and have other bytes.
    """

    copies: dict[int, int] = field(default_factory=dict)
    unlike: tuple[int, ...] = ()


def twins(sources: Sequence[Source], instances: Sequence[Instance]) -> Twins:
    """Compare the files whose SOP Instance UIDs repeat; those that may be the same are read."""
    uids = ((i.sop_instance_uid, n) for n, i in enumerate(instances) if i.sop_instance_uid)
    copies: dict[int, int] = {}
    unlike: list[int] = []
    for numbers in gathered(uids).values():
        groups = _by_bytes(sources, instances, numbers) if len(numbers) > 1 else []
        is_resent = len(groups) <= RESENT_MOST
        by_place = ((_place(instances[n]), n) for n in chain(*groups))
        same = gathered(by_place).values() if is_resent else groups
        copies |= {n: k for group in same for k, n in enumerate(group) if k > 0}
        if len(groups) > 1:
            unlike += [group[0] for group in groups]
    return Twins(copies, tuple(sorted(unlike)))


def _place(instance: Instance) -> Hashable:
    """Return what tells an instance that was sent again from one that was given its UID."""
    frames = instance.frames
    matrix = (frames.format.rows, frames.format.columns) if isinstance(frames, FrameRun) else None
    return matrix, *instance.poses


def _by_bytes(
    sources: Sequence[Source], instances: Sequence[Instance], numbers: Sequence[int]
) -> list[list[int]]:
    """Gather the files that have the same bytes; headers that say otherwise are others."""
    found: list[list[int]] = []
    for alike in gathered((instances[n], n) for n in numbers).values():
        by_bytes = gathered((sha256(sources[n]) if len(alike) > 1 else b"", n) for n in alike)
        found += by_bytes.values()
    return found
