"""Whether a checkpoint fits live objects: found from headers and inert data, nothing is touched."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from smartcash_format.disk.read import Opened, open_checkpoint
from smartcash_format.spec import layout
from smartcash_format.spec.flags import flag
from smartcash_format.spec.meta import Meta
from smartcash_format.spec.problems import Code, Problem
from smartcash_format.torch_io.asked import EXTRA, MODEL, OPTIMIZER, SCHEDULER, Live, live_objects
from smartcash_format.torch_io.component_states import (
    ObjectState,
    OptimizerState,
    RandomState,
    SchedulerState,
)
from smartcash_format.torch_io.components import Component, Weights
from smartcash_format.torch_io.fill_weights import is_loadable, target_of
from smartcash_format.torch_io.optimizers import parameter_names
from smartcash_format.torch_io.parts import Parts, files_of
from smartcash_format.torch_io.places import bare_class
from smartcash_format.torch_io.report import FitReport
from smartcash_format.torch_io.stored_weights import (
    Source,
    StateDictInFile,
    StoredWeights,
    WeightSetInFile,
    leave_out_idle_extra,
)

# What to do about a component that the checkpoint was saved without.
_ABSENT: Final[Mapping[str, str]] = {
    MODEL: "saved with model=None; pass model=None to load the rest",
    OPTIMIZER: "saved with save_optimizer=False or without an optimizer, shared without it, or "
    "stripped; pass optimizer=None to load the weights alone",
    SCHEDULER: "saved with save_optimizer=False or without a scheduler, shared without it, or "
    "stripped; pass scheduler=None to load the rest",
    layout.RNG: "saved with rng=False; leave rng out of components",
}

# What to do about extra state that one side lacks.
_WAY: Final[Mapping[str, str]] = {
    "extra-missing": "; leave it out of extra, or pass strict=False",
    "extra-unexpected": "; pass one in extra (a dict for a dict), or strict=False",
}


def preflight(
    path: str | os.PathLike[str],
    model: Any = None,
    optimizer: Any = None,
    scheduler: Any = None,
    *,
    strict: bool = True,
    extra: Mapping[str, Any] | None = None,
) -> FitReport:
    """How the checkpoint at `path` fits these live objects; `problems` is empty where it fits.

    Reads meta.json, tensors.json, headers and the programs of torch files, no tensor. It never
    raises for what does not fit; an unreadable checkpoint raises as load_checkpoint does.
    """
    strict = flag(strict, "strict")
    live = live_objects(model, optimizer, scheduler, extra=extra)
    with open_checkpoint(path) as opened:
        _, _, report = compared(opened, live, strict=strict)
        return report


def compared(
    opened: Opened, live: Live, *, strict: bool
) -> tuple[Parts, tuple[Component, ...], FitReport]:
    """The parts that a load reads, what it restores in order, and how all of it fits."""
    meta = opened.meta
    parts = Parts(opened, _files(meta, live))
    if MODEL in live.wanted and not (live.extras or layout.RNG in live.wanted):
        leave_out_idle_extra(parts, MODEL)
    components = tuple(_components(parts, live))
    reports = [component.compare(strict=strict) for component in components]
    return parts, components, _merged([*reports, _presence(meta, live, strict=strict)])


def _files(meta: Meta, live: Live) -> frozenset[str]:
    sets = {name for name in live.extras if name in meta.weights}
    torch_files = set()
    if MODEL in live.wanted:
        sets.add(MODEL)
        torch_files.add(layout.EXTRA)  # a model's state that is no tensor lies there
    if live.extras or layout.RNG in live.wanted:
        torch_files.add(layout.EXTRA)
    if OPTIMIZER in live.wanted:
        torch_files.add(layout.OPTIMIZER)
    if SCHEDULER in live.wanted:
        torch_files.add(layout.SCHEDULER)
    return files_of(meta, sets=sets, torch_files=torch_files)


def _components(parts: Parts, live: Live) -> list[Component]:
    """What both sides have, in the order of restoring: RNG last."""
    meta = parts.meta
    weights = {
        name: Weights(stored, target_of(object_), name=name)
        for name, object_, stored in _weights(parts, live)
    }
    found: list[Component] = [weights[MODEL]] if MODEL in weights else []
    modules = _modules(live)
    if OPTIMIZER in live.wanted and meta.optimizer is not None:
        source = Source(parts=parts, file=layout.OPTIMIZER)
        class_name = bare_class(meta.optimizer.class_name)
        found.append(_optimizer(source, live.optimizer, OPTIMIZER, class_name, weights, modules))
    if SCHEDULER in live.wanted and meta.scheduler is not None:
        found.append(_scheduler(Source(parts=parts, file=layout.SCHEDULER), live.scheduler))
    for name, object_ in live.extras.items():
        if name in weights:
            found.append(weights[name])
        elif name in meta.extra:
            source = Source(parts=parts, file=layout.EXTRA, keys=(layout.OBJECTS, name))
            found.append(_extra(source, object_, name, weights, modules))
    if layout.RNG in live.wanted and meta.rng:
        found.append(RandomState(Source(parts=parts, file=layout.EXTRA, keys=(layout.RNG,))))
    return found


def _weights(parts: Parts, live: Live) -> Iterator[tuple[str, Any, StoredWeights]]:
    """What is compared tensor by tensor: weight sets, and state dicts that a module takes."""
    wanted = {MODEL: live.model} if MODEL in live.wanted else {}
    for name, object_ in {**wanted, **live.extras}.items():
        if not is_loadable(object_):
            continue  # a random number generator
        if name in parts.meta.weights:
            yield name, object_, WeightSetInFile(parts, name)
        elif name in parts.meta.extra and isinstance(object_, nn.Module):
            source = Source(parts=parts, file=layout.EXTRA, keys=(layout.OBJECTS, name))
            yield name, object_, StateDictInFile(source)


def _modules(live: Live) -> dict[str, nn.Module]:
    """The live modules by weight set, whose parameters' names an optimizer's groups have."""
    everything = {**(live.extra or {}), MODEL: live.model}
    return {name: o for name, o in everything.items() if isinstance(o, nn.Module)}


def _optimizer(
    source: Source,
    live: Any,
    name: str,
    class_name: str | None,
    weights: Mapping[str, Weights],
    modules: Mapping[str, nn.Module],
) -> Component:
    if not (isinstance(live, Optimizer) or _has_torch_form(live)):
        return ObjectState(source, live, name=name)
    return OptimizerState(
        source,
        live,
        name=name,
        names=parameter_names(live, modules),
        class_name=class_name,
        weights=weights.values(),
    )


def _scheduler(source: Source, live: Any, name: str = SCHEDULER) -> Component:
    if isinstance(_state_dict(live), Mapping):
        return SchedulerState(source, live, name=name)
    return ObjectState(source, live, name=name)


def _has_torch_form(live: Any) -> bool:
    """Whether someone else's optimizer has groups of parameters, and a state dict that says so."""
    state = _state_dict(live)
    return hasattr(live, "param_groups") and isinstance(state, Mapping) and "param_groups" in state


