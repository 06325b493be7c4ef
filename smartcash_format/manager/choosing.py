"""What a save says of itself and which checkpoint a load means: decisions over values, no I/O."""

from __future__ import annotations

import difflib
import math
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, SupportsIndex

from smartcash_format.disk.durable import home_problem
from smartcash_format.errors import (
    CheckpointNotFoundError,
    InvalidCheckpointError,
    UnsupportedVersionError,
)
from smartcash_format.spec import limits
from smartcash_format.spec.flags import flag
from smartcash_format.spec.meta import Meta
from smartcash_format.spec.metrics import notes_to_json, split_metrics
from smartcash_format.spec.plain import to_json
from smartcash_format.spec.version import SUPPORTED
from smartcash_format.store import query
from smartcash_format.store.catalog import Listing
from smartcash_format.store.entry import Broken, Entry

if TYPE_CHECKING:
    from smartcash_format.torch_io.report import Cast

PathLike = str | os.PathLike[str]

# Where a config says what the model and the data are, most telling first (FORMAT.md, meta.json).
_BACKBONE: Final = (("model", "backbone"), ("backbone",))
_DATASET: Final = (("data", "source"), ("dataset", "name"), ("dataset",))


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """The user's own words about a save, as JSON, and a sentence for whatever was not kept."""

    config: Any
    metrics: dict[str, int | float]
    notes: dict[str, Any]
    backbone: str | None
    dataset: str | None
    tags: tuple[str, ...]
    warnings: tuple[str, ...]


def describe(
    config: object,
    metrics: object,
    notes: Mapping[str, object] | None,
    *,
    backbone: str | None,
    dataset: str | None,
    tags: Iterable[str] | None,
) -> Described:
    """What a save's metadata will say; nothing in it is ever a reason to refuse the save."""
    settings = to_json(config, name="config")
    numbers = split_metrics({} if metrics is None else metrics)
    remarks = notes_to_json(notes, numbers.others)
    kept = remarks.value if isinstance(remarks.value, dict) else {}
    labels, label_warnings = _tags(tags)
    return Described(
        config=settings.value,
        metrics=numbers.numbers,
        notes=kept,
        backbone=_text(backbone) or _looked_up(settings.value, _BACKBONE),
        dataset=_text(dataset) or _looked_up(settings.value, _DATASET),
        tags=labels,
        warnings=(
            *settings.warnings,
            *numbers.warnings,
            *remarks.warnings,
            *label_warnings,
            *_not_kept("backbone", backbone),
            *_not_kept("dataset", dataset),
        ),
    )


def _not_kept(what: str, given: object) -> tuple[str, ...]:
    """A sentence about a name that was given and is not stored as it is."""
    if given is None:
        return ()
    if not isinstance(given, str):
        return (f"{what}: left out, being {type(given).__name__} and no text",)
    kept = _text(given) or ""
    return () if kept == given else (f"{what}: stored as meta.json has room for it: {kept!r}",)


def _looked_up(config: Any, places: Iterable[tuple[str, ...]]) -> str | None:
    for place in places:
        found = config
        for key in place:
            found = found.get(key) if isinstance(found, dict) else None
        if (text := _text(found)) is not None:
            return text
    return None


def _text(value: object) -> str | None:
    """Only strings count, as far as meta.json has room for them."""
    if not isinstance(value, str) or not value:
        return None
    return value.encode("utf-8", "backslashreplace").decode()[: limits.SHORT_TEXT]


def _tags(tags: Iterable[str] | None) -> tuple[tuple[str, ...], tuple[str, ...]]:
    if tags is None:
        return (), ()
    try:
        given = [tags] if isinstance(tags, str) else list(tags)
    except Exception:  # noqa: BLE001 - no list, or the user's own; it never costs a checkpoint
        return (), (f"tags: left out, being {type(tags).__name__} and no list of texts",)
    texts = [text for tag in given if (text := _text(tag)) is not None]
    kept = tuple(dict.fromkeys(texts))[: limits.TAGS]
    if len(kept) == len(given):
        return kept, ()
    lost = len(given) - len(kept)
    return kept, (f"tags: {lost} of {len(given)} left out: double, empty, no text, or too many",)


