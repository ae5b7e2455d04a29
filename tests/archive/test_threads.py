from __future__ import annotations

import threading
from concurrent.futures import Executor

import pytest

from dicomzarr_watch.archive.threads import WORTH_BYTES, WORTH_FILE_BYTES, pool, worth


def thread_of(executor: Executor) -> int:
    with executor:
        return executor.submit(threading.get_ident).result()


@pytest.mark.parametrize(("files", "least"), [(1, WORTH_BYTES), (1000, 1000 * WORTH_FILE_BYTES)])
def test_little_and_small_files_are_not_worth_more_threads_than_one(files: int, least: int) -> None:
    assert (worth(4, least - 1, files), worth(4, least, files)) == (1, 4)
    assert worth(1, 1 << 40, files) == 1


def test_what_is_worth_no_thread_is_done_by_who_has_it_to_do() -> None:
    assert thread_of(pool(1, "test")) == threading.get_ident()
    assert thread_of(pool(2, "test")) != threading.get_ident()


@pytest.mark.parametrize("threads", [1, 2])
def test_what_goes_wrong_is_for_who_asks_for_the_result(threads: int) -> None:
    with pool(threads, "test") as executor:
        future = executor.submit(int, "x")
        assert list(executor.map(int, "123")) == [1, 2, 3]
        with pytest.raises(ValueError, match="invalid literal"):
            future.result()
