"""Locks between processes; within one, two descriptors of a file are as foreign to each other."""

from __future__ import annotations

import os
from pathlib import Path

from dicomzarr_watch import lockfile


def test_a_lock_is_had_by_one_alone_until_it_is_let_go(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    assert not lockfile.is_taken(path)
    held = lockfile.take(path, patience_s=0.0)
    assert held is not None
    assert lockfile.is_taken(path)
    assert lockfile.take(path, patience_s=0.0) is None
    os.close(held)
    assert not lockfile.is_taken(path)


def test_a_shared_lock_is_had_by_many_and_keeps_out_one_who_wants_it_alone(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    held = [lockfile.take(path, patience_s=0.0, is_shared=True) for _ in range(2)]
    assert not lockfile.is_taken(path)
    assert lockfile.take(path, patience_s=0.0) is None
    for descriptor in held:
        assert descriptor is not None
        os.close(descriptor)
    alone = lockfile.take(path, patience_s=0.0)
    assert alone is not None
    os.close(alone)


def test_to_ask_makes_no_file(tmp_path: Path) -> None:
    assert not lockfile.is_taken(tmp_path / "lock")
    assert list(tmp_path.iterdir()) == []
