"""The files that a weight set is written to: one, or shards with their index."""

from __future__ import annotations

from collections.abc import Sequence

from smartcash_format.disk.parts import BlobPart, Part, TensorSource, WeightsPart
from smartcash_format.disk.write import WrittenFile
from smartcash_format.errors import UnsavableStateError
from smartcash_format.spec import layout, limits
from smartcash_format.spec.shards import encode_index, file_names, split
from smartcash_format.torch_io.weights import WeightSetSource


def weights_parts(source: WeightSetSource, max_bytes: int) -> list[Part]:
    """The parts of a weight set, none with more than so many bytes of several tensors."""
    groups = split(((tensor.name, tensor.size_bytes) for tensor in source.tensors), max_bytes)
    by_name = {tensor.name: tensor for tensor in source.tensors}
    return shard_parts(source.name, [[by_name[name] for name in names] for names in groups])


def shard_parts(weight_set: str, groups: Sequence[Sequence[TensorSource]]) -> list[Part]:
    """The part of each group of tensors, in their order, and behind them that of an index."""
    shards = [
        WeightsPart(name=file, tensors=tensors)
        for file, tensors in zip(file_names(weight_set, len(groups)), groups, strict=True)
    ]
    if len(shards) == 1:
        return list(shards)
    listed = {
        shard.name: [(tensor.name, tensor.size_bytes) for tensor in shard.tensors]
        for shard in shards
    }
    return [*shards, BlobPart(name=layout.index_file(weight_set), data=encode_index(listed))]


def check_count(parts: Sequence[Part | WrittenFile]) -> None:
    """Raises UnsavableStateError for more parts than a checkpoint may have files."""
    count = len(parts) + 1  # tensors.json
    if count > limits.FILES:
        raise UnsavableStateError(
            f"the checkpoint would have {count:,} files; at most {limits.FILES:,} are allowed",
            where="weights",
            kind="shards",
            hint="save with a larger max_shard_size",
        )
