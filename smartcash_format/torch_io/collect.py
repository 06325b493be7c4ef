"""Live objects taken apart into what is written: every refusal happens here, before a byte is.

Nothing is copied: tensors are read in place when their turn to be written comes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch.nn.parameter import is_lazy

from smartcash_format.disk.parts import ArchivePart, Part, Plan, plan_of
from smartcash_format.errors import UnsavableStateError
from smartcash_format.spec import layout, limits
from smartcash_format.spec.meta import OptimizerRecord, SchedulerRecord
from smartcash_format.spec.pickles import read_program
from smartcash_format.spec.shards import MAX_SHARD_BYTES
from smartcash_format.torch_io.archive import to_archive
from smartcash_format.torch_io.asked import check_extra
from smartcash_format.torch_io.fill_optimizer import live_optimizer
from smartcash_format.torch_io.fit_optimizer import fit_optimizer
from smartcash_format.torch_io.hyperparameters import number
from smartcash_format.torch_io.optimizer_form import read_stored
from smartcash_format.torch_io.optimizer_state import DECISIVE
from smartcash_format.torch_io.optimizers import GroupNames, describe_optimizer, names_among
from smartcash_format.torch_io.places import bare, misplaced
from smartcash_format.torch_io.plain_tensor import plain_tensor
from smartcash_format.torch_io.program import Program
from smartcash_format.torch_io.proof import is_proved
from smartcash_format.torch_io.recall import Recall, trace_state, trace_tensors
from smartcash_format.torch_io.rng import capture, generator_state
from smartcash_format.torch_io.shards import check_count, weights_parts
from smartcash_format.torch_io.state import encode
from smartcash_format.torch_io.weights import (
    LiveState,
    Named,
    WeightSetSource,
    live_state,
    weight_set,
)

MAIN_OPTIMIZER: Final = "optimizer"
SCHEDULER: Final = "scheduler"
# What reports and tensors.json call the parts that are not in extra.
_RESERVED: Final = frozenset({layout.MODEL, MAIN_OPTIMIZER, SCHEDULER, layout.RNG})


@dataclass(frozen=True, slots=True, kw_only=True)
class Collected:
    """Everything that a save writes, and what meta.json will say of it.

    `programs` has the program of each torch file, `spare_files` how many more files the parts
    may become before they are written.
    """

    sets: tuple[WeightSetSource, ...]
    parts: tuple[Plan, ...]
    programs: Mapping[str, Program]
    optimizer: OptimizerRecord | None
    scheduler: SchedulerRecord | None
    optimizer_groups: Mapping[str, GroupNames]
    extra: tuple[str, ...]
    rng: bool
    warnings: tuple[str, ...]
    spare_files: int = 0


def collect(
    *,
    model: object,
    optimizer: object = None,
    scheduler: object = None,
    extra: Mapping[str, object] | None = None,
    rng: bool = True,
    max_shard_bytes: int = MAX_SHARD_BYTES,
    take: Callable[[Part], Plan] = plan_of,
    recall: Recall | None = None,
) -> Collected:
    """What is to be written of these live objects, weight sets in files of at most so many bytes.

    Each part goes through `take` as soon as it is known, the largest first: what copies them can
    begin. With `recall` what has not changed is laid out as last time. Raises UnsavableStateError,
    naming the place, for what could not be loaded again.
    """
    model, optimizer, scheduler = bare(model), bare(optimizer), bare(scheduler)
    given = {name: bare(value) for name, value in _checked_names(extra).items()}
    modules = {name: value for name, value in given.items() if isinstance(value, torch.nn.Module)}
    others = {name: value for name, value in given.items() if name not in modules}
    _check_places(model, optimizer, scheduler)
    archives = _Archives(take, recall)
    live = {layout.MODEL: model, **modules}
    # The code of others first: nothing may change what is being copied.
    optimizer_state = None if optimizer is None else _mapping_of(optimizer, MAIN_OPTIMIZER)
    scheduler_state = None if scheduler is None else _mapping_of(scheduler, SCHEDULER)
    objects = {name: state_of(value, f"extra[{name!r}]") for name, value in others.items()}
    states = {name: live_state(module, where=name) for name, module in live.items()}
    named = {name: state.named for name, state in states.items()}
    for name, parameters in named.items():
        _refuse_lazy(name, parameters)
    groups: dict[str, GroupNames] = {}
    record: OptimizerRecord | None = None
    warnings: tuple[str, ...] = ()
    if optimizer_state is not None:
        record, warnings = describe_optimizer(optimizer)
        groups[MAIN_OPTIMIZER] = names_among(optimizer, named)
        archives.add_optimizer(optimizer, optimizer_state, groups[MAIN_OPTIMIZER])
    if scheduler_state is not None:
        archives.add(layout.SCHEDULER, encode(scheduler_state, SCHEDULER), SCHEDULER)
    for name, value in others.items():
        if isinstance(value, torch.optim.Optimizer):
            groups[name] = names_among(value, named)
            _check_optimizer(value, objects[name], groups[name], f"extra[{name!r}]")
    sets: list[WeightSetSource] = []
    weights: list[Plan] = []
    for name, module in live.items():
        found, plans = _weights(name, module, states[name], max_shard_bytes, recall)
        sets.append(found)
        weights += map(take, plans)
    if recall is not None:
        recall.keep(live.keys())
    rest = _extra_state(sets, objects, rng)
    if rest:
        archives.add(layout.EXTRA, rest, "extra")
    parts = (*weights, *archives.parts)
    check_count(parts)
    return Collected(
        sets=tuple(sets),
        parts=parts,
        programs=archives.programs,
        optimizer=record,
        scheduler=None if scheduler is None else SchedulerRecord(class_name=_class(scheduler)),
        optimizer_groups=groups,
        extra=tuple(others),
        rng=rng,
        warnings=warnings,
    )


def state_of(value: object, where: str) -> object:
    """The state dict of anything that has one, the plain dict that already is one, or the state
    of a random number generator.

    Raises UnsavableStateError for anything else.
    """
    if isinstance(value, Mapping):
        return value
    if (state := generator_state(value)) is not None:
        return state
    method = getattr(value, "state_dict", None)
    if not callable(method) or isinstance(value, type):
        raise UnsavableStateError(
            f"{where} is a {type(value).__name__} without a state_dict()",
            where=where,
            kind=type(value).__name__,
            hint="each of several has a name of its own in extra={...}"
            if isinstance(value, list | tuple)
            else "pass the object that has one, or a dict with its state",
        )
    return method()


def _mapping_of(value: object, where: str) -> Mapping[Any, Any]:
    """The state dict of an optimizer or scheduler, which torch's own are dicts of."""
    state = state_of(value, where)
    if isinstance(state, Mapping):
        return state
    raise UnsavableStateError(
        f"the state_dict() of {where} gives {type(state).__name__}, not a dict",
        where=where,
        kind=type(state).__name__,
        hint="pass it through extra=, or a dict with its state",
    )


