"""CheckpointStore: the checkpoints under one root, to look at, protect and prune; no torch.

What a manager, a command and a script share. It decides with the pure modules beside it and leaves
every change of a checkpoint to disk.
"""

from __future__ import annotations

import builtins
import os
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Unpack

from smartcash_format.disk import pins
from smartcash_format.disk.publish import remove
from smartcash_format.disk.read import read_meta
from smartcash_format.disk.strip import Stripped
from smartcash_format.disk.strip import strip as _replace
from smartcash_format.errors import (
    CheckpointNotFoundError,
    CheckpointWriteError,
    InvalidCheckpointError,
)
from smartcash_format.spec import layout
from smartcash_format.spec.history import HistoryLine
from smartcash_format.spec.meta import Meta
from smartcash_format.spec.pin import Pin
from smartcash_format.spec.problems import Problem
from smartcash_format.store import query, retention
from smartcash_format.store.catalog import Listing, merge, read_entry, scan
from smartcash_format.store.entry import Broken, Entry
from smartcash_format.store.history import History, append, export_history, read_history
from smartcash_format.store.lineage import Branch, lineage
from smartcash_format.store.query import Criteria, Mode
from smartcash_format.store.retention import Plan, Policy

PathLike = str | os.PathLike[str]
# A checkpoint, the path that is gone or new, and the bytes that it freed.
_Done = tuple[Entry, Path, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """What was done of a plan: the paths removed, oldest first, and what could not be done.

    `stripped` are the paths that stand where a checkpoint with its resume state stood.
    """

    paths: tuple[Path, ...] = ()
    stripped: tuple[Path, ...] = ()
    freed_bytes: int = 0
    warnings: tuple[str, ...] = ()


class CheckpointStore:
    """The checkpoints under one root. Looking touches nothing on disk; a missing root is empty.

    `run_id` stands in the history for what is done through this store.
    """

    def __init__(self, root: PathLike, *, run_id: str | None = None) -> None:
        self._root = Path(root)
        self._run_id = run_id or str(uuid.uuid4())

    @property
    def root(self) -> Path:
        """The root, as given."""
        return self._root

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self._root)!r})"

    # -- looking --------------------------------------------------------------------------------

    def list(self) -> Listing:
        """Every checkpoint, newest first; `.broken` has what cannot be read."""
        return scan(self._root)

    def filter(self, **criteria: Unpack[Criteria]) -> Listing:
        """Those that meet every criterion given (`query.filter_entries`), newest first."""
        return self.list().filtered(**criteria)

    def best(self, metric: str | None = None, mode: Mode | None = None) -> Entry | None:
        """The best by a metric and its mode; without one the last flagged; None when none ranks."""
        return query.best(self.list(), metric, mode)

    def latest(self) -> Entry | None:
        """The last one saved; None when there is none."""
        return query.latest(self.list())

    def by_epoch(self, epoch: int) -> Entry | None:
        """The last one saved of this epoch; None when there is none."""
        return query.by_epoch(self.list(), epoch)

    # -- keeping --------------------------------------------------------------------------------

    def protect(self, path: PathLike, reason: str, until: datetime | None = None) -> None:
        """Keeps a checkpoint from every pruner, for ever or `until` an aware time.

        Raises CheckpointNotFoundError or InvalidCheckpointError when there is none at `path`
        (tried as given, then under the root), CheckpointWriteError when the system refuses.
        """
        pin = Pin(reason=reason, until=until)
        pins.write_pin(self._root, self._find(path).checkpoint_id, pin)

    def unprotect(self, path: PathLike) -> None:
        """Lifts the protection of a checkpoint. Raises as `protect` does."""
        pins.lift_pin(self._root, self._find(path).checkpoint_id)

    def protected(self) -> Mapping[str, str]:
        """The ids of what is protected now, each with the reason."""
        return pins.read_pins(self._root, _now())

    def plan(
        self,
        policy: Policy,
        listing: Listing | None = None,
        *,
        published: Iterable[str] = (),
    ) -> Plan:
        """What the policy would do now; never anything to the ids just `published`."""
        safe = {**dict.fromkeys(published, "just saved"), **self.protected()}
        found = self.list() if listing is None else listing
        return policy.plan(found, now=_now(), protected=safe)

    def plan_cleanup(
        self,
        listing: Listing | None = None,
        *,
        max_checkpoints: int = 5,
        keep_best: bool = True,
        keep_latest: bool = True,
        max_epochs: int | None = None,
        best: Entry | None = None,
    ) -> Plan:
        """What the seed's cleanup would do now (`retention.plan_cleanup`)."""
        return retention.plan_cleanup(
            self.list() if listing is None else listing,
            now=_now(),
            max_checkpoints=max_checkpoints,
            keep_best=keep_best,
            keep_latest=keep_latest,
            max_epochs=max_epochs,
            best=best,
            protected=self.protected(),
        )

    def apply(self, plan: Plan) -> Applied:
        """Removes what the plan dooms, oldest first, then strips, and notes it in the history.

        What is no longer as the plan saw it, or protected since, stays, with a warning; what
        another process has removed is passed over.
        """
        warnings: list[str] = []
        removed = self._each(plan.doomed, self._remove, warnings)
        stripped = self._each(plan.stripped, _strip, warnings)
        done = [*removed, *stripped]
        pins.clear_ended(self._root, _now())
        if done:
            warnings += self._note("cleanup", checkpoints=[entry.name for entry, _, _ in done])
        return Applied(
            paths=tuple(path for _, path, _ in removed),
            stripped=tuple(path for _, path, _ in stripped),
            freed_bytes=sum(size_bytes for _, _, size_bytes in done),
            warnings=tuple(warnings),
        )

    def _each(
        self, entries: Iterable[Entry], act: Callable[[Entry], _Done], warnings: builtins.list[str]
    ) -> builtins.list[_Done]:
        done = []
        for entry in entries:
            found = read_entry(entry)
            if found is None:
                continue
            if found != entry or entry.checkpoint_id in self.protected():
                warnings.append(f"{entry.name} stays: it was changed or protected since the plan")
                continue
            try:
                done.append(act(entry))
            except (CheckpointWriteError, InvalidCheckpointError) as error:
                warnings.append(str(error))
        return done

    def _remove(self, entry: Entry) -> _Done:
        freed_bytes = remove(entry.path, unless=lambda: entry.checkpoint_id in self.protected())
        return entry, entry.path, freed_bytes

    def strip(self, path: PathLike) -> Stripped:
        """Replaces a checkpoint by one without optimizer, scheduler and extra state.

        Also where somebody deleted those files by hand. Protection goes over to the new one.
        Raises as `disk.strip` does.
        """
        where = self._where(path)
        old_id, new_id = read_meta(where).checkpoint_id, str(uuid.uuid4())
        pin = pins.read_pin(self._root, old_id)
        if pin is not None:
            pins.write_pin(self._root, new_id, pin)
        stays = old_id
        try:
            stripped = _replace(where, checkpoint_id=new_id)
            stays = stripped.checkpoint_id
        finally:
            if pin is not None:
                pins.lift_pin(self._root, new_id if stays == old_id else old_id)
        return stripped

    # -- history --------------------------------------------------------------------------------

    def events(self) -> History:
        """The root's history, event by event; made from the checkpoints where it is missing."""
        return read_history(self._root, self._entries())

    def history(self) -> dict[str, Any]:
        """total_runs, runs, best and last_resume."""
        return self.events().summary()

    def lineage(self) -> tuple[Branch, ...]:
        """The branches that the checkpoints form; what was removed is bridged by the history."""
        listing = self.list()
        return lineage(listing, read_history(self._root, listing).parents())

    def export_history(self, path: PathLike | None = None) -> Path:
        """Writes the same as strict JSON to `path`, or into the root; the path."""
        target = self._root / layout.HISTORY_EXPORT if path is None else Path(path)
        return export_history(target, self.history())

    def record_save(self, path: Path, meta: Meta) -> tuple[str, ...]:
        """Notes a save; sentences about what was not as usual."""
        return append(self._root, [HistoryLine.of_save(path.name, meta)], self._entries())

    def record_resume(self, path: Path, meta: Meta, *, run_id: str) -> tuple[str, ...]:
        """Notes that a run resumed from a checkpoint; sentences about what was not as usual."""
        return self._note(
            "resume",
            run_id=run_id,
            checkpoint=path.name,
            checkpoint_id=meta.checkpoint_id,
            epoch=meta.epoch,
            step=meta.step,
        )

    def record_copy(self, paths: Iterable[Path], target: Path) -> tuple[str, ...]:
        """Notes what was copied out of the root; where to is not noted: roots move, paths do not.

        Nothing is noted for no paths, or for copies that stay in the root.
        """
        names = [path.name for path in paths]
        return self._note("copy", checkpoints=names) if names and target != self._root else ()

    def _note(self, event: str, **fields: Any) -> tuple[str, ...]:
        line = HistoryLine.model_validate(
            {"run_id": self._run_id, **fields, "event": event, "at": _now()}
        )
        return append(self._root, [line], self._entries())

    def _entries(self) -> Iterator[Entry]:
        """The entries, listed only if somebody asks: a history that is there needs none."""
        yield from scan(self._root)

    def _where(self, path: PathLike) -> Path:
        given = Path(path)
        under = self._root / given
        return under if not os.path.lexists(given) and os.path.lexists(under) else given

    def _find(self, path: PathLike) -> Entry:
        where = self._where(path)
        found = read_entry(where)
        if isinstance(found, Broken):
            raise InvalidCheckpointError(
                f"{where.name} is no valid checkpoint", path=where, problems=found.problems
            )
        if found is None:
            raise CheckpointNotFoundError(
                f"{where}: no such checkpoint", root=self._root, query=str(path)
            )
        return found


