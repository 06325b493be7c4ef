"""Save and load beside the usual ways: how long a training waits, and what it takes.

    python benchmarks/saving.py [--rounds 5] [--directory DIR] [--full | --large]

Every round does everything once, in random order, after an epoch has changed every tensor and a
sync of the disk; a ratio is that of two times of one round, and each figure a median over the
rounds. Machines and disks differ: only the ratios count. Memory is measured in a process of its own
for each way: the highest anonymous memory during the second save or load, over what there was
before it; for `blocking=False`, whose copy is kept, of the first over what there was when another
manager had saved two numbers.

The model has the shapes of EfficientNet-B4 with a head of seven classes, built in _workloads.py:
418 parameters, 706 tensors; AdamW has stepped once. Ours is saved by one manager, as a training
does, with its history, digests and fsync.
"""

from __future__ import annotations

import argparse
import ctypes
import importlib.util
import os
import platform
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

# First: it says so where torch is not installed.
from _workloads import GROWTH, WORKLOADS, Live, make_live  # isort: skip
import torch
from _ways import (
    BACKGROUND,
    BASE,
    CLONE,
    DIGESTED,
    LOAD_BASE,
    LOADS,
    OTHERS,
    OURS,
    PLAIN,
    RAW,
    SAVES,
    UNVERIFIED,
    VERIFIED,
    Call,
    settle,
)

from smartcash_format import CheckpointManager

ROUNDS, FULL_ROUNDS = 5, 25
SAMPLING_S = 0.002
# Where ours keeps its checkpoints, and where the others save.
MANAGED, PLACE = "managed", "save"
# What issue and README ask for: workload, way, of which other way, at most so many times its time.
TARGETS = (
    ("b4", BACKGROUND, CLONE, 1.3),
    ("b4", BACKGROUND, PLAIN, 0.25),
    ("b4", OURS, BASE, 0.8),
    ("b4", OURS, DIGESTED, 0.5),
    ("b4", OURS, RAW, 1.3),
    ("small", OURS, BASE, 1.0),
    ("b4", VERIFIED, LOAD_BASE, 0.9),
    ("b4", UNVERIFIED, LOAD_BASE, 0.6),
)
# Megabytes that a blocking save adds; what background saves and loads add, of the state's bytes.
SAVE_MEMORY, BACKGROUND_MEMORY, LOAD_MEMORY = 32, 1.05, 1.05
# How far the time of a gigabyte may differ between 100 MB and 8 GB.
LINEAR = 0.1


@dataclass
class Taken:
    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    size_bytes: int = 0


def size_under(path: Path) -> int:
    return sum(entry.stat().st_size for entry in path.rglob("*") if entry.is_file())


def time_call(call: Call, live: Live, at: Path, taken: Taken) -> None:
    began, cpu = time.perf_counter(), time.process_time()
    call(live, at)
    taken.wall.append(time.perf_counter() - began)
    taken.cpu.append(time.process_time() - cpu)


def time_save(name: str, live: Live, directory: Path, taken: Taken) -> None:
    """One save in a place that was not there, and an epoch after it."""
    place = directory / PLACE
    place.mkdir()
    os.sync()
    time_call(SAVES[name], live, place / "it", taken)
    settle(live, place)
    written = [place, *(entry.path for entry in live.manager.list_checkpoints())]
    taken.size_bytes = sum(map(size_under, written))
    for path in written:
        shutil.rmtree(path)
    live.train()


def rounds_of_saves(live: Live, directory: Path, rounds: int) -> dict[str, Taken]:
    chance = random.Random(rounds)
    taken = {name: Taken() for name in SAVES}
    for turn in range(rounds + 1):
        names = list(SAVES)
        chance.shuffle(names)
        for name in names:
            # The first round only warms up.
            time_save(name, live, directory, taken[name] if turn else Taken())
    return taken


def rounds_of_loads(live: Live, directory: Path, rounds: int) -> dict[str, Taken]:
    chance = random.Random(rounds)
    made: dict[Call, Path] = {}
    for _, save in LOADS.values():
        if save not in made:
            made[save] = directory / f"load-{len(made)}"
            save(live, made[save])
    taken = {name: Taken() for name in LOADS}
    for turn in range(rounds + 1):
        names = list(LOADS)
        chance.shuffle(names)
        for name in names:
            load, save = LOADS[name]
            os.sync()
            time_call(load, live, made[save], taken[name] if turn else Taken())
    for path in (*made.values(), directory / MANAGED):
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    return taken


