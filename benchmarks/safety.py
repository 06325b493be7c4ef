"""What strangers' files cost: claims that are refused, states that are only looked at, conversions.

    python benchmarks/safety.py [--directory DIR]

The state is EfficientNet-B4 with AdamW after one step. Times are medians of several turns with a
warm cache; "of the bytes" are those that were asked of the system, counted. A conversion runs in a
process of its own; what it asks for and writes is counted by Linux, and left out elsewhere. Asked
for is what it reads; what it maps, or is lent by the page cache, is not counted.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import platform
import statistics
import struct
import subprocess
import sys
import tempfile
import tracemalloc
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

# First: it says so where torch is not installed.
from _workloads import ROOT, make_live  # isort: skip
import torch
from _tables import Table, milliseconds, seconds
from safetensors.torch import save_file

from smartcash_format import save_checkpoint
from smartcash_format.disk.observe import validate
from smartcash_format.spec.header import read_header
from smartcash_format.spec.known_layouts import forget_layouts
from smartcash_format.spec.known_programs import forget_programs
from smartcash_format.spec.pickles import scan_torch_file
from smartcash_format.spec.problems import Depth

TURNS = 9
CLAIM_BYTES = 100_000_000
REFUSAL_S, REFUSAL_BYTES = 0.010, 1_000_000
STATIC_S = 0.050
# Of the bytes of the source, of those of the result, and of the largest tensor.
ONCE, LARGEST = 1.05, 1.2
LARGE_BYTES = 64 << 20

# In a process of its own: what one conversion asks for, takes from the disk, writes and holds.
CONVERT = """
import json, os, sys
from smartcash_format import convert
tiny, source, root = sys.argv[1:]
convert(tiny, root)
descriptor = os.open(source, os.O_RDONLY)
os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
os.close(descriptor)
def counts():
    lines = open("/proc/self/io").read().splitlines()
    return {name: int(count) for name, _, count in (line.partition(": ") for line in lines)}
def peak():
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM"))
open("/proc/self/clear_refs", "w").write("5")
before, held = counts(), peak()
done = convert(source, root)
after = counts()
print(json.dumps({
    "asked": after["rchar"] - before["rchar"],
    "fetched": after["read_bytes"] - before["read_bytes"],
    "written": after["wchar"] - before["wchar"], "held": peak() - held, "size": done.size_bytes,
}))
"""


class Counted(io.BufferedIOBase):
    """A file that counts what is read of it."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb", buffering=0)
        self.count = 0

    def read(self, size: int | None = -1) -> bytes:
        data = self._file.read(-1 if size is None else size) or b""
        self.count += len(data)
        return data

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()


def yes(*reached: bool) -> str:
    return "yes" if all(reached) else "no"


def memory(call: Callable[[], object]) -> int:
    """The most that Python held at once beside what it had before."""
    tracemalloc.start()
    call()
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return most


def hostile_files(directory: Path, path: Path) -> dict[str, Callable[[], object]]:
    """Each claim, and what refuses it."""
    weights = directory / "claims.safetensors"
    with weights.open("wb") as file:
        file.write(struct.pack("<Q", CLAIM_BYTES))
        file.truncate(2 * CLAIM_BYTES)
    program = directory / "claims.pt"
    data = (path / "optimizer.pt").read_bytes()
    # The end of the directory says how many bytes the directory has.
    end = data.rindex(b"PK\5\6")
    program.write_bytes(data[: end + 12] + struct.pack("<I", CLAIM_BYTES) + data[end + 16 :])
    claims = directory / "claims"
    save_checkpoint(claims, torch.nn.Linear(2, 2), epoch=1)
    os.truncate(claims / "meta.json", CLAIM_BYTES)

    def header() -> None:
        with weights.open("rb") as file:
            found, _ = read_header(file, weights.stat().st_size, where="w")
        assert found is None

    def archive() -> None:
        with program.open("rb") as file:
            scanned, _ = scan_torch_file(file, program.stat().st_size, where="p")
        assert scanned is None

    def meta() -> None:
        assert not validate(claims, Depth.CONTENT).valid

    return {
        "header of safetensors": header,
        "directory of a torch file": archive,
        "meta.json, as long as it says": meta,
    }


