"""A copy of everything that a save will write, so that training may go on while it is written."""

from __future__ import annotations

import ctypes
import os
from collections import deque
from collections.abc import Collection, Sequence
from concurrent.futures import Future
from dataclasses import replace
from typing import Final, NamedTuple, Self

import torch

from smartcash_format.disk.batches import read_piece
from smartcash_format.disk.parts import (
    Constant,
    Part,
    Piece,
    Plan,
    TensorSource,
)
from smartcash_format.disk.pool import Pool
from smartcash_format.torch_io.collect import Collected
from smartcash_format.torch_io.dtypes import Region, bytes_at

# So that a view of any dtype is aligned.
_ALIGNMENT: Final = 64
# Smaller pieces are copied at once; the others are left to threads, so many bytes at a time.
_LARGE_BYTES: Final = 1 << 15
_STRETCH_BYTES: Final = 8 << 20
# More threads gain nothing: the memory is the limit. The caller is one of them.
_THREADS: Final = 4

_memmove: Final = ctypes.memmove

# Where to, from where, how many bytes.
_Stretch = tuple[int, int, int]


class _Copied(NamedTuple):
    """A file's pieces with bytes of the copy, and where each of these bytes lie.

    By their places: `constants` are the pieces that are not copied, `small` and `large` the others
    that have a byte.
    """

    layout: object
    pieces: Sequence[Piece]
    addresses: Sequence[int]
    constants: Sequence[int]
    small: Sequence[int]
    large: Sequence[int]


class Buffers:
    """Host memory for one copy, kept from save to save: the pages are there the second time."""

    def __init__(self) -> None:
        self._memory: dict[str, torch.Tensor] = {}
        self._copied: dict[str, _Copied] = {}

    def room_for(self, plan: Plan) -> _Copied:
        """Memory for what a file has of sources; what was taken for this file before is no longer
        anyone's.
        """
        known = self._copied.get(plan.name)
        if known is None or known.layout is not plan.layout:
            known = self._copied[plan.name] = _laid_out(plan, self._take(plan))
        return known

    def keep(self, names: Collection[str]) -> None:
        """Gives back what no file of these names needs."""
        self._memory = {name: self._memory[name] for name in names if name in self._memory}
        self._copied = {name: self._copied[name] for name in names if name in self._copied}

    def _take(self, plan: Plan) -> torch.Tensor:
        size_bytes = plan.size_bytes + _ALIGNMENT * (len(plan.pieces) + 1)
        self._copied.pop(plan.name, None)
        memory = self._memory.pop(plan.name, None)
        if memory is None or memory.numel() < size_bytes:
            memory = None  # never two copies at a time
            memory = torch.empty(size_bytes, dtype=torch.uint8, device="cpu")
        self._memory[plan.name] = memory
        return memory


def _laid_out(plan: Plan, room: torch.Tensor) -> _Copied:
    storage, at = room.untyped_storage(), room.data_ptr()
    pieces: list[Piece] = []
    addresses: list[int] = []
    constants: list[int] = []
    small: list[int] = []
    large: list[int] = []
    for number, piece in enumerate(plan.pieces):
        addresses.append(at)
        size_bytes = piece.size_bytes
        if isinstance(piece.source, Constant):
            constants.append(number)
        else:
            if size_bytes:
                (small if size_bytes < _LARGE_BYTES else large).append(number)
            region = Region(at, size_bytes, storage)
            copied = piece.source._replace(read=region, copies=False, address=at)
            piece = piece._replace(source=copied)
            at = -(-(at + size_bytes) // _ALIGNMENT) * _ALIGNMENT
        pieces.append(piece)
    return _Copied(plan.layout, pieces, addresses, constants, small, large)


class Copier:
    """Copies parts as they are collected: the large pieces on threads, beside the collecting.

    Not by torch, whose threads wait for each other at full speed: beside busy data loaders a copy
    would take ten times as long. When its block ends nothing reads a live tensor any more.
    """

    def __init__(self, buffers: Buffers) -> None:
        self._buffers = buffers
        threads = max(1, min(_THREADS, os.cpu_count() or 1) - 1)
        self._pool = Pool(threads, thread_name_prefix="copy")
        self._moves: list[Future[None]] = []
        self._ready: deque[list[_Stretch]] = deque()
        self._waiting: list[_Stretch] = []
        self._waiting_bytes = 0
        self._tensors: dict[int, TensorSource] = {}
        # What is being copied has to stay where it is.
        self._alive: list[object] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        self._ready.clear()
        self._pool.shutdown(wait=True)

    def take(self, part: Part) -> Plan:
        """The same part with bytes of its own, once `finish` has been called."""
        plan = part.plan()
        room = self._buffers.room_for(plan)
        self._alive.append(plan)
        given, pieces = plan.pieces, list(room.pieces)
        for number in room.constants:
            pieces[number] = given[number]
        for number in room.large:
            self._copy_large(given[number], room.addresses[number])
        self._hand_over()
        self._copy_small(
            [given[number] for number in room.small],
            [room.addresses[number] for number in room.small],
        )
        if plan.tensors:
            for piece, copied in zip(given, pieces, strict=True):
                if isinstance(copied.source, TensorSource):
                    self._tensors[id(piece.source)] = copied.source
        return replace(plan, pieces=pieces)

    def finish(self, collected: Collected) -> Collected:
        """What was collected of parts that were taken, with nothing of it live any more."""
        self._move_some()
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

    def _copy_small(self, pieces: Sequence[Piece], addresses: Sequence[int]) -> None:
        # Plain loops, because a training waits for their thousands of rounds.
        begins = [piece.source.address for piece in pieces]
        if all(begins):
            for to, begin, piece in zip(addresses, begins, pieces, strict=True):
                _memmove(to, begin, piece[2])
            return
        for to, piece in zip(addresses, pieces, strict=True):
            bytes_at(to, piece.size_bytes)[:] = read_piece(piece)

    def _copy_large(self, piece: Piece, address: int) -> None:
        begin = piece.source.address
        if not begin:
            data = read_piece(piece)
            # A copy is not kept: one at a time is enough.
            if piece.source.copies:
                bytes_at(address, piece.size_bytes)[:] = data
                return
            begin = _address(data)
            self._alive.append(data)
        for at in range(0, piece.size_bytes, _STRETCH_BYTES):
            count = min(_STRETCH_BYTES, piece.size_bytes - at)
            self._waiting.append((address + at, begin + at, count))
            self._waiting_bytes += count
            if self._waiting_bytes >= _STRETCH_BYTES:
                self._hand_over()

    def _hand_over(self) -> None:
        if self._waiting:
            self._ready.append(self._waiting)
            self._waiting, self._waiting_bytes = [], 0
            self._moves.append(self._pool.submit(self._move_some))

    def _move_some(self) -> None:
        """Moves what is ready: whichever of the threads has time."""
        while True:
            try:
                stretches = self._ready.popleft()
            except IndexError:
                return
            _move(stretches)


def _move(stretches: Sequence[_Stretch]) -> None:
    for target, begin, count in stretches:
        # A slice assignment would hold the other threads up.
        _memmove(target, begin, count)


def _address(data: memoryview) -> int:
    return ctypes.addressof(ctypes.c_ubyte.from_buffer(data))
