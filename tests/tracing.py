"""Tests that run without the tracer that measures coverage."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from functools import wraps
from typing import Any


def untraced(test: Callable[..., Any]) -> Callable[..., Any]:
    """The test, with no tracer in it and in the threads that it starts."""

    # The tracer is taken away in a frame that encloses the whole test: Python 3.11 goes on with the
    # slow way through its instructions in whatever it calls from a frame that was traced.
    @wraps(test)
    def run(**arguments: Any) -> Any:
        own, of_threads = sys.gettrace(), threading.gettrace()
        sys.settrace(None)
        threading.settrace(None)
        try:
            return test(**arguments)
        finally:
            threading.settrace(of_threads)
            sys.settrace(own)

    return run
