"""The half of a manager that only looks: list, find, filter, show, validate. It needs no torch."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Literal

from smartcash_format.disk.drive import drive_problem
from smartcash_format.disk.observe import validate
from smartcash_format.disk.read import is_checkpoint
from smartcash_format.manager import choosing
from smartcash_format.manager.choosing import PathLike
from smartcash_format.manager.log import Log, Logger
from smartcash_format.manager.shown import Shown
from smartcash_format.spec.layout import HISTORY, HISTORY_EXPORT
from smartcash_format.spec.problems import Depth
from smartcash_format.store import query
from smartcash_format.store.catalog import Listing
from smartcash_format.store.checkpoint_store import CheckpointStore
from smartcash_format.store.entry import Entry
from smartcash_format.store.history import describe_best, export_history
from smartcash_format.view.notebook import display
from smartcash_format.view.report import write_report

Mode = Literal["min", "max"]


class CheckpointReader:
    """What `CheckpointManager` does without changing a checkpoint; looking touches no disk."""

    def __init__(
        self,
        output_dir: PathLike = "runs/train/weights",
        logger: Logger | None = None,
        *,
        monitor: str | None = None,
        mode: Mode | None = None,
    ) -> None:
        if (monitor is None) != (mode is None) or mode not in (None, "min", "max"):
            raise ValueError(
                "monitor and mode go together: monitor='val_loss', mode='min' (or mode='max')"
            )
        name: object = monitor
        if name is not None and not (isinstance(name, str) and name):
            raise TypeError(f"monitor is {monitor!r:.80}; it is the name of one metric")
        self._root = choosing.directory_of(output_dir, "output_dir")
        self._log = Log(logger)
        self._monitor = monitor
        self._mode = mode
        self._run_id = str(uuid.uuid4())
        self._store = CheckpointStore(self._root, run_id=self._run_id)

    @property
    def output_dir(self) -> Path:
        """The root, as given."""
        return self._root

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self._root)!r})"

    def find_best_checkpoint(
        self, metric: str | None = None, mode: Mode | None = None
    ) -> Entry | None:
        """The best checkpoint: by the metric given, else the monitor, else the last one flagged.

        None when nothing ranks; a NaN never does; ties go to the later.
        """
        if (metric is None) != (mode is None):
            raise ValueError("metric and mode go together: metric='val_map', mode='max'")
        listing = self._listing()
        self._say_unknown(listing, metric or self._monitor)
        return self._best_of(listing, metric, mode)

    def _say_unknown(self, listing: Listing, *metrics: str | None) -> None:
        for metric in metrics:
            if metric is not None and (unknown := query.unknown_metric(listing, metric)):
                self._log.warning(unknown)

    def _best_of(
        self, listing: Listing, metric: str | None = None, mode: Mode | None = None
    ) -> Entry | None:
        return query.best(listing, metric or self._monitor, mode or self._mode)

    def find_latest_checkpoint(self) -> Entry | None:
        """The last one saved, whatever its epoch, name or file time; None when there is none."""
        return query.latest(self._listing())

    def find_checkpoint_by_epoch(self, epoch: int) -> Entry | None:
        """The last one saved for this epoch; None when there is none."""
        return query.by_epoch(self._listing(), epoch)

    def list_checkpoints(self) -> Listing:
        """Every checkpoint under the root, newest first; `.broken` has what cannot be read."""
        return self._listing()

    def filter_checkpoints(
        self,
        backbone: str | None = None,
        dataset: str | None = None,
        min_epoch: int | None = None,
        max_epoch: int | None = None,
        *,
        is_best: bool | None = None,
        tags: str | Iterable[str] | None = None,
        metrics: Mapping[str, str] | None = None,
        since: date | str | None = None,
        until: date | str | None = None,
        where: Callable[[Entry], bool] | None = None,
    ) -> Listing:
        """Those that meet every criterion given, newest first; no criterion gives all.

        Text is compared exactly; min and max are inclusive; what a checkpoint does not say never
        matches. `metrics` maps names to conditions such as ">=0.5"; `since` and `until` are aware
        times, or text such as "2026-01-31".
        """
        listing = self._listing()
        found = listing.filtered(
            backbone=backbone,
            dataset=dataset,
            min_epoch=min_epoch,
            max_epoch=max_epoch,
            is_best=is_best,
            tags=tags,
            metrics=metrics,
            since=since,
            until=until,
            where=where,
        )
        if not len(found):
            self._say_unknown(listing, *(metrics or ()))
        return found

    def _listing(self) -> Listing:
        listing = self._store.list()
        self._say_broken(listing)
        if not len(listing) and (problem := no_root(self._root)):
            self._log.warning(problem)
        return listing

    def _say_broken(self, listing: Listing) -> None:
        if listing.broken:
            first = listing.broken[0]
            self._log.warning(
                f"{len(listing.broken)} in {self._root} cannot be read as a checkpoint, first "
                f"{first.path.name}: {first.reason}"
            )

    def display_checkpoints(self) -> None:
        """Shows the checkpoints under the root as a table, the best one marked."""
        listing = self._store.list()
        best = self._best_of(listing)
        display(listing, best=best, root=self._root, metric=self._monitor, mode=self._mode)

    def report(self, path: PathLike) -> Path:
        """Writes the checkpoints under the root as one HTML file to `path`, and returns the path.

        It opens offline and answers which checkpoint to use: by the monitor, else by what the flags
        go by. Raises OSError where it cannot be written.
        """
        written = write_report(
            Path(path),
            self._listing(),
            now=datetime.now(UTC),
            title=str(self._root),
            metric=self._monitor,
            mode=self._mode,
        )
        self._log.info(f"report of {self._root}: {written.path}, {written.size_bytes:,} bytes")
        return written.path

    def get_training_history(self) -> dict[str, Any]:
        """total_runs, runs, best and last_resume, from the root's history."""
        history = self._store.events()
        for sentence in history.unread():
            self._log.warning(sentence)
        if history.rebuilt and history.lines:
            self._log.warning(f"{self._root} has no {HISTORY}; made anew from its checkpoints")
        summary = history.summary()
        if (best := self._best_of(self._store.list())) is not None:
            summary["best"] = describe_best(best)
        return Shown(summary, history)

    def training_rows(self) -> list[dict[str, Any]]:
        """Every save as a flat dict, oldest first, also of checkpoints that are gone.

        The metrics are `metrics.` and their names: `pandas.DataFrame(manager.training_rows())`.
        """
        return self._store.events().rows()

    def export_history_to_json(self, path: PathLike | None = None) -> Path:
        """The history as strict JSON, written to `path` or output_dir/training_history.json.

        Replaces what is there, whole. Raises CheckpointWriteError when the system refuses; a
        directory that is missing is not made. OSError where the history cannot be read.
        """
        target = self._root / HISTORY_EXPORT if path is None else Path(path)
        return export_history(target, self.get_training_history())

    def validate_checkpoint(self, path: PathLike) -> tuple[bool, dict[str, Any]]:
        """(is_valid, info): whether a checkpoint is complete, and a message that says what is not.

        Looks at STRUCTURE and never raises for what it finds. info: valid, message, depth,
        problems, epoch, timestamp.
        """
        report = validate(self._resolve(path), Depth.STRUCTURE)
        meta = report.meta
        info = {
            "valid": report.valid,
            "message": report.message,
            "depth": report.depth.name,
            "problems": list(report.problems),
            "epoch": meta.epoch if meta else None,
            "timestamp": meta.saved_at.isoformat() if meta else None,
        }
        return report.valid, Shown(info, report)

    def _resolve(self, path: PathLike) -> Path:
        given = choosing.path_of(path, "path")
        under = self._root / given
        return under if not os.path.lexists(given) and os.path.lexists(under) else given


def no_root(root: Path) -> str:
    """Why an empty root is none: it is a checkpoint itself, or on no Drive while it should be."""
    if problem := drive_problem(root):
        return problem
    if not is_checkpoint(root):
        return ""
    return (
        f"{root} is a checkpoint, its root is {Path(os.path.abspath(root)).parent}: "
        "CheckpointManager takes the root, load_checkpoint the path of a checkpoint"
    )
