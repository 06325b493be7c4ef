"""A disk that forgets: a tree as its writer sees it, and every state that a power cut may leave.

What may be lost, and which states are gone through, stands in `power`.
"""

from __future__ import annotations

import functools
import itertools
import math
import os
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Final, Literal

from smartcash_format.spec import layout
from smartcash_format.testing.points import Event

# More states after one call are not gone through: some of them are drawn, and it is said so.
STATES: Final = 1 << 12

Tree = Mapping[str, bytes | None]
"""A state: what each path holds, None for a directory; a directory before what is in it."""


_Way = Literal["nothing", "half", "zeros", "whole"]


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
        return self._with_arrived([chance.choice(_ways(data)) for _, data in self.pending])

    def ways(self) -> int:
        """In how many ways its writes may have arrived."""
        return math.prod(len(_ways(data)) for _, data in self.pending)

    def outcomes(self) -> Counter[bytes]:
        """All that may be read after a power cut, each with the number of ways to it."""
        chosen = itertools.product(*(_ways(data) for _, data in self.pending))
        return Counter(self._with_arrived(ways) for ways in chosen)

    def _with_arrived(self, ways: Sequence[_Way]) -> bytes:
        writes: list[tuple[int, bytes | None]] = []
        for (offset, data), way in zip(self.pending, ways, strict=True):
            if data is not None and way == "half":
                writes.append((offset, data[: len(data) // 2]))
            elif data is not None and way == "zeros":
                writes.append((offset, bytes(len(data))))
            elif way == "whole":
                writes.append((offset, data))
        return self._with(writes)

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


def _ways(data: bytes | None) -> tuple[_Way, ...]:
    return ("nothing", "whole") if data is None else ("nothing", "half", "zeros", "whole")


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
        self._known: dict[int, _Directory] = {}
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

    def combinations(self) -> int:
        """How many there are of changes of names that arrived or not, and of each file's writes."""
        return (1 << len(self._changes)) * math.prod(file.ways() for file in self._unsynced())

    def states(self) -> Iterator[tuple[Tree, int]]:
        """Each state that a reader can tell from the others, with the combinations that lead to it.

        Of more than STATES those with all or nothing of the data, or of the names, alone.
        """
        aside = {id(change) for change in self._changes if self._is_aside(change)}
        asked = [change for change in self._changes if id(change) not in aside]
        unsynced = self._unsynced()
        for chosen in _subsets(asked):
            arrived = aside | {id(change) for change in chosen}
            kept = [change for change in self._changes if id(change) in arrived]
            names = self._names_with(kept)
            seen = self._seen(names)
            files = [file for file in unsynced if id(file) in seen]
            hidden = math.prod(file.ways() for file in unsynced if id(file) not in seen)
            for data, ways in _choices(files):
                tree = self.tree(kept, lambda file, data=data: data.get(id(file), file.live()))  # type: ignore[misc]
                yield tree, (1 << len(aside)) * hidden * ways

    def drawn(self, chance: random.Random) -> Tree:
        """A state by chance: of the changes of names, and of the data."""
        kept = [change for change in self._changes if chance.random() < 0.5]
        # One file under several names has the same bytes under each.
        return self.tree(kept, functools.cache(lambda file: file.after(chance)))

    def _unsynced(self) -> list[_File]:
        """The files that may be there, and not with all of their data."""
        nodes = [change.node for change in self._changes]
        nodes += [node for names in self._durable.values() for node in names.values()]
        found = {id(node): node for node in nodes if isinstance(node, _File) and node.pending}
        return list(found.values())

    def _is_aside(self, change: _Change) -> bool:
        """Whether it shows only below names that no reader looks at, whatever has arrived."""
        places = [place for place in (change.old, change.new) if place is not None]
        return all(self._is_hidden(directory) for directory, _ in places)

    def _is_hidden(self, directory: _Directory) -> bool:
        if directory is self._live:
            return False
        durable = [
            (parent, name)
            for parent, names in self._durable.items()
            for name, node in names.items()
            if node is directory
        ]
        waiting = [
            (id(change.new[0]), change.new[1])
            for change in self._changes
            if change.new is not None and change.node is directory
        ]
        return all(
            is_leftover(name) if parent == id(self._live) else self._is_hidden(self._known[parent])
            for parent, name in (*durable, *waiting)
        )

    def _seen(self, names: Mapping[int, Mapping[str, _Node]]) -> set[int]:
        """The files that a reader may open, by their identity."""
        found: set[int] = set()
        ahead = [self._live]
        while ahead:
            directory = ahead.pop()
            for name, child in names.get(id(directory), {}).items():
                if directory is self._live and is_leftover(name):
                    continue
                if isinstance(child, _Directory):
                    ahead.append(child)
                else:
                    found.add(id(child))
        return found

    def tree(self, kept: Sequence[_Change], data: Data) -> Tree:
        """What is found when these changes of names arrived, and of each file's data this."""
        found: dict[str, bytes | None] = {}
        self._collect(self._live, self._names_with(kept), data, "", found)
        return found

    def _remember(self, node: _Node) -> None:
        if isinstance(node, _Directory):
            self._known[id(node)] = node
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
        if isinstance(node, _Directory):
            self._known[id(node)] = node

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


def is_leftover(name: str) -> bool:
    """Whether this name in a root is that of a stage or a trash: no reader looks inside."""
    return name.startswith((layout.STAGING_PREFIX, layout.TRASH_PREFIX))


def _subsets(changes: Sequence[_Change]) -> Iterator[Sequence[_Change]]:
    if 1 << len(changes) > STATES:
        yield from ((), changes)
        return
    for chosen in itertools.product((False, True), repeat=len(changes)):
        yield list(itertools.compress(changes, chosen))


def _choices(files: Sequence[_File]) -> Iterator[tuple[Mapping[int, bytes], int]]:
    """What each of these files may hold, by its identity, with the number of ways to it."""
    if math.prod(file.ways() for file in files) > STATES:
        yield {id(file): file.durable for file in files}, 1
        yield {}, 1
        return
    for chosen in itertools.product(*(file.outcomes().items() for file in files)):
        data = {id(file): held for file, (held, _) in zip(files, chosen, strict=True)}
        yield data, math.prod(ways for _, ways in chosen)
