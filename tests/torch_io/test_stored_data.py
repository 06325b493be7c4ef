from __future__ import annotations

from collections import Counter, OrderedDict, defaultdict, deque
from typing import Any

import numpy as np
import pytest
import torch

from smartcash_format.torch_io.hyperparameters import same_kind
from smartcash_format.torch_io.state import encode
from smartcash_format.torch_io.stored_data import StoredForm, readable


def read(value: Any) -> Any:
    return readable(encode(value, "state"))


def test_plain_data_is_what_it_was() -> None:
    plain = {"a": [1, (2.0, None)], 3: {"b": True}}
    assert read(plain) == plain


@pytest.mark.parametrize(
    "mapping",
    [
        {"$type": "own", "b": 1},
        defaultdict(list, {"a": [1]}),
        OrderedDict({(1, 2): 3}),
        Counter({"x": 2}),
    ],
)
def test_every_mapping_reads_as_a_mapping(mapping: Any) -> None:
    found = read(mapping)
    assert isinstance(found, dict)
    assert list(found.values()) == list(mapping.values())


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.float32(1), StoredForm("numpy.generic", (), "<f4")),
        (np.zeros((2, 3)), StoredForm("ndarray", (2, 3), "<f8")),
        (torch.zeros(2, dtype=torch.float8_e4m3fn), StoredForm("tensor", (2,), "float8_e4m3fn")),
        (deque([1]), StoredForm("deque")),
        ({1, 2}, StoredForm("set")),
    ],
)
def test_a_tagged_form_stands_for_what_it_becomes(value: Any, expected: StoredForm) -> None:
    assert read(value) == expected
    assert same_kind(read(value), value)


def test_a_parameter_reads_as_its_tensor() -> None:
    parameter = torch.nn.Parameter(torch.ones(2))
    assert torch.equal(read(parameter), parameter.detach())


def test_a_tagged_form_is_no_number_and_no_text() -> None:
    assert not same_kind(StoredForm("set"), 1.0)
    assert not same_kind(StoredForm("deque"), "text")


def test_shared_data_is_read_once_however_often_it_stands() -> None:
    nested: list[Any] = [1]
    for _ in range(60):
        nested = [nested, nested]
    found = readable(nested)
    assert found[0] is found[1]


@pytest.mark.parametrize("damaged", [{"$type": "dict"}, {"$type": "dict", "items": [1]}])
def test_a_damaged_form_reads_as_a_form(damaged: Any) -> None:
    assert readable(damaged) == StoredForm("dict")
