"""What a load gives back: facts, the states on demand, and the report of what was restored."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from smartcash_format.spec.meta import Meta
from smartcash_format.torch_io.report import Cast, FitReport, Reshaped

MODEL_STATE: Final = "model_state_dict"
OPTIMIZER_STATE: Final = "optimizer_state_dict"
SCHEDULER_STATE: Final = "scheduler_state_dict"

ReadState = Callable[[str], Any]


class LoadResult(Mapping[str, Any]):
    """A read-only mapping of what the checkpoint says, and what the load did as attributes.

    Keys: epoch, step, metrics, config, timestamp (aware, UTC), loaded_from (a Path), and, where the
    checkpoint has them, model_state_dict, optimizer_state_dict and scheduler_state_dict. Each of
    the three is read from the checkpoint, verified, each time it is asked for, into memory of its
    own. An empty result (`found` is False) has no keys, so that `.get("epoch", 0)` is 0.
    """

    __slots__ = ("_facts", "_read", "_states", "meta", "report")

    def __init__(
        self,
        *,
        meta: Meta | None = None,
        path: Path | None = None,
        report: FitReport | None = None,
        read_state: ReadState | None = None,
    ) -> None:
        self.meta = meta
        self.report = report or FitReport()
        self._facts: dict[str, Any] = {}
        self._states: tuple[str, ...] = ()
        self._read = read_state
        if meta is not None:
            self._facts = {
                "epoch": meta.epoch,
                "step": meta.step,
                "metrics": dict(meta.metrics),
                "config": meta.config,
                "timestamp": meta.saved_at,
                "loaded_from": path,
            }
            self._states = tuple(
                key
                for key, there in (
                    (MODEL_STATE, "model" in meta.weights),
                    (OPTIMIZER_STATE, meta.optimizer is not None),
                    (SCHEDULER_STATE, meta.scheduler is not None),
                )
                if there
            )

    @property
    def found(self) -> bool:
        """Whether there was a checkpoint to load."""
        return self.meta is not None

    @property
    def restored(self) -> tuple[str, ...]:
        """The components that live objects got, by name."""
        return self.report.restored

    @property
    def absent(self) -> tuple[str, ...]:
        """The components that a live object waited for and the checkpoint does not have."""
        return self.report.absent

    @property
    def cast(self) -> tuple[Cast, ...]:
        """Tensors that were stored in another dtype than the live ones have."""
        return self.report.cast

    @property
    def missing(self) -> tuple[str, ...]:
        """Live tensors that the checkpoint does not have; left as they were."""
        return self.report.missing

    @property
    def unexpected(self) -> tuple[str, ...]:
        """Stored tensors that the live model does not have."""
        return self.report.unexpected

    @property
    def mismatched(self) -> tuple[Reshaped, ...]:
        """Tensors of another shape; left as they were."""
        return self.report.mismatched

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences about everything else worth knowing."""
        return self.report.notes

    def __getitem__(self, key: str) -> Any:
        if key in self._facts:
            return self._facts[key]
        if key in self._states and self._read is not None:
            return self._read(key)
        raise KeyError(key)

    def __contains__(self, key: object) -> bool:
        # The mixin would read a state to answer.
        return key in self._facts or key in self._states

    def __iter__(self) -> Iterator[str]:
        yield from self._facts
        yield from self._states

    def __len__(self) -> int:
        return len(self._facts) + len(self._states)

    # The mixin's equality would read every state of both.
    __eq__ = object.__eq__
    __hash__ = object.__hash__

    def __bool__(self) -> bool:
        return self.found

    if not TYPE_CHECKING:  # a type checker is to find what is not there

        def __getattr__(self, name: str) -> Any:
            known = not name.startswith("_") and name in self
            hint = f"; it is a mapping: result[{name!r}]" if known else ""
            raise AttributeError(f"LoadResult has no attribute {name!r}{hint}")

    def __repr__(self) -> str:
        if self.meta is None:
            return "LoadResult(found=False)"
        step = "" if self.meta.step is None else f", 'step': {self.meta.step}"
        return (
            f"LoadResult({{'epoch': {self.meta.epoch}{step}, 'loaded_from': "
            f"{self['loaded_from']!r}, ...}}, restored={self.restored!r})"
        )
