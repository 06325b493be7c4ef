"""Settings that a resume takes from the checkpoint though the live objects were made with others.

Whoever changes a weight decay or the length of a schedule in a script, and then resumes, has the
old values back: that is what resuming means, and nobody would see it.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from smartcash_format.torch_io.hyperparameters import OF_SCHEDULERS, STRUCTURE

_LR: Final = "lr"
_INITIAL_LR: Final = "initial_lr"
# How a step is computed, not what it is.
_IMPLEMENTATION: Final = frozenset({"foreach", "fused", "capturable", "differentiable"})
# A scheduler that cycles momentum leaves one of these, and then changes one of those.
_CYCLES: Final = frozenset({"base_momentum", "max_momentum"})
_CYCLED: Final = frozenset({"momentum", "betas"})
_PLAIN: Final = (bool, int, float, str)
_SHOWN: Final = 5


def replaced_hyperparameters(
    stored: Mapping[str, object],
    live: Mapping[str, object],
    *,
    left: frozenset[str],
    scheduled: bool,
) -> Iterator[str]:
    """What of a group's hyperparameters is other than here; a learning rate as it was at first.

    `scheduled` says that a scheduler was saved: some change the rate and do not note the first.
    """
    skipped = STRUCTURE | OF_SCHEDULERS | _IMPLEMENTATION | {_LR} | left
    if _CYCLES & stored.keys():
        skipped |= _CYCLED
    if _INITIAL_LR in stored or not scheduled:
        yield from _differing(_LR, _first_rate(stored), _first_rate(live))
    for name in stored.keys() & live.keys() - skipped:
        yield from _differing(name, stored[name], live[name])


def replaced_settings(stored: object, live: Any) -> Iterator[str]:
    """What of a scheduler's own arguments, by the names that its state has, is other than here."""
    if not isinstance(stored, Mapping):
        return
    try:
        arguments = inspect.signature(type(live)).parameters
    except (TypeError, ValueError):  # a class that is not Python's
        return
    ours = live.state_dict()
    for name in arguments:
        if name in stored and name in ours and name != "last_epoch":
            yield from _differing(name, stored[name], ours[name])


def sentence(where: str, replaced: Iterable[str]) -> tuple[str, ...]:
    """The note about what was replaced, or none."""
    found = sorted(set(replaced))
    if not found:
        return ()
    more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    values = ", ".join(found[:_SHOWN]) + more
    return (f"{where} goes on as saved, with {values}; what is to change is set after the load",)


def _first_rate(group: Mapping[str, object]) -> object:
    """The learning rate before a scheduler changed it."""
    return group.get(_INITIAL_LR, group.get(_LR))


def _differing(name: str, stored: object, live: object) -> Iterator[str]:
    theirs, ours = _comparable(stored), _comparable(live)
    if theirs is not None and ours is not None and theirs != ours:
        yield f"{name}={_short(theirs)} ({_short(ours)} here)"


def _comparable(value: object) -> object:
    """Numbers, texts and lists of them; None of anything else."""
    if isinstance(value, Mapping):
        return sorted(value) if all(isinstance(key, int) for key in value) else None  # milestones
    if isinstance(value, list | tuple):
        return [*value] if all(isinstance(item, _PLAIN) for item in value) else None
    return value if isinstance(value, _PLAIN) else None


def _short(value: object) -> str:
    return f"{value!r:.40}"
