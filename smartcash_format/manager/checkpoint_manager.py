"""CheckpointManager: what a training loop holds.

It joins two rooms that do not know each other: `store` decides which checkpoint, `torch_io` turns
live objects into one and back. torch is imported by the first save or load, not before.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path
from types import EllipsisType, TracebackType
from typing import TYPE_CHECKING, Any, Final

from smartcash_format.disk.publish import write_error
from smartcash_format.disk.transfer import drive_notice, drive_problem, transfer
from smartcash_format.errors import CheckpointError, CheckpointNotFoundError
from smartcash_format.manager import choosing
from smartcash_format.manager.background import Background
from smartcash_format.manager.choosing import PathLike
from smartcash_format.manager.guard import GRACE_S, Guard, State
from smartcash_format.manager.holding import hold
from smartcash_format.manager.loader import CheckpointLoader
from smartcash_format.manager.log import Logger, size
from smartcash_format.manager.reader import Mode
from smartcash_format.manager.results import CopyResult, SaveResult, SaveType
from smartcash_format.spec.shards import MAX_SHARD_SIZE, parse_size
from smartcash_format.store import query
from smartcash_format.store.catalog import Listing
from smartcash_format.store.retention import Plan, Policy
from smartcash_format.view.progress import Update, progress_bar

if TYPE_CHECKING:
    from smartcash_format.torch_io.incremental import Increment, Memory
    from smartcash_format.torch_io.save import Facts, Prepared
    from smartcash_format.torch_io.snapshot import Buffers

DRIVE_DIR: Final = "/content/drive/MyDrive/SmartCash/checkpoints"


class CheckpointManager(CheckpointLoader):
    """Saves, resumes, finds, keeps and copies the checkpoints under one root.

    `output_dir` is the root; nothing on disk is touched before the first save. `logger` takes
    finished strings (debug, info, warning, error). `monitor` names the metric that decides best
    and needs `mode`, "min" or "max". `keep` is a policy that is applied after each save and never
    removes what that save published; the default keeps everything. Weights of more bytes than
    `max_shard_size` are saved as several files. `incremental` puts weights that do not change into
    files of their own, which the next checkpoint links instead of writing them again.

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
        keep: Policy | None = None,
        incremental: bool = False,
        max_shard_size: str | int = MAX_SHARD_SIZE,
    ) -> None:
        super().__init__(output_dir, logger, monitor=monitor, mode=mode)
        self._keep = keep
        self._incremental = incremental
        self._memory: Memory | None = None
        self._max_shard_bytes = parse_size(max_shard_size)
        self._background = Background()
        self._buffers: Buffers | None = None

    def __enter__(self) -> CheckpointManager:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            self.close()
            return
        # The block's own error is the one to see; that of a save beside it is logged.
        try:
            self.close()
        except CheckpointError as late:
            self._log.error(f"a save in the background failed: {late}")

    def wait(self) -> SaveResult | None:
        """The result of the last save in the background, once it is published.

        None when there was none since the last `wait`. Raises what that save raised, once.
        """
        return self._background.wait()

    def close(self) -> None:
        """Waits for a save in the background and gives its memory back; raises what it raised."""
        try:
            self._background.wait()
        finally:
            self._buffers = None

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
        blocking: bool = True,
    ) -> SaveResult:
        """A new checkpoint of these live objects, published whole.

        `epoch` is stored as given; count from 1, so that 0 means nothing done. `is_best=None` asks
        the monitor: better than every finite value so far in this root. Metadata never costs a
        checkpoint: what has no JSON form is kept as its repr, with a warning.

        `blocking=False` returns when the state is copied: the optimizer may step at once, the rest
        goes on in the background, and the next save, `wait()`, `close()` or the end of the process
        waits for it. An error there is raised by the next of these calls.

        Raises UnsavableStateError before anything is written when weights, optimizer, scheduler or
        extra state could not be loaded again; CheckpointWriteError when the system refuses, with
        every earlier checkpoint untouched.
        """
        from smartcash_format.torch_io.save import Facts, is_writer, prepare
        from smartcash_format.torch_io.snapshot import Buffers

        if not is_writer():
            return SaveResult(path=None, type="skipped")
        number = choosing.whole_epoch(epoch)
        started = time.perf_counter()
        with self._saving:
            self._background.wait()
            described = choosing.describe(
                config, metrics, notes, backbone=backbone, dataset=dataset, tags=tags
            )
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
            if not blocking and self._buffers is None:
                self._buffers = Buffers()
            prepared = prepare(
                self._root / facts.directory_name,
                facts,
                model=model,
                optimizer=optimizer if save_optimizer else None,
                scheduler=scheduler if save_optimizer else None,
                extra=extra,
                rng=rng,
                max_shard_bytes=self._max_shard_bytes,
                buffers=None if blocking else self._buffers,
                increment=self._increment(listing) if self._incremental else None,
            )
            warnings = described.warnings
            if blocking:
                with progress_bar(f"saving {facts.directory_name}") as update:
                    return self._publish(prepared, warnings, started, update)
            self._background.start(lambda: self._publish(prepared, warnings, started))
        return SaveResult(
            path=prepared.final,
            type=_type(facts),
            checkpoint_id=facts.checkpoint_id,
            bytes=prepared.size_bytes,
            seconds=time.perf_counter() - started,
            warnings=warnings,
        )

    def _increment(self, listing: Listing) -> Increment:
        """What a save may share: with the checkpoint that it follows, else with the newest."""
        from smartcash_format.torch_io.incremental import Increment, Memory

        self._memory = self._memory or Memory()
        followed = (entry for entry in listing if entry.checkpoint_id == self._parent_id)
        earlier = next(followed, None) or query.latest(listing)
        return Increment(
            earlier=None if earlier is None else earlier.path,
            memory=self._memory,
            max_shard_bytes=self._max_shard_bytes,
        )

    def _publish(
        self,
        prepared: Prepared,
        warnings: Iterable[str],
        started: float,
        progress: Update | None = None,
    ) -> SaveResult:
        """The part of a save that may run in the background: write, note, prune, in this order."""
        from smartcash_format.torch_io.save import publish

        saved = publish(prepared, progress=progress)
        facts = prepared.facts
        self._parent_id = facts.checkpoint_id
        said = [*warnings, *saved.warnings, *self._store.record_save(saved.path, saved.meta)]
        removed = self._prune(facts.checkpoint_id, said)
        for warning in said:
            self._log.warning(warning)
        seconds = time.perf_counter() - started
        linked = size(sum(saved.meta.files[name].size_bytes for name in saved.linked))
        self._log.info(
            f"saved {saved.path} ({_type(facts)}, epoch {facts.epoch}, {size(saved.size_bytes)}, "
            f"{linked + ' of them linked, ' if saved.linked else ''}{seconds:.2f} s)"
        )
        return SaveResult(
            path=saved.path,
            type=_type(facts),
            checkpoint_id=facts.checkpoint_id,
            bytes=saved.size_bytes,
            seconds=seconds,
            linked=saved.linked,
            removed=removed,
            warnings=said,
        )

    def _prune(self, published: str, warnings: list[str]) -> tuple[Path, ...]:
        """What `keep` removed after a save; it never costs the save."""
        if self._keep is None:
            return ()
        try:
            done = self._store.apply(self._store.plan(self._keep, published=[published]))
        except (CheckpointError, OSError) as error:
            warnings.append(f"nothing was removed after this save: {error}")
            return ()
        warnings += done.warnings
        return done.paths

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
        with progress_bar("copying") as update:
            moved = transfer([entry.path for entry in sources], target, progress=update)
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


def _type(facts: Facts) -> SaveType:
    return "best" if facts.is_best else "latest"
