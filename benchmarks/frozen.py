"""Ten epochs with a frozen backbone: what each way of saving writes, and how long each save takes.

    python benchmarks/frozen.py [--rounds 3] [--directory DIR]

The model is the one of saving.py; its head is trained, and the batch norms of its backbone go on
counting. In each epoch all ways save once, in random order, each after a sync of the disk; ratios
are of two times of one epoch. "Changed" are the bytes of the tensors of model and optimizer that
are not what they were in the epoch before: in the first, all of them.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

# First: it says so where torch is not installed.
from _workloads import Live, efficientnet_b4  # isort: skip
import torch
from _ways import BASE, save_torch_durable
from torch import nn

from smartcash_format import CheckpointManager

ROUNDS, EPOCHS = 3, 10
OURS = "**smartcash_format**"
INCREMENTAL = "**smartcash_format**, `incremental=True`"
TARGET = "target of `incremental=True`"
BYTES_TARGET, TIME_TARGET = 1.1, 0.5

Save = Callable[[int], object]


@dataclass
class Way:
    """What one way of saving took: of each save the seconds, of each run the bytes."""

    first: list[float] = field(default_factory=list)
    later: list[float] = field(default_factory=list)
    written: list[int] = field(default_factory=list)


def make_live(root: Path) -> Live:
    torch.manual_seed(7)
    model = efficientnet_b4()
    assert isinstance(model, nn.Sequential)
    model.requires_grad_(False)
    head = model[-1].requires_grad_(True)
    return Live(model, torch.optim.AdamW(head.parameters()), CheckpointManager(root))


def train(live: Live) -> None:
    """What an epoch leaves: another head, its moments, other statistics of the batch norms."""
    assert live.optimizer is not None
    for parameter in live.model.parameters():
        if parameter.requires_grad:
            parameter.grad = torch.randn_like(parameter)
    live.optimizer.step()
    for name, buffer in live.model.named_buffers():
        buffer += 100 if name.endswith("num_batches_tracked") else torch.rand_like(buffer)


def written_under(path: Path) -> int:
    """The bytes of all files, one that has several names counted once."""
    facts = [entry.stat() for entry in path.rglob("*") if entry.is_file()]
    return sum({each.st_ino: each.st_size for each in facts}.values())


def ways(live: Live, place: Path) -> dict[str, Save]:
    for name in ("torch", "plain", "incremental"):
        (place / name).mkdir()
    incremental = CheckpointManager(place / "incremental", incremental=True)
    return {
        BASE: lambda epoch: save_torch_durable(live, place / "torch" / f"{epoch}.pt"),
        OURS: lambda epoch: live.manager.save_checkpoint(live.model, live.optimizer, epoch=epoch),
        INCREMENTAL: lambda epoch: incremental.save_checkpoint(
            live.model, live.optimizer, epoch=epoch
        ),
    }


def run(place: Path, taken: dict[str, Way], chance: random.Random) -> int:
    """One run of ten epochs; the bytes that changed in it."""
    live = make_live(place / "plain")
    saves = ways(live, place)
    before: list[torch.Tensor] = []
    changed = 0
    for epoch in range(1, EPOCHS + 1):
        train(live)
        now = [tensor.detach().clone() for tensor in live.tensors()]
        # In the first there is nothing to compare with.
        same = map(torch.equal, now, before) if before else (False for _ in now)
        changed += sum(0 if is_same else n.nbytes for n, is_same in zip(now, same, strict=True))
        before = now
        for name in chance.sample(list(saves), len(saves)):
            os.sync()
            began = time.perf_counter()
            saves[name](epoch)
            seconds = time.perf_counter() - began
            (taken[name].later if epoch > 1 else taken[name].first).append(seconds)
    for name, directory in zip(saves, ("torch", "plain", "incremental"), strict=True):
        taken[name].written.append(written_under(place / directory))
    return changed


def ratio(times: list[float], base: list[float]) -> str:
    return f"{statistics.median(a / b for a, b in zip(times, base, strict=True)):.2f} x"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--directory", type=Path, default=None)
    options = parser.parse_args()
    taken = {name: Way() for name in (BASE, OURS, INCREMENTAL)}
    chance = random.Random(options.rounds)
    changed = 0
    for _ in range(options.rounds):
        with tempfile.TemporaryDirectory(dir=options.directory) as place:
            changed = run(Path(place), taken, chance)
    print(
        f"\n### {EPOCHS} epochs of EfficientNet-B4 with a frozen backbone: "
        f"{changed / 1e6:,.0f} MB changed, {options.rounds} rounds\n"
    )
    print(f"| save | first, of {BASE} | later, of {BASE} | later, time | written | of changed |")
    print("| --- | --- | --- | --- | --- | --- |")
    base = taken[BASE]
    for name, way in taken.items():
        written = statistics.median(way.written)
        print(
            f"| {name} | {ratio(way.first, base.first)} | {ratio(way.later, base.later)} "
            f"| {statistics.median(way.later) * 1e3:,.0f} ms | {written / 1e6:,.0f} MB "
            f"| {written / changed:.2f} x |"
        )
    print(f"| {TARGET} | | {TIME_TARGET} x | | | {BYTES_TARGET} x |")


if __name__ == "__main__":
    main()
