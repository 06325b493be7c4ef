"""One operation, one fault, and what is left of the promise; each run is a process of its own.

What has to hold after each run stands in `promise`; and what was raised is an error of our tree or
of the system.
"""

from __future__ import annotations

import ast
import os
import shutil
import signal
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal, cast, get_args

from smartcash_format.errors import CheckpointError
from smartcash_format.testing import power
from smartcash_format.testing.faults import Layer
from smartcash_format.testing.points import LOCAL, POWER, RANDOM, Event, Fault, Mount, Point
from smartcash_format.testing.promise import Operation, Told, Word, look, standing

Outcome = Literal["completed", "refused", "killed"]
# Longer than any operation here takes on a busy machine.
HANGS_S: Final = 240


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """How one run ended; `violations` is empty when every promise was kept.

    `halves` counts the directories that are no checkpoint for any reader and stay until somebody
    deletes them: only on mounts that cannot rename a directory at once. After a power cut the state
    `stands_for` so many of all `combinations` that it may leave.
    """

    operation: str
    mount: str
    fault: Fault | None
    point: Point | None
    outcome: Outcome
    raised: str = ""
    halves: int = 0
    stands_for: int = 0
    combinations: int = 0
    violations: tuple[str, ...] = ()


def points_of(
    operation: Operation, template: Path, root: Path, mount: Mount = LOCAL
) -> list[Point]:
    """Every mutating call of an operation that goes undisturbed, in the order of its making.

    Raises AssertionError when the operation writes behind the back of `os`.
    """
    copy_of(template, root)

    def run(tell: Callable[[str], None]) -> None:
        with Layer(root, mount=mount) as layer:
            operation.run(root, _to_nobody)
        for point in layer.points:
            tell(f"{point.op}\t{point.path}\t{point.nth}")
        for name in layer.unseen:
            tell(f"unseen\t{name}\t0")

    status, lines = in_child(run)
    assert status == 0, "\n".join(lines)
    fields = [line.split("\t") for line in lines]
    unseen = [path for op, path, _ in fields if op == "unseen"]
    assert not unseen, f"written behind the back of os: {unseen}"
    shutil.rmtree(root)
    return [Point(op, path, int(nth)) for op, path, nth in fields]


def strike(
    operation: Operation,
    template: Path,
    root: Path,
    *,
    point: Point | None = None,
    fault: Fault | None = None,
    mount: Mount = LOCAL,
) -> Result:
    """Runs an operation in a copy of a root with one fault, and looks at what is left of it."""
    copy_of(template, root)
    earlier = standing(root)

    def run(tell: Callable[[str], None]) -> None:
        with Layer(root, mount=mount, at=point, fault=fault):
            try:
                operation.run(root, lambda word, what: tell(f"{word} {what}"))
            except (CheckpointError, OSError) as error:
                tell(f"raised {type(error).__name__}")
            except Exception:  # noqa: BLE001  whatever it is, it is told as a broken promise
                tell(f"foreign {traceback.format_exc()!r}")

    status, lines = in_child(run)
    raised = [line.removeprefix("raised ") for line in lines if line.startswith("raised ")]
    violations = [
        f"raised {line.removeprefix('foreign ')}" for line in lines if line.startswith("foreign ")
    ]
    if status not in (0, -signal.SIGKILL):
        violations.append(f"ended with status {status}: {lines}")
    found, halves = look(root, earlier, _told(lines), operation, mount)
    shutil.rmtree(root)
    return Result(
        operation=operation.name,
        mount=mount.name,
        fault=fault,
        point=point,
        outcome="killed" if status else "refused" if raised else "completed",
        raised=raised[0] if raised else "",
        halves=halves,
        violations=(*violations, *found),
    )


def duration(operation: Operation, template: Path, root: Path) -> float:
    """How many seconds an operation takes, undisturbed, from when it tells that it has begun."""
    copy_of(template, root)

    def run(tell: Callable[[str], None]) -> None:
        began: list[float] = []
        operation.run(root, lambda word, what: began.append(time.perf_counter()))
        tell(str(time.perf_counter() - began[0]))

    status, lines = in_child(run)
    assert status == 0, "\n".join(lines)
    shutil.rmtree(root)
    return float(lines[0])


