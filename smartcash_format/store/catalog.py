"""Which checkpoints are in this root? Each directory's meta.json is read, and nothing else.

An entry of a listing keeps rule 1 of FORMAT.md: its meta.json parses, has its own digest and a
version that is known, and every listed file is there with the listed size. What bears a meta.json
and fails is `broken`; what bears none is foreign; hidden names and links are not looked at.
"""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, TypeVar, Unpack, overload

from smartcash_format.disk import peek
from smartcash_format.disk.collector import collector_paused
from smartcash_format.disk.kinds import NotPlainFileError
from smartcash_format.spec import layout
from smartcash_format.spec.displaying import Displayed
from smartcash_format.spec.problems import Code, Depth, Problem
from smartcash_format.spec.refusal import Refused
from smartcash_format.spec.watching import Progress, watched
from smartcash_format.store import query
from smartcash_format.store.entry import Broken, Entry
from smartcash_format.store.glance import Glance, glance
from smartcash_format.store.query import Criteria, Mode, filter_entries

LEGACY_SUFFIXES: Final = (".pt", ".pth")
# Reading, parsing and stating many at a time keeps each in the processor's caches: a third less
# time than one checkpoint after the other.
BATCH: Final = 128
# A look takes 0.1 ms on a local disk. Where the first few take this long each, every system call
# is a round trip over a network, and threads overlap them; on a local disk they would only wait
# for each other.
SLOW_LOOK_S: Final = 0.002
SMALL_BATCH: Final = 8
THREADS: Final = 16
# How often what comes and goes is looked at again.
_LOOKS: Final = 5

_Seen = Entry | Broken | None
_Placed = TypeVar("_Placed", bound=os.PathLike[str])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Listing(Displayed, Sequence[Entry]):
    """Entries, newest first, and beside them what else stands in the roots.

    `broken` looks like a checkpoint and cannot be read as one; `foreign` are the other directories
    that are not hidden, `legacy` the `.pt` and `.pth` files.
    """

    entries: tuple[Entry, ...] = ()
    broken: tuple[Broken, ...] = ()
    foreign: tuple[Path, ...] = ()
    legacy: tuple[Path, ...] = ()

    def only(self, entries: Iterable[Entry]) -> Listing:
        """These entries, in the order given, with the same things beside them."""
        return replace(self, entries=tuple(entries))

    def filtered(self, **criteria: Unpack[Criteria]) -> Listing:
        """The entries that meet every criterion given (`query.filter_entries`), newest first."""
        return self.only(filter_entries(self, **criteria))

    def best(self, metric: str | None = None, mode: Mode | None = None) -> Entry | None:
        """The best by a metric and its mode; without one the last flagged; None when none ranks."""
        return query.best(self, metric, mode)

    def latest(self) -> Entry | None:
        """The last one saved; None when there is none."""
        return query.latest(self)

    def by_epoch(self, epoch: int) -> Entry | None:
        """The last one saved of this epoch; None when there is none."""
        return query.by_epoch(self, epoch)

    @overload
    def __getitem__(self, index: int) -> Entry: ...
    @overload
    def __getitem__(self, index: slice) -> Listing: ...
    def __getitem__(self, index: int | slice) -> Entry | Listing:
        found = self.entries[index]
        return self.only(found) if isinstance(found, tuple) else found

    def __len__(self) -> int:
        return len(self.entries)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self.entries)

    def __repr__(self) -> str:
        return f"Listing({len(self)} checkpoints, {len(self.broken)} broken)"


