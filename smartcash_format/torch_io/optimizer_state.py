"""The shapes that the entries of an optimizer's state may have (FORMAT.md, Bounds).

`Optimizer.load_state_dict` takes moments of any shape; the error comes at the first step, or the
moments are broadcast in silence. Of torch.optim's own optimizers entries and shapes are known.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

import torch

from smartcash_format.spec.problems import Problem
from smartcash_format.torch_io.hyperparameters import is_scalar_tensor, number, shape_of

Shape = tuple[int, ...]


class Form(Enum):
    """What an entry of the state is, seen from the parameter it belongs to."""

    SCALAR = "a number, or a tensor of one element"
    PARAMETER = "a tensor of the parameter's shape"
    BUFFER = "a tensor of the parameter's shape, or None"
    VECTOR = "a tensor of the parameter's shape, for parameters of at most one axis"
    ROW = "a tensor of the parameter's shape with the last axis 1"
    COLUMN = "a tensor of the parameter's shape with the last but one axis 1"
    FLAT = "a vector over all parameters, or None"
    FLAT_LIST = "a list of vectors over all parameters, or None"
    SCALAR_LIST = "a list of numbers, or None"
    OPTIONAL_SCALAR = "a number, a tensor of one element, or None"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One entry: its form, and when a step cannot do without it.

    `needed` is True, False, or the hyperparameter that has to be set for it.
    """

    form: Form
    needed: bool | str = True


@dataclass(frozen=True, slots=True, kw_only=True)
class ParameterForm:
    """A parameter as far as its optimizer state depends on it."""

    name: str | None
    shape: Shape
    is_complex: bool = False


_STEP: Final = Entry(form=Form.SCALAR)
_MOMENT: Final = Entry(form=Form.PARAMETER)
_ADAM: Final = {
    "step": _STEP,
    "exp_avg": _MOMENT,
    "exp_avg_sq": _MOMENT,
    "max_exp_avg_sq": Entry(form=Form.PARAMETER, needed="amsgrad"),
}
_ADAM_LIKE: Final = {"step": _STEP, "exp_avg": _MOMENT, "exp_avg_sq": _MOMENT}
_SCALAR: Final = Entry(form=Form.SCALAR)
# class in torch.optim -> entry -> form; measured on torch 2.13, held by a test over all of them.
TABLE: Final[Mapping[str, Mapping[str, Entry]]] = {
    "ASGD": {"step": _STEP, "eta": _SCALAR, "mu": _SCALAR, "ax": _MOMENT},
    "Adadelta": {"step": _STEP, "square_avg": _MOMENT, "acc_delta": _MOMENT},
    "Adafactor": {
        "step": _STEP,
        "row_var": Entry(form=Form.ROW),
        "col_var": Entry(form=Form.COLUMN),
        "variance": Entry(form=Form.VECTOR),
    },
    "Adagrad": {"step": _STEP, "sum": _MOMENT},
    "Adam": _ADAM,
    "AdamW": _ADAM,
    "Adamax": {"step": _STEP, "exp_avg": _MOMENT, "exp_inf": _MOMENT},
    "LBFGS": {
        "func_evals": Entry(form=Form.SCALAR, needed=False),
        "n_iter": Entry(form=Form.SCALAR, needed=False),
        "d": Entry(form=Form.FLAT, needed=False),
        "t": Entry(form=Form.OPTIONAL_SCALAR, needed=False),
        "old_dirs": Entry(form=Form.FLAT_LIST, needed=False),
        "old_stps": Entry(form=Form.FLAT_LIST, needed=False),
        "ro": Entry(form=Form.SCALAR_LIST, needed=False),
        "al": Entry(form=Form.SCALAR_LIST, needed=False),
        "H_diag": Entry(form=Form.OPTIONAL_SCALAR, needed=False),
        "prev_flat_grad": Entry(form=Form.FLAT, needed=False),
        "prev_loss": Entry(form=Form.OPTIONAL_SCALAR, needed=False),
    },
    "Muon": {"momentum_buffer": _MOMENT},
    "NAdam": {**_ADAM_LIKE, "mu_product": _SCALAR},
    "RAdam": _ADAM_LIKE,
    "RMSprop": {
        "step": _STEP,
        "square_avg": _MOMENT,
        "momentum_buffer": Entry(form=Form.PARAMETER, needed="momentum"),
        "grad_avg": Entry(form=Form.PARAMETER, needed="centered"),
    },
    "Rprop": {"step": _STEP, "prev": _MOMENT, "step_size": _MOMENT},
    "SGD": {"momentum_buffer": Entry(form=Form.BUFFER, needed=False)},
    "SparseAdam": _ADAM_LIKE,
}
# The hyperparameters that have to be set for an entry to be needed.
DECISIVE: Final = tuple(
    sorted(
        {
            entry.needed
            for entries in TABLE.values()
            for entry in entries.values()
            if isinstance(entry.needed, str)
        }
    )
)
# What keeps one state for all parameters, under the first of them, in the order of the parameters.
FLAT_OPTIMIZERS: Final = frozenset({"LBFGS"})


