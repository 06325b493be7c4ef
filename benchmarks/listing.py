"""Ask without loading: what it takes to list, filter, find, show and validate, side by side.

    python benchmarks/listing.py [--checkpoints 10000] [--directory DIR]

Everything is measured in one run with a warm cache; each figure is the median of several turns, the
floor measured in the same turn as what is compared with it; what may differ from process to process
is measured in several. The checkpoints have a real meta.json
of the usual size; their other files are holes of full size, because no listing may read them. The
rows with torch are left out where it is not installed.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

# First: it puts the package on the path.
from _roots import FLOATS, ROOT, TENSORS, make_root  # isort: skip
from _hashing import hash_bare, hash_files, hash_read, tensor_places
from _tables import Table, milliseconds, seconds

from smartcash_format.disk.observe import validate
from smartcash_format.spec import layout
from smartcash_format.spec.problems import Depth
from smartcash_format.store.catalog import Listing, scan
from smartcash_format.store.compare import diff

# In each process, or in all.
TURNS = 7
# More than any part of the package remembers.
CHECKPOINTS = 4
PROCESSES = 7
LARGE_FLOATS = 12 * FLOATS
LISTING_TARGETS = {
    "list": "5 x, 1 s",
    "list and filter": "as list",
    "list and find the best": "as list",
}
VALIDATION_TARGETS = {"validate, META": "1 ms", "validate, STRUCTURE": "10 ms"}
CONTENT_BASE = "BLAKE3 alone of the same, the weights as a file and as tensors, on all cores"
GROWTH = (100, 1_000, 10_000, 20_000)
PTH_FILES = 50
PTH_PART = 10
COLD_CHECKPOINTS = 100


def read_raw(root: Path) -> int:
    """The floor: every meta.json opened and read, and nothing else."""
    size = 0
    for directory in os.scandir(root):
        with open(f"{directory.path}/{layout.META}", "rb") as file:
            size += len(file.read())
    return size


def measure_listing(root: Path, count: int) -> None:
    """The floor and the queries, in turns, in several processes: one may be slow all along."""
    each = in_processes("--listing", root)
    title = f"{count:,} checkpoints, warm cache: {PROCESSES} processes"
    table = Table(title, "what", "time", "of the floor", "from", "to", "target")
    floors = [found["floor"] for found in each]
    table.row("read every meta.json raw: the floor", milliseconds(floors), "1.0 x", "", "", "")
    for name, target in LISTING_TARGETS.items():
        times, ratios = ([found[kind][name] for found in each] for kind in ("times", "ratios"))
        shown = (statistics.median(ratios), min(ratios), max(ratios))
        table.row(name, milliseconds(times), *(f"{ratio:.1f} x" for ratio in shown), target)
    table = Table(f"Bytes, {count:,} checkpoints", "what", "each", "target")
    table.row("meta.json", f"{read_raw(root) / count:,.0f} bytes", "")
    table.row("memory of an entry", f"{memory(root) / count:,.0f} bytes", "5,000 bytes")


def report_listing(root: Path) -> dict[str, Any]:
    """The medians of this process: the floor and each query in seconds, and their ratio."""
    calls: dict[str, Callable[[], object]] = {
        "list": lambda: scan(root),
        "list and filter": lambda: scan(root).filtered(
            backbone="efficientnet_b4", min_epoch=5, metrics={"val_map": ">=0.5"}
        ),
        "list and find the best": lambda: best(scan(root)),
    }
    floors: list[float] = []
    times: dict[str, list[float]] = {name: [] for name in calls}
    ratios: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(TURNS):
        for name, call in calls.items():
            # Each after a floor of its own: what was read last is nearest to the processor.
            floors.append(seconds(lambda: read_raw(root)))
            times[name].append(seconds(call))
            ratios[name].append(times[name][-1] / floors[-1])
    return {"floor": statistics.median(floors), "times": medians(times), "ratios": medians(ratios)}


def medians(values: dict[str, list[float]]) -> dict[str, float]:
    return {name: statistics.median(each) for name, each in values.items()}


def in_processes(what: str, *paths: Path) -> list[Any]:
    """What so many new processes report, one after the other."""
    command = [sys.executable, __file__, what, *map(str, paths)]
    return [
        json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        for _ in range(PROCESSES)
    ]


def best(listing: Listing) -> object:
    from smartcash_format.store.query import best as find

    return find(listing, "val_map", "max")


def memory(root: Path) -> int:
    scan(root)  # what is imported on the way is no entry's
    tracemalloc.start()
    listing = scan(root)
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(listing)
    return size


def measure_growth(directory: Path, largest: int) -> None:
    table = Table("Growth", "checkpoints", "list", "each")
    for count in (number for number in GROWTH if number <= 2 * largest):
        root = directory / f"growth-{count}"
        make_root(root, count)
        times = [seconds(lambda root=root: scan(root)) for _ in range(TURNS)]  # type: ignore[misc]
        each = statistics.median(times) / count * 1e6
        table.row(f"{count:,}", milliseconds(times), f"{each:.0f} us")


def measure_cold_start(directory: Path, large: Path, count: int) -> None:
    """A new process each time: what a person waits for."""
    root = directory / "cold"
    make_root(root, COLD_CHECKPOINTS)
    python, ls = [sys.executable, "-c"], [sys.executable, "-m", "smartcash_format", "ls"]
    cold = f"ls of {COLD_CHECKPOINTS} checkpoints"
    commands = {
        f"ls of {count:,} checkpoints": [*ls, str(large)],
        cold: [*ls, str(root)],
        'python -c "import typer, pydantic"': [*python, "import typer; from pydantic import Field"],
        'python -c "pass"': [*python, "pass"],
    }
    if importlib.util.find_spec("torch"):
        commands['python -c "import torch"'] = [*python, "import torch"]
    # As an installed package has them: compiled, whatever this process was told.
    surroundings = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}

    def start(command: list[str]) -> None:
        subprocess.run(command, capture_output=True, cwd=ROOT, env=surroundings, check=True)

    table = Table("A new process", "what", "time", "of the last row", "target")
    start(commands[cold])
    times: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(TURNS):
        for name, command in commands.items():
            times[name].append(seconds(lambda command=command: start(command)))  # type: ignore[misc]
    *_, base = times.values()
    for name, values in times.items():
        ratios = [value / last for value, last in zip(values, base, strict=True)]
        target = "350 ms, 0.2 x" if name == cold else ""
        table.row(name, milliseconds(values), f"{statistics.median(ratios):.2f} x", target)


def save_some(directory: Path, floats: int, count: int) -> tuple[list[Path], dict[str, Any]]:
    """So many checkpoints of a training of 704 tensors with AdamW, and what a `.pth` has of it."""
    import torch

    from smartcash_format import save_checkpoint

    sizes = [floats // TENSORS] * TENSORS
    model = torch.nn.ParameterDict(
        {
            f"blocks_{n}_weight": torch.nn.Parameter(torch.randn(size))
            for n, size in enumerate(sizes)
        }
    )
    optimizer = torch.optim.AdamW(model.parameters())
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    paths = [directory / f"checkpoint-{number}" for number in range(count)]
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 100)
    for number, path in enumerate(paths):
        optimizer.step()
        schedule.step()
        save_checkpoint(path, model, optimizer, schedule, epoch=number)
    os.sync()  # or what is still being written is measured with what reads
    return paths, {
        "model_state_dict": model.state_dict(),
        "optimizer_state_dict": optimizer.state_dict(),
        "epoch": 1,
        "metrics": {"val_map": 0.5},
    }


def measure_validation(paths: list[Path]) -> None:
    """One checkpoint of a training after the other; they share what those of a training share.

    Names, shapes and the program but for its learning rates; no digest, no checksum, no value. In
    several processes: on a shared machine one takes up to twice the time of another, all along.
    """
    each = in_processes("--validation", *paths)
    title = f"One checkpoint of {TENSORS} tensors, AdamW: {PROCESSES} processes"
    table = Table(title, "what", "time", "from", "to", "target")
    for name in each[0]:
        times = [found[name] for found in each]
        bounds = milliseconds([min(times)]), milliseconds([max(times)])
        table.row(name, milliseconds(times), *bounds, VALIDATION_TARGETS.get(name, ""))


def report_validation(*paths: Path) -> dict[str, float]:
    """The median of each call in this process, in seconds."""
    calls: dict[str, Callable[[Path], object]] = {
        "validate, META": lambda path: validate(path, Depth.META),
        "validate, STRUCTURE": lambda path: validate(path, Depth.STRUCTURE),
        "diff with another": lambda path: diff(path, paths[0]),
    }
    found = {}
    for name, call in calls.items():
        assert all(validate(path, Depth.STRUCTURE).valid for path in paths)
        found[name] = statistics.median(
            seconds(lambda call=call, path=path: call(path))  # type: ignore[misc]
            for _ in range(TURNS)
            for path in paths
        )
    return found


def measure_content(path: Path) -> None:
    """Every byte of a checkpoint hashed, beside the hashing alone, in several processes."""
    each = in_processes("--content", path)
    size = validate(path, Depth.CONTENT).bytes_hashed
    hashed = size + (path / "model.safetensors").stat().st_size
    title = f"validate, CONTENT: {size / 1e6:,.0f} MB, {PROCESSES} processes"
    table = Table(title, "what", "time", "speed", "of the first", "from", "to", "target")
    for name in each[0]["times"]:
        times, ratios = ([found[kind][name] for found in each] for kind in ("times", "ratios"))
        speed = hashed / statistics.median(times) / 1e9
        shown = (statistics.median(ratios), min(ratios), max(ratios))
        table.row(name, milliseconds(times), f"{speed:.1f} GB/s",
                  *(f"{ratio:.2f} x" for ratio in shown),
                  "0.8 x" if name == "CONTENT" else "")  # fmt: skip


def report_content(path: Path) -> dict[str, Any]:
    """The medians of this process: each way in seconds, and the first way's time of its time."""
    places = tensor_places(path / "model.safetensors")
    ways: dict[str, Callable[[], object]] = {
        CONTENT_BASE: lambda: hash_bare(path, places),
        "of each file, the weights once more as a whole": lambda: hash_files(path),
        "of what is read instead of mapped, the weights twice as a whole": lambda: hash_read(path),
        "CONTENT": lambda: validate(path, Depth.CONTENT),
    }
    for way in ways.values():
        way()
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(TURNS):
        for name, way in ways.items():
            times[name].append(seconds(way))
    ratios = {
        name: [base / value for base, value in zip(times[CONTENT_BASE], values, strict=True)]
        for name, values in times.items()
    }
    return {"times": medians(times), "ratios": medians(ratios)}


