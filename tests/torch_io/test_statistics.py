"""The numbers of a tensor: those of all its values, and no threads for them."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from smartcash_format.torch_io.dtypes import DTYPES, bytes_of
from smartcash_format.torch_io.statistics import measure, statistics
from smartcash_format.torch_io.weights import weight_set
from tests.torch_io.sources import bits
from tests.torch_io.written import write_weights

pytestmark = pytest.mark.torch


@pytest.mark.parametrize("count", [0, 1, 3, (1 << 15) + 1])
@pytest.mark.parametrize(
    "dtype", [d for d in DTYPES if d.is_floating_point and DTYPES[d] != "F4"], ids=str
)
def test_statistics_are_those_of_the_whole_tensor_in_doubles(
    dtype: torch.dtype, count: int
) -> None:
    tensor = (torch.rand(count, generator=torch.Generator().manual_seed(1)) + 0.5).to(dtype)
    found = statistics(tensor)
    doubles = tensor.to(torch.float64)
    assert found["l2"] == pytest.approx(float(doubles.norm()), rel=1e-12)
    assert found["absmax"] == (float(doubles.abs().max()) if count else 0.0)
    assert "nan" not in found


def test_statistics_count_what_is_not_finite_only_where_there_is_any() -> None:
    found = statistics(torch.tensor([1.0, math.nan, math.inf, -math.inf]))
    assert math.isnan(found["l2"])
    assert math.isnan(found["absmax"])
    assert (found["nan"], found["inf"]) == (1, 2)
    only_inf = statistics(torch.tensor([1.0, -math.inf]))
    assert only_inf == {"l2": math.inf, "absmax": math.inf, "nan": 0, "inf": 1}


def test_statistics_of_any_bit_pattern_of_a_double_do_not_raise() -> None:
    found = statistics(bits(torch.float64, 64).nan_to_num(posinf=1.0, neginf=1.0))
    assert found["absmax"] > 1e154


def test_statistics_of_values_whose_squares_overflow_are_finite() -> None:
    found = statistics(torch.tensor([3e200, -4e200], dtype=torch.float64))
    assert found["l2"] == pytest.approx(5e200)
    assert found["absmax"] == 4e200
    assert statistics(torch.full((4,), 1.7e308, dtype=torch.float64)) == {
        "l2": math.inf,
        "absmax": 1.7e308,
        "nan": 0,
        "inf": 0,
    }


@pytest.mark.no_cover
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="threads are counted by Linux")
def test_statistics_start_no_threads_and_leave_the_users_setting_alone() -> None:
    program = """
import os, threading, torch
from smartcash_format.torch_io.statistics import statistics
torch.set_num_threads(3)
tensor = torch.full((1 << 20,), float("nan"))
seen = []
def work():
    before = len(os.listdir("/proc/self/task"))
    statistics(tensor)
    statistics(torch.empty(1 << 20, dtype=torch.bfloat16))
    seen.append(len(os.listdir("/proc/self/task")) - before)
thread = threading.Thread(target=work)
thread.start()
thread.join()
print(seen, torch.get_num_threads())
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert ran.stdout == b"[0] 3\n"


def test_only_floating_tensors_are_measured(tmp_path: Path) -> None:
    state = {"f": torch.full((2, 2), -2.0).t()[:, :1], "i": torch.ones(2, dtype=torch.int64)}
    _, written = write_weights(tmp_path, weight_set("model", state))
    assert written.tensors["f"].statistics == {"l2": pytest.approx(8**0.5), "absmax": 2.0}
    assert written.tensors["i"].statistics == {}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("count", [3, 5_000, 60_000])
def test_norms_of_values_without_squares_are_exact(dtype: torch.dtype, count: int) -> None:
    smallest = torch.finfo(dtype).smallest_normal
    tensor = torch.full((count,), smallest * 2, dtype=dtype)
    (found,) = measure(dtype, bytes_of(tensor), [tensor.nbytes])
    assert found["absmax"] == smallest * 2
    assert found["l2"] == pytest.approx(smallest * 2 * count**0.5, rel=1e-12)
    denormal = torch.full((count,), 5e-324, dtype=torch.float64)
    (found,) = measure(torch.float64, bytes_of(denormal), [denormal.nbytes])
    assert found["l2"] >= found["absmax"] == 5e-324


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("sizes", [[4] * 50, [4] * 49 + [5], [1, 1], [7]])
def test_tensors_measured_together_are_as_each_alone(dtype: torch.dtype, sizes: list[int]) -> None:
    torch.manual_seed(3)
    flat = torch.randn(sum(sizes)).to(dtype)
    flat[-1] = -9.0
    if len(sizes) > 40:
        flat[0], flat[5], flat[8:12], flat[13] = math.nan, math.inf, 0.0, -math.inf
    found = measure(dtype, bytes_of(flat), [size * flat.itemsize for size in sizes])
    for each, tensor in zip(found, torch.split(flat, sizes), strict=True):
        alone = statistics(tensor)
        assert each.keys() == alone.keys()
        assert each == pytest.approx(alone, rel=1e-12, nan_ok=True)
