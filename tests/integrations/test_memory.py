"""What a conversion takes in memory: the source and little more than its largest tensor."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.processes import run_python

LARGEST_BYTES = 64 << 20
MANY_BYTES = 4 << 15
# Of the largest tensor, the most that may lie beside the source's own bytes.
FACTOR = 1.2
_WRITE = f"""
import sys, torch
from safetensors.torch import save_file
state = {{f"layer{{i}}.w": torch.full((1 << 20,), float(i)) for i in range(24)}}
state["last.w"] = torch.ones({LARGEST_BYTES} // 4)
many = {{f"layer{{i}}.w": torch.full(({MANY_BYTES} // 4,), float(i)) for i in range(600)}}
for name, tensors in (("tiny", {{"a.w": torch.ones(4)}}), ("large", state), ("many", many)):
    torch.save(tensors, f"{{sys.argv[1]}}/{{name}}.pt")
    save_file(tensors, f"{{sys.argv[1]}}/{{name}}.safetensors")
    moments = {{
        n: {{"step": torch.ones(()), "exp_avg": w * 2, "exp_avg_sq": w * 3}}
        for n, w in enumerate(tensors.values())
    }}
    group = {{"lr": 0.1, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.0, "amsgrad": False}}
    group["params"] = list(moments)
    optimizer = {{"state": moments, "param_groups": [group]}}
    training = {{"model_state_dict": tensors, "optimizer_state_dict": optimizer, "epoch": 1}}
    torch.save(training, f"{{sys.argv[1]}}/{{name}}.pth")
"""
# The most that lay in memory since it was last reset, mapped pages included.
_CONVERT = """
import sys
from smartcash_format import convert
directory, name, suffix = sys.argv[1:]
convert(f"{directory}/tiny{suffix}", f"{directory}/root")
def peak():
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM"))
open("/proc/self/clear_refs", "w").write("5")
before = peak()
convert(f"{directory}/{name}{suffix}", f"{directory}/root")
print(peak() - before)
"""


@pytest.mark.torture
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux resets the peak of a process")
@pytest.mark.parametrize("suffix", [".pt", ".safetensors", ".pth"])
@pytest.mark.parametrize(
    ("name", "largest_bytes"), [("large", LARGEST_BYTES), ("many", MANY_BYTES)]
)
def test_a_mapped_source_takes_its_own_size_and_one_tensor(
    tmp_path: Path, name: str, largest_bytes: int, suffix: str
) -> None:
    run_python("-c", _WRITE, str(tmp_path))
    used_bytes = int(run_python("-c", _CONVERT, str(tmp_path), name, suffix))
    source_bytes = (tmp_path / f"{name}{suffix}").stat().st_size
    assert used_bytes <= source_bytes + FACTOR * largest_bytes