def _strip(entry: Entry) -> _Done:
    stripped = _replace(entry.path, checkpoint_id=str(uuid.uuid4()))
    return entry, stripped.path, stripped.freed_bytes


def strip(path: PathLike) -> Stripped:
    """Replaces a checkpoint by one without optimizer, scheduler and extra state.

    As `CheckpointStore.strip` does, in the root that the checkpoint is in. Raises as it does.
    """
    where = Path(os.path.abspath(path))
    return CheckpointStore(where.parent).strip(where)


def find_roots(tree: PathLike) -> Iterator[Path]:
    """Every directory in the tree, itself included, that has checkpoints or a history in it.

    Only names are read. Hidden directories and links are not entered, nor are checkpoints. A
    directory that cannot be read is given too: whoever scans it learns why.
    """
    pending = [os.fspath(tree)]
    while pending:
        directory = pending.pop()
        inside, is_root = _look_into(directory)
        if is_root:
            yield Path(directory)
        pending += reversed(inside)


def search(tree: PathLike) -> Listing:
    """The checkpoints of every root in the tree, as one listing, newest first."""
    return merge(map(_scan_or_say, find_roots(tree)))


def _scan_or_say(root: Path) -> Listing:
    try:
        return scan(root)
    except PermissionError as error:
        message = f"cannot be listed: {error.strerror}"
        problem = Problem(code="file-unreadable", where=".", message=message)
        return Listing(broken=(Broken(path=root, problems=(problem,)),))


def _look_into(directory: str) -> tuple[tuple[str, ...], bool]:
    """The directories worth entering, and whether this one is a root."""
    inside = []
    is_root = False
    try:
        with os.scandir(directory) as found:
            items = sorted(found, key=lambda item: item.name)
    except FileNotFoundError:
        return (), False
    except PermissionError:
        return (), True
    for item in items:
        if item.name == layout.HISTORY:
            is_root = True
        elif layout.is_hidden(item.name) or not item.is_dir(follow_symlinks=False):
            continue
        elif os.path.lexists(os.path.join(item.path, layout.META)):
            is_root = True
        else:
            inside.append(item.path)
    return tuple(inside), is_root


def _now() -> datetime:
    return datetime.now(UTC)
