"""What of a file is in memory while it is written: batches of its pieces, and who is not done yet.

Sources that make copies (tensors of a device, or with gaps) share one allowance per save, so that a
save takes the same memory whatever its size.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from smartcash_format.disk.parts import Piece, TensorSource
from smartcash_format.errors import UnsavableStateError

# Below this a system call costs more than the copy that avoids it. Some batches of such pieces wait
# in memory for each thread, so more would be felt in what a save takes.
SMALL_BYTES: Final = 256 << 10
# The copies that all files of a save may have in memory at once; a larger one goes alone.
COPIED_BYTES: Final = 24 << 20
# How far the threads of a file may be apart: what was just written is still in the caches.
AHEAD: Final = 4


class Allowance:
    """A number of bytes that all threads of a save share; more than that is had by one alone.

    Whoever takes holds nothing else, so that nobody waits for one who waits.
    """

    def __init__(self, size_bytes: int) -> None:
        self._size_bytes = size_bytes
        self._taken = 0
        self._given_up = False
        self._changed = threading.Condition()

    def take(self, size_bytes: int) -> None:
        if size_bytes:
            with self._changed:
                self._changed.wait_for(lambda: self._has_room(size_bytes))
                self._taken += size_bytes

    def give_back(self, size_bytes: int) -> None:
        if size_bytes:
            with self._changed:
                self._taken -= size_bytes
                self._changed.notify_all()

    def give_up(self) -> None:
        """Lets everybody go on: the save has failed."""
        with self._changed:
            self._given_up = True
            self._changed.notify_all()

    def _has_room(self, size_bytes: int) -> bool:
        return not self._taken or self._taken + size_bytes <= self._size_bytes or self._given_up


class Batch:
    """A large piece, or small ones that follow each other, while they are in memory.

    `whole` has all of their bytes in one buffer, where nothing is to stand between them.
    """

    __slots__ = ("_copied", "_copies", "_holders", "_lock", "data", "pieces", "whole")

    def __init__(self, pieces: Sequence[Piece], copies: Allowance, holders: int) -> None:
        self.pieces = pieces
        self._copies = copies
        self._holders = holders
        self._lock = threading.Lock()
        many = len(pieces) > 1
        self._copied = sum(p.size_bytes for p in pieces if many or p.source.copies)
        copies.take(self._copied)
        try:
            self.data = [read_piece(piece) if piece.size_bytes else _EMPTY for piece in pieces]
            self.whole: memoryview | None = None
            if not many:
                self.whole = self.data[0]
            elif all(piece.head is None for piece in pieces):
                self.whole = memoryview(bytearray().join(self.data))
        except BaseException:
            copies.give_back(self._copied)
            raise

    def release(self) -> None:
        """One of its holders is done with it."""
        with self._lock:
            self._holders -= 1
            is_last = not self._holders
        if is_last:
            self.data, self.whole = [], None
            self._copies.give_back(self._copied)


_EMPTY: Final = memoryview(b"")


def read_piece(piece: Piece) -> memoryview:
    """The bytes of a piece; raises UnsavableStateError where there are not as many as planned."""
    data = piece.source.read()
    if type(data) is not memoryview or data.format != "B":
        data = memoryview(data).cast("B")
    if len(data) != piece.size_bytes:
        where = piece.source.name if isinstance(piece.source, TensorSource) else "a tensor"
        raise UnsavableStateError(
            f"{where} has {len(data):,} bytes instead of {piece.size_bytes:,}: it was changed "
            "while it was saved",
            where=where,
            kind="tensor",
        )
    return data


def groups_of(pieces: Sequence[Piece]) -> Iterator[list[Piece]]:
    """Large pieces alone, small ones together; never a large one with others."""
    group: list[Piece] = []
    waiting = 0
    for piece in pieces:
        if group and (waiting >= SMALL_BYTES or piece.size_bytes >= SMALL_BYTES):
            yield group
            group, waiting = [], 0
        group.append(piece)
        waiting += piece.size_bytes
    if group:
        yield group


class Worker:
    """A thread that takes batches in order, a few behind the one that reads them."""

    def __init__(
        self, take: Callable[[Batch], None], name: str, fail: Callable[[BaseException], None]
    ) -> None:
        self._take = take
        self._fail = fail
        self._queue: deque[Batch | None] = deque()
        self._changed = threading.Condition()
        self._failure: BaseException | None = None
        self._ended = threading.Event()
        threading.Thread(target=self._run, name=name, daemon=True).start()

    def put(self, batch: Batch) -> None:
        """Hands a batch over, when not too many wait already."""
        with self._changed:
            self._changed.wait_for(lambda: len(self._queue) < AHEAD or self._failure)
            if self._failure is not None:
                raise self._failure
            self._queue.append(batch)
            self._changed.notify_all()

    def end(self) -> None:
        """Nothing more will be handed over."""
        with self._changed:
            self._queue.append(None)
            self._changed.notify_all()

    def join(self) -> None:
        """Returns when all that was handed over is done, or the worker has failed."""
        try:
            self._ended.wait()
        except BaseException:  # an interrupt: what the worker writes to is closed after this
            self._ended.wait()
            raise

    def check(self) -> None:
        """Raises what the worker failed with."""
        if self._failure is not None:
            raise self._failure

    def _run(self) -> None:
        try:
            while (batch := self._next()) is not None:
                self._take(batch)
                batch.release()
        except BaseException as error:  # noqa: BLE001 - handed to the thread that waits
            with self._changed:
                self._failure = error
                self._changed.notify_all()
            self._fail(error)
        finally:
            self._ended.set()

    def _next(self) -> Batch | None:
        with self._changed:
            self._changed.wait_for(lambda: self._queue)
            batch = self._queue.popleft()
            self._changed.notify_all()
            return batch
