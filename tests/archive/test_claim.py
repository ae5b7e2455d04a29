"""Who has an output; within one process two claims are as foreign as between two."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

import pytest

from dicomzarr_watch import lockfile
from dicomzarr_watch.archive.claim import LOCK, alone, claimed
from dicomzarr_watch.errors import StopError


@pytest.mark.parametrize("is_first_shared", [False, True])
@pytest.mark.parametrize("is_shared", [False, True])
def test_an_output_is_had_by_one_daemon_or_by_conversions_that_share_it(
    tmp_path: Path, is_first_shared: bool, is_shared: bool
) -> None:
    output = tmp_path / "deep" / "output"
    with claimed(output, is_shared=is_first_shared):
        if is_first_shared and is_shared:
            with claimed(output, is_shared=True) as problem:
                assert problem is None
        else:
            with pytest.raises(StopError) as error, claimed(output, is_shared=is_shared):
                pass
            assert error.value.code == "output-in-use"
        assert (output / LOCK).exists()
    assert list(output.iterdir()) == []
    with claimed(output) as problem:
        assert problem is None


def test_of_those_who_share_an_output_one_has_a_drop(tmp_path: Path) -> None:
    with alone(tmp_path, "a"):
        (lock,) = tmp_path.iterdir()
        assert lockfile.take(lock, patience_s=0.0) is None
        with alone(tmp_path, "b"), claimed(tmp_path, is_shared=True):
            pass
    assert list(tmp_path.iterdir()) == []


def test_a_claim_is_over_when_its_block_fails(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), claimed(tmp_path):
        raise ZeroDivisionError
    with claimed(tmp_path) as problem:
        assert problem is None


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.EACCES])
def test_where_there_are_no_locks_all_goes_on_and_why_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with alone(tmp_path, "a"), claimed(tmp_path) as one, claimed(tmp_path) as other:
        assert [p.errno for p in (one, other) if p] == [number, number]


def test_an_output_that_cannot_be_made_is_told_by_what_is_done_there(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with claimed(tmp_path / "file" / "output") as problem:
        assert isinstance(problem, NotADirectoryError)
