"""One checkpoint at a path of the caller's choosing, without a manager, a root or a history."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path

from smartcash_format.manager import choosing
from smartcash_format.manager.results import SaveResult
from smartcash_format.spec import layout
from smartcash_format.spec.flags import flag
from smartcash_format.spec.shards import MAX_SHARD_SIZE
from smartcash_format.spec.sizes import parse_size
from smartcash_format.store.catalog import scan
from smartcash_format.torch_io.save import Facts, is_writer, save

_logger = logging.getLogger("smartcash_format")


def save_checkpoint(
    path: choosing.PathLike,
    model: object,
    optimizer: object = None,
    scheduler: object = None,
    config: object = None,
    epoch: int = 0,
    metrics: object = None,
    is_best: bool = False,
    *,
    step: int | None = None,
    tags: Iterable[str] = (),
    backbone: str | None = None,
    dataset: str | None = None,
    notes: Mapping[str, object] | None = None,
    extra: Mapping[str, object] | None = None,
    rng: bool = True,
    max_shard_size: str | int = MAX_SHARD_SIZE,
) -> SaveResult:
    """A new checkpoint of these live objects at `path`, published whole before the call returns.

    The words mean what they mean for `CheckpointManager` and its `save_checkpoint`. Raises
    CheckpointExistsError when the path is taken, UnsavableStateError before anything is written,
    CheckpointWriteError when the system refuses, ValueError for a name that is hidden or that of a
    history.
    """
    target = choosing.path_of(path, "path")
    if layout.is_hidden(target.name) or target.name == layout.HISTORY:
        # No listing would show the first, and the next save might clear it; a root has the other.
        raise ValueError(f"path ends in {target.name!r}, a name that no checkpoint has in a root")
    if not is_writer():
        return SaveResult(path=None, type="skipped")
    started = time.perf_counter()
    described = choosing.describe(
        config, metrics, notes, backbone=backbone, dataset=dataset, tags=tags
    )
    facts = Facts(
        checkpoint_id=str(uuid.uuid4()),
        run_id=str(uuid.uuid4()),
        parent_id=None,
        saved_at=_next_moment(target.parent),
        epoch=choosing.whole_epoch(epoch),
        step=choosing.whole_step(step),
        is_best=choosing.best_flag(is_best),
        metrics=described.metrics,
        backbone=described.backbone,
        dataset=described.dataset,
        tags=described.tags,
        config=described.config,
        notes=described.notes,
    )
    saved = save(
        target,
        facts,
        model=model,
        optimizer=optimizer,
        scheduler=scheduler,
        extra=extra,
        rng=flag(rng, "rng"),
        max_shard_bytes=parse_size(max_shard_size),
    )
    warnings = (*described.warnings, *saved.warnings)
    for warning in warnings:
        _logger.warning(warning)
    return SaveResult(
        path=saved.path,
        type="best" if facts.is_best else "latest",
        checkpoint_id=facts.checkpoint_id,
        bytes=saved.size_bytes,
        seconds=time.perf_counter() - started,
        warnings=warnings,
    )


def _next_moment(root: Path) -> datetime:
    """Later than everything that can be read in the root, whatever the clock says."""
    now = datetime.now(UTC)
    try:
        return choosing.next_moment(scan(root), now)
    except OSError:
        return now  # it cannot be listed: nothing in it can be read
