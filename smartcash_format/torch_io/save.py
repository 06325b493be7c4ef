"""A save, from live objects to a published checkpoint, in one straight line (architecture, save).

live objects -> collected parts -> a hidden stage -> files, hashed while written -> observed -> meta
-> check finds nothing -> torch and safetensors open what was written -> meta.json last -> published
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from json.encoder import encode_basestring as quoted
from pathlib import Path
from typing import Final, NamedTuple

import torch

from smartcash_format.disk.collector import collector_paused
from smartcash_format.disk.parts import BlobPart, plan_of, size_of
from smartcash_format.disk.publish import Stage, require_space, stage
from smartcash_format.disk.write import WrittenFile, write_parts
from smartcash_format.errors import UnsavableStateError
from smartcash_format.spec import digest, layout, limits
from smartcash_format.spec.meta import FileRecord, Meta, WeightSet, encode_meta, meta_size
from smartcash_format.spec.shards import MAX_SHARD_BYTES
from smartcash_format.spec.tensors import Tensors, WeightSetTensors, parse_tensors
from smartcash_format.spec.watching import Progress
from smartcash_format.torch_io.collect import Collected, collect
from smartcash_format.torch_io.environment import describe_environment
from smartcash_format.torch_io.facts import Facts, cut_to_fit
from smartcash_format.torch_io.incremental import Increment, Shared, share, with_spare_files
from smartcash_format.torch_io.manifest import manifest, manifest_size
from smartcash_format.torch_io.proof import invalid, load_back, read_back
from smartcash_format.torch_io.recall import Recall
from smartcash_format.torch_io.snapshot import Buffers, Copier
from smartcash_format.torch_io.weights import WeightSetSource

__all__ = ["Facts", "Saved", "is_writer", "save", "size_bound"]

# In an index beside the tensor's name: its marks and the file's. And what a header has beside its
# tensors.
_INDEXED_BYTES: Final = 40
_HEADER_BYTES: Final = 80
_NO_DIGEST: Final = f"{digest.ALGORITHM}:{digest.ZEROS}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Saved:
    """A published checkpoint: `size_bytes` is all that it takes, meta.json included.

    `linked` are the names of those of its files that it shares with the checkpoint before.
    """

    path: Path
    meta: Meta
    size_bytes: int
    warnings: tuple[str, ...]
    linked: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A save that has only to be written; `size_bytes` is what it takes at most.

    `manifest_bytes` of it are those of tensors.json, if nothing will be linked. `is_copy` says that
    the live objects may change meanwhile.
    """

    final: Path
    facts: Facts
    collected: Collected
    size_bytes: int
    manifest_bytes: int
    is_copy: bool = False
    increment: Increment | None = None


def is_writer() -> bool:
    """Whether this process writes: alone, or rank 0 of an initialised process group."""
    distributed = torch.distributed
    if not distributed.is_available() or not distributed.is_initialized():
        return True
    return distributed.get_rank() == 0


def save(
    final: Path,
    facts: Facts,
    *,
    model: object,
    optimizer: object = None,
    scheduler: object = None,
    extra: Mapping[str, object] | None = None,
    rng: bool = True,
    max_shard_bytes: int = MAX_SHARD_BYTES,
    progress: Progress | None = None,
) -> Saved:
    """The live objects as a published checkpoint at `final`; raises as `prepare` and `publish`."""
    with collector_paused():
        prepared = prepare(
            final,
            facts,
            model=model,
            optimizer=optimizer,
            scheduler=scheduler,
            extra=extra,
            rng=rng,
            max_shard_bytes=max_shard_bytes,
        )
        return publish(prepared, progress=progress)


