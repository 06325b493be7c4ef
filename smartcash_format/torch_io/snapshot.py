"""A copy of everything that a save will write, so that training may go on while it is written."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Collection, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Final, Self

import torch

from smartcash_format.disk.batches import read_piece
from smartcash_format.disk.parts import (
    Constant,
    Part,
    Piece,
    Plan,
    Source,
    StorageSource,
    TensorSource,
)
from smartcash_format.torch_io.collect import Collected
from smartcash_format.torch_io.dtypes import bytes_of

# So that a view of any dtype is aligned.
_ALIGNMENT: Final = 64
# Smaller pieces are copied at once; the others are left to threads, so many bytes at a time.
_LARGE_BYTES: Final = 1 << 18
_STRETCH_BYTES: Final = 8 << 20
# More threads gain nothing: the memory is the limit.
_THREADS: Final = 4

_Stretch = tuple[memoryview, memoryview]


class Buffers:
    """Host memory for one copy, kept from save to save: the pages are there the second time."""

    def __init__(self) -> None:
        self._memory: dict[str, torch.Tensor] = {}

    def take(self, name: str, size_bytes: int) -> memoryview:
        """This many bytes for this file; what was taken for it before is no longer anyone's."""
        memory = self._memory.pop(name, None)
        if memory is None or memory.numel() < size_bytes:
            memory = None  # never two copies at a time
            memory = torch.empty(size_bytes, dtype=torch.uint8, device="cpu")
        self._memory[name] = memory
        return bytes_of(memory)

    def keep(self, names: Collection[str]) -> None:
        """Gives back what no file of these names needs."""
        self._memory = {name: self._memory[name] for name in names if name in self._memory}


class Copier:
    """Copies parts as they are collected: the large pieces on threads, beside the collecting.

    Not by torch, whose threads wait for each other at full speed: beside busy data loaders a copy
    would take ten times as long. When its block ends nothing reads a live tensor any more.
    """

    def __init__(self, buffers: Buffers) -> None:
        self._buffers = buffers
        threads = max(1, min(_THREADS, (os.cpu_count() or 1) - 1))
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="copy")
        self._moves: list[Future[None]] = []
        self._waiting: list[_Stretch] = []
        self._waiting_bytes = 0
        self._tensors: dict[int, TensorSource] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        self._pool.shutdown(wait=True)

    def take(self, part: Part) -> Plan:
        """The same part with bytes of its own, once `finish` has been called."""
        plan = part.plan()
        room = plan.size_bytes + _ALIGNMENT * (len(plan.pieces) + 1)
        memory = self._buffers.take(plan.name, room)
        pieces, at = [], 0
        for piece in plan.pieces:
            if isinstance(piece.source, Constant):
                pieces.append(piece)
                continue
            pieces.append(self._copy(piece, memory[at : at + piece.size_bytes]))
            at = -(-(at + piece.size_bytes) // _ALIGNMENT) * _ALIGNMENT
        self._move_what_waits()
        return replace(plan, pieces=pieces)

    def finish(self, collected: Collected) -> Collected:
        """What was collected of parts that were taken, with nothing of it live any more."""
        for move in self._moves:
            move.result()
        self._buffers.keep([part.name for part in collected.parts])
        return replace(
            collected,
            sets=tuple(
                replace(each, state={}, tensors=tuple(self._tensors[id(t)] for t in each.tensors))
                for each in collected.sets
            ),
        )

    def _copy(self, piece: Piece, target: memoryview) -> Piece:
        offset, start, size_bytes, source, head = piece
        if size_bytes:
            data = read_piece(piece)
            # A copy is not kept: one at a time is enough.
            if size_bytes < _LARGE_BYTES or source.copies:
                target[:] = data
            else:
                self._move_later(target, data)
        return Piece(offset, start, size_bytes, self._copied(source, target), head)

    def _copied(self, source: Source, target: memoryview) -> Source:
        def read() -> memoryview:
            return target

        match source:
            case StorageSource():
                return StorageSource(source.key, source.size_bytes, read)
            case TensorSource(name, dtype, shape, size_bytes, _, _, measure):
                copied = TensorSource(name, dtype, shape, size_bytes, read, False, measure)
                self._tensors[id(source)] = copied
                return copied
        return source

    def _move_later(self, target: memoryview, data: memoryview) -> None:
        for at in range(0, len(data), _STRETCH_BYTES):
            stretch = target[at : at + _STRETCH_BYTES], data[at : at + _STRETCH_BYTES]
            self._waiting.append(stretch)
            self._waiting_bytes += len(stretch[0])
            if self._waiting_bytes >= _STRETCH_BYTES:
                self._move_what_waits()

    def _move_what_waits(self) -> None:
        if self._waiting:
            self._moves.append(self._pool.submit(_move, self._waiting))
            self._waiting, self._waiting_bytes = [], 0


def _move(stretches: Sequence[_Stretch]) -> None:
    for target, data in stretches:
        # A slice assignment would hold the other threads up.
        ctypes.memmove(_address(target), _address(data), len(data))


def _address(data: memoryview) -> int:
    return ctypes.addressof(ctypes.c_ubyte.from_buffer(data))
