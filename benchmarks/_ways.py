"""The ways of saving and loading that the benchmarks compare, by their names in the tables."""

from __future__ import annotations

import hashlib
import importlib.util
import os
from collections.abc import Callable
from pathlib import Path

# First: it says so where torch is not installed.
from _workloads import Live  # isort: skip
import torch
from safetensors.torch import load_file, save_file
from torch.distributed import checkpoint as dcp

from smartcash_format import load_checkpoint

Call = Callable[[Live, Path], None]
BASE = "torch.save + fsync"
PLAIN = "torch.save"
DIGESTED = "torch.save + fsync + SHA-256"
CLONE = "a clone in memory"
RAW = "a raw write of the same bytes + fsync"
LOAD_BASE = "torch.load"
OURS = "**smartcash_format**, durable"
BACKGROUND = "**smartcash_format**, `blocking=False`"
VERIFIED = "**smartcash_format**, verified"
UNVERIFIED = "**smartcash_format**, `verify=False`"


def sync_file(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def save_torch(live: Live, at: Path) -> None:
    torch.save(live.state(), at)


def save_torch_durable(live: Live, at: Path) -> None:
    torch.save(live.state(), at)
    sync_file(at)


def save_torch_digested(live: Live, at: Path) -> None:
    save_torch_durable(live, at)
    with open(at, "rb") as file:
        at.with_suffix(".sha256").write_text(hashlib.file_digest(file, "sha256").hexdigest())


def save_safetensors(live: Live, at: Path) -> None:
    at.mkdir()
    save_file(live.model.state_dict(), at / "model.safetensors")
    if live.optimizer:
        torch.save(live.optimizer.state_dict(), at / "optimizer.pt")


def save_dcp(live: Live, at: Path) -> None:
    dcp.save(live.state(), checkpoint_id=at, no_dist=True)


def clone(live: Live, at: Path) -> None:
    [tensor.detach().clone() for tensor in live.tensors()]


def save_dcp_async(live: Live, at: Path) -> None:
    """What the training waits for; `settle` waits for the rest, beside the clock."""
    if not torch.distributed.is_initialized():
        torch.distributed.init_process_group("gloo", rank=0, world_size=1,
                                             store=torch.distributed.HashStore())  # fmt: skip
    live.waiting.append(dcp.async_save(live.state(), checkpoint_id=at))


def save_accelerate(live: Live, at: Path) -> None:
    if "accelerate" not in live.peers:
        from accelerate import Accelerator

        accelerator = Accelerator(cpu=True)
        accelerator.prepare(*filter(None, (live.model, live.optimizer)))
        live.peers["accelerate"] = accelerator
    live.peers["accelerate"].save_state(str(at))


def save_fabric(live: Live, at: Path) -> None:
    if "fabric" not in live.peers:
        from lightning_fabric import Fabric

        live.peers["fabric"] = Fabric(accelerator="cpu", devices=1)
    live.peers["fabric"].save(at, {"model": live.model, "optimizer": live.optimizer, "epoch": 1})


def write_raw(live: Live, at: Path) -> None:
    """The same bytes, one after the other, and fsync: what the disk needs."""
    with open(at, "wb", buffering=0) as file:
        for tensor in live.tensors():
            file.write(tensor.detach().reshape(-1).view(torch.uint8).numpy())
        os.fsync(file.fileno())


def save_ours(live: Live, at: Path) -> None:
    live.manager.save_checkpoint(live.model, live.optimizer, epoch=1)


def save_in_background(live: Live, at: Path) -> None:
    """What the training waits for; `settle` waits for the rest, beside the clock."""
    live.manager.save_checkpoint(live.model, live.optimizer, epoch=1, blocking=False)


def settle(live: Live, at: Path) -> None:
    live.manager.wait()
    for each in live.waiting:
        each.result()
    live.waiting.clear()


def load_torch(live: Live, at: Path) -> None:
    live.fill(torch.load(at, map_location="cpu", weights_only=True))


def load_safetensors(live: Live, at: Path) -> None:
    live.model.load_state_dict(load_file(at / "model.safetensors"))
    if live.optimizer:
        state = torch.load(at / "optimizer.pt", map_location="cpu", weights_only=True)
        live.optimizer.load_state_dict(state)


def load_dcp(live: Live, at: Path) -> None:
    state = live.state()
    dcp.load(state, checkpoint_id=at, no_dist=True)
    live.fill(state)


def load_ours(live: Live, at: Path) -> None:
    newest = live.manager.find_latest_checkpoint()
    load_checkpoint(newest, model=live.model, optimizer=live.optimizer)


def load_unverified(live: Live, at: Path) -> None:
    newest = live.manager.find_latest_checkpoint()
    load_checkpoint(newest, model=live.model, optimizer=live.optimizer, verify=False)


SAVES: dict[str, Call] = {
    BASE: save_torch_durable,
    PLAIN: save_torch,
    DIGESTED: save_torch_digested,
    "safetensors + torch.save": save_safetensors,
    "torch DCP": save_dcp,
    "torch DCP, async, blocked": save_dcp_async,
    CLONE: clone,
    RAW: write_raw,
    OURS: save_ours,
    BACKGROUND: save_in_background,
}
# Peers that torch does not bring along: module, name in the table, call.
OTHERS = (
    ("accelerate", "accelerate", save_accelerate),
    ("lightning_fabric", "Lightning Fabric", save_fabric),
)
SAVES |= {name: call for module, name, call in OTHERS if importlib.util.find_spec(module)}
# Each with the save whose file it loads.
LOADS: dict[str, tuple[Call, Call]] = {
    LOAD_BASE: (load_torch, save_torch),
    "safetensors + torch.load": (load_safetensors, save_safetensors),
    "torch DCP": (load_dcp, save_dcp),
    VERIFIED: (load_ours, save_ours),
    UNVERIFIED: (load_unverified, save_ours),
}