def prepare(
    final: Path,
    facts: Facts,
    *,
    model: object,
    optimizer: object = None,
    scheduler: object = None,
    extra: Mapping[str, object] | None = None,
    rng: bool = True,
    max_shard_bytes: int = MAX_SHARD_BYTES,
    buffers: Buffers | None = None,
    increment: Increment | None = None,
    recall: Recall | None = None,
) -> Prepared:
    """Everything that `publish` will write at `final`; nothing is written yet.

    With `buffers` it is a copy: the live objects may change, move or go before it is published.
    With `recall`, which is kept from save to save, what did not change is not laid out again. With
    `increment` what did not change will be linked; how much room that needs, only `publish`
    finds out. Raises UnsavableStateError for state that could not be loaded again,
    InsufficientSpaceError.
    """
    with collector_paused(), ExitStack() as copying:
        copier = None if buffers is None else copying.enter_context(Copier(buffers))
        # Laid out once: for the size, for the copy and for the writing.
        collected = collect(
            model=model,
            optimizer=optimizer,
            scheduler=scheduler,
            extra=extra,
            rng=rng,
            max_shard_bytes=max_shard_bytes,
            take=plan_of if copier is None else copier.take,
            recall=recall,
        )
        if increment is not None:
            collected = with_spare_files(collected)
        facts, collected, room = _with_room(facts, collected)
        size_bytes = room.all_bytes + _spare_bound(collected)
        if increment is None:
            require_space(final.parent, size_bytes)
        if copier is not None:
            collected = copier.finish(collected)
    return Prepared(
        final=final,
        facts=facts,
        collected=collected,
        size_bytes=size_bytes,
        manifest_bytes=room.manifest_bytes,
        is_copy=buffers is not None,
        increment=increment,
    )


def publish(
    prepared: Prepared,
    *,
    progress: Progress | None = None,
    wrote: Callable[[int], None] | None = None,
    inspect: Callable[[Path], None] | None = None,
) -> Saved:
    """The checkpoint, written, proved and visible.

    `wrote` is told the bytes of what was just read and written, from any thread. `inspect` is given
    the whole checkpoint before anybody else can see it; what it raises is raised, and nothing is
    published.
    Raises CheckpointWriteError or CheckpointExistsError with nothing left behind.
    """
    facts = prepared.facts
    # A training that waits throws nothing away meanwhile; beside one that goes on, only the steps
    # of milliseconds keep the collector quiet.
    waits = nullcontext() if prepared.is_copy else collector_paused()
    with waits, stage(prepared.final) as staged:
        shared, manifest_bytes = _share(staged, prepared)
        collected = shared.collected
        written = [
            *shared.linked,
            *write_parts(staged, collected.parts, progress=progress, wrote=wrote),
        ]
        with collector_paused():
            listed = manifest(shared, written, manifest_bytes)
            # What was found of each tensor stands there now.
            written = [replace(file, tensors={}) for file in written]
            tensors, problems = parse_tensors(listed)
        if tensors is None:
            raise invalid(staged.path, problems)
        written += write_parts(staged, [BlobPart(name=layout.TENSORS, data=listed)])
        with collector_paused():
            meta = _meta(facts, collected, tensors, written)
            heads = read_back(staged.path, meta, collected.programs)
            remember = None
            if prepared.increment is not None:
                remember = partial(
                    prepared.increment.memory.note, facts.checkpoint_id, tensors, shared.before
                )
            # A megabyte of objects and their text, and torch is about to make as many.
            del tensors, listed
            load_back(staged.path, meta, collected.programs, heads)
            data = encode_meta(meta)
        write_parts(staged, [BlobPart(name=layout.META, data=data)])
        if inspect is not None:
            inspect(staged.path)
        path = staged.publish()
    if remember is not None:
        remember()
    return Saved(
        path=path,
        meta=meta,
        size_bytes=meta.size_bytes + len(data),
        warnings=collected.warnings,
        linked=tuple(file.name for file in shared.linked),
    )


def _share(staged: Stage, prepared: Prepared) -> tuple[Shared, int]:
    """What is left to be written once what did not change is linked; the bytes of tensors.json."""
    if prepared.increment is None:
        return Shared(collected=prepared.collected), prepared.manifest_bytes
    shared = share(staged, prepared.collected, prepared.increment)
    room = _room(shared, prepared.facts)
    require_space(prepared.final.parent, room.all_bytes)
    return shared, room.manifest_bytes


