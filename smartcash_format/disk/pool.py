"""Threads for work that is done also when Python starts no more of them.

From the end of its main thread on concurrent.futures refuses every task. But a training may go on
for hours in another thread, and saves.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Final

# Of the RuntimeError; nothing public tells.
_AT_THE_END: Final = "interpreter shutdown"


class Pool(ThreadPoolExecutor):
    """The same; at the end of the process what is submitted is done at once, by who submits it."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """As in ThreadPoolExecutor."""
        try:
            return super().submit(fn, *args, **kwargs)
        except RuntimeError as error:
            if _AT_THE_END not in str(error):
                raise
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except BaseException as error:  # noqa: BLE001 - for who asks for the result
            future.set_exception(error)
        return future
