"""tensors.json of a save: its size, known before a tensor is read, and its bytes.

How many digits a norm takes is known once its tensor was read. Room is kept for the longest; what
is not needed of it is filled with spaces, so that a save takes what it asked of the disk.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from json.encoder import encode_basestring as quoted
from typing import Final

from smartcash_format.disk.parts import Statistics, TensorSource
from smartcash_format.disk.write import WrittenFile
from smartcash_format.spec import digest, layout
from smartcash_format.spec.tensors import Listed, encode_manifest, record_text
from smartcash_format.torch_io.incremental import Shared
from smartcash_format.torch_io.weights import WeightSetSource

# No norm is written longer: 17 digits and an exponent, which has three digits in a double alone.
_LONGEST: Final = 1.2345678901234567e-38
_LONGEST_DOUBLE: Final = 1.2345678901234567e-300


def manifest_size(shared: Shared) -> int:
    """The bytes that `manifest` gives."""
    sizes = _record_sizes(shared)
    rest = {
        each.name: Listed(records={}, aliases=each.aliases, modules=each.modules)
        for each in shared.collected.sets
    }
    # Between two records is a comma.
    records = sum(sum(found) + len(found) - 1 for found in sizes.values() if found)
    return records + len(encode_manifest(rest, shared.collected.optimizer_groups))


def manifest(shared: Shared, written: Sequence[WrittenFile], size_bytes: int) -> bytes:
    """The bytes of tensors.json: so many, as `manifest_size` has it."""
    data = encode_manifest(
        {
            each.name: Listed(
                records=_records(each, written, shared.records.get(each.name, {})),
                aliases=each.aliases,
                modules=each.modules,
            )
            for each in shared.collected.sets
        },
        shared.collected.optimizer_groups,
    )
    return data.removesuffix(b"\n").ljust(size_bytes - 1) + b"\n"


def _record_sizes(shared: Shared) -> dict[str, list[int]]:
    """By weight set the bytes of each record, with its name."""
    sizes = {
        weight_set: [_named(name, len(text)) for name, text in records.items()]
        for weight_set, records in shared.records.items()
    }
    for part in shared.collected.parts:
        role, weight_set = layout.role_of(part.name)
        if role == "weights" and weight_set is not None:
            # Of several files each has a longer name.
            several = shared.collected.spare_files > 0
            file = layout.weights_file(weight_set, 1, 1) if several else part.name
            sizes.setdefault(weight_set, []).extend(
                _named(each.name, _form_size(each.dtype, each.shape, file, bool(each.measure)))
                for each in (piece.source for piece in part.pieces)
                if isinstance(each, TensorSource)
            )
    return sizes


def _named(name: str, size_bytes: int) -> int:
    return len(quoted(name).encode()) + 1 + size_bytes


# A model has a thousand tensors of a few forms.
@lru_cache(maxsize=1 << 12)
def _form_size(dtype: str, shape: tuple[int, ...], file: str, is_measured: bool) -> int:
    """The most that a record of this form takes."""
    none = f"{digest.ALGORITHM}:{digest.ZEROS}"
    found = _widest(dtype, math.prod(shape)) if is_measured else [{}]
    return max(len(record_text(dtype, shape, file, none, statistics)) for statistics in found)


def _widest(dtype: str, count: int) -> list[Statistics]:
    """The statistics of so many numbers that take the most room: of those one is the widest."""
    longest = _LONGEST_DOUBLE if dtype == "F64" else _LONGEST
    return [
        {"l2": longest, "absmax": longest},
        {"l2": math.nan, "absmax": math.nan, "nan": count, "inf": count},
        {"l2": math.inf, "absmax": math.inf, "nan": 0, "inf": count},
        # Of large doubles the norm overflows where no number is infinite.
        *([{"l2": math.inf, "absmax": longest, "nan": 0, "inf": 0}] if dtype == "F64" else []),
    ]


def _records(
    source: WeightSetSource,
    written: Sequence[WrittenFile],
    linked: Mapping[str, str],
) -> dict[str, str]:
    texts = dict(linked)
    tensors = {tensor.name: tensor for tensor in source.tensors}
    for file in written:
        if layout.role_of(file.name) == ("weights", source.name):
            for name, found in file.tensors.items():
                tensor = tensors[name]
                texts[name] = record_text(
                    tensor.dtype, tensor.shape, file.name, found.digest, found.statistics
                )
    return texts
