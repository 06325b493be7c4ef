"""Parts of a checkpoint for the writer, each of bytes that are known."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from smartcash_format.disk.batches import SMALL_BYTES
from smartcash_format.disk.parts import (
    BlobPart,
    Part,
    Piece,
    Plan,
    StorageSource,
    TensorSource,
    WeightsPart,
)
from smartcash_format.disk.publish import Stage
from smartcash_format.disk.write import WrittenFile, write_parts

NAMES = {"F64": "float64", "F32": "float32", "BF16": "bfloat16", "BOOL": "bool", "U8": "uint8"}
# Larger and smaller than what is written in one piece, empty, and of odd sizes.
TENSORS = {
    "a.weight": ("F32", (700, 500)),
    "a.bias": ("F32", (3,)),
    "mask": ("BOOL", (5, 1)),
    "empty": ("F32", (0, 7)),
    "scalar": ("F64", ()),
    "half": ("BF16", (1, 2, 3)),
    "größe.🚀": ("U8", (2 * SMALL_BYTES + 1,)),
    "bytes": ("U8", (SMALL_BYTES,)),
}
BYTES = {"F64": 8, "F32": 4, "BF16": 2, "BOOL": 1, "U8": 1}


def size_bytes(name: str) -> int:
    dtype, shape = TENSORS[name]
    size = BYTES[dtype]
    for dim in shape:
        size *= dim
    return size


def data_of(name: str) -> bytes:
    return (name.encode() * (size_bytes(name) // len(name.encode()) + 1))[: size_bytes(name)]


def tensor(name: str, read: Callable[[], Any] | None = None) -> TensorSource:
    dtype, shape = TENSORS[name]
    return TensorSource(
        name=name,
        dtype=dtype,
        shape=shape,
        size_bytes=size_bytes(name),
        read=read or (lambda: data_of(name)),
        measure=lambda data, sizes: [{"l2": float(len(name))} for _ in sizes],
    )


def weights(
    name: str = "model.safetensors", tensors: Sequence[str] = tuple(TENSORS)
) -> WeightsPart:
    return WeightsPart(name=name, tensors=[tensor(t) for t in tensors])


def storages(sizes: Sequence[int]) -> list[StorageSource]:
    return [
        StorageSource(key=str(i), size_bytes=size, read=lambda i=i, size=size: bytes([i]) * size)  # type: ignore[misc]
        for i, size in enumerate(sizes)
    ]


def failing_part(name: str, error: BaseException, after: Callable[[], object]) -> BlobPart:
    class Failing(BlobPart):
        def plan(self) -> Plan:
            def read() -> bytes:
                after()
                raise error

            source = StorageSource(key="0", size_bytes=10, read=read)
            piece = Piece(offset=0, start=0, size_bytes=10, source=source)
            return Plan(name=name, pieces=[piece], tail=None, size_bytes=10)

    return Failing(name=name, data=b"")


def put(directory: Path, *parts: Part, **options: Any) -> list[WrittenFile]:
    staged = Stage(directory, directory)
    try:
        return write_parts(staged, parts, **options)
    finally:
        staged.settle()
