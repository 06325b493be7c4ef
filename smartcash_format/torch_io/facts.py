"""What a checkpoint says of itself beside its state, and what of it goes when it is too much."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final, NamedTuple

from smartcash_format.spec import layout, limits
from smartcash_format.spec.documents import dump_lines
from smartcash_format.spec.meta import OptimizerRecord
from smartcash_format.spec.plain import keys_of
from smartcash_format.spec.spelling import number_to_json

# Less than this is no part's fault.
_LEAST_BYTES: Final = 1 << 10
_SETTINGS: Final = "the optimizer's hyperparameters"


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What a checkpoint says of itself beside its state: decided before the save begins."""

    checkpoint_id: str
    run_id: str
    parent_id: str | None
    saved_at: datetime
    epoch: int
    step: int | None
    is_best: bool
    metrics: Mapping[str, int | float]
    backbone: str | None
    dataset: str | None
    tags: tuple[str, ...]
    config: Any
    notes: Mapping[str, Any]

    @property
    def directory_name(self) -> str:
        """The name of the checkpoint's directory."""
        return layout.directory_name(
            epoch=self.epoch, step=self.step, checkpoint_id=self.checkpoint_id
        )


Measure = Callable[[Facts, OptimizerRecord | None], int]


class Fit(NamedTuple):
    """What meta.json has room for, in how many bytes, and a sentence for each part that was cut."""

    facts: Facts
    optimizer: OptimizerRecord | None
    size_bytes: int
    warnings: tuple[str, ...]


def cut_to_fit(facts: Facts, optimizer: OptimizerRecord | None, measure: Measure) -> Fit:
    """Both as they are while meta.json has room for them; else without their largest parts.

    `measure` gives the bytes of the meta.json that they would make. Metadata never costs a
    checkpoint. Config and notes leave their keys behind.
    """
    warnings = []
    while (size_bytes := measure(facts, optimizer)) > limits.META_BYTES:
        sizes = _sizes(facts, optimizer)
        largest = max(sizes, key=lambda part: sizes[part])
        if sizes[largest] <= _LEAST_BYTES:
            break
        facts, optimizer = _without(largest, facts, optimizer)
        warnings.append(
            f"meta.json would have {size_bytes:,} bytes, and at most {limits.META_BYTES:,} are "
            f"allowed: {largest} is not stored in full ({sizes[largest]:,} bytes)"
        )
    return Fit(facts, optimizer, size_bytes, tuple(warnings))


def _sizes(facts: Facts, optimizer: OptimizerRecord | None) -> dict[str, int]:
    parts: dict[str, Any] = {
        "config": facts.config,
        "notes": dict(facts.notes),
        "metrics": {name: number_to_json(value) for name, value in facts.metrics.items()},
        _SETTINGS: [] if optimizer is None else [g.hyperparameters for g in optimizer.groups],
    }
    return {part: len(dump_lines({part: value})) for part, value in parts.items()}


def _without(
    part: str, facts: Facts, optimizer: OptimizerRecord | None
) -> tuple[Facts, OptimizerRecord | None]:
    match part:
        case "config":
            return replace(facts, config=_keys(facts.config)), optimizer
        case "notes":
            kept = _keys(facts.notes)
            return replace(facts, notes=kept if isinstance(kept, dict) else {}), optimizer
        case "metrics":
            return replace(facts, metrics={}), optimizer
    assert optimizer is not None
    groups = [group.model_copy(update={"hyperparameters": {}}) for group in optimizer.groups]
    return facts, optimizer.model_copy(update={"groups": groups})


def _keys(value: Any) -> Any:
    """The keys of a mapping; nothing of what has been cut to them before."""
    cut_before = isinstance(value, Mapping) and set(value) == {"$keys"}
    return None if cut_before else keys_of(value)
