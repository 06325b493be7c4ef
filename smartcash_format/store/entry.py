"""One checkpoint of a listing, seen from its meta.json alone; and one that cannot be read."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from smartcash_format.errors import InvalidCheckpointError
from smartcash_format.spec import layout
from smartcash_format.spec.displaying import Displayed
from smartcash_format.spec.problems import Code, Problem
from smartcash_format.spec.spelling import parse_time
from smartcash_format.store.glance import Glance

if TYPE_CHECKING:
    from smartcash_format.spec.meta import Meta


class Entry(Displayed):
    """A checkpoint of a listing: a path that carries what queries ask of it.

    Goes wherever a path goes (`os.fspath`, `str`, `/`), is hashable and always true.
    """

    # No frozen dataclass: that one takes twice as long to make, and a listing makes thousands.
    __slots__ = ("_meta_bytes", "_name", "_parent", "_seen")

    def __init__(self, parent: str, name: str, meta_bytes: bytes, seen: Glance) -> None:
        self._parent = parent
        self._name = name
        self._meta_bytes = meta_bytes
        self._seen = seen

    @property
    def parent(self) -> str:
        """The directory it lies in, as it was given to be listed."""
        return self._parent

    @property
    def name(self) -> str:
        """The name of its own directory."""
        return self._name

    @property
    def meta_bytes(self) -> bytes:
        """The bytes of its meta.json as they were listed."""
        return self._meta_bytes

    @property
    def path(self) -> Path:
        """Where the checkpoint lies."""
        return Path(self._parent, self._name)

    @property
    def meta(self) -> Meta:
        """The whole meta.json, parsed and checked anew.

        Raises InvalidCheckpointError where a field that a listing does not look at is wrong.
        """
        from smartcash_format.spec.meta import parse_meta  # a listing starts without its models

        meta, problems = parse_meta(self.meta_bytes)
        if meta is None:
            raise InvalidCheckpointError(
                f"{self.name} is no valid checkpoint", path=self.path, problems=problems
            )
        return meta

    @property
    def meta_digest(self) -> str:
        """The digest of meta.json, which names the whole checkpoint."""
        return self._seen.meta_digest

    @property
    def checkpoint_id(self) -> str:
        """The checkpoint's own id."""
        return self._seen.checkpoint_id

    @property
    def run_id(self) -> str:
        """The run that saved it."""
        return self._seen.run_id

    @property
    def parent_id(self) -> str | None:
        """What its run resumed from, or saved before it."""
        return self._seen.parent_id

    @property
    def derived_from(self) -> str | None:
        """The checkpoint that it was stripped or curated from."""
        return self._seen.derived_from

    @property
    def saved_at(self) -> datetime:
        """When it was saved: aware, UTC."""
        return parse_time(self._seen.saved_at)

    @property
    def saved_at_text(self) -> str:
        """The same as the format writes it; such texts sort as the times do."""
        return self._seen.saved_at

    @property
    def order(self) -> tuple[str, str]:
        """What decides the newest: saved_at, then the id; never mtime, name, epoch or step."""
        return self._seen.saved_at, self._seen.checkpoint_id

    @property
    def epoch(self) -> int:
        """The epoch, as the user gave it."""
        return self._seen.epoch

    @property
    def step(self) -> int | None:
        """The step, if the user gave one."""
        return self._seen.step

    @property
    def is_best(self) -> bool:
        """Whether it was the best when it was saved."""
        return self._seen.is_best

    @property
    def metrics(self) -> Mapping[str, int | float]:
        """The metrics by name; NaN and infinities as floats."""
        return MappingProxyType(self._seen.metrics)

    def metric(self, name: str) -> int | float | None:
        """The value of one metric; None where it has none of this name."""
        return self._seen.metrics.get(name)

    @property
    def backbone(self) -> str | None:
        """The model's backbone, where it is known."""
        return self._seen.backbone

    @property
    def dataset(self) -> str | None:
        """The dataset, where it is known."""
        return self._seen.dataset

    @property
    def tags(self) -> tuple[str, ...]:
        """The user's tags."""
        return self._seen.tags

    @property
    def roles(self) -> frozenset[str]:
        """What its files are for: weights, tensors, optimizer, scheduler, extra, index, aux."""
        return _roles(self._seen.names)

    @property
    def has_optimizer(self) -> bool:
        """Whether a training can be resumed from it with its optimizer."""
        return layout.OPTIMIZER in self._seen.names

    @property
    def size_bytes(self) -> int:
        """What the listed files take together; meta.json itself is not listed."""
        return sum(self._seen.sizes)

    @property
    def resume_bytes(self) -> int:
        """What only a resume needs of them: optimizer, scheduler and extra state."""
        files = zip(self._seen.names, self._seen.sizes, strict=True)
        return sum(size for name, size in files if layout.role_of(name)[0] in layout.TORCH_ROLES)

    def __fspath__(self) -> str:
        return str(self.path)

    def __str__(self) -> str:
        return str(self.path)

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    def __bool__(self) -> bool:
        return True

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Entry):
            return NotImplemented
        mine = (self.name, self.parent, self.meta_digest)
        return mine == (other.name, other.parent, other.meta_digest)

    def __hash__(self) -> int:
        return hash((self.parent, self.name))

    def __repr__(self) -> str:
        return f"Entry({str(self.path)!r}, epoch={self.epoch}, saved_at={self.saved_at_text!r})"


# A table asks it of thousands, which have the same few names.
@functools.lru_cache(maxsize=256)
def _roles(names: tuple[str, ...]) -> frozenset[str]:
    return frozenset(layout.role_of(name)[0] for name in names)


@dataclass(frozen=True, slots=True, kw_only=True)
class Broken:
    """A directory that looks like a checkpoint and cannot be read as one, with all its problems."""

    path: Path
    problems: tuple[Problem, ...]

    @property
    def code(self) -> Code:
        """The code of the first problem, the one that stopped the reading."""
        return self.problems[0].code

    @property
    def reason(self) -> str:
        """The first problem in one line."""
        first = self.problems[0]
        more = f" (and {len(self.problems) - 1} more)" if len(self.problems) > 1 else ""
        return f"{first.where}: {first.message} [{first.code}]{more}"

    def __fspath__(self) -> str:
        return str(self.path)

    def __str__(self) -> str:
        return str(self.path)
