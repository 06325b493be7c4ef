"""The components whose state lies in torch files: optimizers, schedulers, other objects, RNG."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, MutableMapping
from typing import Any

import torch

from smartcash_format.spec import layout
from smartcash_format.spec.problems import Problem
from smartcash_format.torch_io import rng
from smartcash_format.torch_io.components import Weights
from smartcash_format.torch_io.dtypes import TORCH_DTYPES
from smartcash_format.torch_io.fill_optimizer import fill_optimizer, live_optimizer
from smartcash_format.torch_io.fit_optimizer import OptimizerFit, fit_optimizer
from smartcash_format.torch_io.fit_scheduler import SchedulerFit, arranged, fit_scheduler
from smartcash_format.torch_io.hints import optimizer_cause
from smartcash_format.torch_io.optimizer_form import Names, StoredOptimizer, read_stored
from smartcash_format.torch_io.optimizer_state import Shape
from smartcash_format.torch_io.replaced import (
    replaced_hyperparameters,
    replaced_settings,
    sentence,
)
from smartcash_format.torch_io.report import FitReport
from smartcash_format.torch_io.stored_weights import Source


class OptimizerState:
    """An optimizer and its state dict, matched by parameter name."""

    is_late = False

    def __init__(
        self,
        source: Source,
        live: Any,
        *,
        name: str,
        names: Names,
        class_name: str | None,
        weights: Collection[Weights],
    ) -> None:
        self.name = name
        self._source = source
        self._live = live
        self._form = live_optimizer(live, names)
        self._class_name = class_name
        self._weights = weights
        self._fit = OptimizerFit()
        self._state: Any = None

    def compare(self, *, strict: bool) -> FitReport:
        return self._compare(self._source.data(), strict=strict)

    def _compare(self, value: Any, *, strict: bool) -> FitReport:
        manifest = self._source.parts.manifest
        stored, problems = read_stored(
            value,
            class_name=self._class_name,
            names=manifest.optimizer_groups.get(self.name),
            shapes={name: shape for name, (_, shape) in self._parameters().items()},
            key=self.name,
        )
        if stored is None:
            return FitReport(problems=problems)
        left = frozenset(name for part in self._weights for name in part.not_loaded)
        self._fit = fit_optimizer(stored, self._form, strict=strict, not_loaded=left)
        return FitReport(
            restored=(self.name,) if self._fit.takes_anything else (),
            notes=(*self._fit.notes, *sentence(self.name, self._replaced(stored))),
            problems=self._fit.problems,
            hint=optimizer_cause(self._loose(stored, left)) if self._fit.problems else "",
        )

    def _replaced(self, stored: StoredOptimizer) -> Iterator[str]:
        scheduled = self._source.parts.meta.scheduler is not None
        for live, source, left in zip(
            self._form.groups, self._fit.groups, self._fit.left, strict=False
        ):
            if source is not None:
                theirs = stored.groups[source].hyperparameters
                yield from replaced_hyperparameters(
                    theirs, live.hyperparameters, left=left, scheduled=scheduled
                )

    def _loose(self, stored: StoredOptimizer, left: frozenset[str]) -> OptimizerFit:
        return fit_optimizer(stored, self._form, strict=False, not_loaded=left)

    def _parameters(self) -> dict[str, tuple[str, Shape]]:
        """Dtype and shape of every tensor in the manifest, by the names that groups have."""
        return {
            (tensor if name == layout.MODEL else f"{name}:{tensor}"): (dtype, tuple(shape))
            for name, weight_set in self._source.parts.manifest.weights.items()
            for tensor, dtype, shape, _ in weight_set.lines()
        }

    def _stored_dtypes(self) -> list[list[torch.dtype | None]]:
        known = {name: TORCH_DTYPES.get(dtype) for name, (dtype, _) in self._parameters().items()}
        return [
            [known.get(parameter.name or "") for parameter in group.parameters]
            for group in self._form.groups
        ]

    def prepare(self, *, strict: bool) -> tuple[Problem, ...]:
        if not self._fit.takes_anything:
            return ()
        self._state = self._source.value()
        # Again with the values: a learning rate that is a tensor had none before.
        return self._compare(self._state, strict=strict).problems

    def restore(self) -> None:
        if self._fit.takes_anything:
            fill_optimizer(self._live, self._state, self._fit, dtypes=self._stored_dtypes())
            self._state = None

    def finish(self) -> tuple[str, ...]:
        return ()


class SchedulerState:
    """A scheduler and its state dict, its keys compared all the way down."""

    is_late = False

    def __init__(self, source: Source, live: Any, *, name: str) -> None:
        self.name = name
        self._source = source
        self._live = live
        self._fit = SchedulerFit()
        self._state: Any = None

    def compare(self, *, strict: bool) -> FitReport:
        stored = self._source.data()
        self._fit = fit_scheduler(stored, self._live, where=self.name)
        replaced = () if self._fit.problems else replaced_settings(stored, self._live)
        return FitReport(
            restored=(self.name,),
            notes=(*self._fit.notes, *sentence(self.name, replaced)),
            problems=self._fit.problems,
        )

    def prepare(self, *, strict: bool) -> tuple[Problem, ...]:
        self._state = self._source.value()
        self._fit = fit_scheduler(self._state, self._live, where=self.name)
        return self._fit.problems

    def restore(self) -> None:
        self._live.load_state_dict(arranged(self._state, self._live, self._fit.dropped))

    def finish(self) -> tuple[str, ...]:
        return ()


class ObjectState:
    """Any object with load_state_dict, a state dict or a random number generator: what it was is
    what it gets.
    """

    is_late = True

    def __init__(self, source: Source, live: Any, *, name: str) -> None:
        self.name = name
        self._source = source
        self._live = live
        self._state: Any = None

    def compare(self, *, strict: bool) -> FitReport:
        return FitReport(restored=(self.name,))

    def prepare(self, *, strict: bool) -> tuple[Problem, ...]:
        self._state = self._source.value()
        if isinstance(self._live, MutableMapping):
            fits = isinstance(self._state, Mapping)
            reason = "" if fits else f"is {type(self._state).__name__}, and a dict here"
        else:
            reason = rng.unfit(self._live, self._state)
        if not reason:
            return ()
        where = f"extra[{self.name!r}]"
        return (Problem(code="extra-state", where=where[:300], message=reason),)

    def restore(self) -> None:
        """Late."""

    def finish(self) -> tuple[str, ...]:
        if isinstance(self._live, MutableMapping):
            self._live.clear()
            self._live.update(self._state)
        elif not rng.set_generator(self._live, self._state):
            self._live.load_state_dict(self._state)
        return ()


class RandomState:
    """The random number generators of this process."""

    name = layout.RNG
    is_late = True

    def __init__(self, source: Source) -> None:
        self._source = source
        self._state: Any = None

    def compare(self, *, strict: bool) -> FitReport:
        return FitReport(restored=(self.name,))

    def prepare(self, *, strict: bool) -> tuple[Problem, ...]:
        self._state = self._source.value()
        if reason := rng.fault(self._state):
            where = f"{self._source.file}: {layout.RNG}"
            self._source.parts.refuse("pickle-structure", where, reason, None)
        return ()

    def restore(self) -> None:
        """Late: whatever runs before may draw numbers."""

    def finish(self) -> tuple[str, ...]:
        return rng.restore(self._state)
