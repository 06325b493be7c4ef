from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import torch

from smartcash_format.spec.tensor_refs import TensorRef
from smartcash_format.torch_io.fit_optimizer import OptimizerFit, fit_optimizer
from smartcash_format.torch_io.optimizer_form import (
    LiveGroup,
    LiveOptimizer,
    Names,
    StoredOptimizer,
    read_stored,
)
from smartcash_format.torch_io.optimizer_state import ParameterForm

SHAPE = (2, 2)
DEFAULTS = torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))]).defaults


def moments(shape: Sequence[int] = SHAPE) -> dict[str, torch.Tensor]:
    return {
        "step": torch.tensor(3.0),
        "exp_avg": torch.zeros(*shape),
        "exp_avg_sq": torch.zeros(*shape),
    }


def stored(
    names: Names,
    *,
    state: Mapping[int, Any] | None = None,
    class_name: str = "torch.optim.adam.Adam",
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    **hyper: object,
) -> StoredOptimizer:
    ids = iter(range(100))
    groups = [{**DEFAULTS, **hyper, "params": [next(ids) for _ in group]} for group in names]
    total = sum(len(group) for group in names)
    given = {i: moments() for i in range(total)} if state is None else state
    value = {"state": given, "param_groups": groups}
    found, problems = read_stored(value, class_name=class_name, names=names, shapes=shapes or {})
    assert problems == ()
    assert found is not None
    return found


def live(names: Names, *, torch_class: str | None = "Adam", **hyper: object) -> LiveOptimizer:
    return LiveOptimizer(
        class_name=f"torch.optim.adam.{torch_class}" if torch_class else "mine.Adam",
        torch_class=torch_class,
        groups=tuple(
            LiveGroup(
                parameters=tuple(ParameterForm(name=name, shape=SHAPE) for name in group),
                hyperparameters={**DEFAULTS, **hyper},
            )
            for group in names
        ),
        defaults=frozenset(DEFAULTS),
    )


def codes(fit: OptimizerFit) -> list[str]:
    return [problem.code for problem in fit.problems]


def test_parameters_in_another_order_are_matched_by_name() -> None:
    fit = fit_optimizer(stored([["a", "b", "c"]]), live([["c", "a", "b"]]), strict=True)
    assert fit.problems == ()
    assert fit.sources == ((2, 0, 1),)
    assert not fit.by_position


def test_names_that_one_side_lacks_are_named() -> None:
    fit = fit_optimizer(stored([["a", "gone"]]), live([["a", "new"]]), strict=True)
    assert codes(fit) == ["optimizer-names"]
    assert "only here: new" in fit.problems[0].message
    assert "only in the checkpoint: gone" in fit.problems[0].message


def test_another_number_of_groups_is_a_problem() -> None:
    fit = fit_optimizer(stored([["a"], ["b"]]), live([["a", "b"]]), strict=True)
    assert "optimizer-groups" in codes(fit)
    assert "2 parameter groups in the checkpoint and 1 here" in fit.problems[0].message


def test_a_parameter_that_changed_groups_is_a_problem() -> None:
    fit = fit_optimizer(stored([["a", "b"], ["c"]]), live([["a", "c"], ["b"]]), strict=True)
    assert codes(fit) == ["optimizer-groups"]
    assert "b (group 0 in the checkpoint, 1 here)" in fit.problems[0].message


def test_unknown_names_go_by_position_and_it_is_said() -> None:
    fit = fit_optimizer(stored([[None, None]]), live([["a", "b"]]), strict=True)
    assert fit.problems == ()
    assert fit.sources == ((0, 1),)
    assert fit.by_position
    assert any("by position" in note for note in fit.notes)


def test_a_known_name_is_matched_by_name_and_the_rest_by_position() -> None:
    fit = fit_optimizer(stored([["a", None, None]]), live([[None, None, "a"]]), strict=True)
    assert fit.sources == ((1, 2, 0),)
    assert fit.by_position


