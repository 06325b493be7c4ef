from __future__ import annotations

import sys
import threading
from collections.abc import Iterator

import pytest

from tests.tracing import untraced


def _trace(frame: object, event: str, argument: object) -> None:
    return None


@pytest.fixture
def traced() -> Iterator[None]:
    before, of_threads = sys.gettrace(), threading.gettrace()
    sys.settrace(_trace)
    threading.settrace(_trace)
    try:
        yield
    finally:
        threading.settrace(of_threads)
        sys.settrace(before)


@pytest.mark.no_cover
def test_what_is_marked_is_not_traced_nor_are_its_threads() -> None:
    found = [sys.gettrace()]
    thread = threading.Thread(target=lambda: found.append(sys.gettrace()))
    thread.start()
    thread.join()
    assert found == [None, None]


@pytest.mark.usefixtures("traced")
def test_after_a_test_that_fails_its_tracer_is_there_again() -> None:
    def fails(value: int) -> None:
        assert sys.gettrace() is None
        raise ValueError(value)

    with pytest.raises(ValueError, match="3"):
        untraced(fails)(value=3)
    assert (sys.gettrace(), threading.gettrace()) == (_trace, _trace)
