"""The matrix: every operation, on every kind of mount, with every fault at every point of it.

`python -m smartcash_format.testing` prints it; docs/durability.md holds the table.
"""

from __future__ import annotations

import errno
import itertools
import os
import random
import shutil
import tempfile
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

from smartcash_format.disk.read import read_meta
from smartcash_format.disk.transfer import transfer
from smartcash_format.spec import layout
from smartcash_format.store.checkpoint_store import CheckpointStore
from smartcash_format.store.retention import DropResumeState, KeepLast
from smartcash_format.testing.crash import (
    Cut,
    Result,
    duration,
    kill_after,
    lose_power,
    points_of,
    power_cuts,
    strike,
)
from smartcash_format.testing.points import LOCAL, MOUNTS, Fault, Mount, Point
from smartcash_format.testing.promise import Operation, Tell
from smartcash_format.testing.sample import write_sample
from smartcash_format.testing.spreading import Job, spread

T = TypeVar("T")

KILL: Final = Fault(effect="kill")
TEAR: Final = Fault(effect="tear")
ERRNOS: Final = (
    errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EACCES, errno.EROFS, errno.EXDEV, errno.EINTR,
)  # fmt: skip
ONCE: Final = tuple(Fault(effect="fail", errno=number) for number in ERRNOS)
# A full disk stays full, a device that is gone or read-only stays so.
LASTING: Final = tuple(
    Fault(effect="fail", errno=number, lasting=True)
    for number in (errno.ENOSPC, errno.EIO, errno.EROFS)
)
ALL_FAULTS: Final = (KILL, TEAR, *ONCE, *LASTING)
# Epochs of the checkpoints that stand in a root before an operation, and of the save after it.
EARLIER: Final = (1, 2, 3)
NEXT: Final = 99
# How often one large save is killed at a random moment inside its writing.
KILLS: Final = 1_000
# So many trials are a job: a fork of a process with torch costs as much as one of them.
BATCH: Final = 20
QUICK_KILLS: Final = 20


def operations() -> tuple[Operation, ...]:
    """What the matrix tries without torch."""
    return (
        _operation("save", _save),
        _operation("save, then keep the newest 3", _save_and_keep, removes=(0,), saves=1),
        _operation("prune", _prune, removes=(0, 1)),
        _operation("strip", _strip, strips=(0, 1)),
        _operation("copy", _copy),
        _operation("history", _resume),
        _operation("protect", _protect),
    )


def _operation(
    name: str,
    run: Callable[[Path, Tell], None],
    *,
    removes: Iterable[int] = (),
    strips: Iterable[int] = (),
    saves: int = 0,
) -> Operation:
    return Operation(
        name=name,
        run=run,
        prepare=_prepare,
        save_next=lambda root: _save_sample(root, NEXT),
        removes=frozenset(removes),
        strips=frozenset(strips),
        saves=saves,
    )


def _prepare(root: Path) -> None:
    for epoch in EARLIER:
        path = _save_sample(root, epoch)
        # Whatever stands for a signature goes with its checkpoint.
        path.with_name(path.name + layout.SIGNATURE_SUFFIX).write_bytes(b"{}")


def _save_sample(root: Path, epoch: int) -> Path:
    path = write_sample(root, epoch=epoch)
    CheckpointStore(root).record_save(path, read_meta(path))
    return path


def _save(root: Path, tell: Tell) -> None:
    path = write_sample(root, epoch=4)
    tell("saved", path)
    if not CheckpointStore(root).record_save(path, read_meta(path)):
        tell("noted", f"save {path.name}")


def _save_and_keep(root: Path, tell: Tell) -> None:
    _save(root, tell)
    store = CheckpointStore(root)
    store.apply(store.plan(KeepLast(len(EARLIER))))


def _prune(root: Path, tell: Tell) -> None:
    store = CheckpointStore(root)
    store.apply(store.plan(KeepLast(1)))


def _strip(root: Path, tell: Tell) -> None:
    store = CheckpointStore(root)
    store.apply(store.plan(DropResumeState(older_than=0)))


def _copy(root: Path, tell: Tell) -> None:
    # Made once, beside the root: what lies elsewhere a killed process would leave there.
    elsewhere = root.with_name("elsewhere")
    if not elsewhere.exists():
        for epoch in (3, 4, 5):
            write_sample(elsewhere, epoch=epoch)
    sources = sorted(elsewhere.iterdir())
    for path in transfer(sources, root).copied:
        tell("saved", path)