def scan(root: str | os.PathLike[str]) -> Listing:
    """The listing of one root; empty where there is no such directory.

    Raises OSError when the root is there and cannot be listed.
    """
    parent = os.fspath(root)
    with watched(f"listing {parent}", unit="checkpoints") as tell:
        try:
            directories, legacy = _names(parent)
            with peek.opened_directory(parent) as root_descriptor:
                look = functools.partial(_look, parent, root=root_descriptor)
                began = time.perf_counter()
                first = look(directories[:SMALL_BATCH])
                is_slow = time.perf_counter() - began > SLOW_LOOK_S * SMALL_BATCH
                # Each entry is a handful of containers, and all are kept: until they are sorted,
                # each run of the collector would look at all of them. Not for the minutes that a
                # network takes: what other threads throw away would wait for its end.
                with nullcontext() if is_slow else collector_paused():
                    seen = _look_at_all(look, directories, first, is_slow, tell)
                    return _listed(parent, directories, seen, legacy)
        except FileNotFoundError:
            return Listing()  # not there, or it vanished since its names were read


def _listed(
    parent: str, directories: Sequence[str], seen: list[_Seen], legacy: Sequence[str]
) -> Listing:
    foreign = []
    for number, name in enumerate(directories):
        if seen[number] is None:
            seen[number] = _look_again(parent, name)
            # What another process removed in between is not foreign: it is gone.
            if seen[number] is None and peek.is_unmarked(f"{parent}/{name}"):
                foreign.append(Path(parent, name))
    return Listing(
        entries=newest_first(entry for entry in seen if isinstance(entry, Entry)),
        broken=tuple(broken for broken in seen if isinstance(broken, Broken)),
        foreign=tuple(foreign),
        legacy=tuple(Path(parent, name) for name in legacy),
    )


def merge(listings: Iterable[Listing]) -> Listing:
    """One listing of several roots, newest first over all of them.

    What several of them have, because a root was given twice, within another or by a link, is there
    once, under its first path.
    """
    found = list(listings)
    if len(found) == 1:
        return found[0]
    once = _Once()
    return Listing(
        entries=newest_first(once.of(entry for listing in found for entry in listing)),
        broken=tuple(once.of(broken for listing in found for broken in listing.broken)),
        foreign=tuple(once.of(path for listing in found for path in listing.foreign)),
        legacy=tuple(once.of(path for listing in found for path in listing.legacy)),
    )


class _Once:
    """Passes on what is no other name of something that it passed on before."""

    def __init__(self) -> None:
        self._real_parents: dict[str, str] = {}
        self._seen: set[str] = set()

    def of(self, found: Iterable[_Placed]) -> Iterator[_Placed]:
        for one in found:
            parent, name = os.path.split(os.fspath(one))
            if parent not in self._real_parents:
                self._real_parents[parent] = os.path.realpath(parent)
            real = os.path.join(self._real_parents[parent], name)
            if real not in self._seen:
                self._seen.add(real)
                yield one


def newest_first(entries: Iterable[Entry]) -> tuple[Entry, ...]:
    """The entries in the order of saving, the last one first."""
    return tuple(sorted(entries, key=lambda entry: entry.order, reverse=True))


def read_entry(path: str | os.PathLike[str]) -> Entry | Broken | None:
    """The entry of one directory; None when it bears no meta.json, or is not there."""
    where = Path(path)
    parent = str(where.parent)
    found = _look(parent, [where.name])[0]
    return found if found is not None else _look_again(parent, where.name)


def _names(root: str) -> tuple[list[str], list[str]]:
    directories = []
    legacy = []
    with os.scandir(root) as found:
        for item in found:
            if layout.is_hidden(item.name):
                continue
            if item.is_dir(follow_symlinks=False):
                directories.append(item.name)
            elif item.name.lower().endswith(LEGACY_SUFFIXES) and not item.is_symlink():
                legacy.append(item.name)
    return sorted(directories), sorted(legacy)


