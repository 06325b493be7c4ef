"""CheckpointStore: the checkpoints under one root, to look at, protect and prune; no torch.

What a manager, a command and a script share. It decides with the pure modules beside it and leaves
every change of a checkpoint to disk.
"""

from __future__ import annotations

import contextlib
import errno
import os
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Unpack

from smartcash_format.disk import pins
from smartcash_format.disk.read import read_meta
from smartcash_format.disk.strip import Stripped, stripped_id
from smartcash_format.disk.strip import strip as strip_one
from smartcash_format.errors import (
    CheckpointNotFoundError,
    CheckpointWriteError,
    InvalidCheckpointError,
)
from smartcash_format.spec import layout
from smartcash_format.spec.history import HistoryLine, printable
from smartcash_format.spec.meta import Meta
from smartcash_format.spec.pin import pin_for
from smartcash_format.store import pruning, query, retention
from smartcash_format.store.catalog import Listing, read_entry, scan
from smartcash_format.store.entry import Broken, Entry
from smartcash_format.store.history import History, append, export_history, read_history
from smartcash_format.store.lineage import Branch, lineage, told
from smartcash_format.store.pruning import Applied, Named
from smartcash_format.store.query import Criteria, Mode
from smartcash_format.store.retention import Plan, Policy
from smartcash_format.store.unreadable import last_after

