"""One operation, one fault, and what is left of the promise; each run is a process of its own.

After each run: every checkpoint that the operation was not asked to remove is whole, what was
reported as saved is there, the newest whole one is found, the next save works, nothing is left
over after it, and what was raised is an error of our tree or of the system.
"""

from __future__ import annotations

import ast
import os
import shutil
import signal
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from smartcash_format.disk.leftovers import leftovers
from smartcash_format.disk.observe import validate
from smartcash_format.errors import CheckpointError
from smartcash_format.spec import layout
from smartcash_format.spec.problems import Depth
from smartcash_format.store.checkpoint_store import CheckpointStore
from smartcash_format.testing import power
from smartcash_format.testing.faults import Layer
from smartcash_format.testing.points import LOCAL, POWER, RANDOM, Event, Fault, Mount, Point

Saved = Callable[[Path], None]
"""Called by an operation with what its caller would now believe to be saved."""
Outcome = Literal["completed", "refused", "killed"]
# Longer than any operation here takes on a busy machine.
HANGS_S: Final = 240


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """What is tried: `prepare` fills a new root once, `run` works in copies of it.

    `run` reports through its second argument; `removes` are the earlier checkpoints, counted from
    the oldest, that it is asked to remove; `save_next` is the save that has to work afterwards.
    """

    name: str
    run: Callable[[Path, Saved], None]
    prepare: Callable[[Path], object]
    save_next: Callable[[Path], Path]
    removes: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """How one run ended; `violations` is empty when every promise was kept.

    `halves` counts the directories that are no checkpoint for any reader and stay until somebody
    deletes them: only on mounts that cannot rename a directory at once.
    """

    operation: str
    mount: str
    fault: Fault | None
    point: Point | None
    outcome: Outcome
    raised: str = ""
    halves: int = 0
    violations: tuple[str, ...] = ()


def points_of(
    operation: Operation, template: Path, root: Path, mount: Mount = LOCAL
) -> list[Point]:
    """Every mutating call of an operation that goes undisturbed, in the order of its making.

    Raises AssertionError when the operation writes behind the back of `os`.
    """
    shutil.copytree(template, root)

    def run(tell: Callable[[str], None]) -> None:
        with Layer(root, mount=mount) as layer:
            operation.run(root, lambda path: None)
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
    shutil.copytree(template, root)
    earlier = visible(root)

    def run(tell: Callable[[str], None]) -> None:
        with Layer(root, mount=mount, at=point, fault=fault):
            try:
                operation.run(root, lambda path: tell(f"saved {path}"))
            except (CheckpointError, OSError) as error:
                tell(f"raised {type(error).__name__}")
            except Exception:  # noqa: BLE001  whatever it is, it is told as a broken promise
                tell(f"foreign {traceback.format_exc()!r}")

    status, lines = in_child(run)
    told = [line.partition(" ") for line in lines]
    saved = [Path(rest) for word, _, rest in told if word == "saved"]
    raised = [rest for word, _, rest in told if word == "raised"]
    violations = [f"raised {rest}" for word, _, rest in told if word == "foreign"]
    if status not in (0, -signal.SIGKILL):
        violations.append(f"ended with status {status}: {lines}")
    found, halves = look(root, earlier, saved, operation, mount)
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
    """How many seconds an operation takes in a copy of a root, undisturbed."""
    shutil.copytree(template, root)
    started = time.perf_counter()
    status, lines = in_child(lambda tell: operation.run(root, lambda path: None))
    assert status == 0, "\n".join(lines)
    seconds = time.perf_counter() - started
    shutil.rmtree(root)
    return seconds


def kill_after(seconds: float, operation: Operation, template: Path, root: Path) -> Result:
    """Kills an operation in a copy of a root after so many seconds, and looks at what is left."""
    shutil.copytree(template, root)
    earlier = visible(root)

    def run(tell: Callable[[str], None]) -> None:
        # The system's timer, whose signal nobody handles: it ends the process wherever it is.
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, max(seconds, 1e-6))
        operation.run(root, lambda path: tell(f"saved {path}"))

    status, lines = in_child(run)
    saved = [Path(line.removeprefix("saved ")) for line in lines if line.startswith("saved ")]
    found, halves = look(root, earlier, saved, operation)
    found += [line for line in lines if line.startswith("foreign")]
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