def whole_epoch(epoch: object) -> int:
    """The epoch as given. Raises TypeError when there is none, ValueError below zero."""
    if epoch is ...:
        raise TypeError(
            "save_checkpoint needs epoch=: the number of epochs done, counted from 1 "
            "(for epoch in range(start + 1, epochs + 1): ...)"
        )
    return _whole("epoch", epoch)


def whole_step(step: object) -> int | None:
    """The step as given, None included."""
    return None if step is None else _whole("step", step)


def best_flag(is_best: object) -> bool:
    """Whether a save is flagged best; None says nothing. Raises TypeError for what is no flag."""
    return is_best is not None and flag(
        is_best, "is_best", "; the order is ..., epoch, metrics, is_best"
    )


def _whole(what: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, SupportsIndex):
        raise TypeError(f"{what} is a whole number, not {type(value).__name__}")
    number = value.__index__()
    if not 0 <= number <= limits.INTEGER_MAX:
        raise ValueError(f"{what} is {number}; it counts what is done, from 0 up")
    return number


def next_moment(listing: Listing, now: datetime) -> datetime:
    """When the next save counts as saved: now, but never before what the root has already."""
    newest = query.latest(listing)
    if newest is None:
        return now
    try:
        after = newest.saved_at + timedelta(microseconds=1)
    except OverflowError:  # the end of all time, by a broken clock: ids decide the order then
        after = newest.saved_at
    return max(now, after)


def beats_all(
    listing: Iterable[Entry], metrics: Mapping[str, int | float], monitor: str, mode: str
) -> bool:
    """Whether a value of the monitor is better than every finite one before it."""
    value = metrics.get(monitor)
    if value is None or not math.isfinite(value):
        return False
    before = [entry.metric(monitor) for entry in listing]
    finite = [found for found in before if found is not None and math.isfinite(found)]
    if not finite:
        return True
    return value < min(finite) if mode == "min" else value > max(finite)


def newer_than(listing: Listing, meta: Meta) -> Entry | None:
    """The newest checkpoint, when that is another one than this."""
    newest = query.latest(listing)
    return None if newest is None or newest.checkpoint_id == meta.checkpoint_id else newest


def refuse_newer_versions(root: Path, listing: Listing) -> None:
    """Raises UnsupportedVersionError while the root has a checkpoint of a newer major version.

    What is best or newest there cannot be known.
    """
    for broken in listing.broken:
        if broken.code == "newer-version":
            raise UnsupportedVersionError(
                f"{broken.path.name} in {root} is newer than this reader ({broken.reason}), so "
                "what is best or newest cannot be known: upgrade smartcash-format or pass a path",
                found=broken.problems[0].found or "",
                supported=SUPPORTED,
            )


def newest_is_broken(broken: Broken, newest: Entry) -> InvalidCheckpointError:
    """The error for the one saved last where it cannot be read: to go on from another is asked."""
    return InvalidCheckpointError(
        f"{broken.path.name}, the last one saved, cannot be read as a checkpoint; with "
        f"fallback=True the newest that passes is loaded (after it comes {newest.name})",
        path=broken.path,
        problems=broken.problems,
    )


def path_of(given: object, what: str) -> Path:
    """A path that a caller gave. Raises TypeError for what is none, and says what is meant."""
    if isinstance(given, str | os.PathLike):
        return Path(given)
    hint = ""
    if given is None:
        hint = "; find_best_checkpoint() and its like give None when there is none"
    raise TypeError(f"{what} is {type(given).__name__}, not a path{hint}")


