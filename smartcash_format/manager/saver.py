"""The half of a manager that saves: now or in the background, and what each call owes to a failure.

An error in the background is raised by a later call. Saving comes first there: a second checkpoint
lost for the sake of the first would be worse than an error that comes late.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path
from types import EllipsisType, TracebackType
from typing import TYPE_CHECKING, Any, Self

from smartcash_format.disk.collector import collector_paused
from smartcash_format.disk.publish import write_error
from smartcash_format.disk.sharing import SoundFiles
from smartcash_format.manager import choosing
from smartcash_format.manager.choosing import PathLike
from smartcash_format.manager.guard import GRACE_S, Guard, State, seconds
from smartcash_format.manager.loader import CheckpointLoader
from smartcash_format.manager.log import Logger, size
from smartcash_format.manager.reader import Mode
from smartcash_format.manager.results import SaveResult, SaveType
from smartcash_format.spec.flags import flag
from smartcash_format.spec.shards import MAX_SHARD_SIZE
from smartcash_format.spec.sizes import parse_size
from smartcash_format.store import query
from smartcash_format.store.catalog import Listing
from smartcash_format.store.retention import Policy

if TYPE_CHECKING:
    from smartcash_format.torch_io.incremental import Increment, Memory
    from smartcash_format.torch_io.recall import Recall
    from smartcash_format.torch_io.save import Facts, Prepared
    from smartcash_format.torch_io.snapshot import Buffers


class CheckpointSaver(CheckpointLoader):
    """A loader that also saves, and whose saves in the background end with its block."""

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
        if keep is not None and not isinstance(keep, Policy):
            raise TypeError(f"keep is {keep!r:.80}; it is a policy, such as KeepLast(3)")
        self._keep = keep
        self._said_of_keep: set[str] = set()
        self._incremental = flag(incremental, "incremental")
        self._memory: Memory | None = None
        self._max_shard_bytes = parse_size(max_shard_size)
        self._buffers: Buffers | None = None
        self._recall: Recall | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._release()
        if error is None:
            self._background.raise_error()
        # Else the block's own error is the one to see; that of a save beside it is logged, and
        # raised by the next call if there is one.

    def wait(self) -> SaveResult | None:
        """The result of the last save in the background, once it is published.

        None when there was none since the last `wait`. Raises what that save raised, once.
        """
        self._background.raise_error()
        return self._background.result()

    def close(self) -> None:
        """Waits for a save in the background and gives its memory back; raises what it raised."""
        self._release()
        self._background.raise_error()

    def _release(self) -> None:
        with self._saving:
            self._background.finish()
            self._buffers = None

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

        `epoch` is stored as given; count from 1, so that 0 means nothing done. `metrics` maps names
        to numbers, `is_best=None` asks the monitor: better than every finite value so far in this
        root. `save_optimizer=False` leaves out optimizer and scheduler, `rng=False` the state of
        random numbers. `extra` maps names to whatever else has a state: a GradScaler, an EMA, a
        second optimizer, a data loader, a dict. `config`, `notes` and `tags` are the user's own
        words; `backbone` and `dataset` are looked up in `config` where they are not given.
        Metadata never costs a checkpoint: what has no JSON form is kept as its repr, with a
        warning.

        `blocking=False` returns when the state is copied: the optimizer may step at once, the rest
        goes on in the background, and the next save, load, cleanup or copy, `wait()`, `close()` and
        the end of the process wait for it. The result completes itself once it is published: until
        then `bytes` is the most that it may take, `seconds` the time the call took, and nothing is
        linked or removed. An error in the background is logged at once and raised by the next call
        that waits. When that is a save, it saves first: an error with a note that names the new
        checkpoint means that this one is fine and the one before it is missing.

        Raises UnsavableStateError before anything is written when weights, optimizer, scheduler or
        extra state could not be loaded again; CheckpointWriteError when the system refuses, with
        every earlier checkpoint untouched.
        """
        from smartcash_format.torch_io.recall import Recall
        from smartcash_format.torch_io.save import Facts, is_writer, prepare
        from smartcash_format.torch_io.snapshot import Buffers

        if not is_writer():
            return SaveResult(path=None, type="skipped")
        number = choosing.whole_epoch(epoch)
        save_optimizer = flag(save_optimizer, "save_optimizer")
        rng, blocking = flag(rng, "rng"), flag(blocking, "blocking")
        if self._background.is_here():  # who waits for this save would wait for that one
            raise RuntimeError("a logger or a policy that a save in the background calls saves too")
        started = time.perf_counter()
        # In one piece: a collection between its halves would look at all that it is about to drop.
        quiet = collector_paused() if blocking else nullcontext()
        with self._saving, quiet:
            self._background.finish()
            described = choosing.describe(
                config, metrics, notes, backbone=backbone, dataset=dataset, tags=tags
            )
            listing = self._list_to_write()
            best = (
                self._is_best(listing, described.metrics)
                if is_best is None
                else choosing.best_flag(is_best)
            )
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
            # Taken away meanwhile: a state_dict() of the user's may save as well.
            recall, self._recall = self._recall or Recall(), None
            buffers = None
            if not blocking:
                buffers, self._buffers = self._buffers or Buffers(), None
            prepared = prepare(
                self._root / facts.directory_name,
                facts,
                model=model,
                optimizer=optimizer if save_optimizer else None,
                scheduler=scheduler if save_optimizer else None,
                extra=extra,
                rng=rng,
                max_shard_bytes=self._max_shard_bytes,
                buffers=buffers,
                increment=self._increment(listing) if self._incremental else None,
                recall=recall,
            )
            self._background.finish()
            self._recall, self._buffers = recall, buffers or self._buffers
            warnings = described.warnings
            if blocking:
                result = self._publish(prepared, warnings, started)
                earlier = self._background.take_error()
            else:
                result = SaveResult(
                    path=prepared.final,
                    type=_type(facts),
                    checkpoint_id=facts.checkpoint_id,
                    bytes=prepared.size_bytes,
                    seconds=time.perf_counter() - started,
                    warnings=warnings,
                )
                begun = result
                earlier = self._background.take_error()
                self._background.start(
                    lambda: begun.complete(self._publish(prepared, warnings, started))
                )
        if earlier is not None:
            state = "is saved" if blocking else "is being saved"
            earlier.add_note(f"an earlier save in the background; {prepared.final.name} {state}")
            raise earlier
        return result

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

    def _publish(self, prepared: Prepared, warnings: Iterable[str], started: float) -> SaveResult:
        """The part of a save that may run in the background: write, note, prune, in this order."""
        from smartcash_format.torch_io.save import publish

        saved = publish(prepared)
        facts = prepared.facts
        if self._parent_id == facts.parent_id:  # nothing was resumed since this save began
            self._parent_id = facts.checkpoint_id
        said = [*warnings, *saved.warnings, *self._store.record_save(saved.path, saved.meta)]
        # What is removed may be other links of what was just linked.
        known = self._memory.sound if self._memory is not None else SoundFiles()
        with known.unlinking(saved.path, saved.linked):
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
            plan = self._store.plan(self._keep, published=[published])
            # The same at every save: once is enough.
            warnings += [each for each in plan.warnings if each not in self._said_of_keep]
            self._said_of_keep.update(plan.warnings)
            done = self._store.apply(plan)
        except Exception as error:  # noqa: BLE001 - the user's own policy; the save stands
            warnings.append(
                f"keep={self._keep!r} failed after this save, which stands: "
                f"{type(error).__name__}: {error}"
            )
            return ()
        warnings += done.warnings
        return done.paths

    def guard(self, state: State, grace_s: float = GRACE_S) -> Guard:
        """SIGTERM and SIGINT wait for the next `guard.step()`, which saves and lets them go on.

            state = lambda: {"model": model, "optimizer": optimizer, "epoch": epoch - 1}
            with manager.guard(state) as guard:
                for batch in batches:
                    ...
                    guard.step()

        `state` is called there and gives the arguments of `save_checkpoint`; the save has type
        "emergency". `epoch` is the number of those that are done: a resume that took the one under
        way for done would leave the rest of it out. No step within `grace_s` seconds, or an
        exception inside an iteration: nothing is saved, the last checkpoint stands, and the log
        says so.
        """
        if not callable(state):
            raise TypeError(
                f"state is {type(state).__name__}; it is a function that gives the arguments of "
                'save_checkpoint when a signal comes: lambda: {"model": model, "epoch": epoch - 1}'
            )
        return Guard(
            self._save_in_emergency,
            state,
            self._log,
            seconds(grace_s),
            finish=self._background.finish,
        )

    def _save_in_emergency(self, state: Mapping[str, Any]) -> SaveResult:
        self._background.finish()
        while self._background.take_error() is not None:
            pass  # logged when it happened: nothing may cost this save, which is the last
        saved = self.save_checkpoint(**{**state, "blocking": True})
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


def _type(facts: Facts) -> SaveType:
    return "best" if facts.is_best else "latest"
