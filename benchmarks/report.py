"""A report of 500 checkpoints: what a cold process takes to write it, how large it is, and how soon
Chromium has it ready.

    python benchmarks/report.py [--checkpoints 500]

One run whose every checkpoint has a manifest of 704 tensors. The browser's row is
left out where Chromium, chromedriver or selenium is missing: make browser. The modules are compiled
before, as an installation does it, also where the environment keeps Python from doing so.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

# First: it puts the package on the path.
from _roots import ROOT, SIZES, TENSORS, make_meta  # isort: skip
from _tables import Table

from smartcash_format.spec import digest, layout
from smartcash_format.spec.meta import FileRecord, encode_meta
from smartcash_format.spec.tensors import TensorRecord, Tensors, WeightSetTensors, encode_tensors
from tests.view.browser import CHROMIUM, DRIVER, browser

TURNS = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoints", type=int, default=500)
    count = parser.parse_args().checkpoints
    with tempfile.TemporaryDirectory() as directory:
        environment = {**os.environ, "PYTHONPYCACHEPREFIX": f"{directory}/compiled"}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        root, target = Path(directory, "root"), Path(directory, "report.html")
        make_run(root, count)
        command = [sys.executable, "-m", "smartcash_format"]
        title = f"A report of {count:,} checkpoints, each a new process, no torch"
        table = Table(title, "what", "measured", "processor", "target")
        wall, processor = median([*command, "--version"], environment)
        table.row("the command's own start", f"{wall:.2f} s", f"{processor:.2f} s", "")
        wall, processor = median([*command, "report", str(root), "-o", str(target)], environment)
        table.row("written", f"{wall:.2f} s", f"{processor:.2f} s", "2 s")
        table.row("its size", f"{target.stat().st_size / 1e3:.0f} kB", "", "500 kB")
        if CHROMIUM and DRIVER and importlib.util.find_spec("selenium"):
            table.row("ready in Chromium", f"{ready(target):.2f} s", "", "1 s")


def make_run(root: Path, count: int) -> None:
    """One run; its files are holes, but for meta.json and tensors.json."""
    chance = random.Random(count)
    parent: str | None = None
    run = make_meta(0, chance).run_id
    for number in range(count):
        meta = make_meta(number, chance)
        manifest = encode_tensors(Tensors(weights={layout.MODEL: tensors(number)}))
        record = FileRecord(
            role="tensors", size_bytes=len(manifest), digest=digest.digest_of(manifest)
        )
        meta = meta.model_copy(
            update={
                "run_id": run,
                "parent_id": parent,
                "files": {**meta.files, layout.TENSORS: record},
            }
        )
        parent = meta.checkpoint_id
        path = root / layout.directory_name(epoch=number, step=None, checkpoint_id=parent)
        path.mkdir(parents=True)
        for file, size in SIZES.items():
            with open(path / file, "wb") as target:
                target.truncate(size)
        (path / layout.TENSORS).write_bytes(manifest)
        (path / layout.META).write_bytes(encode_meta(meta))


def tensors(number: int) -> WeightSetTensors:
    """The manifest of a network of as many blocks as an EfficientNet-B4 has, moved a little."""
    records = {
        f"blocks.{i // 22}.{i % 22}.conv.weight": TensorRecord(
            dtype="F32",
            shape=[25_000],
            file="model.safetensors",
            digest=digest.digest_of(f"{number} {i}".encode()),
            l2=10 + number * i / 1e5,
            absmax=1 + number / 1e3,
        )
        for i in range(TENSORS)
    }
    return WeightSetTensors(tensors=records)


def median(command: list[str], environment: dict[str, str]) -> tuple[float, float]:
    """Seconds that a command takes, and those that it computes: what a loaded machine adds is in
    the first alone."""
    walls, processors = [], []
    for _ in range(1 + TURNS):
        began, computed = time.perf_counter(), children_s()
        subprocess.run(command, check=True, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)
        walls.append(time.perf_counter() - began)
        processors.append(children_s() - computed)
    # The first one compiled.
    return statistics.median(walls[1:]), statistics.median(processors[1:])


def children_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def ready(page: Path) -> float:
    """Seconds from asking for the page to when everything in it can be used and is painted."""
    script = """const ready = Number(document.documentElement.dataset.ready);
        const painted = performance.getEntriesByName("first-contentful-paint")[0]?.startTime ?? 0;
        return Math.max(ready, painted) / 1000"""
    with browser() as opened:
        times = []
        for _ in range(TURNS):
            opened.open(page)
            times.append(float(opened.run(script)))
    return statistics.median(times)


if __name__ == "__main__":
    main()