def measure_claims(directory: Path, path: Path) -> None:
    title = f"Files that claim {CLAIM_BYTES / 1e6:.0f} MB, refused"
    table = Table(title, "what claims", "time", "memory", "10 ms and 1 MB reached")
    for name, call in hostile_files(directory, path).items():
        call()
        times = [seconds(call) for _ in range(TURNS)]
        held = memory(call)
        reached = yes(statistics.median(times) <= REFUSAL_S, held <= REFUSAL_BYTES)
        table.row(name, milliseconds(times), f"{held / 1e6:.3f} MB", reached)


def measure_reading(path: Path) -> None:
    file = path / "optimizer.pt"
    size = file.stat().st_size

    def scan() -> int:
        # A stranger's file is read once.
        forget_programs()
        forget_layouts()
        stream = Counted(file)
        found, problems = scan_torch_file(stream, size, where=file.name)
        assert found is not None, problems
        return stream.count

    read = scan()
    times = [seconds(scan) for _ in range(3 * TURNS)]
    table = Table(
        f"Static reading of an optimizer.pt of {size / 1e6:.0f} MB",
        "time", "bytes read", "of the bytes", "50 ms reached",
    )  # fmt: skip
    reached = yes(statistics.median(times) <= STATIC_S)
    table.row(milliseconds(times), f"{read / 1e3:.0f} kB", f"{read / size:.2%}", reached)


def measure_conversions(directory: Path) -> None:
    if not Path("/proc/self/io").exists():
        print("\nonly Linux counts what a process reads: conversions are left out")
        return
    live = make_live("b4", directory / "managed")
    state = live.model.state_dict()
    torch.save(live.state(), directory / "training.pt")
    save_file(state, directory / "weights.safetensors")
    save_file({"w": torch.ones(4)}, directory / "tiny.safetensors")
    largest = max(tensor.nbytes for tensor in live.tensors())
    few = {f"w{n}": torch.full((1 << 20,), float(n)) for n in range(24)}
    save_file({**few, "large": torch.ones(LARGE_BYTES // 4)}, directory / "large.safetensors")
    sources = {"training.pt": largest, "weights.safetensors": largest}
    sources["large.safetensors"] = LARGE_BYTES
    del live, state, few
    table = Table(
        "Conversions",
        "source", "asked, of the source", "from the disk, of the source", "written, of the result",
        "memory", "over the source, of the largest tensor", "once, once and 1.2 reached",
    )  # fmt: skip
    for name, largest in sources.items():
        source = directory / name
        source_bytes = source.stat().st_size
        os.sync()
        arguments = [str(directory / "tiny.safetensors"), str(source), str(directory / "root")]
        found = json.loads(
            subprocess.run(
                [sys.executable, "-c", CONVERT, *arguments],
                check=True, capture_output=True, text=True, cwd=ROOT,
            ).stdout
        )  # fmt: skip
        written = found["written"] / found["size"]
        over = max(0, found["held"] - source_bytes) / largest
        table.row(
            f"{name}, {source_bytes / 1e6:.0f} MB",
            f"{found['asked'] / source_bytes:.2f} x",
            f"{found['fetched'] / source_bytes:.2f} x",
            f"{written:.2f} x",
            f"{found['held'] / 1e6:.0f} MB",
            f"{over:.2f} x",
            yes(found["fetched"] <= ONCE * source_bytes, written <= ONCE, over <= LARGEST),
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--directory", type=Path, default=None)
    options = parser.parse_args()
    print(f"## Files of strangers: Python {platform.python_version()}, torch {torch.__version__}, "
          f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")  # fmt: skip
    with tempfile.TemporaryDirectory(dir=options.directory) as made:
        directory = Path(made)
        live = make_live("b4", directory / "managed")
        path = directory / "checkpoint"
        save_checkpoint(path, live.model, live.optimizer, epoch=1)
        measure_claims(directory, path)
        measure_reading(path)
        del live
        measure_conversions(directory)


if __name__ == "__main__":
    main()
