"""A scheduler's stored state against a live scheduler: which keys may go in, all the way down.

`LRScheduler.load_state_dict` is `self.__dict__.update(state)`: a key named `step` or `optimizer`
replaces a method or an object without a word.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from smartcash_format.spec.problems import Problem
from smartcash_format.torch_io.hyperparameters import same_kind

# Where torch's schedulers keep the state dicts of others: SequentialLR, ChainedScheduler.
_NESTED: Final = "_schedulers"
# Where they keep the attributes of callables that the user gave: lists of them, and single ones.
_CALLABLES: Final = "lr_lambdas"
_CALLABLE: Final = "_scale_fn_custom"


@dataclass(frozen=True, slots=True, kw_only=True)
class SchedulerFit:
    """The keys that do not go in, by their path, and what does not fit.

    `dropped` are keys that the live scheduler lacks, `kept` those that the checkpoint lacks. The
    paths are tuples of keys and positions: ("_schedulers", 0, "verbose").
    """

    dropped: frozenset[tuple[str | int, ...]] = frozenset()
    problems: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()


def fit_scheduler(stored: object, live: Any, *, where: str = "scheduler") -> SchedulerFit:
    """How a scheduler's state dict, read as data, fits a live scheduler with a state dict."""
    found = _Compared(where)
    found.compare(stored, live, ())
    dropped, kept = sorted(found.dropped, key=str), sorted(found.kept)
    notes = []
    if dropped:
        shown = ", ".join(_path(path).lstrip(".") for path in dropped)
        notes.append(f"{where}: {shown} dropped, which the live scheduler does not have")
    if kept:
        notes.append(f"{where}: {', '.join(kept)}, not in the checkpoint, stay as here")
    return SchedulerFit(
        dropped=frozenset(found.dropped), problems=tuple(found.problems), notes=tuple(notes)
    )


def arranged(stored: Any, live: Any, dropped: frozenset[tuple[str | int, ...]]) -> Any:
    """The state dict to give to the live scheduler's load_state_dict: own keys, none missing."""
    return _arranged(stored, live, dropped, ())


def _arranged(
    stored: Mapping[str, Any],
    live: Any,
    dropped: frozenset[tuple[str | int, ...]],
    at: tuple[str | int, ...],
) -> dict[str, Any]:
    state = {
        **_state_of(live),
        **{key: value for key, value in stored.items() if (*at, key) not in dropped},
    }
    if isinstance(inner := stored.get(_NESTED), list) and hasattr(live, _NESTED):
        state[_NESTED] = [
            _arranged(item, scheduler, dropped, (*at, _NESTED, index))
            for index, (item, scheduler) in enumerate(zip(inner, live._schedulers, strict=True))
        ]
    return state


def _state_of(live: Any) -> dict[str, Any]:
    state: dict[str, Any] = live.state_dict()
    return state


class _Compared:
    """One comparison in progress."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.problems: list[Problem] = []
        self.dropped: set[tuple[str | int, ...]] = set()
        self.kept: list[str] = []

    def refuse(self, at: tuple[str | int, ...], message: str) -> None:
        where = f"{self.where}{_path(at)}" if at else self.where
        self.problems.append(Problem(code="scheduler-key", where=where[:300], message=message))

    def compare(self, stored: object, live: Any, at: tuple[str | int, ...]) -> None:
        if not isinstance(stored, Mapping):
            self.refuse(at, "is no state dict")
            return
        ours = _state_of(live)
        if ours and not stored.keys() & ours.keys():
            self.refuse(at, f"has nothing of the state of a {type(live).__name__}")
            return
        for key, value in stored.items():
            self._key(key, value, ours, live, at)
        self.kept += [_path((*at, key)).lstrip(".") for key in ours if key not in stored]

    def _key(
        self, key: object, value: object, ours: dict[str, Any], live: Any, at: tuple[str | int, ...]
    ) -> None:
        spot = (*at, str(key)[:100])
        attributes: dict[str, Any] = getattr(live, "__dict__", {})
        if not isinstance(key, str) or (key not in ours and shadows(key, live)):
            self.refuse(spot, "would replace a method, a property or the optimizer")
        elif key == _NESTED and hasattr(live, key):
            self._nested(value, live._schedulers, spot)
        elif key == _CALLABLES and hasattr(live, key):
            self._callables(value, live.lr_lambdas, spot)
        elif key == _CALLABLE and hasattr(live, key):
            self._callables([value], [live._scale_fn_custom], spot)
        elif key not in ours and key not in attributes:
            self.dropped.add(spot)
        elif not same_kind(value, current := ours.get(key, attributes.get(key))):
            self.refuse(spot, f"is {value!r:.80}, unlike {current!r:.80} here")

    def _nested(self, value: object, schedulers: Any, at: tuple[str | int, ...]) -> None:
        if not isinstance(value, list) or len(value) != len(schedulers):
            count = len(value) if isinstance(value, list) else "no"
            self.refuse(at, f"has {count} schedulers in the checkpoint and {len(schedulers)} here")
            return
        for index, (item, scheduler) in enumerate(zip(value, schedulers, strict=True)):
            self.compare(item, scheduler, (*at, index))

    def _callables(self, value: object, functions: Any, at: tuple[str | int, ...]) -> None:
        if not isinstance(value, list) or len(value) != len(functions):
            self.refuse(at, f"has another number of functions than the {len(functions)} here")
            return
        for index, (state, function) in enumerate(zip(value, functions, strict=True)):
            spot = (*at, index)
            if state is None:
                continue
            if not isinstance(state, Mapping) or not hasattr(function, "__dict__"):
                self.refuse(spot, "is the state of a callable that is not one here")
                continue
            for key in state:
                if not isinstance(key, str) or shadows(key, function):
                    self.refuse((*spot, str(key)[:100]), "would replace a method or a property")


def shadows(key: str, live: object) -> bool:
    """Whether an attribute of this name, set on the instance, would hide behaviour.

    That is: dunder names, the optimizer, whatever the class defines as a method or descriptor, and
    what the instance itself keeps as a callable.
    """
    if key == "optimizer" or (key.startswith("__") and key.endswith("__")):
        return True
    for kind in type(live).__mro__:
        if key in vars(kind):
            defined = vars(kind)[key]
            return callable(defined) or hasattr(type(defined), "__get__")
    return callable(getattr(live, "__dict__", {}).get(key))


def _path(path: tuple[str | int, ...]) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