def _check_optimizer(optimizer: object, state: object, names: GroupNames, where: str) -> None:
    """Raises UnsavableStateError for what a load into this very optimizer would refuse."""
    if not isinstance(optimizer, torch.optim.Optimizer):
        return
    stored, problems = read_stored(state, class_name=None, names=names, shapes={}, key=where)
    if stored is not None:
        problems = fit_optimizer(stored, live_optimizer(optimizer, names), strict=True).problems
    if problems:
        first = problems[0]
        raise UnsavableStateError(
            f"{first.where} {first.message}",
            where=first.where,
            kind=type(optimizer).__name__,
            hint="a load would refuse it; put it right, or save with optimizer=None",
        )


def _refuse_lazy(weight_set: str, named: Named) -> None:
    """Before anything asks a parameter for its shape."""
    for name, parameter in named:
        if is_lazy(parameter):
            plain_tensor(parameter, f"{weight_set}: {name}")


def _weights(
    name: str, source: object, live: LiveState, max_shard_bytes: int, recall: Recall | None
) -> tuple[WeightSetSource, Sequence[Plan]]:
    """A weight set and its files, laid out."""
    trace = None if recall is None else trace_tensors(live.entries)
    if recall is not None and trace is not None:
        again = recall.weights(name, trace, max_shard_bytes)
        if again is not None:
            tensors, plans = again
            return weight_set(name, source, live, tensors), plans
    found = weight_set(name, source, live)
    plans = [part.plan() for part in weights_parts(found, max_shard_bytes)]
    # Else there is more in it than tensors that are stored under their own names.
    if recall is not None and trace is not None and len(found.tensors) == len(trace.memories):
        recall.note_weights(name, trace, max_shard_bytes, found.tensors, plans)
    return found, plans


def _check_places(model: object, optimizer: object, scheduler: object) -> None:
    if sentence := misplaced(model, optimizer, scheduler):
        place = sentence.partition(" ")[0]
        is_class = isinstance({"model": model, "optimizer": optimizer}.get(place, scheduler), type)
        raise UnsavableStateError(
            sentence,
            where=place,
            kind="misplaced",
            hint="pass an object of it" if is_class else "or pass them by name",
        )
    if model is None:
        raise UnsavableStateError(
            "model is None: there are no weights to save",
            where="model",
            kind="NoneType",
            hint="pass the module, anything with state_dict(), or a dict of tensors",
        )


