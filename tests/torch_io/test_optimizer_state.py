from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch

from smartcash_format.torch_io.optimizer_state import (
    TABLE,
    Form,
    ParameterForm,
    flat_elements,
    state_problems,
)
from tests.torch_io.zoo import OPTIMIZERS, Training, stepped


def forms(training: Training) -> list[ParameterForm]:
    return [
        ParameterForm(name=name, shape=tuple(p.shape))
        for name, p in training.model.named_parameters()
    ]


def problems(
    name: str, state: object, parameter: ParameterForm, training: Training
) -> list[tuple[str, str]]:
    found = state_problems(
        state,
        parameter,
        table=TABLE[name],
        hyperparameters=training.optimizer.param_groups[0],
        flat_elements=flat_elements(forms(training)),
        where="state",
    )
    return [(problem.where, problem.message) for problem in found]


def states(training: Training) -> list[tuple[ParameterForm, Mapping[str, object]]]:
    parameters = training.optimizer.param_groups[0]["params"]
    return [
        (form, dict(training.optimizer.state[parameter]))
        for form, parameter in zip(forms(training), parameters, strict=True)
        if training.optimizer.state[parameter]
    ]


def test_every_optimizer_of_torch_is_in_the_table() -> None:
    assert set(OPTIMIZERS) <= TABLE.keys()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_state_that_torch_makes_passes(name: str) -> None:
    training = stepped(name)
    assert states(training)
    for form, state in states(training):
        assert problems(name, state, form, training) == []


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_entry_that_torch_makes_is_in_the_table(name: str) -> None:
    for _, state in states(stepped(name)):
        assert state.keys() <= TABLE[name].keys()


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize(
    "poison", [torch.zeros(7, 3), "text", {"a": 1}, [torch.zeros(3)]], ids=repr
)
def test_an_entry_of_another_form_is_named(name: str, poison: object) -> None:
    training = stepped(name, steps=1)
    for form, state in states(training):
        for entry in state:
            found = problems(name, {**state, entry: poison}, form, training)
            assert [where for where, _ in found] == [f"state[{entry!r}]"]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_moment_that_would_be_broadcast_in_silence_is_named(name: str) -> None:
    training = stepped(name, steps=1)
    for form, state in states(training):
        for entry in state:
            if TABLE[name][entry].form in (Form.PARAMETER, Form.BUFFER, Form.VECTOR):
                found = problems(name, {**state, entry: torch.zeros(())}, form, training)
                assert [where for where, _ in found] == [f"state[{entry!r}]"]


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.complex64], ids=str)
def test_a_moment_of_a_dtype_that_takes_no_fraction_is_named(dtype: torch.dtype) -> None:
    training = stepped("Adam", steps=1)
    (form, state), *_ = states(training)
    moment = torch.zeros(form.shape, dtype=dtype)
    ((where, message),) = problems("Adam", {**state, "exp_avg": moment}, form, training)
    assert where == "state['exp_avg']"
    assert str(dtype) in message


def test_a_complex_parameter_has_complex_moments() -> None:
    parameter = torch.nn.Parameter(torch.zeros(2, dtype=torch.complex64))
    parameter.grad = torch.ones(2, dtype=torch.complex64)
    optimizer = torch.optim.Adam([parameter])
    optimizer.step()
    form = ParameterForm(name="c", shape=(2,), is_complex=True)
    found = state_problems(
        optimizer.state[parameter],
        form,
        table=TABLE["Adam"],
        hyperparameters=optimizer.param_groups[0],
        flat_elements=4,
        where="state",
    )
    assert list(found) == []


@pytest.mark.parametrize("name", [n for n in OPTIMIZERS if n not in ("LBFGS", "SGD")])
def test_state_that_lacks_what_a_step_needs_is_named(name: str) -> None:
    training = stepped(name, steps=1)
    for form, state in states(training):
        for entry in state:
            rest = {key: value for key, value in state.items() if key != entry}
            if rest:
                ((where, message),) = problems(name, rest, form, training)
                assert where == "state"
                assert repr(entry) in message


def test_amsgrads_entry_is_needed_only_with_amsgrad() -> None:
    training = stepped("AdamW", steps=1)
    (form, state), *_ = states(training)
    assert "max_exp_avg_sq" not in state
    assert problems("AdamW", state, form, training) == []


def test_a_step_of_an_older_torch_is_a_plain_number() -> None:
    training = stepped("Adam", steps=1)
    (form, state), *_ = states(training)
    assert problems("Adam", {**state, "step": 3}, form, training) == []


def test_an_entry_that_a_newer_torch_may_add_passes_and_any_other_does_not() -> None:
    training = stepped("Adam", steps=1)
    (form, state), *_ = states(training)
    scalar, moment = torch.zeros(()), torch.zeros(form.shape)
    assert problems("Adam", {**state, "new": scalar, "other": moment}, form, training) == []
    found = problems("Adam", {**state, "new": torch.zeros(1000)}, form, training)
    assert found == [("state['new']", "is no entry that this optimizer has")]


def test_state_that_is_no_mapping_is_named() -> None:
    training = stepped("Adam", steps=1)
    ((where, message),) = problems("Adam", [1], forms(training)[0], training)
    assert where == "state"
    assert "list" in message


def test_a_complex_parameter_counts_twice_in_a_flat_vector() -> None:
    real = ParameterForm(name="r", shape=(2, 3))
    pairs = ParameterForm(name="c", shape=(2, 3), is_complex=True)
    assert flat_elements([real, pairs]) == 18