def _resume(root: Path, tell: Tell) -> None:
    store = CheckpointStore(root)
    newest = store.list()[0]
    if not store.record_resume(newest.path, newest.meta, run_id=str(uuid.uuid4())):
        tell("noted", f"resume {newest.name}")


def _protect(root: Path, tell: Tell) -> None:
    store = CheckpointStore(root)
    entry = store.list()[0]
    store.protect(entry.path, "published in the paper")
    tell("pinned", entry.checkpoint_id)
    store.protect(entry.path, "and in the next one")
    tell("lifting", entry.checkpoint_id)
    store.unprotect(entry.path)


def run_matrix(
    directory: Path,
    operations: Sequence[Operation],
    *,
    mounts: Sequence[Mount] = MOUNTS,
    faults: Sequence[Fault] = ALL_FAULTS,
    every: int = 1,
) -> Iterator[Result]:
    """The result of each operation with each fault at every point, or at every so manieth.

    Works in a new directory under `directory`, so on the storage that is there.
    """
    with tempfile.TemporaryDirectory(dir=directory, prefix="faults-") as place:
        yield from spread(_strikes(_Places(Path(place)), operations, mounts, faults, every))


class _Places:
    """Directories of their own below one."""

    def __init__(self, place: Path) -> None:
        self._place = place
        self._numbers = itertools.count()

    def new(self) -> Path:
        made = self._place / str(next(self._numbers))
        made.mkdir()
        return made


def _strikes(
    places: _Places,
    operations: Sequence[Operation],
    mounts: Sequence[Mount],
    faults: Sequence[Fault],
    every: int,
) -> Iterator[Job]:
    for operation in operations:
        template = places.new() / operation.name
        operation.prepare(template)
        for mount in mounts:
            points = points_of(operation, template, places.new() / "root", mount)
            cases = [(None, None), *list(_cases(faults, points))[::every]]
            for some in _batches(cases):
                yield partial(_strike_each, some, operation, template, places.new(), mount)


def _strike_each(
    cases: Sequence[tuple[Fault | None, Point | None]],
    operation: Operation,
    template: Path,
    place: Path,
    mount: Mount,
) -> Iterator[Result]:
    for fault, point in cases:
        yield strike(operation, template, place / "root", point=point, fault=fault, mount=mount)
    shutil.rmtree(place)


def _batches(cases: Sequence[T]) -> Iterator[Sequence[T]]:
    return (cases[first : first + BATCH] for first in range(0, len(cases), BATCH))


def _cases(faults: Sequence[Fault], points: Sequence[Point]) -> Iterator[tuple[Fault, Point]]:
    for fault in faults:
        for point in points:
            if fault.effect != "tear" or point.op == "write":
                yield fault, point


def tables(results: Sequence[Result]) -> str:
    """The matrix in Markdown: by operation and fault, all mounts together, and by mount."""
    faults = {result: result.fault.name if result.fault else "none" for result in results}
    by_fault = _table(["operation", "fault"], results, lambda r: (r.operation, faults[r]))
    by_mount = _table(["mount"], results, lambda result: (result.mount,))
    broken = sum(bool(result.violations) for result in results)
    total = f"{len(results):,} points tried, {broken:,} broken promises."
    lost = [*_power_lines(results), ""] if any(result.combinations for result in results) else []
    return "\n".join([*by_fault, "", *by_mount, "", *lost, total])


def _power_lines(results: Sequence[Result]) -> Iterator[str]:
    """For each operation how many of all combinations that a power cut may leave were looked at."""
    yield "Power loss: states looked at, and for how many of all that it may leave they stand:"
    cuts = [result for result in results if result.combinations]
    for name in dict.fromkeys(result.operation for result in cuts):
        own = [result for result in cuts if result.operation == name]
        stand = sum(result.stands_for for result in own)
        yield f"- {name}: {len(own):,} for {stand:,} of {own[0].combinations:,}"


_COLUMNS: Final[dict[str, Callable[[Result], bool]]] = {
    "points": lambda result: True,
    "completed": lambda result: result.outcome == "completed",
    "refused": lambda result: result.outcome == "refused",
    "killed": lambda result: result.outcome == "killed",
    "half left": lambda result: bool(result.halves),
    "promise broken": lambda result: bool(result.violations),
}


