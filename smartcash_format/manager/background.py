"""One save at a time beside the training, whose result and error always surface."""

from __future__ import annotations

import atexit
import logging
import os
import threading
import weakref
from collections.abc import Callable
from typing import Any

from smartcash_format.manager.results import SaveResult

_logger = logging.getLogger("smartcash_format")


class Background:
    """Runs one piece of work on a thread of its own; the next waits for it."""

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._result: SaveResult | None = None
        self._error: BaseException | None = None
        self._process = os.getpid()
        _running.add(self)

    def start(self, work: Callable[[], SaveResult]) -> None:
        """Begins the work; what was begun before has been waited for."""
        self._process = os.getpid()
        thread = threading.Thread(target=self._run, args=(work,), name="checkpoint", daemon=True)
        self._thread = thread
        thread.start()

    def wait(self) -> SaveResult | None:
        """The result of the work, once; None when there was none. Raises what it raised, once."""
        if self._thread is not None and self._process == os.getpid():
            self._thread.join()
        # In a forked child the thread does not exist: the save is the parent's.
        self._thread = None
        result, error = self._result, self._error
        self._result = self._error = None
        if error is not None:
            raise error
        return result

    def settle(self) -> None:
        """Waits at the end of the process; an error that nobody will ask for is logged."""
        try:
            self.wait()
        except Exception:
            _logger.exception("a save in the background failed")

    def _run(self, work: Callable[[], SaveResult]) -> None:
        try:
            self._result = work()
        except BaseException as error:  # noqa: BLE001 - handed to the next call
            self._error = error


_running: weakref.WeakSet[Background] = weakref.WeakSet()


def _settle_all() -> None:
    for background in list(_running):
        background.settle()


def _at_exit(call: Callable[[], None]) -> None:
    # atexit comes too late: by then no thread can be started, and a save starts some. The threads'
    # own hook has no public name; it is what concurrent.futures uses. Where it is missing, a save
    # in flight at exit is lost, as in a crash.
    register: Any = getattr(threading, "_register_atexit", atexit.register)
    register(call)


_at_exit(_settle_all)
