"""CheckpointManager: what a training loop holds.

It joins two rooms that do not know each other: `store` decides which checkpoint, `torch_io` turns
live objects into one and back. torch is imported by the first save or load, not before.
"""

from __future__ import annotations

import os
import threading
import time
import uuid
from collections.abc import Collection, Iterable, Mapping
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path
from types import EllipsisType
from typing import TYPE_CHECKING, Any, Final

from smartcash_format.disk.publish import write_error
from smartcash_format.disk.transfer import drive_notice, drive_problem, transfer
from smartcash_format.errors import CheckpointNotFoundError
from smartcash_format.manager import choosing
from smartcash_format.manager.choosing import PathLike
from smartcash_format.manager.guard import GRACE_S, Guard, State
from smartcash_format.manager.holding import hold
from smartcash_format.manager.log import Logger, size
from smartcash_format.manager.reader import CheckpointReader, Mode
from smartcash_format.manager.results import CopyResult, SaveResult, SaveType
from smartcash_format.spec.meta import Meta
from smartcash_format.store import query
from smartcash_format.store.catalog import Listing
from smartcash_format.store.retention import Plan

if TYPE_CHECKING:
    from smartcash_format.torch_io.read_state import Device
    from smartcash_format.torch_io.result import LoadResult

DRIVE_DIR: Final = "/content/drive/MyDrive/SmartCash/checkpoints"