def state_problems(
    state: object,
    parameter: ParameterForm,
    *,
    table: Mapping[str, Entry],
    hyperparameters: Mapping[str, object],
    flat_elements: int,
    where: str,
) -> Iterator[Problem]:
    """Every entry of one parameter's state that a step of a torch optimizer could not go on with.

    `flat_elements` is the length of a vector over all parameters of the optimizer.
    """
    if not isinstance(state, Mapping):
        yield _problem(where, f"is no mapping of entries but {type(state).__name__}")
        return
    for name, value in state.items():
        entry = table.get(name) if isinstance(name, str) else None
        spot = f"{where}[{name!r}]"[:200]
        if entry is None:
            # A newer torch may keep another scalar or moment; anything else is not from torch.
            if not (_is_scalar(value) or shape_of(value) == parameter.shape):
                yield _problem(spot, "is no entry that this optimizer has")
        elif not _allowed(entry.form, value, parameter, flat_elements):
            yield _problem(spot, f"is {_kind(value)}, not {entry.form.value}{_of(parameter)}")
    if state:
        yield from _absent(state, parameter, table, hyperparameters, where)


def form_of(state: object, parameter: ParameterForm) -> tuple[object, ...] | None:
    """What `state_problems` of one optimizer's group depends on, where all entries are tensors."""
    if not isinstance(state, Mapping):
        return None
    try:
        entries = [(name, value.dtype, value.shape) for name, value in state.items()]
    except AttributeError:
        return None
    return parameter.shape, parameter.is_complex, *entries


def _absent(
    state: Mapping[object, object],
    parameter: ParameterForm,
    table: Mapping[str, Entry],
    hyperparameters: Mapping[str, object],
    where: str,
) -> Iterator[Problem]:
    for name, entry in table.items():
        needed = entry.needed
        wanted = bool(hyperparameters.get(needed)) if isinstance(needed, str) else needed
        if wanted and _applies(entry.form, parameter.shape) and name not in state:
            yield _problem(where, f"lacks the entry {name!r}, which a step needs")


def _applies(form: Form, shape: Shape) -> bool:
    """Whether a parameter of this shape has such an entry at all: Adafactor factors matrices."""
    factored = len(shape) > 1
    return factored if form in (Form.ROW, Form.COLUMN) else not (form is Form.VECTOR and factored)


def _allowed(form: Form, value: object, parameter: ParameterForm, flat_elements: int) -> bool:
    shape = parameter.shape
    if not _applies(form, shape):
        return False
    match form:
        case Form.SCALAR:
            return _is_scalar(value)
        case Form.OPTIONAL_SCALAR:
            return value is None or _is_scalar(value)
        case Form.PARAMETER | Form.VECTOR:
            return _is_moment(value, shape, parameter)
        case Form.BUFFER:
            return value is None or _is_moment(value, shape, parameter)
        case Form.ROW:
            return _is_moment(value, (*shape[:-1], 1), parameter)
        case Form.COLUMN:
            return _is_moment(value, (*shape[:-2], 1, shape[-1]), parameter)
        case Form.FLAT:
            return value is None or _is_moment(value, (flat_elements,), parameter)
        case Form.FLAT_LIST:
            return value is None or (
                isinstance(value, list)
                and all(_is_moment(item, (flat_elements,), parameter) for item in value)
            )
        case Form.SCALAR_LIST:
            return value is None or (
                isinstance(value, list) and all(item is None or _is_scalar(item) for item in value)
            )


def flat_elements(parameters: Sequence[ParameterForm]) -> int:
    """The length of a vector over all parameters; a complex one counts as pairs of reals."""
    return sum(math.prod(p.shape) * (2 if p.is_complex else 1) for p in parameters)


def _is_scalar(value: object) -> bool:
    # NaN is a number here: a diverged run has it in its loss, and its checkpoint is its own.
    if isinstance(value, float) or is_scalar_tensor(value):
        return True
    return number(value) is not None


def _is_moment(value: object, shape: Shape, parameter: ParameterForm) -> bool:
    """A tensor of this shape that a step can add to: floating, or complex beside a complex one."""
    if shape_of(value) != shape:
        return False
    dtype = getattr(value, "dtype", None)
    if isinstance(dtype, torch.dtype):
        is_complex, is_floating = dtype.is_complex, dtype.is_floating_point
    else:
        spelled = str(dtype)
        is_complex, is_floating = spelled.startswith("C"), spelled.startswith(("F", "BF"))
    return is_floating or (is_complex and parameter.is_complex)


def _kind(value: object) -> str:
    shape = shape_of(value)
    if shape is None:
        return type(value).__name__
    return f"a tensor of shape {list(shape)} and dtype {getattr(value, 'dtype', None)}"


def _of(parameter: ParameterForm) -> str:
    return f" ({list(parameter.shape)})"


def _problem(where: str, message: str) -> Problem:
    return Problem(code="optimizer-state", where=where, message=message)