def kill_after(seconds: float, operation: Operation, template: Path, root: Path) -> Result:
    """Kills an operation so many seconds after it tells that it has begun; what is left of it."""
    copy_of(template, root)
    earlier = standing(root)

    def run(tell: Callable[[str], None]) -> None:
        # The system's timer, whose signal nobody handles: it ends the process wherever it is.
        signal.signal(signal.SIGALRM, signal.SIG_DFL)

        def hear(word: Word, what: object) -> None:
            tell(f"{word} {what}")
            if word == "begun":
                signal.setitimer(signal.ITIMER_REAL, max(seconds, 1e-6))

        operation.run(root, hear)

    status, lines = in_child(run)
    found, halves = look(root, earlier, _told(lines), operation)
    found += [line for line in lines if line.startswith("foreign ")]
    if status not in (0, -signal.SIGALRM):
        found.append(f"ended with status {status}: {lines}")
    shutil.rmtree(root)
    return Result(
        operation=operation.name,
        mount=LOCAL.name,
        fault=RANDOM,
        point=None,
        outcome="killed" if status else "completed",
        halves=halves,
        violations=tuple(found),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """A power cut at a call, if there is one more: the state it leaves, after these reports."""

    at: Event | None
    state: power.State
    told: Told
    combinations: int


def power_cuts(operation: Operation, template: Path, root: Path, *, draws: int) -> list[Cut]:
    """What power cuts during an operation may leave, as `power.states` has it.

    Of two cuts that leave the same after the same reports there is one.
    """
    copy_of(template, root)
    events, told = _events_of(operation, root)
    shutil.rmtree(root)
    combinations = power.combinations(template, events)
    return [
        Cut(
            at=events[state.calls] if state.calls < len(events) else None,
            state=state,
            # A line of the history that is lost is no broken promise (FORMAT.md, F-11.5).
            told=[
                (cast(Word, word), what)
                for calls, word, what in told
                if calls <= state.calls and word != "noted"
            ],
            combinations=combinations,
        )
        for state in _different(power.states(template, events, draws=draws), told)
    ]


def lose_power(cut: Cut, operation: Operation, template: Path, root: Path) -> Result:
    """Makes what a power cut leaves, and looks at it."""
    earlier = {root / path.name: known for path, known in standing(template).items()}
    power.make(cut.state.tree, root)
    told = [
        (word, str(root / Path(what).name) if word == "saved" else what) for word, what in cut.told
    ]
    found, halves = look(root, earlier, told, operation)
    shutil.rmtree(root)
    return Result(
        operation=operation.name,
        mount=LOCAL.name,
        fault=POWER,
        point=Point(cut.at.op, cut.at.path) if cut.at else None,
        outcome="killed",
        halves=halves,
        stands_for=cut.state.stands_for,
        combinations=cut.combinations,
        violations=tuple(found),
    )


def _different(
    states: Iterable[power.State], told: Sequence[tuple[int, str, str]]
) -> list[power.State]:
    """The first of the states that are the same, after the same reports; it stands for all."""
    first: dict[tuple[bytes, int], power.State] = {}
    for state in states:
        key = state.key, sum(calls <= state.calls for calls, *_ in told)
        known = first.setdefault(key, state)
        if known is not state:
            both = known.stands_for + state.stands_for
            first[key] = replace(known, stands_for=both)
    return list(first.values())


def _events_of(operation: Operation, root: Path) -> tuple[list[Event], list[tuple[int, str, str]]]:
    """What an operation does, and after how many events it told of what."""

    def run(tell: Callable[[str], None]) -> None:
        told: list[tuple[int, str, str]] = []
        with Layer(root) as layer:
            operation.run(
                root, lambda word, what: told.append((len(layer.events), word, str(what)))
            )
        fields = [(e.op, e.path, e.target, e.offset, e.data) for e in layer.events]
        tell(repr((fields, told)))

    # In a process of its own, so that the writer is dead, as it is after a power cut.
    status, lines = in_child(run)
    assert status == 0, "\n".join(lines)
    fields, told = ast.literal_eval(lines[0])
    names = ("op", "path", "target", "offset", "data")
    return [Event(**dict(zip(names, values, strict=True))) for values in fields], told


def copy_of(template: Path, root: Path) -> None:
    """Copies a root; files that are one under several names there are one here too.

    Modes and times are not copied: not every mount has them.
    """
    made: dict[int, Path] = {}
    for directory, _, names in os.walk(template):
        place = root / os.path.relpath(directory, template)
        place.mkdir()
        for name in names:
            source = Path(directory, name)
            _link_or_copy(source, place / name, made.setdefault(source.stat().st_ino, place / name))


def _link_or_copy(source: Path, target: Path, made: Path) -> None:
    if made != target:
        try:
            os.link(made, target)
        except OSError:
            pass  # not on every mount
        else:
            return
    shutil.copyfile(source, target)


def _to_nobody(word: Word, what: object) -> None:
    """Hears what an operation tells, where nobody asks."""


def _told(lines: list[str]) -> Told:
    words = [line.partition(" ") for line in lines]
    return [(cast(Word, word), what) for word, _, what in words if word in get_args(Word)]


def in_child(run: Callable[[Callable[[str], None]], None]) -> tuple[int, list[str]]:
    """The exit status of a forked process and the lines that it told before it ended."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.close(reading)
            # One that hangs ends, and is a broken promise, not a test that never ends.
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(HANGS_S)
            run(lambda line: _tell(writing, line))
            status = 0
        except Exception:  # noqa: BLE001  a forked child must not go on as its parent
            _tell(writing, f"foreign {traceback.format_exc()!r}")
        finally:
            os._exit(status)
    os.close(writing)
    with os.fdopen(reading, encoding="utf-8") as stream:
        lines = stream.read().splitlines()
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status), lines


def _tell(descriptor: int, line: str) -> None:
    os.write(descriptor, line.replace("\n", "\\n").encode() + b"\n")
