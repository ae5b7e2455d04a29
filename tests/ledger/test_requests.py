from __future__ import annotations

import os
from pathlib import Path

import pytest

from dicomzarr_watch.ledger.requests import granted, wish_retries, wished_retries
from dicomzarr_watch.ledger.store import Ledger

NOBODY = 65534


def test_a_wish_is_there_until_it_is_granted(tmp_path: Path) -> None:
    assert wished_retries(tmp_path) == []
    wish_retries(tmp_path, [12, 3])
    wish_retries(tmp_path, [3])
    (tmp_path / "requests" / "retry.soon").touch()
    assert wished_retries(tmp_path) == [3, 12]
    granted(tmp_path, 3)
    granted(tmp_path, 3)
    assert wished_retries(tmp_path) == [12]


def test_the_daemon_makes_the_place_for_wishes(tmp_path: Path) -> None:
    Ledger.own(tmp_path).close()
    assert (tmp_path / "requests").stat().st_mode & 0o777 == 0o700


def test_wishes_of_which_nobody_can_tell_are_no_lack_of_them(tmp_path: Path) -> None:
    (tmp_path / "requests").touch()
    with pytest.raises(NotADirectoryError):
        wished_retries(tmp_path)


@pytest.mark.integration  # needs root
@pytest.mark.parametrize("is_there", [False, True])
def test_what_root_wishes_belongs_to_the_user_of_the_daemon(
    tmp_path: Path, *, is_there: bool
) -> None:
    os.chown(tmp_path, NOBODY, NOBODY)
    if is_there:
        (tmp_path / "requests").mkdir(0o700)
        os.chown(tmp_path / "requests", NOBODY, NOBODY)
    wish_retries(tmp_path, [3])
    for path in (tmp_path / "requests", tmp_path / "requests" / "retry.3"):
        assert (path.stat().st_uid, path.stat().st_gid) == (NOBODY, NOBODY)