def measure_torch_load(directory: Path, state: dict[str, Any], count: int) -> None:
    """Listing as it is done without a format: each file loaded whole for its epoch and metrics."""
    import torch

    pth = directory / "last.pth"
    torch.save(state, pth)
    small = _shortened(state)
    paths = [pth.with_name(f"epoch_{number}.pth") for number in range(PTH_FILES)]
    for path in paths:
        torch.save(small, path)

    def load_all() -> None:
        for path in paths:
            torch.load(path, map_location="cpu", weights_only=True)["epoch"]

    load_all()
    each = seconds(load_all) / PTH_FILES
    table = Table("The same question to .pth files", "what", "each", f"{count:,} of them")
    size, whole = paths[0].stat().st_size / 1e6, pth.stat().st_size / 1e6
    table.row(f"torch.load of {PTH_FILES} files of {size:.0f} MB", f"{each * 1e3:.0f} ms",
              f"{each * count / 60:.0f} minutes")  # fmt: skip
    alone = statistics.median(
        seconds(lambda: torch.load(pth, map_location="cpu", weights_only=True))
        for _ in range(TURNS)
    )
    table.row(f"torch.load of one whole file of {whole:.0f} MB", f"{alone * 1e3:.0f} ms",
              f"{alone * count / 60:.0f} minutes")  # fmt: skip


