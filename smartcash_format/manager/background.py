"""One save at a time beside the training, whose result and error always surface.

An error is logged the moment it happens, and kept until a call raises it. A forked child has
neither the thread nor what it left behind: the save is its parent's.
"""

from __future__ import annotations

import atexit
import os
import threading
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from smartcash_format.manager.log import Log
from smartcash_format.manager.results import SaveResult


class Background:
    """Runs one piece of work on a thread of its own, until the next call waits for it.

    Any thread may wait; a result, and each error, goes to one of those that ask.
    """

    def __init__(self, log: Log) -> None:
        self._log = log
        self._process = os.getpid()
        self._begun: _Begun | None = None
        self._result: deque[SaveResult] = deque(maxlen=1)
        self._errors: deque[BaseException] = deque()

    def start(self, work: Callable[[], SaveResult]) -> None:
        """Begins the work once what was begun before has ended; for one thread at a time."""
        self.finish()
        self._result.clear()
        begun = _Begun()
        _in_flight.add(begun)
        self._begun = begun
        ending = _ending.is_set()
        if ending and threading.current_thread() is threading.main_thread():
            self._run(work, begun)  # atexit: nobody waits for a thread any more
            return
        # Python waits for no daemons; nor do we, once the main thread has ended and others go on.
        run = partial(self._run, work, begun)
        thread = threading.Thread(target=run, name="checkpoint", daemon=not ending)
        try:
            thread.start()
        except RuntimeError:  # the system has no thread left; after an interrupt there is one
            begun.end()
            raise

    def finish(self) -> None:
        """Waits until nothing is under way; what it came to stays to be asked for."""
        self._forget_the_parent()
        begun = self._begun
        # A logger or a policy of the user's, called by the work itself, may ask for something.
        if begun is not None and not self.is_here():
            begun.wait()

    def is_here(self) -> bool:
        """Whether it is the work itself that asks, through a logger or a policy of the user's."""
        return self._begun is not None and self._begun.thread is threading.current_thread()

    def result(self) -> SaveResult | None:
        """What the last work came to, once; None when it failed or there was none."""
        self.finish()
        try:
            return self._result.pop()
        except IndexError:
            return None

    def take_error(self) -> BaseException | None:
        """The oldest error that nobody has taken yet."""
        self._forget_the_parent()
        try:
            return self._errors.popleft()
        except IndexError:
            return None

    def raise_error(self, note: str = "") -> None:
        """Waits, and raises the oldest error that was not raised yet, with a note to it."""
        self.finish()
        if (error := self.take_error()) is not None:
            if note:
                error.add_note(note)
            raise error

    def _run(self, work: Callable[[], SaveResult], begun: _Begun) -> None:
        begun.thread = threading.current_thread()
        try:
            self._result.append(work())
        except BaseException as error:  # noqa: BLE001 - kept for the next call
            self._errors.append(error)
            self._log.error(f"a save in the background failed: {_text(error)}")
        finally:
            begun.end()

    def _forget_the_parent(self) -> None:
        if self._process != os.getpid():
            self._process = os.getpid()
            self._begun = None
            self._result.clear()
            self._errors.clear()


def _text(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


class _Begun:
    """Work that was begun, until it has ended.

    No thread is joined: up to Python 3.12 a join that an interrupt ends takes its thread for ended,
    and the next save would write into the memory that this one is still reading.
    """

    def __init__(self) -> None:
        self.thread: threading.Thread | None = None
        self._process = os.getpid()
        self._ended = threading.Event()

    def end(self) -> None:
        _in_flight.discard(self)
        self._ended.set()

    def wait(self) -> None:
        """Returns when it has ended; at once in a forked child, where nothing goes on with it."""
        if self._process == os.getpid():
            self._ended.wait()


_in_flight: Final[set[_Begun]] = set()
_ending: Final = threading.Event()


def _settle_all() -> None:
    _ending.set()
    # An interrupt here is somebody who will not wait: what is in flight is lost, as in a crash.
    for begun in tuple(_in_flight):
        begun.wait()


def _at_exit(call: Callable[[], None]) -> None:
    # atexit comes too late: Python 3.12 starts no thread by then, and a save starts some. The
    # threads' own hook has no public name; it is what concurrent.futures uses. Where it is missing,
    # a save in flight at exit is lost, as in a crash.
    register: Any = getattr(threading, "_register_atexit", atexit.register)
    try:
        register(call)
    except RuntimeError:  # imported by a call of atexit: this is the end
        call()


_at_exit(_settle_all)
