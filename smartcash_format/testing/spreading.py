"""Many trials at a time: as many as there are cores, each in processes of its own."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, Final, TextIO

from smartcash_format.testing.crash import Result
from smartcash_format.testing.points import Fault, Point

Job = Callable[[], Iterable[Result]]
"""Some trials one after the other, in places that no other job uses."""
# Which this process may use, where the system tells.
CORES: Final = (
    len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
)


def spread(jobs: Iterable[Job]) -> Iterator[Result]:
    """The results of these jobs, in their order, each as soon as it and those before it are there.

    A job is asked for when a core is free. Raises RuntimeError for one that raised or died.
    """
    running: deque[_Running] = deque()
    try:
        for job in jobs:
            if len(running) == CORES:
                yield from running[0].results()
                running.popleft()
            running.append(_begin(job))
        while running:
            yield from running[0].results()
            running.popleft()
    finally:
        for each in running:
            each.stop()


@dataclass(slots=True)
class _Running:
    child: int
    stream: TextIO
    ended: bool = False

    def results(self) -> Iterator[Result]:
        for line in self.stream:
            told = json.loads(line)
            if isinstance(told, str):
                raise RuntimeError(told)
            yield _result(told)
        self.stream.close()
        _, status = os.waitpid(self.child, 0)
        self.ended = True
        if status:
            raise RuntimeError(f"a process of the matrix ended with status {status}")

    def stop(self) -> None:
        """Ends it with all that it started."""
        self.stream.close()
        if not self.ended:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.child, signal.SIGKILL)
            os.waitpid(self.child, 0)


def _begin(job: Job) -> _Running:
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.close(reading)
            os.setpgid(0, 0)
            with os.fdopen(writing, "w", encoding="ascii", buffering=1) as stream:
                try:
                    for result in job():
                        stream.write(json.dumps(asdict(result)) + "\n")
                    status = 0
                except Exception:  # noqa: BLE001  a forked child must not go on as its parent
                    stream.write(json.dumps(traceback.format_exc()) + "\n")
        finally:
            os._exit(status)
    os.close(writing)
    with contextlib.suppress(OSError):  # it has done so itself, or has ended
        os.setpgid(child, child)
    return _Running(child, os.fdopen(reading, encoding="ascii"))


def _result(told: dict[str, Any]) -> Result:
    """The value that went through `asdict`."""
    fault = None if told["fault"] is None else Fault(**told["fault"])
    point = None if told["point"] is None else Point(**told["point"])
    violations = tuple(told["violations"])
    return Result(**{**told, "fault": fault, "point": point, "violations": violations})
