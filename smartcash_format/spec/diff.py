"""What differs between two checkpoints, from their meta.json and tensors.json alone.

Tensors are compared by dtype, shape and digest: gigabytes in milliseconds. Digests of different
algorithms say nothing about each other, so the answer is then "unknown", never "same".
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from smartcash_format.spec import digest
from smartcash_format.spec.displaying import Displayed
from smartcash_format.spec.meta import Meta
from smartcash_format.spec.tensors import TensorRecord, Tensors, WeightSetTensors

Verdict = Literal["same", "different", "unknown"]
# What two checkpoints never share, and what is compared in a part of its own.
IDENTITY: Final = ("checkpoint_id", "run_id", "parent_id", "derived_from", "saved_at")
_APART: Final = frozenset({*IDENTITY, "meta_digest", "config", "metrics", "files"})


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldChange:
    """A value at one path of a document: added (no `before`), removed (no `after`), changed."""

    path: str
    kind: Literal["added", "removed", "changed"]
    before: Any = None
    after: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricChange:
    """A metric in both; None where one lacks it. `delta` only between finite values."""

    name: str
    before: int | float | None
    after: int | float | None

    @property
    def delta(self) -> int | float | None:
        """after - before."""
        if self.before is None or self.after is None:
            return None
        if not (math.isfinite(self.before) and math.isfinite(self.after)):
            return None
        return self.after - self.before

    @property
    def differs(self) -> bool:
        """Whether the two say something else; NaN is NaN."""
        if self.before is None or self.after is None:
            return self.before is not self.after
        return self.before != self.after and not (
            math.isnan(self.before) and math.isnan(self.after)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorChange:
    """A tensor that is in both under one name, or under two names with the same bytes."""

    name: str
    new_name: str
    before: TensorRecord
    after: TensorRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightsDiff:
    """One weight set. Each name of a tied tensor counts; a reshaped one may be retyped as well.

    `unknown` have the same dtype and shape and digests of different algorithms. The verdict is
    unknown where nothing but those digests says whether they differ.
    """

    name: str
    verdict: Verdict
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    renamed: tuple[TensorChange, ...] = ()
    reshaped: tuple[TensorChange, ...] = ()
    retyped: tuple[TensorChange, ...] = ()
    changed: tuple[TensorChange, ...] = ()
    unknown: tuple[str, ...] = ()
    unchanged: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Diff(Displayed):
    """What differs from one checkpoint to another.

    `identity` are ids and times, which differ between any two saves; `fields` the rest of the
    metadata; `metrics` are all of both, `weights` all weight sets of both.
    """

    identity: tuple[FieldChange, ...] = ()
    fields: tuple[FieldChange, ...] = ()
    config: tuple[FieldChange, ...] = ()
    metrics: tuple[MetricChange, ...] = ()
    weights: tuple[WeightsDiff, ...] = ()

    def __repr__(self) -> str:
        metrics = sum(metric.differs for metric in self.metrics)
        return (
            f"Diff(weights: {self.same_weights}, {metrics} metrics, {len(self.config)} settings, "
            f"{len(self.fields)} other fields)"
        )

    @property
    def same_weights(self) -> Verdict:
        """Whether these are the same model, however sharded, named on disk or dated."""
        verdicts = {weights.verdict for weights in self.weights}
        if "different" in verdicts:
            return "different"
        return "unknown" if "unknown" in verdicts else "same"

    @property
    def differs(self) -> bool:
        """Whether anything differs beside ids and times."""
        return bool(
            self.fields
            or self.config
            or any(metric.differs for metric in self.metrics)
            or self.same_weights != "same"
        )


def diff(before: tuple[Meta, Tensors], after: tuple[Meta, Tensors]) -> Diff:
    """What differs from the one checkpoint to the other; pure."""
    old, new = (meta.model_dump(mode="json") for meta, _ in (before, after))
    old_config, new_config = old["config"], new["config"]
    return Diff(
        identity=tuple(changes(_only(old, IDENTITY), _only(new, IDENTITY))),
        fields=tuple(changes(_fields(old), _fields(new))),
        config=tuple(changes(old_config, new_config)),
        metrics=tuple(_metrics(before[0].metrics, after[0].metrics)),
        weights=tuple(_weight_sets(before, after)),
    )


def changes(before: object, after: object, path: str = "") -> Iterator[FieldChange]:
    """Every place at which two JSON values differ, as deep as both are of one shape.

    Lists are compared element by element. Numbers are equal as numbers; a bool is no number.
    """
    match before, after:
        case dict(), dict():
            for key in sorted(before.keys() | after.keys()):
                yield from _member(before, after, key, _key_path(path, key))
        case list(), list():
            old, new = dict(enumerate(before)), dict(enumerate(after))
            for index in range(max(len(old), len(new))):
                yield from _member(old, new, index, f"{path}[{index}]")
        case _:
            if isinstance(before, bool) is not isinstance(after, bool) or before != after:
                yield FieldChange(path=path, kind="changed", before=before, after=after)


def leaves(value: object, path: str = "") -> Iterator[tuple[str, object]]:
    """Every value of a JSON document that is neither list nor object, or an empty one, and where
    it is; the places are those of `changes`.
    """
    match value:
        case dict() if value:
            for key, item in value.items():
                yield from leaves(item, _key_path(path, key))
        case list() if value:
            for index, item in enumerate(value):
                yield from leaves(item, f"{path}[{index}]")
        case _:
            yield path, value


def _member(
    before: Mapping[Any, object], after: Mapping[Any, object], key: object, path: str
) -> Iterator[FieldChange]:
    if key not in before:
        yield FieldChange(path=path, kind="added", after=after[key])
    elif key not in after:
        yield FieldChange(path=path, kind="removed", before=before[key])
    else:
        yield from changes(before[key], after[key], path)


def _key_path(path: str, key: str) -> str:
    if not key.isidentifier():
        return f"{path}[{key!r}]"
    return f"{path}.{key}" if path else key


def _only(document: Mapping[str, Any], keys: Sequence[str]) -> dict[str, Any]:
    return {key: document[key] for key in keys}


def _fields(document: Mapping[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in document.items() if key not in _APART}
    # The weights have a part of their own; what remains here is what is said about them.
    kept["weights"] = {
        name: {key: value for key, value in record.items() if key != "weights_digest"}
        for name, record in document["weights"].items()
    }
    kept["files"] = {name: record["size_bytes"] for name, record in document["files"].items()}
    return kept


def _metrics(
    before: Mapping[str, int | float], after: Mapping[str, int | float]
) -> Iterator[MetricChange]:
    for name in sorted(before.keys() | after.keys()):
        yield MetricChange(name=name, before=before.get(name), after=after.get(name))


def _weight_sets(
    before: tuple[Meta, Tensors], after: tuple[Meta, Tensors]
) -> Iterator[WeightsDiff]:
    old, new = before[0].weights, after[0].weights
    for name in sorted(old.keys() | new.keys()):
        old_set = before[1].weights.get(name, WeightSetTensors(tensors={}))
        new_set = after[1].weights.get(name, WeightSetTensors(tensors={}))
        verdict: Verdict = "different"
        if name in old and name in new:
            verdict = _same(old[name].weights_digest, new[name].weights_digest)
        yield _weight_set(name, verdict, _by_name(old_set), _by_name(new_set))


def _by_name(weights: WeightSetTensors) -> dict[str, TensorRecord]:
    """Every name, those of tied tensors included."""
    tied = {
        alias: weights.tensors[name]
        for alias, name in weights.aliases.items()
        if name in weights.tensors
    }
    return {**weights.tensors, **tied}


def _weight_set(
    name: str,
    verdict: Verdict,
    before: Mapping[str, TensorRecord],
    after: Mapping[str, TensorRecord],
) -> WeightsDiff:
    both = [
        TensorChange(name=key, new_name=key, before=before[key], after=after[key])
        for key in sorted(before.keys() & after.keys())
    ]
    alike = [
        change
        for change in both
        if change.before.dtype == change.after.dtype and change.before.shape == change.after.shape
    ]
    said = [(change, _same(change.before.digest, change.after.digest)) for change in alike]
    renamed = _renamed(before, after)
    known = before.keys() != after.keys() or len(alike) < len(both)
    if verdict == "unknown" and (known or any(each == "different" for _, each in said)):
        verdict = "different"  # names, shapes and dtypes are compared without a digest
    return WeightsDiff(
        name=name,
        verdict=verdict,
        added=_without(after, before, {change.new_name for change in renamed}),
        removed=_without(before, after, {change.name for change in renamed}),
        renamed=renamed,
        reshaped=tuple(change for change in both if change.before.shape != change.after.shape),
        retyped=tuple(change for change in both if change.before.dtype != change.after.dtype),
        changed=tuple(change for change, verdict in said if verdict == "different"),
        unknown=tuple(change.name for change, verdict in said if verdict == "unknown"),
        unchanged=sum(verdict == "same" for _, verdict in said),
    )


def _without(
    names: Mapping[str, TensorRecord], others: Mapping[str, TensorRecord], renamed: set[str]
) -> tuple[str, ...]:
    return tuple(sorted(names.keys() - others.keys() - renamed))


def _renamed(
    before: Mapping[str, TensorRecord], after: Mapping[str, TensorRecord]
) -> tuple[TensorChange, ...]:
    """What went under one name and came under another with the same bytes, where that is certain.

    Tensors of equal bytes (zeros, ones) have no one new name: those stay removed and added.
    """
    gone = {key: before[key] for key in sorted(before.keys() - after.keys())}
    come = {key: after[key] for key in sorted(after.keys() - before.keys())}
    unique = Counter(map(_bytes_of, gone.values())), Counter(map(_bytes_of, come.values()))
    found = {_bytes_of(record): key for key, record in come.items()}
    return tuple(
        TensorChange(name=key, new_name=found[bytes_of], before=record, after=come[found[bytes_of]])
        for key, record in gone.items()
        if (bytes_of := _bytes_of(record)) in found
        and unique[0][bytes_of] == unique[1][bytes_of] == 1
    )


def _bytes_of(record: TensorRecord) -> tuple[str, tuple[int, ...], str]:
    return record.dtype, tuple(record.shape), record.digest


def _same(before: str, after: str) -> Verdict:
    if before == after:
        return "same"
    return "different" if digest.algorithm_of(before) == digest.algorithm_of(after) else "unknown"