def test_a_known_shape_that_differs_keeps_a_position_from_matching() -> None:
    fit = fit_optimizer(
        stored([["a"]], shapes={"a": (5, 5)}, state={}), live([[None]]), strict=True
    )
    assert codes(fit) == ["optimizer-groups"]
    assert "[5, 5]" in fit.problems[0].message


def test_unknown_names_of_another_count_are_a_problem() -> None:
    fit = fit_optimizer(stored([[None, None]]), live([[None]]), strict=True)
    assert codes(fit) == ["optimizer-groups"]


@pytest.mark.attack("load", "moments of another shape", "optimizer-state")
def test_moments_of_another_shape_are_a_problem_with_the_name() -> None:
    state = {0: moments((3, 3))}
    fit = fit_optimizer(stored([["a"]], state=state), live([["a"]]), strict=True)
    assert codes(fit) == ["optimizer-state", "optimizer-state"]
    assert fit.problems[0].where == "optimizer.state['a']['exp_avg']"


def _refs(**places: tuple[str, int, tuple[int, ...]]) -> dict[str, TensorRef]:
    found = {}
    for name, (key, offset, shape) in places.items():
        stride = (shape[-1], 1) if len(shape) == 2 else ()
        found[name] = TensorRef("F32", shape, stride, offset, key, math.prod(shape))
    return found


@pytest.mark.attack("load", "two moments in one memory", "optimizer-state")
@pytest.mark.parametrize(
    "second",
    [
        _refs(step=("3", 0, ()), exp_avg=("4", 0, SHAPE), exp_avg_sq=("4", 0, SHAPE)),
        _refs(step=("3", 0, ()), exp_avg=("4", 0, SHAPE), exp_avg_sq=("4", 3, SHAPE)),
        _refs(step=("3", 0, ()), exp_avg=("1", 0, SHAPE), exp_avg_sq=("4", 0, SHAPE)),
        _refs(step=("0", 0, ()), exp_avg=("4", 0, SHAPE), exp_avg_sq=("5", 0, SHAPE)),
    ],
)
def test_state_that_shares_its_memory_is_a_problem(second: dict[str, TensorRef]) -> None:
    first = _refs(step=("0", 0, ()), exp_avg=("1", 0, SHAPE), exp_avg_sq=("1", 4, SHAPE))
    apart = _refs(step=("3", 0, ()), exp_avg=("4", 0, SHAPE), exp_avg_sq=("5", 0, SHAPE))
    for state, expected in ((apart, []), (second, ["optimizer-state"])):
        made = stored([["a", "b"]], state={0: first, 1: state})
        fit = fit_optimizer(made, live([["a", "b"]]), strict=True)
        assert codes(fit) == expected
        loose = fit_optimizer(made, live([["a", "b"]]), strict=False)
        assert (loose.sources == ((None, None),)) == bool(expected)


@pytest.mark.attack("load", "state that no parameter has", "optimizer-state")
def test_state_of_no_parameter_is_a_problem() -> None:
    state = {0: moments(), 7: moments()}
    fit = fit_optimizer(stored([["a"]], state=state), live([["a"]]), strict=True)
    assert codes(fit) == ["optimizer-state"]


def test_a_poisoned_hyperparameter_is_a_problem() -> None:
    fit = fit_optimizer(stored([["a"]], lr=1e30), live([["a"]]), strict=True)
    assert [(p.code, p.where) for p in fit.problems] == [
        ("hyperparameter", "optimizer.param_groups[0]['lr']")
    ]


def test_another_class_is_a_problem() -> None:
    fit = fit_optimizer(
        stored([["a"]], class_name="torch.optim.sgd.SGD"), live([["a"]]), strict=True
    )
    assert "optimizer-class" in codes(fit)


def test_a_class_that_moved_to_another_module_is_the_same() -> None:
    fit = fit_optimizer(stored([["a"]], class_name="old.place.Adam"), live([["a"]]), strict=True)
    assert fit.problems == ()


