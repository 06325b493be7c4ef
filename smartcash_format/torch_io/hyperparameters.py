"""Hyperparameters that an optimizer can go on with: of the live group's kinds, within sane ranges.

`Optimizer.load_state_dict` takes any value for any key; the error comes at the first step, or
never. The ranges are those that torch.optim's constructors enforce, with a bound on sizes that
they leave open.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Final

from smartcash_format.spec.problems import Problem
from smartcash_format.torch_io.stored_data import StoredForm

# No training uses a larger one; 1e30 turns every weight into infinity at the first step.
LEARNING_RATE: Final = 1e6
# Beyond this a number counts as infinite; integers of any size compare with it.
_LARGEST: Final = 1e300
# What a group may hold besides the optimizer's own hyperparameters.
STRUCTURE: Final = frozenset({"params", "param_names"})
# Entries that torch's schedulers keep in the groups: a checkpoint has them whether or not the live
# optimizer has its scheduler yet.
OF_SCHEDULERS: Final = frozenset(
    {"initial_lr", "swa_lr", "max_lr", "min_lr", "base_momentum", "max_momentum"}
)


def _any_number(value: object) -> bool:
    return number(value) is not None


def _at_least_zero(value: object) -> bool:
    return (found := number(value)) is not None and 0 <= found < math.inf


def _at_most_zero(value: object) -> bool:
    return (found := number(value)) is not None and -math.inf < found <= 0


def _learning_rate(value: object) -> bool:
    return (found := number(value)) is not None and abs(found) <= LEARNING_RATE


def _below_one(value: object) -> bool:
    return (found := number(value)) is not None and 0 <= found < 1


def _up_to_one(value: object) -> bool:
    return (found := number(value)) is not None and 0 <= found <= 1


def _flag(value: object) -> bool:
    return isinstance(value, bool)


def _flag_or_none(value: object) -> bool:
    return value is None or isinstance(value, bool)


def _text_or_none(value: object) -> bool:
    return value is None or isinstance(value, str)


def _count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 31


def _count_or_none(value: object) -> bool:
    return value is None or _count(value)


def _each(rule: Callable[[object], bool], length: int) -> Callable[[object], bool]:
    def holds(value: object) -> bool:
        return (
            isinstance(value, tuple | list)
            and len(value) == length
            and all(rule(item) for item in value)
        )

    return holds


def _epsilon(value: object) -> bool:
    # Adafactor has two, of which the first may be left to the dtype.
    if isinstance(value, tuple | list):
        return len(value) == 2 and all(item is None or _at_least_zero(item) for item in value)
    return _at_least_zero(value)


Rule = tuple[Callable[[object], bool], str]
_NOT_NEGATIVE: Final[Rule] = (_at_least_zero, "a finite number of 0 or more")
_RATE: Final[Rule] = (_learning_rate, f"a number of at most {LEARNING_RATE:g}")
_FLAG: Final[Rule] = (_flag, "a boolean")
# Every hyperparameter of torch.optim in 2.10 to 2.13, and the entries that its schedulers add.
RULES: Final[Mapping[str, Rule]] = {
    "lr": _RATE,
    **dict.fromkeys(("initial_lr", "swa_lr", "max_lr", "min_lr"), _RATE),
    "betas": (_each(_below_one, 2), "two numbers from 0 to below 1"),
    "eps": (_epsilon, "a finite number of 0 or more"),
    "etas": (_each(_at_least_zero, 2), "two finite numbers of 0 or more"),
    "step_sizes": (_each(_at_least_zero, 2), "two finite numbers of 0 or more"),
    "beta2_decay": (_at_most_zero, "a finite number of 0 or less"),
    "rho": (_up_to_one, "a number from 0 to 1"),
    "ns_coefficients": (_each(_any_number, 3), "three numbers"),
    **dict.fromkeys(
        (
            "d",
            "initial_accumulator_value",
            "lr_decay",
            "momentum",
            "base_momentum",
            "max_momentum",
            "momentum_decay",
            "weight_decay",
        ),
        _NOT_NEGATIVE,
    ),
    **dict.fromkeys(
        ("alpha", "dampening", "lambd", "t0", "tolerance_change", "tolerance_grad"),
        (_any_number, "a number"),
    ),
    **dict.fromkeys(
        (
            "amsgrad",
            "capturable",
            "centered",
            "decoupled_weight_decay",
            "differentiable",
            "maximize",
            "nesterov",
        ),
        _FLAG,
    ),
    **dict.fromkeys(("foreach", "fused"), (_flag_or_none, "a boolean or None")),
    **dict.fromkeys(("adjust_lr_fn", "line_search_fn"), (_text_or_none, "a string or None")),
    **dict.fromkeys(("history_size", "max_iter", "ns_steps"), (_count, "a count")),
    "max_eval": (_count_or_none, "a count or None"),
}


def number(value: object) -> float | None:
    """The value as a number, NaN excepted; None of anything else.

    A tensor of one element counts with its value where it has one, else as 0: torch.optim takes
    tensors for learning rates and betas, and one that is read as data has no value yet.
    """
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        # Compared, not converted: an integer of a thousand digits has no float.
        if value != value or not -_LARGEST < value < _LARGEST:
            return None if value != value else math.copysign(math.inf, value > 0 or -1)
        return float(value)
    if is_scalar_tensor(value):
        item = getattr(value, "item", None)
        return number(item()) if callable(item) else 0.0
    return None


def is_scalar_tensor(value: object) -> bool:
    """Whether this is a tensor, or stands for one, that has one element and at most one axis."""
    return (shape := shape_of(value)) is not None and shape in ((), (1,))


def shape_of(value: object) -> tuple[int, ...] | None:
    """The shape of a tensor or of what stands for one; None of anything else."""
    shape = getattr(value, "shape", None)
    return tuple(shape) if isinstance(shape, tuple) else None


def hyperparameter_problems(
    stored: Mapping[str, object],
    live: Mapping[str, object],
    *,
    where: str,
    torch_defaults: Collection[str],
) -> Iterator[Problem]:
    """Every stored hyperparameter that the live group could not go on with.

    `torch_defaults` names the hyperparameters of one of torch.optim's own optimizers, whose ranges
    are known; it is empty for any other, of which only the kinds are compared with the live
    group's.
    """
    foreign = set(torch_only(stored, live)) if torch_defaults else set()
    for name, value in stored.items():
        spot = f"{where}[{name!r}]"
        if (rule := _rule(name, live, torch_defaults)) is not None:
            holds, expected = rule
            if not holds(value):
                yield _problem(spot, value, expected)
        elif name in STRUCTURE or name in foreign:
            continue
        elif name not in live:
            message = "is a hyperparameter that the live optimizer does not have"
            yield Problem(code="hyperparameter", where=spot, message=message, found=_shown(value))
        elif not same_kind(value, live[name]):
            yield _problem(spot, value, f"as here: {_shown(live[name])}")


def torch_only(stored: Collection[str], live: Collection[str]) -> tuple[str, ...]:
    """The names that only another version of torch knows: they are dropped, and reported."""
    return tuple(
        name for name in stored if name in RULES and name not in live and name not in OF_SCHEDULERS
    )


def _rule(name: str, live: Mapping[str, object], torch_defaults: Collection[str]) -> Rule | None:
    if name in torch_defaults or name in OF_SCHEDULERS:
        return RULES.get(name)
    # Whatever the optimizer: a rate that is a number here is one there.
    return RULES[name] if name == "lr" and _is_number(live.get(name)) else None


def same_kind(stored: object, live: object) -> bool:
    """Whether a value of a file may take the place of a live one: alike in kind, all the way down.

    Numbers stand for each other and for tensors of one element; None stands for data, and data for
    None. Sequences of numbers (one for each group) have the live one's length, or either is empty.
    """
    if isinstance(stored, StoredForm) and stored.shape is None:
        # It is compared again when it has become what it stands for.
        return not isinstance(live, bool | int | float | str)
    if stored is None or live is None:
        return _is_data(stored) and _is_data(live)
    if isinstance(live, bool) or isinstance(stored, bool):
        return isinstance(live, bool) and isinstance(stored, bool)
    if _is_number(live):
        return _is_number(stored)
    if shape_of(live) is not None or shape_of(stored) is not None:
        return shape_of(live) == shape_of(stored)
    if isinstance(live, str | bytes):
        return isinstance(stored, type(live))
    if isinstance(live, tuple | list):
        return isinstance(stored, tuple | list) and _same_items(stored, live)
    if isinstance(live, Mapping):
        return isinstance(stored, Mapping)
    return type(stored) is type(live)


def _same_items(stored: Sequence[object], live: Sequence[object]) -> bool:
    if not stored or not live:
        return True
    if all(isinstance(item, Mapping) for item in live):
        return all(isinstance(item, Mapping) for item in stored)
    return len(stored) == len(live) and all(map(same_kind, stored, live))


def _is_number(value: object) -> bool:
    return (isinstance(value, int | float) and not isinstance(value, bool)) or is_scalar_tensor(
        value
    )


def _is_data(value: object) -> bool:
    if shape_of(value) is not None:
        return is_scalar_tensor(value)
    if isinstance(value, tuple | list):
        return all(_is_data(item) for item in value)
    return value is None or isinstance(value, bool | str | bytes | Mapping) or _is_number(value)


def _problem(where: str, value: object, expected: str) -> Problem:
    return Problem(
        code="hyperparameter",
        where=where,
        message=f"is {_shown(value)}, not {expected}",
        found=_shown(value),
        expected=expected,
    )


def _shown(value: object) -> str:
    if (shape := shape_of(value)) is not None:
        return f"a tensor of shape {list(shape)}"
    return repr(value)[:80]
