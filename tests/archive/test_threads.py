from __future__ import annotations

import threading
from concurrent.futures import Executor

import pytest

from dicomzarr_watch.archive.threads import WORTH_BYTES, pool, worth


def thread_of(executor: Executor) -> int:
    with executor:
        return executor.submit(threading.get_ident).result()


def test_little_is_done_by_who_has_it_to_do() -> None:
    assert (worth(4, WORTH_BYTES - 1), worth(4, WORTH_BYTES), worth(1, 1 << 40)) == (1, 4, 1)
    assert thread_of(pool(1, "test")) == threading.get_ident()
    assert thread_of(pool(2, "test")) != threading.get_ident()


@pytest.mark.parametrize("threads", [1, 2])
def test_what_goes_wrong_is_for_who_asks_for_the_result(threads: int) -> None:
    with pool(threads, "test") as executor:
        future = executor.submit(int, "x")
        assert list(executor.map(int, "123")) == [1, 2, 3]
        with pytest.raises(ValueError, match="invalid literal"):
            future.result()