def _checked_names(extra: Mapping[str, object] | None) -> dict[str, object]:
    check_extra(extra)
    given = dict(extra or {})
    for name, value in given.items():
        if hint := _name_fault(name, value):
            raise UnsavableStateError(
                f"extra has the name {name!r:.80}",
                where=f"extra[{name!r:.80}]",
                kind="name",
                hint=hint,
            )
    if len(given) > limits.TAGS:
        raise UnsavableStateError(
            f"extra has {len(given):,} objects; at most {limits.TAGS} are allowed",
            where="extra",
            kind="dict",
            hint="put several into one dict",
        )
    return given


def _name_fault(name: object, value: object) -> str | None:
    """What a name in extra should have been, or None: it names a file where a module has it."""
    if not isinstance(name, str) or not 0 < len(name) <= limits.SHORT_TEXT:
        return f"a name is text of at most {limits.SHORT_TEXT} characters"
    if not name.isprintable():
        return "a name has no control characters"
    if name in _RESERVED:
        return f"{name} has a place of its own"
    if isinstance(value, torch.nn.Module) and layout.SET_NAME.fullmatch(name) is None:
        return (
            "a module's name is that of its file: a lower-case letter and up to 31 letters, digits "
            "and underscores"
        )
    if isinstance(value, torch.nn.Module) and not layout.is_plain_name(layout.weights_file(name)):
        return f"Windows keeps {name} for a device, and a module's name is that of its file"
    return None


class _Archives:
    """The parts of encoded states, each once its reader is known to take it."""

    def __init__(self, take: Callable[[Part], Plan], recall: Recall | None) -> None:
        self._take = take
        self._recall = recall
        self.parts: list[Plan] = []
        self.programs: dict[str, Program] = {}

    def add_optimizer(self, optimizer: object, state: Mapping[Any, Any], names: GroupNames) -> None:
        """The state of the optimizer, which a load into this very one would take."""
        file, where = layout.OPTIMIZER, MAIN_OPTIMIZER
        trace = None if self._recall is None else trace_state(state)
        key = type(optimizer), names, _decisive(optimizer)
        again = None
        if self._recall is not None and trace is not None:
            again = self._recall.state(file, trace, key)
        if again is not None:
            # The entries of the parameters are what they were, but not the numbers of the groups.
            _check_optimizer(optimizer, {**state, "state": {}}, names, where)
            self.programs[file], plan = again
            self.parts.append(self._take(plan))
            return
        form = encode(state, where)
        _check_optimizer(optimizer, state, names, where)
        plan = self.add(file, form, where)
        if self._recall is not None and trace is not None:
            self._recall.note_state(file, trace, key, self.programs[file], plan)

    def add(self, file: str, state: object, where: str) -> Plan:
        """Any state; the plan of its file."""
        program, storages = to_archive(state)
        if not is_proved(program.form):
            sizes = {storage.key: storage.size_bytes for storage in storages}
            _, problems = read_program(program.data, where=where, storages=sizes)
            if problems:
                raise UnsavableStateError(
                    f"{where} {problems[0].message}",
                    where=where,
                    kind="state",
                    hint=problems[0].fix,
                )
        plan = ArchivePart(name=file, program=program.data, storages=storages).plan()
        self.parts.append(self._take(plan))
        self.programs[file] = program
        return plan


def _decisive(optimizer: object) -> object:
    """What of an optimizer decides what the entries of its parameters may be and have to be."""
    if not isinstance(optimizer, torch.optim.Optimizer):
        return None
    return [
        (
            [(p.shape, p.is_complex()) for p in group["params"]],
            [number(group.get(name)) == 0 for name in DECISIVE],
        )
        for group in optimizer.param_groups
    ]


def _extra_state(
    sets: list[WeightSetSource], objects: Mapping[str, object], rng: bool
) -> dict[str, Any]:
    state: dict[str, Any] = {}
    if rng:
        state[layout.RNG] = encode(capture(), layout.RNG)
    if objects:
        state[layout.OBJECTS] = {
            name: encode(value, f"extra[{name!r}]") for name, value in objects.items()
        }
    modules = {
        each.name: {key: encode(value, f"{each.name}: {key}") for key, value in each.state.items()}
        for each in sets
        if each.state
    }
    if modules:
        state[layout.MODULES] = modules
    return state


def _class(value: object) -> str | None:
    return None if isinstance(value, Mapping) else type(value).__name__
