"""The demo's comparison: it has to see what `==` does not."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from examples.same_bits import compare


def _state() -> dict[str, object]:
    return {
        "state": {0: {"step": torch.tensor(3.0), "exp_avg": torch.arange(6.0).reshape(2, 3)}},
        "groups": [{"lr": 1e-3, "betas": (0.9, 0.999), "name": "head", "fused": None}],
        "generator": np.arange(4),
    }


def test_equal_states_have_no_difference_and_every_value_is_counted() -> None:
    same = compare(_state(), _state())
    assert same.differences == ()
    assert same.tensors == 2
    assert same.values == 1 + 6 + 1 + 2 + 1 + 1 + 4


def test_one_flipped_bit_in_one_moment_is_named() -> None:
    other = _state()
    moment = other["state"][0]["exp_avg"]  # type: ignore[index]
    moment.view(torch.int32)[1, 2] ^= 1
    assert compare(_state(), other).differences == ("['state'][0]['exp_avg']",)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (0.0, -0.0),
        (torch.tensor(0.0), torch.tensor(-0.0)),
        (1, 1.0),
        (True, 1),
        (torch.ones(2), torch.ones(2, dtype=torch.float64)),
        (torch.ones(2), torch.ones(1, 2)),
        (np.ones(2, dtype=np.float32), np.ones(2)),
        ([1, 2], (1, 2)),
        ([1, 2], [1]),
        ({"a": 1}, {"b": 1}),
        ({"a": 1}, {"a": 1, "b": 2}),
    ],
)
def test_what_double_equals_would_let_pass_is_a_difference(a: object, b: object) -> None:
    assert len(compare(a, b).differences) == 1


def test_nan_with_the_same_bits_is_the_same() -> None:
    nan = float("nan")
    assert compare([nan, torch.tensor(nan)], [nan, torch.tensor(nan)]).differences == ()


def test_the_order_in_which_a_mapping_was_filled_is_no_difference() -> None:
    assert compare({"a": 1, "b": 2}, {"b": 2, "a": 1}).differences == ()