def _shortened(value: Any) -> Any:
    """A state with tensors of a part of their length: fifty of the whole ones take 10 GB."""
    if isinstance(value, dict):
        return {key: _shortened(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_shortened(each) for each in value]
    if hasattr(value, "numel") and value.numel() > PTH_PART:
        return value.flatten()[: value.numel() // PTH_PART].clone()
    return value


# What this script measures in processes of its own.
REPORTS: dict[str, Callable[..., object]] = {
    "--listing": report_listing,
    "--validation": report_validation,
    "--content": report_content,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--checkpoints", type=int, default=10_000)
    parser.add_argument("--directory", type=Path, default=None)
    for hidden in REPORTS:
        parser.add_argument(hidden, nargs="+", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    for hidden, report in REPORTS.items():
        if paths := getattr(options, hidden.removeprefix("--")):
            print(json.dumps(report(*paths)))
            return
    print(f"## Ask without loading: Python {platform.python_version()}, {os.cpu_count()} cores, "
          f"load {os.getloadavg()[0]:.1f}")  # fmt: skip
    with tempfile.TemporaryDirectory(dir=options.directory) as made:
        directory = Path(made)
        make_root(directory / "all", options.checkpoints)
        measure_listing(directory / "all", options.checkpoints)
        measure_growth(directory, options.checkpoints)
        measure_cold_start(directory, directory / "all", options.checkpoints)
        if importlib.util.find_spec("torch") is None:
            print("\ntorch is not installed: validation and .pth files are left out")
            return
        paths, state = save_some(directory / "some", FLOATS, CHECKPOINTS)
        measure_validation(paths)
        measure_content(paths[0])
        measure_torch_load(directory, state, options.checkpoints)
        del state
        (large,), _ = save_some(directory / "large", LARGE_FLOATS, 1)
        measure_content(large)


if __name__ == "__main__":
    main()