PathLike = str | os.PathLike[str]


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
        return self.list().best(metric, mode)

    def latest(self) -> Entry | None:
        """The last one saved; None when there is none."""
        return self.list().latest()

    def by_epoch(self, epoch: int) -> Entry | None:
        """The last one saved of this epoch; None when there is none."""
        return self.list().by_epoch(epoch)

    # -- keeping --------------------------------------------------------------------------------

    def protect(self, path: PathLike, reason: str, until: datetime | None = None) -> None:
        """Keeps a checkpoint from every pruner, for ever or `until` an aware time.

        The pin lies in the root that the checkpoint is in, whatever root this store has. Raises
        CheckpointNotFoundError or InvalidCheckpointError when there is none at `path` (tried as
        given, then under the root), CheckpointWriteError when the system refuses, ValueError for a
        reason of more than 256 characters or a time that has passed or has no zone.
        """
        pin = pin_for(reason, until)
        if pin.until is not None and pin.until <= _now():
            raise ValueError(f"until is {pin.until.isoformat()}, which has passed: nothing is kept")
        found = self._find(path)
        home = pins.root_of(found)
        pins.write_pin(home, found.checkpoint_id, pin)
        if not os.path.lexists(found / layout.META):
            pins.lift_pin(home, found.checkpoint_id)
            raise CheckpointNotFoundError(
                f"{found} was removed this moment", root=home, query=str(path)
            )

    def unprotect(self, path: PathLike) -> None:
        """Lifts the protection of a checkpoint, also of one whose files are not whole any more.

        Raises CheckpointNotFoundError, InvalidCheckpointError when its meta.json does not say which
        one it is, CheckpointWriteError.
        """
        where = self._where(path)
        pins.lift_pin(pins.root_of(where), read_meta(where).checkpoint_id)

    def protected(self) -> Mapping[str, str]:
        """The ids of what is protected now in this root, each with the reason."""
        return pins.read_pins(self._root, _now())

    def plan(
        self,
        policy: Policy,
        listing: Listing | None = None,
        *,
        published: Iterable[str] = (),
    ) -> Plan:
        """What the policy would do now; never anything to the ids just `published`."""
        if not isinstance(policy, Policy):
            raise TypeError(f"policy is {policy!r:.80}; it is made as KeepLast(3) is")
        found = self.list() if listing is None else listing
        safe = {**dict.fromkeys(published, "just saved"), **self._protected_among(found)}
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
        found = self.list() if listing is None else listing
        return retention.plan_cleanup(
            found,
            now=_now(),
            max_checkpoints=max_checkpoints,
            keep_best=keep_best,
            keep_latest=keep_latest,
            max_epochs=max_epochs,
            best=best,
            protected=self._protected_among(found),
        )

    def _protected_among(self, listing: Listing) -> dict[str, str]:
        """What is protected in each root that the entries lie in."""
        found: dict[str, str] = {}
        for root in {os.path.realpath(entry.parent) for entry in listing}:
            try:
                found |= pins.read_pins(Path(root), _now())
            except OSError as error:
                raise CheckpointWriteError(
                    f"nothing is removed from {root}: what is protected there cannot be read: "
                    f"{error.strerror or error}",
                    path=Path(root) / layout.PINS,
                    errno=error.errno,
                ) from error
        return found

    def apply(self, plan: Plan) -> Applied:
        """Removes what the plan dooms, oldest first, then strips, and notes it in the history.

        What is no longer as the plan saw it, or protected since, stays, with a warning, and so does
        what the system refuses; what another process has removed is passed over.
        """
        applied = pruning.apply(plan, clock=_now, note=self._note_removal)
        for root in {Path(decision.entry.parent) for decision in plan.decisions}:
            with contextlib.suppress(OSError):  # they protect nothing any more
                pins.clear_ended(root, _now())
        return applied

    def _note_removal(self, root: Path, entries: Sequence[Entry]) -> tuple[str, ...]:
        names = [printable(entry.name) for entry in entries]
        return self._note("cleanup", root=root, gone=entries, checkpoints=names)

    def look(self, path: PathLike) -> Named:
        """What `remove` would remove under this name, and what keeps it from that.

        A name is tried under the root first: copies elsewhere bear the same. Raises
        CheckpointNotFoundError where neither a checkpoint nor a part of one is.
        """
        under, given = self._root / path, Path(path)
        is_given = not os.path.lexists(under) and os.path.lexists(given)
        return pruning.look(given if is_given else under, _now())

    def remove(self, path: PathLike) -> int:
        """Removes what is named, also what is broken or only a part of a checkpoint; bytes freed.

        Raises CheckpointNotFoundError where neither a checkpoint nor a part of one is,
        CheckpointWriteError when it is protected, the only one of its root that can be read, or the
        system refuses.
        """
        named = self.look(path)
        if named.stays is not None:
            raise CheckpointWriteError(
                f"{named.path.name} was not removed: {named.stays}",
                path=named.path,
                errno=errno.EBUSY,
            )
        freed_bytes = pruning.remove_named(named, clock=_now)
        gone = () if named.entry is None else (named.entry,)
        names = [printable(named.path.name)]
        self._note("cleanup", root=named.path.parent, gone=gone, checkpoints=names)
        return freed_bytes

    def strip(self, path: PathLike) -> Stripped:
        """Replaces a checkpoint by one without optimizer, scheduler and extra state.

        Also where somebody deleted those files by hand. Its protection goes over to the new one;
        while a reader holds it, it stays. Raises as `disk.strip` does.
        """
        where = self._where(path)
        if where.is_symlink():
            where = Path(os.path.realpath(where))
        home, old_id = pins.root_of(where), read_meta(where).checkpoint_id
        new_id, pin = stripped_id(old_id), pins.read_pin(home, old_id)
        if pins.is_held(home, old_id, _now(), but=pin):
            raise CheckpointWriteError(
                f"{where.name} was not stripped: it is being read, or protected by another",
                path=where,
                errno=errno.EBUSY,
            )
        if pin is not None:
            pins.write_pin(home, new_id, pin)
        stays = old_id
        try:
            stripped = strip_one(
                where, unless=lambda each: pins.is_held(home, each, _now(), but=pin)
            )
            stays = stripped.checkpoint_id
        finally:
            if pin is not None:
                pins.lift_pin(home, new_id if stays == old_id else old_id)
        return stripped

    def newest_broken(self, listing: Listing) -> Broken | None:
        """One that cannot be read and is known to be saved after all that can, the last of them."""
        newest = query.latest(listing)
        if newest is None or not listing.broken:
            return None
        lines: Sequence[HistoryLine] = ()
        with contextlib.suppress(OSError):  # what cannot be read tells of no time
            lines = read_history(self._root, listing).lines
        return last_after(newest.saved_at, listing.broken, lines)

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
        return lineage(listing, told(self._root, listing))

    def export_history(self, path: PathLike | None = None) -> Path:
        """Writes the same as strict JSON to `path`, or into the root; the path.

        Raises CheckpointWriteError when the system refuses, OSError where it cannot be read.
        """
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
            checkpoint=printable(path.name),
            checkpoint_id=meta.checkpoint_id,
            epoch=meta.epoch,
            step=meta.step,
        )

    def record_copy(self, paths: Iterable[Path], target: Path) -> tuple[str, ...]:
        """Notes what was copied out of the root; where to is not noted: roots move, paths do not.

        Nothing is noted for no paths, or for copies that stay in the root.
        """
        names = [printable(path.name) for path in paths]
        return self._note("copy", checkpoints=names) if names and target != self._root else ()

    def _note(
        self, event: str, *, root: Path | None = None, gone: Sequence[Entry] = (), **fields: Any
    ) -> tuple[str, ...]:
        """Appends an event; one that is missing begins with what is there and what is gone."""
        line = HistoryLine.model_validate(
            {"run_id": self._run_id, **fields, "event": event, "at": _now()}
        )
        return append(root or self._root, [line], self._entries(root, gone))

    def _entries(self, root: Path | None = None, gone: Sequence[Entry] = ()) -> Iterator[Entry]:
        """The entries, listed only if somebody asks: a history that is there needs none."""
        yield from gone
        originals = {entry.checkpoint_id for entry in gone}
        # What one was stripped to is the same save.
        yield from (each for each in scan(root or self._root) if each.derived_from not in originals)

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


def strip(path: PathLike) -> Stripped:
    """Replaces a checkpoint by one without optimizer, scheduler and extra state.

    As `CheckpointStore.strip` does, in the root that the checkpoint is in. Raises as it does.
    """
    where = Path(os.path.abspath(path))
    return CheckpointStore(where.parent).strip(where)


def _now() -> datetime:
    return datetime.now(UTC)
