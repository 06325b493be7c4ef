"""An optimizer's stored state against a live optimizer: groups, names, hyperparameters, entries.

Parameters are matched by name. `Optimizer.load_state_dict` matches by position and gives reordered
parameters of one shape each other's moments without an error (pytorch#1489).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from smartcash_format.spec.problems import Problem
from smartcash_format.torch_io.hyperparameters import (
    OF_SCHEDULERS,
    STRUCTURE,
    hyperparameter_problems,
    torch_only,
)
from smartcash_format.torch_io.optimizer_form import (
    LiveGroup,
    LiveOptimizer,
    StoredGroup,
    StoredOptimizer,
)
from smartcash_format.torch_io.optimizer_state import (
    FLAT_OPTIMIZERS,
    TABLE,
    flat_elements,
    form_of,
    state_problems,
)
from smartcash_format.torch_io.shared_state import shared_memory

_NAMES_SHOWN: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimizerFit:
    """Where each live parameter's state comes from, and what does not fit.

    `sources` has for each live group the position in the stored order (over all groups) of each
    parameter's state, None where it stays fresh. `groups` has for each live group the stored one
    whose hyperparameters it gets, `left` the names of those that it does not get.
    """

    sources: tuple[tuple[int | None, ...], ...] = ()
    groups: tuple[int | None, ...] = ()
    left: tuple[frozenset[str], ...] = ()
    by_position: bool = False
    problems: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def takes_anything(self) -> bool:
        """Whether the live optimizer gets any state or hyperparameters at all."""
        given = (*self.groups, *_flat(self.sources))
        return any(source is not None for source in given)


def fit_optimizer(
    stored: StoredOptimizer,
    live: LiveOptimizer,
    *,
    strict: bool,
    not_loaded: frozenset[str] = frozenset(),
) -> OptimizerFit:
    """How the stored state fits the live optimizer.

    With strict=False what does not fit is left: state fresh, hyperparameters as they are here.
    `not_loaded` names the parameters whose tensors a load leaves as they are.
    """
    same = _same_class(stored.class_name, live.class_name)
    found = _Matched(stored, live, not_loaded)
    if not same:
        found.problem(
            "optimizer-class",
            stored.key,
            f"was saved from {stored.class_name} and is {live.class_name} here",
        )
    if same or strict:
        found.pair()
    if same:
        found.compare_hyperparameters()
        found.compare_state()
    return found.result(strict=strict, same_class=same)


class _Matched:
    """One comparison in progress: what each live parameter gets, and what was found on the way."""

    def __init__(
        self, stored: StoredOptimizer, live: LiveOptimizer, not_loaded: frozenset[str]
    ) -> None:
        self.stored = stored
        self.live = live
        self.not_loaded = not_loaded
        self.problems: list[Problem] = []
        self.notes: list[str] = []
        self.by_position = False
        self.aligned = len(stored.groups) == len(live.groups)
        self.sources: list[list[int | None]] = [[None] * len(g.parameters) for g in live.groups]
        self.left: list[frozenset[str]] = [frozenset()] * len(live.groups)
        starts = [0]
        for group in stored.groups:
            starts.append(starts[-1] + len(group.ids))
        self.starts = starts

    def problem(self, code: str, where: str, message: str) -> None:
        self.problems.append(Problem(code=code, where=where, message=message))  # type: ignore[arg-type]

    def pair(self) -> None:
        stored, live = self.stored, self.live
        if not self.aligned:
            self.problem(
                "optimizer-groups",
                stored.key,
                f"has {len(stored.groups)} parameter groups in the checkpoint "
                f"and {len(live.groups)} here",
            )
        for index, (ours, theirs) in enumerate(zip(live.groups, stored.groups, strict=False)):
            if len(ours.parameters) != len(theirs.ids):
                self.problem(
                    "optimizer-groups",
                    f"{stored.key}.param_groups[{index}]",
                    f"has {len(theirs.ids)} parameters in the checkpoint "
                    f"and {len(ours.parameters)} here",
                )
        self._by_name()
        self._by_position()

    def _by_name(self) -> None:
        places = {
            name: (group, self.starts[group] + position)
            for group, names in enumerate(self.stored.names)
            for position, name in enumerate(names)
            if name is not None
        }
        moved = []
        for index, group in enumerate(self.live.groups):
            for position, parameter in enumerate(group.parameters):
                if parameter.name is None or parameter.name not in places:
                    continue
                there, flat = places[parameter.name]
                self.sources[index][position] = flat
                if there != index:
                    moved.append(
                        f"{parameter.name} (group {there} in the checkpoint, {index} here)"
                    )
        if moved and self.aligned:
            self.problem(
                "optimizer-groups", self.stored.key, f"parameters changed groups: {_some(moved)}"
            )

    def _by_position(self) -> None:
        """What has no name on one side goes by position, group by group, where shapes agree."""
        for index, group in enumerate(self.live.groups):
            where = f"{self.stored.key}.param_groups[{index}]"
            rest_here = [k for k, source in enumerate(self.sources[index]) if source is None]
            rest_there = self._unpaired(index)
            names_here = [group.parameters[k].name for k in rest_here]
            names_there = [self._name_of(flat) for flat in rest_there]
            named = [
                (name_here, name_there)
                for name_here, name_there in zip(names_here, names_there, strict=False)
                if name_here is not None and name_there is not None
            ]
            if not (rest_here or rest_there):
                continue
            if named or len(rest_here) != len(rest_there):
                self._names_differ(where, names_here, names_there)
                continue
            self.by_position = True
            for k, flat in zip(rest_here, rest_there, strict=True):
                self._pair_position(where, index, k, flat)

    def _pair_position(self, where: str, index: int, position: int, flat: int) -> None:
        parameter = self.live.groups[index].parameters[position]
        known = self.stored.shapes.get(self._name_of(flat) or "")
        if known is not None and known != parameter.shape:
            self.problem(
                "optimizer-groups",
                f"{where}.params[{position}]",
                f"has the shape {list(known)} in the checkpoint and {list(parameter.shape)} here",
            )
            return
        self.sources[index][position] = flat

    def _unpaired(self, index: int) -> list[int]:
        if index >= len(self.stored.groups):
            return []
        taken = {source for group in self.sources for source in group}
        return [f for f in range(self.starts[index], self.starts[index + 1]) if f not in taken]

    def _name_of(self, flat: int) -> str | None:
        for index, names in enumerate(self.stored.names):
            if flat < self.starts[index + 1]:
                return names[flat - self.starts[index]]
        return None

    def _names_differ(
        self, where: str, here: Sequence[str | None], there: Sequence[str | None]
    ) -> None:
        only_here = [name for name in here if name is not None]
        only_there = [name for name in there if name is not None]
        parts = [
            f"{text}: {_some(names)}"
            for text, names in (
                ("only here", only_here),
                ("only in the checkpoint", only_there),
            )
            if names
        ]
        if parts:
            self.problem("optimizer-names", where, f"parameters differ, {'; '.join(parts)}")

    def compare_hyperparameters(self) -> None:
        if not self.aligned:
            return
        pairs = zip(self.stored.groups, self.live.groups, strict=True)
        for index, (theirs, ours) in enumerate(pairs):
            where = f"{self.stored.key}.param_groups[{index}]"
            defaults = self.live.defaults if self.live.torch_class else frozenset()
            problems = list(
                hyperparameter_problems(
                    theirs.hyperparameters,
                    ours.hyperparameters,
                    where=where,
                    torch_defaults=defaults,
                )
            )
            foreign = torch_only(theirs.hyperparameters, ours.hyperparameters) if defaults else ()
            unusable = self._unusable(where, theirs, ours) if defaults else frozenset()
            refused = {
                name
                for name in theirs.hyperparameters
                if any(problem.where == f"{where}[{name!r}]" for problem in problems)
            }
            self.problems += problems
            self.left[index] = frozenset(refused | unusable | set(foreign))
            self._note_hyperparameters(where, theirs, ours, foreign)

    def _unusable(self, where: str, theirs: StoredGroup, ours: LiveGroup) -> frozenset[str]:
        """Flags of the implementation that fail at the first step where the parameters are now."""
        name = "capturable"
        if ours.accelerated or theirs.hyperparameters.get(name) is not True:
            return frozenset()
        if ours.hyperparameters.get(name) is True:
            return frozenset()
        self.notes.append(f"{where}: {name} stays as here, it needs parameters on an accelerator")
        return frozenset({name})

    def _note_hyperparameters(
        self, where: str, theirs: StoredGroup, ours: LiveGroup, foreign: Sequence[str]
    ) -> None:
        if foreign:
            self.notes.append(
                f"{where}: {', '.join(foreign)}, of another version of torch, were dropped"
            )
        kept = [
            name
            for name in ours.hyperparameters
            if name not in theirs.hyperparameters
            and name not in STRUCTURE
            and name not in OF_SCHEDULERS
        ]
        if kept:
            self.notes.append(f"{where}: {', '.join(kept)}, not in the checkpoint, stay as here")

    def compare_state(self) -> None:
        table = TABLE.get(self.live.torch_class or "")
        if table is None:
            self.notes.append(
                f"{self.stored.key}: {self.live.class_name} is not of torch.optim, "
                "so the shapes of its state were not compared"
            )
            return
        ids = [i for group in self.stored.groups for i in group.ids]
        everything = [p for group in self.live.groups for p in group.parameters]
        self._stray_state(set(ids))
        self._order_of_flat_state()
        total = flat_elements(everything)
        taken: list[tuple[str | int, object]] = []
        for index, group in enumerate(self.live.groups):
            hyperparameters = self._hyperparameters(index)
            # A model has hundreds of parameters of a few forms: one of each is looked at.
            sound = set()
            for position, parameter in enumerate(group.parameters):
                source = self.sources[index][position]
                if source is None or (state := self.stored.state.get(ids[source])) is None:
                    continue
                where = parameter.name or ids[source]
                taken.append((where, state))
                form = form_of(state, parameter)
                if form in sound:
                    continue
                problems = list(
                    state_problems(
                        state,
                        parameter,
                        table=table,
                        hyperparameters=hyperparameters,
                        flat_elements=total,
                        where=f"{self.stored.key}.state[{where!r}]",
                    )
                )
                if problems:
                    self.problems += problems
                    self.sources[index][position] = None
                elif form is not None:
                    sound.add(form)
        if shared := list(shared_memory(taken, where=f"{self.stored.key}.state")):
            # Which of them is right cannot be told.
            self.problems += shared
            self.sources = [[None] * len(group) for group in self.sources]

    def _hyperparameters(self, index: int) -> Mapping[str, object]:
        ours = self.live.groups[index].hyperparameters
        return {**ours, **self.stored.groups[index].hyperparameters} if self.aligned else ours

    def _stray_state(self, ids: set[int]) -> None:
        stray = [key for key in self.stored.state if key not in ids]
        if stray:
            self.problem(
                "optimizer-state",
                f"{self.stored.key}.state",
                f"has state of no parameter: {_some([repr(key)[:40] for key in stray])}",
            )

    def _order_of_flat_state(self) -> None:
        if self.live.torch_class not in FLAT_OPTIMIZERS or not self.stored.state:
            return
        order = [source for group in self.sources for source in group]
        if order != list(range(len(order))):
            self.problem(
                "optimizer-names",
                self.stored.key,
                f"{self.live.torch_class} keeps one vector over all parameters, "
                "which are in another order here: give them in the order of the checkpoint",
            )
            self.sources = [[None] * len(group) for group in self.sources]

    def _leave_fresh(self) -> None:
        for index, group in enumerate(self.live.groups):
            for position, parameter in enumerate(group.parameters):
                if parameter.name in self.not_loaded:
                    self.sources[index][position] = None
        if self.live.torch_class in FLAT_OPTIMIZERS and None in _flat(self.sources):
            self.sources = [[None] * len(group) for group in self.sources]

    def result(self, *, strict: bool, same_class: bool) -> OptimizerFit:
        """The comparison as a value; without strict every problem becomes a note."""
        if strict:
            problems, notes = tuple(self.problems), list(self.notes)
        else:
            problems, notes = (), [f"{p.where}: {p.message}" for p in self.problems] + self.notes
            self._leave_fresh()
        fresh = [
            parameter.name or f"number {position} of group {index}"
            for index, group in enumerate(self.live.groups)
            for position, parameter in enumerate(group.parameters)
            if self.sources[index][position] is None
        ]
        if fresh and not problems:
            notes.append(f"{self.stored.key}: fresh state for {_some(fresh)}")
        if self.by_position:
            notes.append(
                f"{self.stored.key}: matched by position, as not all parameter names are known"
            )
        aligned = self.aligned and same_class
        if not aligned and not problems:
            notes.append(f"{self.stored.key}: the hyperparameters stay as they are here")
        return OptimizerFit(
            sources=tuple(tuple(group) for group in self.sources),
            groups=tuple(i if aligned else None for i in range(len(self.live.groups))),
            left=tuple(self.left),
            by_position=self.by_position,
            problems=problems,
            notes=tuple(notes),
        )


def _flat(groups: Sequence[Sequence[int | None]]) -> Iterator[int | None]:
    return (source for group in groups for source in group)


def _same_class(stored: str | None, live: str | None) -> bool:
    # Modules move between releases of torch and of people's own code; the name stays.
    if stored is None or live is None:
        return True
    return stored.rpartition(".")[2] == live.rpartition(".")[2]


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_NAMES_SHOWN])
    more = len(names) - _NAMES_SHOWN
    return f"{shown} and {more} more" if more > 0 else shown