class CheckpointManager(CheckpointReader):
    """Saves, resumes, finds, keeps and copies the checkpoints under one root.

    `output_dir` is the root; nothing on disk is touched before the first save. `logger` takes
    finished strings (debug, info, warning, error). `monitor` names the metric that decides best
    and needs `mode`, "min" or "max".

    Thread-safe: any method from any thread, any number of managers and processes on one root.
    Training the model in another thread while a save reads its tensors is not.
    """

    def __init__(
        self,
        output_dir: PathLike = "runs/train/weights",
        logger: Logger | None = None,
        *,
        monitor: str | None = None,
        mode: Mode | None = None,
    ) -> None:
        super().__init__(output_dir, logger, monitor=monitor, mode=mode)
        self._parent_id: str | None = None
        # One save at a time: each looks at what the one before left.
        self._saving = threading.RLock()

    # -- saving ---------------------------------------------------------------------------------

    def save_checkpoint(
        self,
        model: object,
        optimizer: object = None,
        scheduler: object = None,
        config: object = None,
        epoch: int | EllipsisType = ...,
        metrics: object = None,
        is_best: bool | None = None,
        save_optimizer: bool = True,
        *,
        step: int | None = None,
        tags: Iterable[str] = (),
        backbone: str | None = None,
        dataset: str | None = None,
        notes: Mapping[str, object] | None = None,
        extra: Mapping[str, object] | None = None,
        rng: bool = True,
    ) -> SaveResult:
        """A new checkpoint of these live objects, published whole before the call returns.

        `epoch` is stored as given; count from 1, so that 0 means nothing done. `is_best=None` asks
        the monitor: better than every finite value so far in this root. Metadata never costs a
        checkpoint: what has no JSON form is kept as its repr, with a warning.

        Raises UnsavableStateError before anything is written when weights, optimizer, scheduler or
        extra state could not be loaded again; CheckpointWriteError when the system refuses, with
        every earlier checkpoint untouched.
        """
        from smartcash_format.torch_io.save import Facts, is_writer, save

        if not is_writer():
            return SaveResult(path=None, type="skipped")
        number = choosing.whole_epoch(epoch)
        started = time.perf_counter()
        with self._saving:
            described = choosing.describe(
                config, metrics, notes, backbone=backbone, dataset=dataset, tags=tags
            )
            warnings = list(described.warnings)
            listing = self._list_to_write()
            best = self._is_best(listing, described.metrics) if is_best is None else bool(is_best)
            facts = Facts(
                checkpoint_id=str(uuid.uuid4()),
                run_id=self._run_id,
                parent_id=self._parent_id,
                saved_at=choosing.next_moment(listing, datetime.now(UTC)),
                epoch=number,
                step=choosing.whole_step(step),
                is_best=best,
                metrics=described.metrics,
                backbone=described.backbone,
                dataset=described.dataset,
                tags=described.tags,
                config=described.config,
                notes=described.notes,
            )
            saved = save(
                self._root / facts.directory_name,
                facts,
                model=model,
                optimizer=optimizer if save_optimizer else None,
                scheduler=scheduler if save_optimizer else None,
                extra=extra,
                rng=rng,
            )
            warnings += saved.warnings
            self._parent_id = facts.checkpoint_id
            warnings += self._store.record_save(saved.path, saved.meta)
        for warning in warnings:
            self._log.warning(warning)
        seconds = time.perf_counter() - started
        kind: SaveType = "best" if best else "latest"
        self._log.info(
            f"saved {saved.path} ({kind}, epoch {number}, {size(saved.size_bytes)}, "
            f"{seconds:.2f} s)"
        )
        return SaveResult(
            path=saved.path,
            type=kind,
            checkpoint_id=facts.checkpoint_id,
            bytes=saved.size_bytes,
            seconds=seconds,
            warnings=warnings,
        )

    def guard(self, state: State, grace_s: float = GRACE_S) -> Guard:
        """SIGTERM and SIGINT wait for the next `guard.step()`, which saves and lets them go on.

            with manager.guard(lambda: {"model": model, "optimizer": optimizer, "epoch": epoch}) \
                    as guard:
                for batch in batches:
                    ...
                    guard.step()

        `state` is called there and gives the arguments of `save_checkpoint`; the save has type
        "emergency". No step within `grace_s` seconds, or an exception inside an iteration: nothing
        is saved, the last checkpoint stands, and the log says so.
        """
        return Guard(self._save_in_emergency, state, self._log, grace_s)

    def _save_in_emergency(self, state: Mapping[str, Any]) -> SaveResult:
        saved = self.save_checkpoint(**state)
        return saved if saved["type"] == "skipped" else SaveResult(**{**saved, "type": "emergency"})

    def _list_to_write(self) -> Listing:
        try:
            return self._store.list()
        except OSError as error:
            raise write_error(error, self._root) from error

    def _is_best(self, listing: Listing, metrics: Mapping[str, int | float]) -> bool:
        if self._monitor is None or self._mode is None:
            return False
        if self._monitor not in metrics:
            self._log.warning(
                f"the monitored metric {self._monitor!r} is not among the metrics of this save "
                f"({', '.join(sorted(metrics)) or 'none'}); it is not marked best"
            )
        return choosing.beats_all(listing, metrics, self._monitor, self._mode)

    # -- loading --------------------------------------------------------------------------------

    def load_checkpoint(
        self,
        checkpoint_path: PathLike | int | None = None,
        device: Device = None,
        model: object = None,
        optimizer: object = None,
        scheduler: object = None,
        *,
        strict: bool = True,
        components: Collection[str] | None = None,
        extra: Mapping[str, object] | None = None,
        missing_ok: bool = False,
        verify: bool = True,
    ) -> LoadResult:
        """What a checkpoint holds, restored into the live objects that are passed.

        `checkpoint_path`: a path, an epoch (int), "best", "latest"; None is the best, or the newest
        when nothing ranks. With an optimizer the load is a resume: random number state comes back
        too. Nothing live changes unless everything fits.

        Raises CheckpointNotFoundError when nothing is there (`missing_ok=True` gives an empty
        result instead, but never where a broken checkpoint lies), StateMismatchError when it does
        not fit, InvalidCheckpointError, UnsafeCheckpointError or UnsupportedVersionError.
        """
        from smartcash_format.torch_io.load import load_checkpoint
        from smartcash_format.torch_io.result import LoadResult

        started = time.perf_counter()
        listing = self._store.list()
        path = self._choose(checkpoint_path, listing, missing_ok=missing_ok)
        if path is None:
            self._log.info(f"{self._root} has no checkpoint: a fresh start")
            return LoadResult()
        result = load_checkpoint(
            path,
            device=device,
            model=model,
            optimizer=optimizer,
            scheduler=scheduler,
            strict=strict,
            components=components,
            extra=extra,
            verify=verify,
        )
        for note in choosing.remarks(
            result.notes, result.missing, result.unexpected, result.mismatched
        ):
            self._log.warning(note)
        meta = result.meta
        assert meta is not None, "a result of a path has its meta"
        hint = ""
        if checkpoint_path is None and (newer := choosing.newer_than(listing, meta)) is not None:
            hint = f'; a newer one is {newer.name}: load_checkpoint("latest") loads it'
        self._log.info(
            f"loaded {path} (epoch {meta.epoch}, {size(meta.size_bytes)}, "
            f"{time.perf_counter() - started:.2f} s){hint}"
        )
        if "optimizer" in result.restored:
            self._note_resume(path, meta)
        return result

    def _note_resume(self, path: Path, meta: Meta) -> None:
        with self._saving:
            self._parent_id = meta.checkpoint_id
        if not self._root.is_dir():
            return  # a load touches nothing on disk but the history of a root that is there
        for warning in self._store.record_resume(path, meta, run_id=self._run_id):
            self._log.warning(warning)

    def _choose(
        self, asked: PathLike | int | None, listing: Listing, *, missing_ok: bool
    ) -> Path | None:
        match asked:
            case None | "best" | "latest":
                return self._choose_ranked(asked, listing, missing_ok=missing_ok)
            case bool():
                raise TypeError("checkpoint_path is a path, an epoch, 'best' or 'latest'")
            case int():
                entry = query.by_epoch(listing, asked)
                if entry is None:
                    raise choosing.no_such_epoch(self._root, asked, listing)
                return entry.path
        given = Path(asked)
        under = self._root / given
        if not os.path.lexists(given) and os.path.lexists(under):
            return under
        return given

    def _choose_ranked(
        self, asked: str | None, listing: Listing, *, missing_ok: bool
    ) -> Path | None:
        choosing.refuse_newer_versions(self._root, listing)
        chosen = None if asked == "latest" else self._best_of(listing)
        if chosen is None and asked != "best":
            chosen = query.latest(listing)
            if chosen is not None and asked is None:
                self._log.info("no checkpoint is marked or ranked best; taking the newest")
        if chosen is not None:
            return chosen.path
        if missing_ok and not listing.broken and not len(listing):
            return None
        raise choosing.nothing_to_load(self._root, asked, listing)

    # -- keeping --------------------------------------------------------------------------------

    def cleanup_checkpoints(
        self,
        max_checkpoints: int = 5,
        keep_best: bool = True,
        keep_latest: bool = True,
        max_epochs: int | None = None,
        *,
        dry_run: bool = False,
    ) -> list[Path]:
        """Removes old checkpoints; the paths removed, oldest first (or that would be: `dry_run`).

        Kept: every one flagged best (`keep_best=False`: the newest `max_checkpoints` of them), the
        newest (`keep_latest`), the newest `max_epochs` of the others (None: `max_checkpoints`).
        Whatever is asked: never the best, the last valid one, a protected one, or anything broken
        or foreign.
        """
        plan = self.plan_cleanup(
            max_checkpoints, keep_best=keep_best, keep_latest=keep_latest, max_epochs=max_epochs
        )
        for warning in plan.warnings:
            self._log.warning(warning)
        if dry_run:
            return [entry.path for entry in plan.doomed]
        started = time.perf_counter()
        done = self._store.apply(plan)
        for warning in done.warnings:
            self._log.warning(warning)
        self._log.info(
            f"cleaned {self._root}: {len(done.paths)} removed, {size(done.freed_bytes)} freed, "
            f"{time.perf_counter() - started:.2f} s"
        )
        return list(done.paths)

    def plan_cleanup(
        self,
        max_checkpoints: int = 5,
        keep_best: bool = True,
        keep_latest: bool = True,
        max_epochs: int | None = None,
    ) -> Plan:
        """What `cleanup_checkpoints` would do: per checkpoint keep or remove, and why."""
        listing = self._store.list()
        return self._store.plan_cleanup(
            listing,
            max_checkpoints=max_checkpoints,
            keep_best=keep_best,
            keep_latest=keep_latest,
            max_epochs=max_epochs,
            best=self._best_of(listing),
        )

    def protect(self, path: PathLike, reason: str) -> None:
        """Keeps a checkpoint from every cleanup, until `unprotect`."""
        self._store.protect(path, reason)

    def unprotect(self, path: PathLike) -> None:
        """Lifts the protection of a checkpoint."""
        self._store.unprotect(path)

    def reading(self, path: PathLike) -> AbstractContextManager[Path]:
        """Holds a checkpoint: until the block ends no cleanup of any process removes it.

        Where its root cannot be written, it says that nothing is pinned. Raises
        CheckpointNotFoundError or InvalidCheckpointError when there is none.
        """
        return hold(self._resolve(path), self._log)

    # -- copying --------------------------------------------------------------------------------

    def copy_to_drive(self, drive_dir: PathLike = DRIVE_DIR, best_only: bool = False) -> CopyResult:
        """Copies checkpoints to another directory, verified; the paths copied by this call.

        `best_only` copies the one that `load_checkpoint()` would load, else every valid one that
        is not there yet (`.skipped` lists those that are). Refused under /content/drive unless
        Google Drive is mounted there.
        """
        target = Path(drive_dir)
        if (problem := drive_problem(target)) is not None:
            raise CheckpointNotFoundError(problem, root=target)
        listing = self._listing()
        sources = list(reversed(listing))
        if best_only:
            chosen = self._best_of(listing) or query.latest(listing)
            sources = [] if chosen is None else [chosen]
        started = time.perf_counter()
        moved = transfer([entry.path for entry in sources], target)
        for skipped in moved.skipped:
            if skipped.kind == "broken":
                self._log.warning(f"{skipped.source.name} was not copied: {skipped.reason}")
        for warning in self._store.record_copy(moved.copied, target):
            self._log.warning(warning)
        note = drive_notice(target) or ""
        self._log.info(
            f"copied {len(moved.copied)} to {target} ({size(moved.size_bytes)}, "
            f"{len(moved.skipped)} not copied, {time.perf_counter() - started:.2f} s)"
            f"{'; ' if note else ''}{note}"
        )
        return CopyResult(moved.copied, skipped=moved.skipped, note=note)
