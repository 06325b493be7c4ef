"""A signal in the middle of an iteration is noted; the save happens between two of them.

A handler that saves where the signal strikes writes moments of two different steps. So the handler
here writes nothing: the loop calls `step()` where its state is whole, and that is where it is
saved. Then the signal goes on its way, to whatever handled it before.
"""

from __future__ import annotations

import os
import select
import signal
import threading
from collections.abc import Callable, Mapping
from types import FrameType, TracebackType
from typing import Any, Final

from smartcash_format.manager.log import Log
from smartcash_format.manager.results import SaveResult

SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)
# Clusters give 30 seconds between SIGTERM and SIGKILL; the save itself takes a part of them.
GRACE_S: Final = 25.0

State = Callable[[], Mapping[str, Any]]


def seconds(grace_s: object) -> float:
    """How long a signal may wait, as a person gave it. Raises TypeError or ValueError.

    The thread that counts it would end with what it cannot wait for, and no signal go on.
    """
    if isinstance(grace_s, bool) or not isinstance(grace_s, int | float):
        raise TypeError(f"grace_s is {type(grace_s).__name__}, not a number of seconds")
    if not 0 <= grace_s <= threading.TIMEOUT_MAX:
        raise ValueError(f"grace_s is {grace_s}; it is a number of seconds, from 0 up")
    return grace_s


class Guard:
    """While it is entered, SIGTERM and SIGINT wait for the next `step()`, `grace_s` at most.

    `saved` is the checkpoint that a signal led to, else None. A second SIGINT does not wait. A save
    in the background (`finish` waits for it) is published before the signal goes on.
    """

    def __init__(
        self,
        save: Callable[[Mapping[str, Any]], SaveResult],
        state: State,
        log: Log,
        grace_s: float,
        *,
        finish: Callable[[], None] = lambda: None,
    ) -> None:
        self.saved: SaveResult | None = None
        self._save = save
        self._finish = finish
        self._state = state
        self._log = log
        self._grace_s = grace_s
        self._before: dict[int, Any] = {}
        self._came: int | None = None
        self._late = False
        self._saving = False
        self._process = 0
        self._entered = False
        self._watch = _Watch(grace_s, self._grace_is_over)

    def __enter__(self) -> Guard:
        if self._entered:
            raise RuntimeError("this guard is entered already; each block has one of its own")
        # What an earlier block came to is over: a signal in this one is a new one.
        self._entered, self._came, self._late, self._saving = True, None, False, False
        if threading.current_thread() is not threading.main_thread():
            self._log.warning(
                "guard: Python hands signals to the main thread alone; here none is waited for"
            )
            return self
        self._process = os.getpid()
        self._watch.start()
        for number in SIGNALS:
            handler = signal.getsignal(number)
            # What is ignored stays so (nohup), and a handler in C could not be put back.
            if handler not in (signal.SIG_IGN, None):
                self._before[number] = handler
                signal.signal(number, self._note)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._entered = False
        if self._came is not None and error is None:
            self.step()  # the end of the block is between two iterations, too
        elif self._came is not None:
            self._log.warning(
                f"{_name(self._came)} came and the iteration ended with {type(error).__name__}: "
                "nothing was saved, the last checkpoint stands"
            )
            number = self._came
            # SIGTERM ends the process as it stands: a save in the background is waited for first.
            self._finish()
            self._pass_on(number)
        else:
            self._release()

    def step(self) -> None:
        """Where the state is whole: saves it if a signal has come, and lets the signal go on.

        Raises what the save raises, after having logged it; the signal goes on all the same.
        """
        number = self._came
        if number is None or self._late:
            return
        self._saving = True
        self._watch.stop()
        try:
            self.saved = self._save(_arguments(self._state()))
            where = self.saved["path"]
            self._log.warning(
                f"{_name(number)} came: {f'saved {where}' if where else 'another rank saves'}, "
                "between two iterations"
            )
        except BaseException as error:
            self._log.error(
                f"{_name(number)} came and its save failed, the last checkpoint stands: {error}"
            )
            raise
        finally:
            self._finish()
            self._pass_on(number)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:
            # A forked data loader worker: Ctrl-C in a terminal reaches it too, and it ends with
            # the training; a SIGTERM is its parent's, which wants it to end now.
            if number != signal.SIGINT:
                self._release()
                signal.raise_signal(number)
        elif self._saving:
            pass
        elif self._late or (self._came is not None and number == signal.SIGINT):
            self._pass_on(number)
        elif self._came is None:
            self._came = number
            self._watch.begin()

    def _grace_is_over(self) -> None:
        """Called on the watching thread; the signal itself has to go on from the main one."""
        number = self._came
        if self._saving or number is None:
            return
        self._late = True
        self._log.warning(
            f"{_name(number)} came and no iteration ended within {self._grace_s:g} s: nothing "
            "was saved, the last checkpoint stands"
        )
        # Here and not in the handler: what the loop holds at that moment the save may need.
        self._finish()
        ident = threading.main_thread().ident
        assert ident is not None, "the main thread has begun"
        if self._came is not None:  # else an exception ended the block meanwhile
            signal.pthread_kill(ident, number)

    def _pass_on(self, number: int) -> None:
        self._came = None
        self._release()
        signal.raise_signal(number)

    def _release(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()
        self._watch.stop()


class _Watch:
    """Counts the grace on a thread. A handler may only write to its pipe: no lock is safe there."""

    def __init__(self, grace_s: float, over: Callable[[], None]) -> None:
        self._grace_s = grace_s
        self._over = over
        self._pipe: tuple[int, int] | None = None

    def start(self) -> None:
        self._pipe = os.pipe()
        threading.Thread(target=self._run, args=(self._pipe[0],), daemon=True).start()

    def begin(self) -> None:
        if self._pipe is not None:
            os.write(self._pipe[1], b"b")

    def stop(self) -> None:
        """Ends the counting; also what ends the thread."""
        if self._pipe is not None:
            _, writing = self._pipe
            self._pipe = None
            os.close(writing)

    def _run(self, reading: int) -> None:
        try:
            if os.read(reading, 1) and not select.select([reading], [], [], self._grace_s)[0]:
                self._over()
        finally:
            os.close(reading)


def _arguments(state: object) -> Mapping[str, Any]:
    if not isinstance(state, Mapping):
        raise TypeError(
            f"the function given to guard() gives {type(state).__name__}, not a dict with the "
            "arguments of save_checkpoint"
        )
    return state


def _name(number: int) -> str:
    return signal.Signals(number).name