def _state_dict(live: Any) -> object:
    give = getattr(live, "state_dict", None)
    return give() if callable(give) else None


def _extra(
    source: Source,
    live: Any,
    name: str,
    weights: Mapping[str, Weights],
    modules: Mapping[str, nn.Module],
) -> Component:
    if isinstance(live, Optimizer):
        return _optimizer(source, live, name, None, weights, modules)
    if isinstance(live, LRScheduler):
        return _scheduler(source, live, name)
    return ObjectState(source, live, name=name)


def _presence(meta: Meta, live: Live, *, strict: bool) -> FitReport:
    """What was asked for and is not there, and extra state that one side lacks."""
    there = {
        MODEL: MODEL in meta.weights,
        OPTIMIZER: meta.optimizer is not None,
        SCHEDULER: meta.scheduler is not None,
        layout.RNG: meta.rng,
    }
    absent = [name for name in there if name in live.wanted and not there[name]]
    stored = {*meta.extra, *meta.weights} - {MODEL}
    missing = [
        name
        for name, object_ in live.extras.items()
        if name not in stored or (name in meta.weights and not is_loadable(object_))
    ]
    asked = EXTRA in live.wanted
    unexpected = sorted(stored - live.extras.keys())
    problems = [
        Problem(code="component-absent", where=name, message=f"is not there: {_ABSENT[name]}")
        for name in absent
        if name in live.explicit
    ]
    problems += _extra_problems("extra-missing", missing, "was not saved with this checkpoint")
    if asked:
        message = "is in the checkpoint and no live object was passed for it"
        problems += _extra_problems("extra-unexpected", unexpected, message)
    notes = [f"{name} is not in the checkpoint" for name in absent if name not in live.explicit]
    if unexpected and not asked and live.is_resume:
        notes.append(f"the checkpoint also has {', '.join(unexpected)}: extra={{...}} restores it")
    if strict:
        problems = [replace(one, message=one.message + _WAY.get(one.code, "")) for one in problems]
    else:
        notes += [f"{problem.where} {problem.message}" for problem in problems]
    return FitReport(
        absent=(*absent, *missing),
        notes=tuple(notes),
        problems=tuple(problems) if strict else (),
    )


def _extra_problems(code: Code, names: Collection[str], message: str) -> list[Problem]:
    return [Problem(code=code, where=f"extra[{name!r}]", message=message) for name in names]


def _merged(reports: list[FitReport]) -> FitReport:
    def joined(attribute: str) -> tuple[Any, ...]:
        return tuple(item for report in reports for item in getattr(report, attribute))

    hints = [report.hint for report in reports if report.hint]
    return FitReport(
        restored=joined("restored"),
        absent=joined("absent"),
        cast=joined("cast"),
        missing=joined("missing"),
        unexpected=joined("unexpected"),
        mismatched=joined("mismatched"),
        notes=joined("notes"),
        problems=joined("problems"),
        hint="\n".join(dict.fromkeys(hints)),
    )