def lose_power(
    operation: Operation, template: Path, root: Path, *, draws: int, every: int = 1
) -> Iterator[Result]:
    """Looks at what every power cut during an operation may leave, as `power.states` draws it."""
    shutil.copytree(template, root)
    events, saved = _events_of(operation, root)
    shutil.rmtree(root)
    earlier = [root / path.name for path in visible(template)]
    for number, done in enumerate(power.states(template, events, root, draws=draws)):
        if number % every == 0:
            reported = [Path(path) for count, path in saved if count <= done]
            found, halves = look(root, earlier, reported, operation)
            yield Result(
                operation=operation.name,
                mount=LOCAL.name,
                fault=POWER,
                point=Point(events[done].op, events[done].path) if done < len(events) else None,
                outcome="killed",
                halves=halves,
                violations=tuple(found),
            )
        shutil.rmtree(root)


def _events_of(operation: Operation, root: Path) -> tuple[list[Event], list[tuple[int, str]]]:
    """What an operation does, and after how many events it reported what as saved."""

    def run(tell: Callable[[str], None]) -> None:
        saved: list[tuple[int, str]] = []
        with Layer(root) as layer:
            operation.run(root, lambda path: saved.append((len(layer.events), str(path))))
        fields = [(e.op, e.path, e.target, e.offset, e.data) for e in layer.events]
        tell(repr((fields, saved)))

    # In a process of its own, so that the writer is dead, as it is after a power cut.
    status, lines = in_child(run)
    assert status == 0, "\n".join(lines)
    fields, saved = ast.literal_eval(lines[0])
    names = ("op", "path", "target", "offset", "data")
    return [Event(**dict(zip(names, values, strict=True))) for values in fields], saved


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


def look(
    root: Path,
    earlier: Sequence[Path],
    saved: Iterable[Path],
    operation: Operation,
    mount: Mount = LOCAL,
) -> tuple[list[str], int]:
    """Every promise that does not hold in a root after something went wrong in it.

    And how many directories stand there that no reader takes for a checkpoint.
    """
    store = CheckpointStore(root)
    listing = store.list()
    listed = {entry.path for entry in listing}
    whole = {path for path in listed if is_whole(path)}
    asked = {earlier[i] for i in operation.removes} - whole
    must_stand = {path for path in (*earlier, *saved) if path not in asked}
    found = [f"lost: {path.name}" for path in must_stand - whole]
    found += [f"listed and not whole: {path.name}" for path in listed - whole]
    halves = [path for path in visible(root) if path not in listed]
    if mount.renames_at_once:
        found += [f"torn: {path.name}" for path in halves]
    if (newest := store.latest()) is None or newest.path not in whole:
        found.append("the newest is not whole")
    try:
        next_one = operation.save_next(root)
    except (CheckpointError, OSError) as error:
        return [*found, f"the next save failed: {error!r}"], len(halves)
    after = (*(must_stand & whole), next_one)
    found += [f"lost by the next save: {path.name}" for path in after if not is_whole(path)]
    if (newest := store.latest()) is None or newest.path != next_one:
        found.append("the next save is not the newest")
    found += [f"left over: {left.path.name}" for left in leftovers(root)]
    if store.events().skipped > 1:
        found.append("more than one line of history is torn")
    return found, len(halves)


def visible(root: Path) -> list[Path]:
    """The directories in a root that are no stage, trash or pins."""
    return sorted(
        path for path in root.iterdir() if path.is_dir() and not layout.is_hidden(path.name)
    )


def is_whole(path: Path) -> bool:
    """Whether a checkpoint passes at CONTENT."""
    return validate(path, Depth.CONTENT).valid
