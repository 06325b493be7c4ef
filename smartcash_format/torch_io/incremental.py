"""An incremental save: what did not change since the checkpoint before is linked, not written.

Whether a tensor changed is decided by its digest, tensor by tensor: batch-norm buffers of a frozen
backbone do change. Those that may be unchanged are hashed before anything is written; those known
to have changed last time are not, and are hashed while they are written.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Set
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from smartcash_format.disk.observe import observe
from smartcash_format.disk.parts import Part, TensorSource
from smartcash_format.disk.pool import Pool
from smartcash_format.disk.publish import Stage
from smartcash_format.disk.read import Opened, open_checkpoint
from smartcash_format.disk.sharing import SoundFiles
from smartcash_format.disk.write import WrittenFile
from smartcash_format.errors import CheckpointError
from smartcash_format.spec import digest, layout
from smartcash_format.spec.problems import Depth
from smartcash_format.spec.rules import check
from smartcash_format.spec.shards import SMALL_SHARDS, Shard, regroup
from smartcash_format.spec.tensors import TensorRecord, Tensors, record_text
from smartcash_format.torch_io.collect import Collected
from smartcash_format.torch_io.shards import check_count, shard_parts
from smartcash_format.torch_io.weights import WeightSetSource

# More gain nothing: the memory is the limit.
HASHING_THREADS: Final = 4


class Memory:
    """What one manager knows from a save to the next: files that are sound, tensors that change."""

    def __init__(self) -> None:
        self.sound = SoundFiles()
        self._checkpoint_id: str | None = None
        self._saved: Tensors | None = None
        self._changed: dict[str, frozenset[str]] = {}

    def manifest(self, checkpoint_id: str) -> Tensors | None:
        """tensors.json of this checkpoint, if it is the one that was saved last."""
        return self._saved if checkpoint_id == self._checkpoint_id else None

    def changed(self, checkpoint_id: str, weight_set: str) -> Set[str]:
        """The tensors that this checkpoint's save found changed; none where that is not known."""
        if checkpoint_id != self._checkpoint_id:
            return frozenset()
        return self._changed.get(weight_set, frozenset())

    def note(self, checkpoint_id: str, saved: Tensors, before: Tensors | None) -> None:
        """Remembers what a save found changed from the checkpoint before it."""
        earlier = {} if before is None else before.weights
        self._checkpoint_id = checkpoint_id
        self._saved = saved
        self._changed = {
            name: frozenset(
                tensor
                for tensor, record in saved.weights[name].tensors.items()
                if tensor in found.tensors and found.tensors[tensor].digest != record.digest
            )
            for name, found in earlier.items()
            if name in saved.weights
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Increment:
    """What a save may share: with which checkpoint, if there is one, and what is remembered."""

    earlier: Path | None
    memory: Memory
    max_shard_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """What is left to be written, what was linked, and the manifest of the checkpoint before.

    `records` has by weight set what tensors.json says of each tensor in the linked files, as text.
    """

    collected: Collected
    linked: tuple[WrittenFile, ...] = ()
    records: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    before: Tensors | None = None


def with_spare_files(collected: Collected) -> Collected:
    """The same with room in meta.json for all the files that its weights may be grouped into."""
    shards = sum(layout.role_of(part.name)[0] == "weights" for part in collected.parts)
    # Those that are kept are half full at least, or at most SMALL_SHARDS; the others are as many as
    # there would be anyhow, one more for what lies apart, and the index.
    return replace(collected, spare_files=shards + (SMALL_SHARDS + 3) * len(collected.sets))


def share(staged: Stage, collected: Collected, increment: Increment) -> Shared:
    """Links into the stage what did not change, and groups the rest by whether it does.

    Whatever is in the way of a link (the mount, the checkpoint before, which may be gone or rotten)
    is a warning, and the file is written. Raises UnsavableStateError for too many files.
    """
    with ExitStack() as stack:
        sharing = _Sharing(staged, collected, increment, stack)
        for each in collected.sets:
            sharing.add(each)
    return sharing.done()


@dataclass(slots=True)
class _Sharing:
    staged: Stage
    collected: Collected
    increment: Increment
    stack: ExitStack
    opened: Opened | None = None
    before: Tensors | None = None
    parts: list[Part] = field(default_factory=list)
    linked: list[WrittenFile] = field(default_factory=list)
    records: dict[str, dict[str, str]] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.increment.earlier is None:
            return
        try:
            self.opened = self.stack.enter_context(open_checkpoint(self.increment.earlier))
            self.before, reason = self._manifest(self.opened)
        except (CheckpointError, OSError) as error:
            reason = str(error)
        if self.before is None:
            self.warnings.append(
                f"nothing is shared with {self.increment.earlier.name}, all is written: {reason}"
            )

    def _manifest(self, opened: Opened) -> tuple[Tensors | None, str]:
        """What the checkpoint before holds, or why that is not known."""
        remembered = self.increment.memory.manifest(opened.meta.checkpoint_id)
        if remembered is not None:
            return remembered, ""
        observed = observe(opened, Depth.CONTENT, names=(layout.TENSORS,))
        if problems := check(opened.meta, observed):
            return None, f"{problems[0].where} {problems[0].message}"
        return observed.tensors, ""

    def add(self, source: WeightSetSource) -> None:
        """Groups and links one weight set."""
        sources = _sources(self.collected.parts, source)
        sizes = {name: tensor.size_bytes for name, tensor in sources.items()}
        records = self._records(source.name)
        still = self._same(source.name, sources) | (source.frozen - records.keys())
        earlier: dict[str, set[str]] = {}
        for name, record in records.items():
            earlier.setdefault(record.file, set()).add(name)
        shards = regroup(sizes, still, earlier, self.increment.max_shard_bytes)
        parts = shard_parts(source.name, [[sources[name] for name in s.names] for s in shards])
        for part, shard in zip(parts, shards, strict=False):
            if self._link(part, shard):
                known = self.records.setdefault(source.name, {})
                known |= {name: _in_file(records[name], part.name) for name in shard.names}
            else:
                self.parts.append(part)
        self.parts += parts[len(shards) :]

    def done(self) -> Shared:
        """What the sets came to, with the parts that are no weights."""
        others = [part for part in self.collected.parts if not _is_of_weights(part)]
        parts = (*(part.plan() for part in self.parts), *others)
        check_count((*parts, *self.linked))
        warnings = (*self.collected.warnings, *self.warnings)
        return Shared(
            collected=replace(self.collected, parts=parts, warnings=warnings, spare_files=0),
            linked=tuple(self.linked),
            records=self.records,
            before=self.before,
        )

    def _records(self, weight_set: str) -> Mapping[str, TensorRecord]:
        found = self.before.weights.get(weight_set) if self.before is not None else None
        return {} if found is None else found.tensors

    def _same(self, weight_set: str, sources: Mapping[str, TensorSource]) -> frozenset[str]:
        """The tensors that are what they were in the checkpoint before, by their digests."""
        if self.opened is None:
            return frozenset()
        changed = self.increment.memory.changed(self.opened.meta.checkpoint_id, weight_set)
        asked = [
            (sources[name], record)
            for name, record in self._records(weight_set).items()
            if name in sources and name not in changed and _is_like(sources[name], record)
        ]
        threads = min(HASHING_THREADS, os.cpu_count() or 1)
        # Those that are copied for it come one after the other: one copy is in memory at a time.
        copied = [pair for pair in asked if pair[0].copies]
        others = [pair for pair in asked if not pair[0].copies]
        # Neighbours are of one size: each thread gets some of all. This one is one of them.
        own, *rest = (others[first::threads] for first in range(threads))
        with Pool(threads) as pool:
            found = [pool.submit(_same, pairs) for pairs in rest]
            same = _same([*own, *copied])
        return same.union(*(each.result() for each in found))

    def _link(self, part: Part, shard: Shard) -> bool:
        if shard.source is None or self.opened is None:
            return False
        reason = self.increment.memory.sound.link(self.opened, shard.source, self.staged, part.name)
        if reason is not None:
            self.warnings.append(
                f"{part.name} is written, not linked to {self.opened.path.name}: {reason}"
            )
            return False
        record = self.opened.meta.files[shard.source]
        self.linked.append(
            WrittenFile(name=part.name, size_bytes=record.size_bytes, digest=record.digest)
        )
        return True


def _sources(parts: Iterable[Part], source: WeightSetSource) -> dict[str, TensorSource]:
    """The tensors of a weight set in its order, each to be read where it lies by now."""
    found = {
        piece.source.name: piece.source
        for part in parts
        if layout.role_of(part.name) == ("weights", source.name)
        for piece in part.plan().pieces
        if isinstance(piece.source, TensorSource)
    }
    return {tensor.name: found[tensor.name] for tensor in source.tensors}


def _is_of_weights(part: Part) -> bool:
    return layout.role_of(part.name)[0] in ("weights", "index")


def _is_like(source: TensorSource, record: TensorRecord) -> bool:
    """Whether equal digests would mean the same tensor, and could be equal."""
    return (
        source.dtype == record.dtype
        and list(source.shape) == record.shape
        and digest.algorithm_of(record.digest) == digest.ALGORITHM
    )


def _same(pairs: Iterable[tuple[TensorSource, TensorRecord]]) -> frozenset[str]:
    """The names of the tensors whose bytes have the digests of their records."""
    return frozenset(
        source.name for source, record in pairs if digest.digest_of(_bytes(source)) == record.digest
    )


def _bytes(source: TensorSource) -> memoryview | bytes:
    return memoryview(source.read()).cast("B") if source.size_bytes else b""


def _in_file(record: TensorRecord, file: str) -> str:
    """The text of a record whose tensor lies in a file of this name."""
    return record_text(record.dtype, record.shape, file, record.digest, record.statistics)