def _with_room(facts: Facts, collected: Collected) -> tuple[Facts, Collected, _Room]:
    """Both, cut where meta.json would be larger than its readers allow, and what they take.

    Raises UnsavableStateError where tensors.json would be.
    """
    shared = Shared(collected=collected)
    manifest_bytes = manifest_size(shared)
    if manifest_bytes > limits.TENSORS_BYTES:
        raise UnsavableStateError(
            f"tensors.json would have up to {manifest_bytes:,} bytes for the names of the tensors; "
            f"at most {limits.TENSORS_BYTES:,} are allowed",
            where=layout.TENSORS,
            kind="names",
            hint="give the modules shorter names",
        )
    fit = cut_to_fit(
        facts,
        collected.optimizer,
        lambda facts, record: _meta_bound(
            replace(shared, collected=replace(collected, optimizer=record)), facts, manifest_bytes
        ),
    )
    collected = replace(
        collected, optimizer=fit.optimizer, warnings=(*collected.warnings, *fit.warnings)
    )
    room = _Room(size_of(collected.parts) + manifest_bytes + fit.size_bytes, manifest_bytes)
    return fit.facts, collected, room


def size_bound(collected: Collected, facts: Facts) -> int:
    """At least what the save will take, and at most 1 % more: known before a byte is written."""
    return _room(Shared(collected=collected), facts).all_bytes


class _Room(NamedTuple):
    """What a save takes at most, and what of it tensors.json takes."""

    all_bytes: int
    manifest_bytes: int


def _room(shared: Shared, facts: Facts) -> _Room:
    manifest_bytes = manifest_size(shared)
    meta_bytes = _meta_bound(shared, facts, manifest_bytes)
    return _Room(size_of(shared.collected.parts) + manifest_bytes + meta_bytes, manifest_bytes)


def _spare_bound(collected: Collected) -> int:
    """What more files than these parts take beside their tensors: headers, and the indexes."""
    if not collected.spare_files:
        return 0
    names = sum(
        _INDEXED_BYTES + len(quoted(tensor.name).encode()) + len(each.name)
        for each in collected.sets
        for tensor in each.tensors
    )
    return _HEADER_BYTES * collected.spare_files + names


def _meta_bound(shared: Shared, facts: Facts, manifest_bytes: int) -> int:
    """At least what meta.json takes: what is not known of it yet is as long, or one letter less."""
    collected = shared.collected
    files = [(part.name, part.size_bytes) for part in collected.parts]
    files += [(file.name, file.size_bytes) for file in shared.linked]
    files.append((layout.TENSORS, manifest_bytes))
    longest = max((each.name for each in collected.sets), key=len)
    largest = size_of(collected.parts)
    for number in range(collected.spare_files):
        files.append((layout.weights_file(longest, number, number), largest))
    written = [WrittenFile(name=name, size_bytes=size, digest=_NO_DIGEST) for name, size in files]
    # A set may not be finite: `false` for `true`.
    return meta_size(_meta(facts, collected, Tensors(), written)) + len(collected.sets)


def _meta(facts: Facts, collected: Collected, tensors: Tensors, written: list[WrittenFile]) -> Meta:
    return Meta(
        checkpoint_id=facts.checkpoint_id,
        run_id=facts.run_id,
        parent_id=facts.parent_id,
        saved_at=facts.saved_at,
        epoch=facts.epoch,
        step=facts.step,
        is_best=facts.is_best,
        metrics=dict(facts.metrics),
        backbone=facts.backbone,
        dataset=facts.dataset,
        tags=list(facts.tags),
        config=facts.config,
        notes=dict(facts.notes),
        weights={
            each.name: _weight_set(each, tensors.weights.get(each.name)) for each in collected.sets
        },
        optimizer=collected.optimizer,
        scheduler=collected.scheduler,
        extra=list(collected.extra),
        rng=collected.rng,
        environment=describe_environment(),
        files={
            each.name: FileRecord(
                role=layout.role_of(each.name)[0], size_bytes=each.size_bytes, digest=each.digest
            )
            for each in written
        },
    )


def _weight_set(source: WeightSetSource, found: WeightSetTensors | None) -> WeightSet:
    listed = found if found is not None else WeightSetTensors(tensors={})
    norms = [record.l2 for record in listed.tensors.values() if record.l2 is not None]
    return WeightSet(
        class_name=source.class_name,
        tensors=len(source.tensors) + len(source.aliases),
        parameters=source.parameters,
        trainable_parameters=source.trainable_parameters,
        dtypes=dict(Counter(source.dtypes)),
        weights_digest=listed.weights_digest,
        finite=all(abs(norm) != float("inf") and norm == norm for norm in norms),
    )
