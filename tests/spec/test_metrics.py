"""Metrics: numbers by flat name; what is none is kept in the notes."""

from __future__ import annotations

import decimal
import fractions
import math
from typing import Any

import pytest

from smartcash_format.spec import limits
from smartcash_format.spec.documents import dump_json
from smartcash_format.spec.metrics import notes_to_json, split_metrics


def test_nested_metrics_are_flattened_with_a_slash() -> None:
    metrics = {"loss": 1, "val": {"loss": 0.5, "map": {50: 0.25}}, "metrics/mAP50-95(B)": 0.1}
    split = split_metrics(metrics)
    assert split.numbers == {
        "loss": 1,
        "val/loss": 0.5,
        "val/map/50": 0.25,
        "metrics/mAP50-95(B)": 0.1,
    }
    assert split.others == {}
    assert split.warnings == ()


def test_no_metrics_are_no_metrics() -> None:
    split = split_metrics(None)
    assert (split.numbers, split.others, split.warnings) == ({}, {}, ())


def test_a_diverged_loss_stays_a_number() -> None:
    numbers = split_metrics({"a": math.nan, "b": math.inf}).numbers
    assert math.isnan(numbers["a"])
    assert numbers["b"] == math.inf


def test_what_is_no_number_goes_to_the_notes_and_one_warning_names_it() -> None:
    metrics = {"loss": 1.0, "ok": True, "name": "x", "none": None, "per": [1, 2], "big": 1 << 70}
    split = split_metrics(metrics)
    assert split.numbers == {"loss": 1.0}
    assert split.others == {
        "ok": True,
        "name": "x",
        "none": None,
        "per": [1, 2],
        "big": str(1 << 70),
    }
    assert len(split.warnings) == 1
    assert "ok, name, none, per, big" in split.warnings[0]


def test_decimals_and_fractions_are_numbers() -> None:
    split = split_metrics({"a": decimal.Decimal("0.5"), "b": fractions.Fraction(1, 4)})
    assert split.numbers == {"a": 0.5, "b": 0.25}


def test_a_name_that_is_taken_or_too_long_goes_to_the_notes() -> None:
    split = split_metrics({"a/b": 1, "a": {"b": 2, "c": 3}, "x" * 257: 4, "": 5})
    assert split.numbers == {"a/b": 1, "a/c": 3, "value": 5}
    assert split.others == {"a/b": 2, "x" * 257: 4}


def test_more_metrics_than_meta_json_holds_go_to_the_notes() -> None:
    split = split_metrics({f"m{i}": i for i in range(limits.METRICS + 2)})
    assert len(split.numbers) == limits.METRICS
    assert set(split.others) == {"m1000", "m1001"}


def test_metrics_that_are_no_mapping_are_kept_under_value() -> None:
    assert split_metrics(0.5).numbers == {"value": 0.5}
    assert split_metrics("good").others == {"value": "good"}


def test_cycles_and_exponential_sharing_end() -> None:
    looped: dict[str, Any] = {"a": 1}
    looped["again"] = looped
    assert split_metrics(looped).numbers == {"a": 1}
    shared: dict[str, Any] = {"a": 1}
    for _ in range(40):
        shared = {"x": shared, "y": shared}
    split = split_metrics(shared)
    assert len(split.numbers) == limits.METRICS
    dump_json(split.others)


def test_what_a_metric_raises_counts_as_no_number() -> None:
    class Bad(dict[str, int]):
        def items(self) -> Any:
            raise KeyError("no")

    assert split_metrics({"bad": Bad(a=1)}).others["bad"] is not None


def test_numpy_scalars_and_arrays_of_one_element_are_numbers() -> None:
    np = pytest.importorskip("numpy")
    split = split_metrics(
        {
            "a": np.float32(0.5),
            "b": np.array([2]),
            "c": np.longdouble(0.25),
            "d": np.array([1, 2]),
            "e": np.str_("x"),
        }
    )
    assert split.numbers == {"a": 0.5, "b": 2, "c": 0.25}
    assert {type(n) for n in split.numbers.values()} == {float, int}
    assert split.others == {"d": [1, 2], "e": "x"}


@pytest.mark.torch
def test_tensors_of_one_element_are_numbers() -> None:
    torch = pytest.importorskip("torch")
    split = split_metrics(
        {
            "a": torch.tensor(0.5, requires_grad=True),
            "b": torch.tensor([[3]]),
            "c": torch.zeros(2),
            "d": torch.zeros(1, device="meta"),
        }
    )
    assert split.numbers == {"a": 0.5, "b": 3}
    assert split.others == {
        "c": [0.0, 0.0],
        "d": {"$repr": "<Tensor torch.float32 [1]>"},
    }


def test_notes_keep_the_users_own_note_called_metrics() -> None:
    assert notes_to_json({"why": (1,)}, {}).value == {"why": [1]}
    assert notes_to_json(None, {"a": "x"}).value == {"metrics": {"a": "x"}}
    assert notes_to_json({"metrics": 1}, {"a": "x"}).value == {"metrics": 1, "$metrics": {"a": "x"}}
    assert notes_to_json("text", {}).value == {"value": "text"}


def test_notes_over_their_bound_are_stored_as_their_keys() -> None:
    plain = notes_to_json({"log": "x" * limits.NOTES_BYTES}, {})
    assert plain.value == {"$keys": ["log"]}
    assert "notes takes more than" in plain.warnings[0]