def anonymous_bytes() -> int:
    """What this process holds beside mapped files; 0 where the system does not say."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return 0
    return sum(
        int(line.split()[1]) << 10 for line in status.splitlines() if line.startswith("RssAnon:")
    )


def give_back() -> None:
    """Returns what the allocator keeps, so that it is counted when it is taken again."""
    if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):
        trim(0)


def report_memory(workload: str, name: str, directory: Path) -> None:
    """In a process of its own: prints the extra memory of the second call."""
    live = make_live(workload, directory / MANAGED)
    if name in LOADS:
        call, save = LOADS[name]
        save(live, directory / "made")
        paths = [directory / "made"] * 2
    else:
        call = SAVES[name]
        paths = [directory / "0", directory / "1"]
    if name == BACKGROUND:
        # What is imported for the first save is no copy of the state.
        with CheckpointManager(directory / "small") as manager:
            manager.save_checkpoint(torch.nn.Linear(1, 1), epoch=1, blocking=False)
    else:
        call(live, paths[0])
    give_back()
    highest = before = anonymous_bytes()
    done = threading.Event()

    def sample() -> None:
        nonlocal highest
        while not done.wait(SAMPLING_S):
            highest = max(highest, anonymous_bytes())

    thread = threading.Thread(target=sample)
    thread.start()
    call(live, paths[1])
    settle(live, paths[1])
    done.set()
    thread.join()
    print(max(highest, anonymous_bytes()) - before)


def measure_memory(workload: str, name: str, directory: Path) -> int:
    with tempfile.TemporaryDirectory(dir=directory) as made:
        command = [sys.executable, __file__, "--memory", workload, name, "--directory", made]
        # Without these the allocator keeps, and hands out again, what was freed.
        kept = {"MALLOC_MMAP_THRESHOLD_": "131072", "MALLOC_TRIM_THRESHOLD_": "131072"}
        output = subprocess.run(
            command, check=True, capture_output=True, text=True, env={**os.environ, **kept}
        ).stdout
    return int(output.split()[-1])


def print_table(title: str, kind: str, taken: Mapping[str, Taken], bases: list[str]) -> None:
    columns = [kind, *(f"of {base}" for base in bases), "time", "processor"]
    written = any(each.size_bytes for each in taken.values())
    columns += ["written"] if written else []
    print(f"\n### {title}\n\n| {' | '.join(columns)} |\n|{' --- |' * len(columns)}")
    for name, each in taken.items():
        cells = [name]
        for base in bases:
            ratios = [a / b for a, b in zip(each.wall, taken[base].wall, strict=True)]
            cells.append(f"{statistics.median(ratios):.2f} x")
        cells.append(f"{statistics.median(each.wall) * 1e3:,.0f} ms")
        cells.append(f"{statistics.median(each.cpu) * 1e3:,.0f} ms")
        cells += [f"{each.size_bytes / 1e6:,.0f} MB"] if written else []
        print(f"| {' | '.join(cells)} |", flush=True)


def ratio(taken: Mapping[str, Taken], name: str, base: str) -> float:
    pairs = zip(taken[name].wall, taken[base].wall, strict=True)
    return statistics.median(a / b for a, b in pairs)


def measure(workload: str, directory: Path, rounds: int) -> list[str]:
    """The tables of one workload; the rows of its targets."""
    live = make_live(workload, directory / MANAGED)
    size = sum(tensor.nbytes for tensor in live.tensors()) / 1e6
    title = f"{WORKLOADS[workload]}: {len(live.tensors()):,} tensors, {size:,.0f} MB"
    saves = rounds_of_saves(live, directory, rounds)
    print_table(f"Save {title}", "save", saves, [BASE, PLAIN, DIGESTED, RAW, CLONE])
    loads = rounds_of_loads(live, directory, rounds)
    print_table(f"Load {title}", "load into live objects", loads, [LOAD_BASE])
    rows = []
    for where, name, base, target in TARGETS:
        if where == workload:
            found = ratio(loads if name in loads else saves, name, base)
            what = f"{name}, of {base}, {WORKLOADS[workload].split(':')[0]}"
            rows.append(verdict(what, f"{target} x", f"{found:.2f} x", found <= target))
    return rows


def verdict(what: str, target: str, found: str, reached: bool) -> str:
    return f"| {what} | {target} | {found} | {'yes' if reached else 'no'} |"


def measure_all_memory(directory: Path) -> list[str]:
    live = make_live("b4", directory / MANAGED)
    state = sum(tensor.nbytes for tensor in live.tensors())
    created = state - sum(tensor.nbytes for tensor in live.model.state_dict().values())
    del live
    print(f"\n### Extra memory, {WORKLOADS['b4']}\n\n| what | extra memory |\n| --- | --- |")
    rows = []
    limits = {
        OURS: SAVE_MEMORY * 1e6,
        BACKGROUND: BACKGROUND_MEMORY * state,
        VERIFIED: LOAD_MEMORY * created,
        UNVERIFIED: LOAD_MEMORY * created,
    }
    for name in (*SAVES, *LOADS):
        found = measure_memory("b4", name, directory)
        print(f"| {name} | {found / 1e6:,.0f} MB |", flush=True)
        if name in limits:
            limit = limits[name]
            what = f"extra memory of {name}"
            sizes = (f"{limit / 1e6:,.0f} MB", f"{found / 1e6:,.0f} MB")
            rows.append(verdict(what, *sizes, found <= limit))
    return rows


def measure_growth(directory: Path, rounds: int) -> None:
    """Time and extra memory from 100 MB to 8 GB; each round has all sizes, in random order."""
    names = (BASE, RAW, OURS)
    for workload in GROWTH:
        (directory / workload).mkdir()
    # First: there is not room for two of the largest.
    memory = [measure_memory(workload, OURS, directory) for workload in GROWTH]
    lives = {workload: make_live(workload, directory / workload / MANAGED) for workload in GROWTH}
    sizes = [sum(tensor.nbytes for tensor in live.tensors()) / 1e9 for live in lives.values()]
    taken = {workload: {name: Taken() for name in names} for workload in GROWTH}
    chance = random.Random(rounds)
    for turn in range(rounds + 1):
        turns = [(workload, name) for workload in GROWTH for name in names]
        chance.shuffle(turns)
        for workload, name in turns:
            # The first round only warms up.
            found = taken[workload][name] if turn else Taken()
            time_save(name, lives[workload], directory / workload, found)
    print("\n### Growth\n\n| state | " + " | ".join(f"{name}, ms per GB" for name in names)
          + " | ours, of the raw write | extra memory of ours |\n|"
          + " --- |" * (len(names) + 3))  # fmt: skip
    for workload, size, extra in zip(GROWTH, sizes, memory, strict=True):
        found = taken[workload]
        cells = [f"{statistics.median(found[name].wall) * 1e3 / size:,.0f}" for name in names]
        cells += [f"{ratio(found, OURS, RAW):.2f} x", f"{extra / 1e6:,.0f} MB"]
        print(f"| {size:,.1f} GB | {' | '.join(cells)} |", flush=True)
    times = [statistics.median(found[OURS].wall) for found in taken.values()]
    each = [time / size for time, size in zip(times, sizes, strict=True)]
    spread = max(each) / min(each) - 1
    fixed, slope, off = straight_line(sizes, times)
    rows = [
        verdict(f"time, off {fixed * 1e3:,.0f} ms and {slope * 1e3:,.0f} ms for each GB",
                f"{LINEAR:.0%}", f"{off:.0%}", off <= LINEAR),
        verdict("time for each GB, the smallest with what any save takes", f"within {LINEAR:.0%}",
                f"within {spread:.0%}", spread <= LINEAR),
        verdict("extra memory of 8 GB", f"{SAVE_MEMORY} MB", f"{memory[-1] / 1e6:,.0f} MB",
                memory[-1] <= SAVE_MEMORY * 1e6),
    ]  # fmt: skip
    print_verdicts(rows)


def straight_line(sizes: Sequence[float], times: Sequence[float]) -> tuple[float, float, float]:
    """What any save takes, and each unit of size: a line with the least squares of relative errors.

    The third is how far off the line, as a part of its own time, the farthest save is.
    """
    weights = [time**-2 for time in times]
    total = sum(weights)
    x = sum(w * size for w, size in zip(weights, sizes, strict=True)) / total
    y = sum(w * time for w, time in zip(weights, times, strict=True)) / total
    both = list(zip(weights, sizes, times, strict=True))
    slope = sum(w * (size - x) * (time - y) for w, size, time in both)
    slope /= sum(w * (size - x) ** 2 for w, size, _ in both)
    fixed = y - slope * x
    off = max(abs(fixed + slope * size - time) / time for _, size, time in both)
    return fixed, slope, off


def print_verdicts(rows: Sequence[str]) -> None:
    print(
        "\n### Targets\n\n| what | target, at most | found | reached |\n| --- | --- | --- | --- |"
    )
    print("\n".join(rows), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=None)
    parser.add_argument("--directory", type=Path, default=None)
    parser.add_argument("--full", action="store_true", help=f"{FULL_ROUNDS} rounds")
    parser.add_argument("--large", action="store_true", help="growth from 100 MB to 8 GB alone")
    parser.add_argument("--memory", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    if options.memory:
        report_memory(*options.memory, options.directory)
        return
    rounds = options.rounds or (FULL_ROUNDS if options.full else ROUNDS)
    print(f"## Save and load: torch {torch.__version__}, Python {platform.python_version()}, "
          f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {rounds} rounds")  # fmt: skip
    for module, name, _ in OTHERS:
        if importlib.util.find_spec(module) is None:
            print(f"\n{name} is not installed: left out")
    with tempfile.TemporaryDirectory(dir=options.directory) as made:
        if options.large:
            measure_growth(Path(made), rounds)
            return
        rows = [row for workload in WORKLOADS for row in measure(workload, Path(made), rounds)]
        rows += measure_all_memory(Path(made))
        print_verdicts(rows)


if __name__ == "__main__":
    main()