def _table(
    heads: list[str], results: Iterable[Result], key: Callable[[Result], tuple[str, ...]]
) -> list[str]:
    counts: dict[tuple[str, ...], Counter[str]] = {}
    for result in results:
        counted = counts.setdefault(key(result), Counter())
        counted.update(name for name, holds in _COLUMNS.items() if holds(result))
    lines = [f"| {' | '.join([*heads, *_COLUMNS])} |"]
    lines.append("|" + "---|" * len(heads) + "---:|" * len(_COLUMNS))
    for names, counted in counts.items():
        cells = [*names, *(f"{counted[column]:,}" for column in _COLUMNS)]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def worst(results: Iterable[Result]) -> list[str]:
    """A line for each broken promise."""
    return [
        f"{result.operation} on {result.mount}, "
        f"{result.fault.name if result.fault else 'no fault'} at {result.point}: {violation}"
        for result in results
        for violation in result.violations
    ]


def run_power_loss(
    directory: Path, operations: Sequence[Operation], *, draws: int, every: int = 1
) -> Iterator[Result]:
    """The result of each state that a power cut during an operation may leave."""
    with tempfile.TemporaryDirectory(dir=directory, prefix="power-") as place:
        yield from spread(_power_cuts(_Places(Path(place)), operations, draws, every))


def _power_cuts(
    places: _Places, operations: Sequence[Operation], draws: int, every: int
) -> Iterator[Job]:
    for operation in operations:
        template = places.new() / operation.name
        operation.prepare(template)
        cuts = power_cuts(operation, template, places.new() / "root", draws=draws)
        for some in _batches(cuts[::every]):
            yield partial(_lose_power, some, operation, template, places.new())


def _lose_power(
    cuts: Sequence[Cut], operation: Operation, template: Path, place: Path
) -> Iterator[Result]:
    for cut in cuts:
        yield lose_power(cut, operation, template, place / "root")
    shutil.rmtree(place)


def random_kills(
    directory: Path, count: int, *, floats: int = 4 << 20, seed: int = 0
) -> Iterator[Result]:
    """Results until a save of floats * 8 bytes was killed so often, at random moments.

    The moments lie between its first byte and its end; a save that was faster than ever before has
    ended by then, and is one result more.
    """
    large = _operation("large save", lambda root, tell: _save_large(root, tell, floats))
    with tempfile.TemporaryDirectory(dir=directory, prefix="kills-") as place:
        places = _Places(Path(place))
        template = places.new() / "template"
        large.prepare(template)
        longest = min(duration(large, template, places.new() / "root") for _ in range(3))
        yield from spread(
            partial(_kill, len(some), longest, large, template, places.new(), f"{seed} {some[0]}")
            for some in _batches(range(count))
        )


def _kill(
    count: int, longest: float, large: Operation, template: Path, place: Path, seed: str
) -> Iterator[Result]:
    chance = random.Random(seed)
    killed = 0
    while killed < count:
        result = kill_after(chance.uniform(0, longest), large, template, place / "root")
        killed += result.outcome == "killed"
        yield result
    shutil.rmtree(place)


def _save_large(root: Path, tell: Tell, floats: int) -> None:
    begun: list[int] = []

    def begin(done: int, size_bytes: int) -> None:
        if not begun:
            begun.append(size_bytes)
            tell("begun", size_bytes)

    path = write_sample(root, epoch=4, floats=floats, progress=begin)
    tell("saved", path)


def quick(directory: Path, tried: Sequence[Operation], *, every: int = 1) -> Iterator[Result]:
    """A part of the matrix: every fault on a local mount, kills on the others, power lost."""
    yield from run_matrix(directory, tried, mounts=[LOCAL], every=every)
    others = [mount for mount in MOUNTS if mount is not LOCAL]
    yield from run_matrix(directory, tried, mounts=others, faults=[KILL], every=every)
    yield from run_power_loss(directory, tried, draws=1, every=every)


def full(directory: Path, tried: Sequence[Operation], *, every: int = 1) -> Iterator[Result]:
    """Every operation on every mount with every fault at every point, and power lost anywhere."""
    yield from run_matrix(directory, tried, every=every)
    yield from run_power_loss(directory, tried, draws=20, every=every)


def fast_directory() -> Path:
    """Where a matrix takes seconds: in memory where the system has such a place."""
    memory = Path("/dev/shm")
    return memory if os.access(memory, os.W_OK) else Path(tempfile.gettempdir())
