"""Work that is submitted to a pool is done once, whoever does it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from smartcash_format.disk.pool import Pool


def test_what_fails_at_the_end_of_the_process_is_raised_by_its_result(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refused(*_: Any, **__: Any) -> Any:
        raise RuntimeError("cannot schedule new futures after interpreter shutdown")

    with Pool(1) as pool:
        monkeypatch.setattr(ThreadPoolExecutor, "submit", refused)
        assert list(pool.map(abs, [-1, 2])) == [1, 2]
        failed = pool.submit(int, "x")
        with pytest.raises(ValueError, match="invalid literal"):
            failed.result()


def test_a_pool_that_is_shut_down_refuses_as_ever() -> None:
    pool = Pool(1)
    pool.shutdown()
    with pytest.raises(RuntimeError, match="after shutdown"):
        pool.submit(int)
