"""Power loss: what a disk may hold when everything that was not fsynced came late or never.

The calls of an operation are replayed on a model of a disk. Data reach it when their file is
fsynced, names when their directory is; until then any part of them may be there: each change of a
name or none, each write whole, half, as zeros, or not at all. That is more than a journaling file
system may lose, and what POSIX allows. A rename is one change: it never loses both names.

After each call every subset of the changes of names that wait is looked at, where at most eight
wait, with all of the data and with none; more changes, and parts of the data, are drawn by chance.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import os
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Final

from smartcash_format.testing.points import Event

# Of so many changes of names every subset is tried: 256 states after a call.
WAITING: Final = 8

Tree = Mapping[str, bytes | None]
"""A state: what each path holds, None for a directory; a directory before what is in it."""


@dataclass(slots=True, eq=False)
class _File:
    """The bytes that are on the disk, and the writes that may be."""

    durable: bytes = b""
    pending: list[tuple[int, bytes | None]] = field(default_factory=list)

    def write(self, offset: int, data: bytes | None) -> None:
        self.pending.append((offset, data))

    def live(self) -> bytes:
        """What its writer reads."""
        return self._with(self.pending)

    def sync(self) -> None:
        self.durable = self.live()
        self.pending.clear()

    def after(self, chance: random.Random) -> bytes:
        """What may be read after a power cut."""
        arrived = [_arrived(offset, data, chance) for offset, data in self.pending]
        return self._with([write for write in arrived if write is not None])

    def _with(self, writes: Sequence[tuple[int, bytes | None]]) -> bytes:
        content = bytearray(self.durable)
        for offset, data in writes:
            if data is None:  # a truncation
                del content[offset:]
                content.extend(bytes(offset - len(content)))
            else:
                content.extend(bytes(max(0, offset + len(data) - len(content))))
                content[offset : offset + len(data)] = data
        return bytes(content)


def _arrived(
    offset: int, data: bytes | None, chance: random.Random
) -> tuple[int, bytes | None] | None:
    how = chance.choice(["whole", "half", "zeros", "nothing"])
    if how == "nothing":
        return None
    if data is None or how == "whole":
        return offset, data
    return offset, data[: len(data) // 2] if how == "half" else bytes(len(data))


@dataclass(slots=True)
class _Directory:
    names: dict[str, _File | _Directory] = field(default_factory=dict)


_Node = _File | _Directory
Data = Callable[[_File], bytes]


@dataclass(frozen=True, slots=True)
class _Change:
    """A change of names: taken from one directory, put into another, or one of both."""

    node: _Node
    old: tuple[_Directory, str] | None = None
    new: tuple[_Directory, str] | None = None

    def touches(self, directory: _Directory) -> bool:
        return any(place is not None and place[0] is directory for place in (self.old, self.new))


class Disk:
    """A directory tree as its writer sees it, and what of it would survive a power cut."""

    def __init__(self, root: Path) -> None:
        """The tree under `root`, all of it durable."""
        self._live = _read(root, {})
        self._durable: dict[int, dict[str, _Node]] = {}
        self._remember(self._live)
        self._changes: list[_Change] = []

    def apply(self, event: Event) -> None:
        """What one call does. Names that the call was made with are relative to the root."""
        match event.op:
            case "create":
                self._change(_File(), new=event.path)
            case "mkdir":
                self._change(_Directory(), new=event.path)
            case "write":
                self._file(event.path).write(event.offset, event.data)
            case "truncate":
                self._file(event.path).write(event.offset, None)
            case "unlink" | "rmdir":
                self._change(self._node(event.path), old=event.path)
            case "rename":
                self._change(self._node(event.path), old=event.path, new=event.target)
            case "link":
                self._change(self._node(event.path), new=event.target)
            case "fsync":
                self._sync(self._node(event.path))

    def subsets(self) -> Iterator[tuple[_Change, ...]]:
        """Which changes of names may have arrived: every choice, or of many all and none."""
        if len(self._changes) > WAITING:
            yield ()
            yield tuple(self._changes)
            return
        for chosen in itertools.product((False, True), repeat=len(self._changes)):
            yield tuple(itertools.compress(self._changes, chosen))

    def drawn(self, chance: random.Random) -> tuple[_Change, ...]:
        """Changes of names that may have arrived, by chance."""
        return tuple(change for change in self._changes if chance.random() < 0.5)

    def tree(self, kept: Sequence[_Change], data: Data) -> Tree:
        """What is found when these changes of names arrived, and of each file's data this."""
        found: dict[str, bytes | None] = {}
        self._collect(self._live, self._names_with(kept), data, "", found)
        return found

    def _remember(self, node: _Node) -> None:
        if isinstance(node, _Directory):
            self._durable[id(node)] = dict(node.names)
            for child in node.names.values():
                self._remember(child)

    def _place(self, path: str) -> tuple[_Directory, str]:
        where = PurePosixPath(path)
        parent = self._node(str(where.parent))
        assert isinstance(parent, _Directory)
        return parent, where.name

    def _node(self, path: str) -> _Node:
        node: _Node = self._live
        for part in PurePosixPath(path).parts:
            assert isinstance(node, _Directory)
            node = node.names[part]
        return node

    def _file(self, path: str) -> _File:
        node = self._node(path)
        assert isinstance(node, _File)
        return node

    def _change(self, node: _Node, *, old: str | None = None, new: str | None = None) -> None:
        change = _Change(node, self._place(old) if old else None, self._place(new) if new else None)
        if change.old is not None:
            del change.old[0].names[change.old[1]]
        if change.new is not None:
            change.new[0].names[change.new[1]] = node
        self._changes.append(change)

    def _sync(self, node: _Node) -> None:
        if isinstance(node, _File):
            node.sync()
            return
        self._durable = self._names_with([c for c in self._changes if c.touches(node)])
        self._changes = [change for change in self._changes if not change.touches(node)]

    def _names_with(self, changes: Sequence[_Change]) -> dict[int, dict[str, _Node]]:
        names = {key: dict(value) for key, value in self._durable.items()}
        for change in changes:
            if change.old is not None:
                names.setdefault(id(change.old[0]), {}).pop(change.old[1], None)
            if change.new is not None:
                names.setdefault(id(change.new[0]), {})[change.new[1]] = change.node
        return names

    def _collect(
        self,
        node: _Node,
        names: dict[int, dict[str, _Node]],
        data: Data,
        path: str,
        found: dict[str, bytes | None],
    ) -> None:
        if isinstance(node, _File):
            found[path] = data(node)
            return
        found[path] = None
        for name, child in names.get(id(node), {}).items():
            self._collect(child, names, data, f"{path}/{name}".lstrip("/"), found)


