"""CheckpointManager: what a training loop holds.

It joins two rooms that do not know each other: `store` decides which checkpoint, `torch_io` turns
live objects into one and back. torch is imported by the first save or load, not before.
"""

from __future__ import annotations

import time
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final

from smartcash_format.disk.drive import drive_notice, drive_problem
from smartcash_format.disk.transfer import transfer
from smartcash_format.errors import CheckpointNotFoundError
from smartcash_format.manager.choosing import PathLike, directory_of
from smartcash_format.manager.holding import hold
from smartcash_format.manager.log import size
from smartcash_format.manager.results import CopyResult
from smartcash_format.manager.saver import CheckpointSaver
from smartcash_format.store import query
from smartcash_format.store.retention import Plan

DRIVE_DIR: Final = "/content/drive/MyDrive/SmartCash/checkpoints"


class CheckpointManager(CheckpointSaver):
    """Saves, resumes, finds, keeps and copies the checkpoints under one root.

    `output_dir` is the root; nothing on disk is touched before the first save. `logger` takes
    finished strings (debug, info, warning, error). `monitor` names the metric that decides best
    and needs `mode`, "min" or "max". `keep` is a policy that is applied after each save and never
    removes what that save published; the default keeps everything. Weights of more bytes than
    `max_shard_size` are saved as several files. `incremental` puts weights that do not change into
    files of their own, which the next checkpoint links instead of writing them again.

    Thread-safe: any method from any thread, any number of managers and processes on one root.
    Training the model in another thread while a save reads its tensors is not.

    While a save is in the background, finders, lists and validations show what is published; every
    other call waits for it. Its error is logged at once and raised by the next of these calls: a
    save and a copy are done first, anything else does nothing then.
    """

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
        self._background.raise_error("nothing was removed for it; the next call removes")
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
        """Keeps a checkpoint from every cleanup, until `unprotect`.

        Raises as `CheckpointStore.protect`, ValueError for more than 256 characters among it.
        """
        self._background.raise_error(f"{path} was not protected for it; the next call does so")
        self._store.protect(path, reason)

    def unprotect(self, path: PathLike) -> None:
        """Lifts the protection of a checkpoint."""
        note = f"the protection of {path} was not lifted for it; the next call does so"
        self._background.raise_error(note)
        self._store.unprotect(path)

    def reading(self, path: PathLike) -> AbstractContextManager[Path]:
        """Holds a checkpoint: until the block ends no cleanup of any process removes it.

        Where its root cannot be written, it says that nothing is pinned. Raises
        CheckpointNotFoundError or InvalidCheckpointError when there is none.
        """
        self._background.raise_error(f"{path} was not held for it; the next call does so")
        return hold(self._resolve(path), self._log)

    # -- copying --------------------------------------------------------------------------------

    def copy_to_drive(
        self, drive_dir: PathLike = DRIVE_DIR, best_only: bool = False, *, verify: bool = False
    ) -> CopyResult:
        """Copies checkpoints to another directory, verified; the paths copied by this call.

        `best_only` copies the one that `load_checkpoint()` would load, else every valid one that
        is not there yet (`.skipped` lists those that are). What is there is known by its meta.json,
        the sizes of its files and the bytes of those up to 4 MB; with `verify` all of it is read
        again, and what has rotted there gets a sound copy beside it. Refused under /content/drive
        unless Google Drive is mounted there.
        """
        target = directory_of(drive_dir, "drive_dir")
        if (problem := drive_problem(target)) is not None:
            raise CheckpointNotFoundError(problem, root=target)
        self._background.finish()
        listing = self._listing()
        sources = list(reversed(listing))
        if best_only:
            chosen = self._best_of(listing) or query.latest(listing)
            sources = [] if chosen is None else [chosen]
        if not sources:
            self._log.warning(f"{self._root} has no checkpoint: nothing was copied")
        started = time.perf_counter()
        moved = transfer([entry.path for entry in sources], target, verify=verify)
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
        self._background.raise_error(f"an earlier save; {len(moved.copied)} copied to {target}")
        return CopyResult(moved.copied, skipped=moved.skipped, note=note)
