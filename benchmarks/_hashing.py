"""BLAKE3 alone of the files of a checkpoint: what CONTENT is measured by."""

from __future__ import annotations

import mmap
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from blake3 import blake3

from smartcash_format.spec.header import read_header

# What stays in a core's cache.
BLOCK_BYTES = 1 << 20


def tensor_places(weights: Path) -> list[slice]:
    """Where the bytes of each tensor lie in a file of weights."""
    with open(weights, "rb") as file:
        header, _ = read_header(file, weights.stat().st_size, where=weights.name)
    assert header is not None
    begin = header.data_start
    return [slice(begin + each.begin, begin + each.end) for each in header.tensors.values()]


def hash_bare(path: Path, places: list[slice]) -> None:
    """Every file as a whole, and the weights as tensors too, on all cores; each mapped once."""
    count = os.cpu_count() or 1
    with ThreadPoolExecutor(count) as pool:
        for file in path.iterdir():
            with (
                open(file, "rb") as stream,
                mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
                memoryview(mapped) as view,
            ):
                blake3(view, max_threads=blake3.AUTO).hexdigest()
                if file.name == "model.safetensors":
                    shares = [places[first::count] for first in range(count)]
                    list(pool.map(hash_places, [view] * count, shares))


def hash_places(view: memoryview, places: list[slice]) -> None:
    for place in places:
        blake3(view[place]).hexdigest()


def hash_files(path: Path) -> None:
    for file in (*path.iterdir(), path / "model.safetensors"):
        blake3(max_threads=blake3.AUTO).update_mmap(file).hexdigest()


def hash_read(path: Path) -> None:
    """The same bytes read once, a file a thread, without a mapping and without a format."""

    def hash_file(file: Path) -> None:
        hashers = [blake3() for _ in range(2 if file.name == "model.safetensors" else 1)]
        block = memoryview(bytearray(BLOCK_BYTES))
        with open(file, "rb", buffering=0) as stream:
            while count := stream.readinto(block):
                for hasher in hashers:
                    hasher.update(block[:count])

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(hash_file, sorted(path.iterdir(), key=lambda file: -file.stat().st_size)))
