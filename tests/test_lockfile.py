"""Locks between processes; within one, two descriptors of a file are as foreign to each other."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

import pytest

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


def test_the_last_who_lets_go_takes_the_file_away(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    held = [lockfile.take(path, patience_s=0.0, is_shared=True) for _ in range(2)]
    for descriptor in held:
        assert path.exists()
        assert descriptor is not None
        lockfile.let_go(path, descriptor)
    assert not path.exists()


def test_a_lock_of_a_file_that_was_taken_away_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "lock"
    first = lockfile.take(path, patience_s=0.0)
    assert first is not None
    flock, left = fcntl.flock, [first]

    def flock_late(descriptor: int, how: int) -> None:
        while left:
            lockfile.let_go(path, left.pop())  # the other opened the file before
        flock(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", flock_late)
    second = lockfile.take(path, patience_s=10.0)
    assert second is not None
    assert lockfile.is_taken(path)
    assert lockfile.take(path, patience_s=0.0) is None
    os.close(second)


def test_where_only_what_can_be_written_is_locked_the_file_is_opened_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flock = fcntl.flock

    def flock_as_on_nfs(descriptor: int, how: int) -> None:
        if fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        flock(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", flock_as_on_nfs)
    held = lockfile.take(tmp_path / "lock", patience_s=0.0)
    assert held is not None
    assert lockfile.take(tmp_path / "lock", patience_s=0.0) is None
    os.close(held)