def _look_at_all(
    look: Callable[[Sequence[str]], list[_Seen]],
    names: Sequence[str],
    first: list[_Seen],
    is_slow: bool,
    tell: Progress | None,
) -> list[_Seen]:
    seen: list[_Seen] = []

    def take(found: Iterable[list[_Seen]]) -> None:
        for batch in found:
            seen.extend(batch)
            if tell is not None:
                tell(len(seen), len(names))

    take([first])
    rest = names[len(first) :]
    size = SMALL_BATCH if is_slow else BATCH
    batches = [rest[start : start + size] for start in range(0, len(rest), size)]
    if is_slow and batches:
        from smartcash_format.disk.pool import Pool  # 10 ms that a local listing saves

        with Pool(THREADS) as threads:
            take(threads.map(look, batches))
    else:
        take(map(look, batches))
    return seen


def _look_again(parent: str, name: str) -> _Seen:
    """What stands under a name that bore no meta.json a moment ago, if it bears one now.

    Whoever prunes sets a checkpoint apart, and puts it back when it was pinned that moment.
    """
    for _ in range(_LOOKS):
        if not os.path.lexists(f"{parent}/{name}/{layout.META}"):
            break
        if (found := _look(parent, [name])[0]) is not None:
            return found
    return None


def _look(parent: str, names: Sequence[str], root: int | None = None) -> list[_Seen]:
    directories = [f"{parent}/{name}" for name in names] if root is None else names
    read = peek.usual_meta_bytes(directories, root)
    seen = glance(read)
    holds = peek.sizes_hold(directories, seen, root)
    return [
        Entry(parent, name, data, one)
        if is_whole and one is not None
        else _look_closely(parent, name, root)
        for name, data, one, is_whole in zip(names, read, seen, holds, strict=True)
    ]


def _look_closely(parent: str, name: str, root: int | None) -> _Seen:
    """The same for one that was not plainly whole: what it is instead, with all its problems."""
    data = _read(parent, name, root)
    if not isinstance(data, bytes):
        return data
    (seen,) = glance([data])
    directory = f"{parent}/{name}" if root is None else name
    # As in the usual look: what a glance does not see is for a validation to refuse.
    if seen is not None and peek.sizes_hold([directory], [seen], root)[0]:
        return Entry(parent, name, data, seen)
    return _judge(parent, name, data, seen)


def _read(parent: str, name: str, root: int | None) -> bytes | Broken | None:
    try:
        return peek.meta_bytes(f"{parent}/{name}" if root is None else name, root)
    except FileNotFoundError:
        return None
    except NotPlainFileError as error:
        return _broken(parent, name, "file-kind", f"is {error.strerror}, not a plain file")
    except Refused as refused:
        return Broken(path=Path(parent, name), problems=(refused.problem(layout.META),))
    except OSError as error:
        return _broken(parent, name, "file-unreadable", f"cannot be read: {error.strerror}")


def _judge(parent: str, name: str, data: bytes, seen: Glance | None) -> _Seen:
    directory = f"{parent}/{name}"
    try:
        problems = _problems(directory, data)
    except FileNotFoundError:
        return None  # set apart or removed by another process since its meta.json was read
    except OSError as error:
        return _broken(parent, name, "file-unreadable", f"cannot be looked at: {error.strerror}")
    if not os.path.lexists(f"{directory}/{layout.META}"):
        return None  # removed by another process since its meta.json was read
    if seen is not None and not problems:
        return Entry(parent, name, data, seen)  # its last file came while we looked
    return Broken(path=Path(directory), problems=problems)


def _problems(directory: str, data: bytes) -> tuple[Problem, ...]:
    """All that a validation at META would find."""
    # Only what is broken needs the models and the rules.
    from smartcash_format.spec.meta import parse_meta
    from smartcash_format.spec.rules import Observed, check

    meta, problems = parse_meta(data)
    if meta is None:
        return problems
    names = [name for name in meta.files if layout.is_plain_name(name)]
    found, odd = peek.sizes(directory, names)
    return check(meta, Observed(depth=Depth.META, sizes=found, odd=odd))


def _broken(parent: str, name: str, code: Code, message: str) -> Broken:
    problem = Problem(code=code, where=layout.META, message=message)
    return Broken(path=Path(parent, name), problems=(problem,))
