"""What a load is asked for: live objects, and which components of the checkpoint go into them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final

from smartcash_format.errors import CheckpointError
from smartcash_format.spec import layout
from smartcash_format.torch_io.fill_weights import is_loadable
from smartcash_format.torch_io.places import bare, misplaced
from smartcash_format.torch_io.rng import generator_state

MODEL: Final = layout.MODEL
OPTIMIZER: Final = "optimizer"
SCHEDULER: Final = "scheduler"
EXTRA: Final = "extra"
COMPONENTS: Final = frozenset({MODEL, OPTIMIZER, SCHEDULER, EXTRA, layout.RNG})


@dataclass(frozen=True, slots=True, kw_only=True)
class Live:
    """The live objects of one load, and what of them is wanted.

    `extra` is None where the caller said nothing about extra state. `wanted` are the components to
    restore; `explicit` those that the caller named in so many words.
    """

    model: Any
    optimizer: Any
    scheduler: Any
    extra: Mapping[str, Any] | None
    wanted: frozenset[str]
    explicit: frozenset[str]

    @property
    def extras(self) -> Mapping[str, Any]:
        """The named live objects to restore."""
        return (self.extra or {}) if EXTRA in self.wanted else {}

    @property
    def is_resume(self) -> bool:
        """Whether training goes on from here: an optimizer is restored."""
        return OPTIMIZER in self.wanted


def check_extra(extra: object) -> None:
    """Raises TypeError for what is no dict of live objects by name."""
    if extra is not None and not isinstance(extra, Mapping):
        raise TypeError(f"extra is {extra!r:.80}; it is a dict from names to live objects")


def live_objects(
    model: Any = None,
    optimizer: Any = None,
    scheduler: Any = None,
    *,
    extra: Mapping[str, Any] | None = None,
    components: Collection[str] | None = None,
) -> Live:
    """What a load is asked for: what was passed, and RNG on a resume, or exactly `components`.

    Raises CheckpointError for a component that does not exist or has no live object to go into,
    and for live objects in each other's places.
    """
    check_extra(extra)
    model, optimizer, scheduler = bare(model), bare(optimizer), bare(scheduler)
    extra = None if extra is None else {name: bare(live) for name, live in extra.items()}
    if sentence := misplaced(model, optimizer, scheduler):
        raise CheckpointError(sentence)
    given = {MODEL: model, OPTIMIZER: optimizer, SCHEDULER: scheduler, EXTRA: extra}
    passed = {name for name, live in given.items() if live is not None}
    if components is not None and not isinstance(components, Collection):
        raise TypeError(f"components is {components!r:.80}; it is a set of names")
    if components is None:
        wanted = passed | ({layout.RNG} if OPTIMIZER in passed else set())
        explicit: frozenset[str] = frozenset(passed)
    else:
        wanted = {components} if isinstance(components, str) else set(components)
        explicit = frozenset(wanted)
    if unknown := wanted - COMPONENTS:
        raise CheckpointError(
            f"components has {', '.join(sorted(unknown))}; it takes {', '.join(sorted(COMPONENTS))}"
        )
    if without := wanted - passed - {layout.RNG}:
        names = ", ".join(sorted(without))
        raise CheckpointError(
            f"components names {names}, and no live object was passed for it; what a result has "
            'without one, such as ["model_state_dict"], is read when it is asked for: it takes no '
            "components"
        )
    for name in sorted(wanted - {layout.RNG, EXTRA}):
        _require_loadable(name, given[name])
    for name, live in (extra or {}).items() if EXTRA in wanted else ():
        if generator_state(live) is None:
            _require_loadable(f"extra[{name!r}]", live)
    return Live(
        model=model,
        optimizer=optimizer,
        scheduler=scheduler,
        extra=extra,
        wanted=frozenset(wanted),
        explicit=explicit,
    )


def _require_loadable(where: str, live: Any) -> None:
    if not is_loadable(live):
        raise CheckpointError(
            f"{where} is {type(live).__name__}, which has no load_state_dict: pass a live object "
            "that has one, or a state dict to be filled"
        )
