"""The tensors of a weight set against those of a live object, by name, dtype and shape."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from smartcash_format.spec import layout
from smartcash_format.spec.problems import Problem
from smartcash_format.torch_io.report import Cast, Reshaped


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorForm:
    """A tensor without its values: dtype in safetensors' spelling, and shape.

    The shape is None for the parameter of a lazy module that has not seen its first input: it
    takes whatever comes.
    """

    dtype: str
    shape: tuple[int, ...] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorFit:
    """The names of a weight set, sorted into what loads, what loads cast, and what does not fit."""

    weight_set: str
    fitting: tuple[str, ...]
    cast: tuple[Cast, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    mismatched: tuple[Reshaped, ...]

    @property
    def agrees(self) -> bool:
        """Whether names and shapes are the same on both sides."""
        return not (self.missing or self.unexpected or self.mismatched)

    def qualified(self, name: str) -> str:
        """The name as reports and tensors.json spell it: with its set unless that is the model."""
        return name if self.weight_set == layout.MODEL else f"{self.weight_set}:{name}"

    def without(self, handled: frozenset[str]) -> TensorFit:
        """The same, where the live module itself takes care of these names."""
        return replace(
            self,
            missing=tuple(name for name in self.missing if name not in handled),
            unexpected=tuple(name for name in self.unexpected if name not in handled),
            mismatched=tuple(item for item in self.mismatched if item.name not in handled),
        )

    @property
    def problems(self) -> tuple[Problem, ...]:
        """Every name that keeps a strict load from going through."""
        return (
            *(
                Problem(
                    code="tensor-missing",
                    where=self.qualified(name),
                    message="the model has it, the checkpoint does not",
                )
                for name in self.missing
            ),
            *(
                Problem(
                    code="tensor-unexpected",
                    where=self.qualified(name),
                    message="the checkpoint has it, the model does not",
                )
                for name in self.unexpected
            ),
            *(
                Problem(
                    code="shape-mismatch",
                    where=self.qualified(item.name),
                    message=f"has the shape {list(item.stored)} in the checkpoint "
                    f"and {list(item.live)} in the model",
                    found=str(list(item.stored)),
                    expected=str(list(item.live)),
                )
                for item in self.mismatched
            ),
        )


def fit_tensors(
    stored: Mapping[str, TensorForm], live: Mapping[str, TensorForm], *, weight_set: str
) -> TensorFit:
    """How the stored tensors (each name of a tied one included) fit the live ones."""
    common = [name for name in live if name in stored]
    return TensorFit(
        weight_set=weight_set,
        fitting=tuple(name for name in common if _same_shape(stored[name], live[name])),
        cast=tuple(
            Cast(name=name, stored=stored[name].dtype, live=live[name].dtype)
            for name in common
            if _same_shape(stored[name], live[name]) and stored[name].dtype != live[name].dtype
        ),
        missing=tuple(name for name in live if name not in stored),
        unexpected=tuple(name for name in stored if name not in live),
        mismatched=tuple(
            Reshaped(name=name, stored=stored[name].shape or (), live=live[name].shape or ())
            for name in common
            if not _same_shape(stored[name], live[name])
        ),
    )


def _same_shape(stored: TensorForm, live: TensorForm) -> bool:
    return live.shape is None or stored.shape == live.shape
