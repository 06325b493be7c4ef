"""Which tensors of a weight set lie together in one file, and the index that says so.

As Hugging Face's libraries have it: shards numbered from 1, the number of all in every name, and
an index whose `weight_map` leads from each tensor to its shard (FORMAT.md, Weights files).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Final

from smartcash_format.spec import layout
from smartcash_format.spec.documents import dump_lines
from smartcash_format.spec.sizes import parse_size

MAX_SHARD_SIZE: Final = "5GB"
"""What huggingface_hub takes: the largest that a file of the Hub's storage is fetched well."""

# Writing so much takes no longer than the fsync and the opening of a file of its own.
WORTH_A_FILE_BYTES: Final = 1 << 20
# Layers that are frozen one after the other make as many shards; beyond this the small ones are
# written together once.
SMALL_SHARDS: Final = 16

MAX_SHARD_BYTES: Final = parse_size(MAX_SHARD_SIZE)


def split(sizes: Iterable[tuple[str, int]], max_bytes: int) -> list[list[str]]:
    """The names in groups of at most so many bytes, in their order; at least one group.

    One tensor that is larger has a group of its own, and those around it stay together.
    """
    groups: list[list[str]] = []
    filling: list[str] = []
    filled = 0
    for name, size_bytes in sizes:
        if size_bytes > max_bytes:
            groups.append([name])
            continue
        if filling and filled + size_bytes > max_bytes:
            groups.append(filling)
            filling, filled = [], 0
        filling.append(name)
        filled += size_bytes
    if filling or not groups:
        groups.append(filling)
    return groups


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """Tensors that lie in one file, and the file of an earlier checkpoint that holds just these."""

    names: Sequence[str]
    source: str | None = None


def regroup(
    sizes: Mapping[str, int],
    still: Set[str],
    earlier: Mapping[str, Collection[str]],
    max_bytes: int,
) -> list[Shard]:
    """The shards of tensors (name to bytes) of which some, `still`, do not change; at least one.

    `earlier` has the files of the checkpoint before and the tensors in each: one in which nothing
    changed stays what it is. What else does not change is apart from what does, if it is worth it.
    """

    def weigh(names: Iterable[str]) -> int:
        return sum(sizes[name] for name in names)

    kept = [
        Shard(names=sorted(names), source=file)
        for file, names in sorted(earlier.items())
        if names and still >= set(names) and (len(names) == 1 or weigh(names) <= max_bytes)
    ]
    small = [shard for shard in kept if 2 * weigh(shard.names) < max_bytes]
    if len(small) > SMALL_SHARDS:
        kept = [shard for shard in kept if shard not in small]
    placed = {name for shard in kept for name in shard.names}
    rest = [name for name in sizes if name not in placed]
    apart = {name for name in rest if name in still}
    if weigh(apart) < WORTH_A_FILE_BYTES:
        apart = set()
    for names in ([name for name in rest if name in apart], [n for n in rest if n not in apart]):
        if names:
            groups = split(((name, sizes[name]) for name in names), max_bytes)
            kept += [Shard(names=group) for group in groups]
    return kept or [Shard(names=())]


def file_names(weight_set: str, count: int) -> list[str]:
    """The names of the files of a weight set that has so many."""
    if count == 1:
        return [layout.weights_file(weight_set)]
    return [layout.weights_file(weight_set, number, count) for number in range(1, count + 1)]


def encode_index(shards: Mapping[str, Sequence[tuple[str, int]]]) -> bytes:
    """The index of a weight set: file to (name, bytes) of each tensor in it."""
    total = sum(size_bytes for tensors in shards.values() for _, size_bytes in tensors)
    weight_map = {name: file for file, tensors in shards.items() for name, _ in tensors}
    return dump_lines({"metadata": {"total_size": total}, "weight_map": weight_map})