def test_a_foreign_class_is_said_to_be_unchecked() -> None:
    odd = stored([["a"]], state={0: {"anything": torch.zeros(99)}}, class_name="mine.Adam")
    fit = fit_optimizer(odd, live([["a"]], torch_class=None), strict=True)
    assert fit.problems == ()
    assert any("not of torch.optim" in note for note in fit.notes)


def test_one_vector_over_all_parameters_needs_their_order() -> None:
    total = 2 * 4
    state = {0: {"d": torch.zeros(total), "n_iter": 1, "func_evals": 1}}
    lbfgs = torch.optim.LBFGS([torch.nn.Parameter(torch.zeros(1))]).defaults
    kept = stored([["a", "b"]], state=state, class_name="torch.optim.lbfgs.LBFGS")
    here = LiveOptimizer(
        class_name="torch.optim.lbfgs.LBFGS",
        torch_class="LBFGS",
        groups=live([["b", "a"]]).groups,
        defaults=frozenset(lbfgs),
    )
    fit = fit_optimizer(kept, here, strict=True)
    assert "optimizer-names" in codes(fit)
    assert "another order" in fit.problems[-1].message


def test_not_strict_leaves_fresh_what_was_not_loaded_and_says_so() -> None:
    fit = fit_optimizer(
        stored([["a", "head"]]), live([["a", "head"]]), strict=False, not_loaded=frozenset({"head"})
    )
    assert fit.problems == ()
    assert fit.sources == ((0, None),)
    assert any("fresh state for head" in note for note in fit.notes)


def test_not_strict_takes_by_name_across_groups_and_keeps_hyperparameters() -> None:
    fit = fit_optimizer(stored([["a"], ["b", "gone"]]), live([["b", "a", "new"]]), strict=False)
    assert fit.sources == ((1, 0, None),)
    assert fit.groups == (None,)
    assert any("hyperparameters stay" in note for note in fit.notes)


def test_not_strict_leaves_a_poisoned_hyperparameter_and_moment() -> None:
    state = {0: moments(), 1: moments((9,))}
    fit = fit_optimizer(
        stored([["a", "b"]], state=state, lr=1e30), live([["a", "b"]]), strict=False
    )
    assert fit.left == (frozenset({"lr"}),)
    assert fit.sources == ((0, None),)


def test_not_strict_leaves_an_optimizer_of_another_class_alone() -> None:
    other = stored([["a"]], class_name="torch.optim.sgd.SGD")
    fit = fit_optimizer(other, live([["a"]]), strict=False)
    assert fit.sources == ((None,),)
    assert fit.groups == (None,)


@pytest.mark.parametrize(
    "value",
    [
        None,
        {"state": {}},
        {"state": [], "param_groups": []},
        {"state": {}, "param_groups": [{}]},
        {"state": {}, "param_groups": [{"params": ["a"]}]},
        {"state": {}, "param_groups": [{"params": [True]}]},
        {"state": {}, "param_groups": [{"params": [0, 0]}]},
        {"state": {}, "param_groups": [{"params": [0]}, {"params": [0]}]},
    ],
)
def test_what_is_no_optimizer_state_dict_is_refused(value: object) -> None:
    found, problems = read_stored(value, class_name=None, names=None, shapes={})
    assert found is None
    assert [problem.code for problem in problems] == ["optimizer-state"]


def test_group_sizes_have_to_be_those_of_the_manifest() -> None:
    value = {"state": {}, "param_groups": [{"params": [0, 1]}]}
    _, problems = read_stored(value, class_name=None, names=[["a"]], shapes={})
    assert "tensors.json" in problems[0].message


def test_a_flag_that_needs_an_accelerator_stays_as_here_on_a_cpu() -> None:
    fit = fit_optimizer(stored([["a"]], capturable=True), live([["a"]]), strict=True)
    assert fit.problems == ()
    assert fit.left == (frozenset({"capturable"}),)
    assert any("needs parameters on an accelerator" in note for note in fit.notes)
    both = fit_optimizer(
        stored([["a"]], capturable=True), live([["a"]], capturable=True), strict=True
    )
    assert both.left == (frozenset(),)