def _read(path: Path, known: dict[int, _File]) -> _Directory:
    found = _Directory()
    for entry in os.scandir(path):
        child = Path(entry.path)
        if entry.is_dir(follow_symlinks=False):
            found.names[entry.name] = _read(child, known)
        else:
            file = known.setdefault(entry.inode(), _File(child.read_bytes()))
            found.names[entry.name] = file
    return found


def states(
    baseline: Path, events: Sequence[Event], *, draws: int, seed: int = 0
) -> Iterator[tuple[int, Tree]]:
    """How many of the events had happened, with each state that a power cut may leave then.

    States that are found twice are given twice.
    """
    disk = Disk(baseline)
    chance = random.Random(seed)
    for count in range(len(events) + 1):
        if count:
            disk.apply(events[count - 1])
        for kept in disk.subsets():
            yield count, disk.tree(kept, lambda file: file.durable)
            yield count, disk.tree(kept, lambda file: file.live())
        for _ in range(draws):
            # One file under several names has the same bytes under each.
            drawn = functools.cache(lambda file: file.after(chance))
            yield count, disk.tree(disk.drawn(chance), drawn)


def fingerprint(tree: Tree) -> bytes:
    """What two trees have in common that are the same."""
    running = hashlib.sha256()
    for path, data in sorted(tree.items()):
        kind = "directory" if data is None else f"{len(data)} bytes"
        running.update(f"{path}\0{kind}\0".encode("utf-8", "surrogateescape"))
        running.update(data or b"")
    return running.digest()


def make(tree: Tree, target: Path) -> None:
    """Makes a state on the disk; directories stand before what is in them."""
    for path, data in tree.items():
        if data is None:
            (target / path).mkdir()
        else:
            (target / path).write_bytes(data)
