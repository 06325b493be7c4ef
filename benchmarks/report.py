"""A report of 500 checkpoints: what a cold process takes to write it, and how large it is.

python benchmarks/report.py [--checkpoints 500]
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from listing import ROOT, Table, make_root

TURNS = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoints", type=int, default=500)
    count = parser.parse_args().checkpoints
    with tempfile.TemporaryDirectory() as directory:
        root, target = Path(directory, "root"), Path(directory, "report.html")
        make_root(root, count)
        command = [sys.executable, "-m", "smartcash_format"]
        title = f"A report of {count:,} checkpoints, each a new process, no torch"
        table = Table(title, "what", "time", "size")
        table.row("the command's own start", f"{median([*command, '--version']):.2f} s", "")
        took = median([*command, "report", str(root), "-o", str(target)])
        table.row("report", f"{took:.2f} s", f"{target.stat().st_size / 1e3:.0f} kB")


def median(command: list[str]) -> float:
    times = []
    for _ in range(TURNS):
        began = time.perf_counter()
        subprocess.run(command, check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
        times.append(time.perf_counter() - began)
    return statistics.median(times)


if __name__ == "__main__":
    main()