def directory_of(given: object, what: str) -> Path:
    """A directory to write in.

    Raises ValueError for one that begins with `~`: it would be made under this name.
    """
    path = path_of(given, what)
    if problem := home_problem(path):
        raise ValueError(f"{what}: {problem}")
    return path


def no_such_path(asked: str, root: Path, listing: Listing) -> CheckpointNotFoundError:
    """The error for a path that leads nowhere, with what was perhaps meant."""
    names = ["best", "latest", *(entry.name for entry in listing)]
    if asked.isdecimal():
        hint = f"an epoch is a number: load_checkpoint({int(asked)})"
    elif close := difflib.get_close_matches(asked, names, n=1, cutoff=0.75):
        hint = f"did you mean {close[0]!r}?"
    else:
        hint = 'it is a path, an epoch, "best" or "latest"'
    where = "" if Path(asked).is_absolute() else f", also not in {root}"
    return CheckpointNotFoundError(
        f"{asked}: no such checkpoint{where}; {hint}", root=root, query=asked
    )


def no_such_epoch(root: Path, epoch: int, listing: Listing) -> CheckpointNotFoundError:
    """The error for an epoch that was never saved, with the nearest that was."""
    epochs = sorted({entry.epoch for entry in listing}, key=lambda e: (abs(e - epoch), e))
    nearest = str(epochs[0]) if epochs else ""
    hint = f"; the nearest is epoch {nearest}" if nearest else "; it has no checkpoint"
    return CheckpointNotFoundError(
        f"{root} has no checkpoint of epoch {epoch}{hint}",
        root=root,
        query=f"epoch {epoch}",
        nearest=nearest,
    )


def nothing_to_load(
    root: Path, asked: str | None, listing: Listing
) -> CheckpointNotFoundError | InvalidCheckpointError:
    """The error when nothing can be loaded: nothing ranks, all is broken, or nothing is there."""
    if len(listing):
        return CheckpointNotFoundError(
            f"{root} has {len(listing)} checkpoints and none is marked or ranked best: save with "
            'is_best=, give the manager monitor= and mode=, or load_checkpoint("latest")',
            root=root,
            query=asked or "best",
        )
    if listing.broken:
        problems = [problem for broken in listing.broken for problem in broken.problems]
        return InvalidCheckpointError(
            f"{root} has no checkpoint that can be loaded, only {len(listing.broken)} broken ones; "
            "this is no fresh start: look with `smartcash-format doctor`",
            path=root,
            problems=problems,
        )
    legacy = ""
    if listing.legacy:
        legacy = (
            f" {len(listing.legacy)} .pt or .pth files lie there: "
            f"`smartcash-format convert {root} -o {root}` brings them in."
        )
    return CheckpointNotFoundError(
        f"{root} has no checkpoint to load.{legacy} To start fresh where there is none: "
        'start = manager.load_checkpoint("latest", model=model, optimizer=optimizer, '
        'missing_ok=True).get("epoch", 0)',
        root=root,
        query=asked or "best or newest",
    )


def casts(cast: Sequence[Cast]) -> str:
    """How many tensors a load cast, and from what to what; nothing when it cast none."""
    kinds = dict.fromkeys(f"{one.stored} to {one.live}" for one in cast)
    count = f"{len(cast)} tensor{'' if len(cast) == 1 else 's'}"
    return f"{count} cast {', '.join(kinds)}, " if kinds else ""


def remarks(
    notes: Iterable[str],
    missing: Collection[object],
    unexpected: Collection[object],
    mismatched: Collection[object],
) -> tuple[str, ...]:
    """What a load has to say, one sentence each; lists are cut, the result has them whole."""
    lists = (
        ("not in the checkpoint and left as they were", missing),
        ("in the checkpoint only", unexpected),
        ("of another shape and left as they were", mismatched),
    )
    said = [
        f"{len(found)} tensors are {what}: {', '.join(map(str, list(found)[:5]))}"
        + (" ..." if len(found) > 5 else "")
        for what, found in lists
        if found
    ]
    return (*notes, *said)
