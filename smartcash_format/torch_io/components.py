"""The components of a load: each compares first, then gets ready, and only then restores.

`compare` reads headers and inert data; `prepare` reads and decodes values, and is the last that may
fail for the checkpoint's sake; `restore` fills the live object; `finish` is what only the user's
own code can fail.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any, Protocol

from smartcash_format.spec.problems import Problem
from smartcash_format.torch_io.fill_weights import Target
from smartcash_format.torch_io.fit_tensors import TensorFit, fit_tensors
from smartcash_format.torch_io.hints import likely_cause
from smartcash_format.torch_io.report import FitReport
from smartcash_format.torch_io.stored_weights import StoredWeights


class Component(Protocol):
    """One live object, and where its state lies in the checkpoint."""

    @property
    def name(self) -> str: ...

    @property
    def is_late(self) -> bool:
        """Whether all of it is the user's own code: then it is `finish` that restores."""

    def compare(self, *, strict: bool) -> FitReport:
        """How the stored state fits, from headers and inert data alone."""

    def prepare(self, *, strict: bool) -> tuple[Problem, ...]:
        """Reads and decodes; what only the values show, as problems."""

    def restore(self) -> None:
        """Fills the live object, unless it is late."""

    def finish(self) -> tuple[str, ...]:
        """Runs what only the user's own code can fail; notes for the report."""


class Weights:
    """Stored weights and the module, object or state dict that they go into."""

    def __init__(self, stored: StoredWeights, target: Target, *, name: str) -> None:
        self.name = name
        self.is_late = target.is_late
        self._stored = stored
        self._target = target
        self._state_names: frozenset[str] = frozenset()
        self._states: dict[str, Any] = {}
        # Names that do not agree and that the module's own code takes care of.
        self._handled: frozenset[str] = frozenset()

    @cached_property
    def fit(self) -> TensorFit:
        """How the tensors fit; an optimizer over them asks before or after they are compared."""
        stored = self._stored.forms()
        fit = fit_tensors(stored, self._target.forms(), weight_set=self.name)
        if fit.agrees:
            return fit
        self._handled = self._target.handled(stored, self._stored.versions)
        return fit.without(self._handled)

    def compare(self, *, strict: bool) -> FitReport:
        fit = self.fit
        states = self._stored.states()
        live_states = self._target.states()
        self._state_names = states & live_states
        missing = (*fit.missing, *sorted(live_states - states))
        unexpected = (*fit.unexpected, *sorted(states - live_states))
        problems = [*fit.problems, *self._state_problems(states, live_states)]
        some_fit = bool(fit.fitting) or not (fit.unexpected or fit.mismatched or missing)
        if not strict and some_fit:
            problems = []
        lasting = [*self._target.problems(), *_uncastable(fit)]  # strict=False mends none of these
        problems += lasting
        return FitReport(
            restored=(self.name,),
            cast=fit.cast,
            missing=tuple(fit.qualified(name) for name in missing),
            unexpected=tuple(fit.qualified(name) for name in unexpected),
            mismatched=fit.mismatched,
            problems=tuple(problems),
            hint=likely_cause(fit, origin=self._stored.origin) if problems and not lasting else "",
        )

    def _state_problems(self, stored: frozenset[str], live: frozenset[str]) -> list[Problem]:
        return [
            Problem(
                code="tensor-missing",
                where=self.fit.qualified(name),
                message="the model has this state, the checkpoint does not",
            )
            for name in sorted(live - stored)
        ] + [
            Problem(
                code="tensor-unexpected",
                where=self.fit.qualified(name),
                message="the checkpoint has this state, the model does not",
            )
            for name in sorted(stored - live)
        ]

    @property
    def not_loaded(self) -> frozenset[str]:
        """The live names whose tensors a load leaves as they are, as tensors.json spells them."""
        reshaped = (item.name for item in self.fit.mismatched)
        return frozenset(map(self.fit.qualified, (*self.fit.missing, *reshaped)))

    def prepare(self, *, strict: bool) -> tuple[Problem, ...]:
        self._stored.make_ready()
        if self._state_names:
            states = self._stored.state_values()
            self._states = {name: states[name] for name in self._state_names}
        return ()

    def restore(self) -> None:
        taken = sorted(self._handled & self._stored.forms().keys())
        tensors = self._stored.tensors(dict.fromkeys((*self.fit.fitting, *taken)))
        self._target.fill(tensors, self._states, self._stored.versions)
        self._target.drop_views(self._stored.ranges())

    def finish(self) -> tuple[str, ...]:
        if self.is_late:
            self.restore()
        self._target.finish(self._states)
        return ()


def _uncastable(fit: TensorFit) -> list[Problem]:
    """Casts that torch cannot do, or would do by dropping the imaginary part."""
    return [
        Problem(
            code="tensor-dtype",
            where=fit.qualified(cast.name),
            message=f"is {cast.stored} in the checkpoint, which cannot become {cast.live}",
        )
        for cast in fit.cast
        if _is_complex(cast.stored) and not _is_complex(cast.live)
    ]


def _is_complex(dtype: str) -> bool:
    return dtype == "C64" or "complex" in dtype
