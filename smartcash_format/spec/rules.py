"""When is a checkpoint whole? One pure function that save, load and validate share.

`check` compares what meta.json says with what was observed on the disk, as deep as the observation
went. Save publishes only when it finds nothing.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from smartcash_format.spec import digest, layout
from smartcash_format.spec.header import Header
from smartcash_format.spec.meta import WHERE as META
from smartcash_format.spec.meta import Meta
from smartcash_format.spec.pickles import TorchFile
from smartcash_format.spec.problems import Code, Depth, Problem
from smartcash_format.spec.tensors import TensorRecord, Tensors, WeightSetTensors

RESTORE: Final = "restore the file from a copy, or use another checkpoint"
# A clone without Git LFS has three lines in place of a file: version, oid, and the size in digits.
_POINTER_BYTES: Final = 125
_PULL: Final = "it has the size of a Git LFS pointer: git lfs pull, in the clone it lies in"
# Deleted by hand to save space, as often as not.
_RESUME_STATE: Final = frozenset({layout.OPTIMIZER, layout.SCHEDULER, layout.EXTRA})
_RESTORE_STATE: Final = (
    "restore the file from a copy; without it smartcash_format.strip(path) makes a checkpoint of "
    "the rest, from which nothing resumes"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """What is really on the disk, as far as `depth` looks.

    `sizes` has every listed name that is a plain file, `odd` what stands there instead of one;
    `problems` are those found while the parts were read.
    """

    depth: Depth
    sizes: Mapping[str, int]
    odd: Mapping[str, str] = field(default_factory=dict)
    unlisted: Sequence[str] = ()
    tensors: Tensors | None = None
    headers: Mapping[str, Header] = field(default_factory=dict)
    indexes: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    torch_files: Mapping[str, TorchFile] = field(default_factory=dict)
    digests: Mapping[str, str] = field(default_factory=dict)
    tensor_digests: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()


def check(meta: Meta, observed: Observed) -> tuple[Problem, ...]:
    """Every breach of the format between meta and what was observed, most telling first."""
    found = [*_names(meta), *_parts(meta), *_presence(meta, observed)]
    found += observed.problems
    if observed.depth >= Depth.STRUCTURE and observed.tensors is not None:
        found += _manifest(meta, observed, observed.tensors)
    if (extra := observed.torch_files.get(layout.EXTRA)) is not None:
        found += _extra(meta, extra.value)
    if observed.depth >= Depth.CONTENT:
        found += _digests(meta, observed)
    return tuple(found)


def _file(name: str) -> str:
    return f"{META}: files[{name[:80]!r}]"


def _names(meta: Meta) -> Iterator[Problem]:
    folded = Counter(name.casefold() for name in (*meta.files, layout.META))
    for name, record in meta.files.items():
        if not layout.is_plain_name(name):
            yield Problem(
                code="file-name",
                where=_file(name),
                message="is not a plain file name: no path, no device, no odd characters",
                found=repr(name[:80]),
            )
        elif folded[name.casefold()] > 1:
            yield Problem(
                code="file-name",
                where=_file(name),
                message="differs from another name only in case; some file systems have one of two",
                found=repr(name[:80]),
            )
        role, _ = layout.role_of(name)
        if record.role != role and not meta.version.is_newer_minor:
            yield Problem(
                code="file-role",
                where=f"{_file(name)}.role",
                message="is not the role that a file of this name has",
                found=record.role,
                expected=role,
            )


def _parts(meta: Meta) -> Iterator[Problem]:
    """The parts that meta describes are the parts that it lists."""
    wants: list[tuple[str, bool, str]] = [
        (layout.TENSORS, True, "every checkpoint has one"),
        (layout.OPTIMIZER, meta.optimizer is not None, "the field optimizer"),
        (layout.SCHEDULER, meta.scheduler is not None, "the field scheduler"),
    ]
    if meta.rng or meta.extra:
        wants.append((layout.EXTRA, True, "the field rng or extra"))
    for name, wanted, what in wants:
        if wanted and name not in meta.files:
            why = what if name == layout.TENSORS else f"{what} tells of it"
            yield Problem(
                code="file-missing",
                where=_file(name),
                message=f"is missing from the list: {why}",
                found="no such file in the list",
                expected=name,
            )
        elif not wanted and name in meta.files:
            yield _unlisted_part(name, f"{what} does not tell of it")
    shards: dict[str, list[str]] = {name: [] for name in meta.weights}
    for name in meta.files:
        role, weight_set = layout.role_of(name)
        if role not in ("weights", "index") or weight_set is None:
            continue
        if weight_set not in shards:
            yield _unlisted_part(name, f"weights has no set {weight_set!r}")
        elif role == "weights":
            shards[weight_set].append(name)
    for weight_set, names in shards.items():
        yield from _shards(meta, weight_set, sorted(names))


def _unlisted_part(name: str, why: str) -> Problem:
    return Problem(
        code="file-role",
        where=_file(name),
        message=f"is listed, but {why}",
        found=name,
        expected="only files of parts that meta.json tells of",
    )


def _shards(meta: Meta, weight_set: str, names: list[str]) -> Iterator[Problem]:
    index = layout.index_file(weight_set)
    single = layout.weights_file(weight_set)
    count = len(names)
    complete = [layout.weights_file(weight_set, i, count) for i in range(1, count + 1)]
    if names == [single] and index not in meta.files:
        return
    if count and names == complete and index in meta.files:
        return
    yield Problem(
        code="file-missing",
        where=f"{META}: files",
        message=f"list neither {single} alone nor all shards of it with {index}",
        found=", ".join(names)[:200] or "none",
        expected=f"{single}, or its shards and {index}",
    )


def _presence(meta: Meta, observed: Observed) -> Iterator[Problem]:
    refused = {each.where for each in observed.problems if each.code == "file-unreadable"}
    for name, record in meta.files.items():
        if not layout.is_plain_name(name):
            continue  # never looked for; its name is the problem
        if (odd := observed.odd.get(name)) is not None:
            yield Problem(
                code="file-kind", where=name, message=f"is {odd}, not a plain file", found=odd
            )
        elif name in refused:
            continue  # said already: nobody knows whether it is there
        elif name not in observed.sizes:
            yield Problem(
                code="file-missing",
                where=name,
                message="is listed in meta.json and not there: the copy or upload is incomplete",
                found="nothing",
                expected=f"{record.size_bytes:,} bytes",
                fix=_RESTORE_STATE if name in _RESUME_STATE else RESTORE,
            )
        elif observed.sizes[name] != record.size_bytes:
            found, expected = observed.sizes[name], record.size_bytes
            yield Problem(
                code="file-size",
                where=name,
                message=f"has {found:,} bytes instead of {expected:,}",
                found=str(found),
                expected=str(expected),
                fix=_PULL if found == _POINTER_BYTES + len(str(expected)) else RESTORE,
            )


def _manifest(meta: Meta, observed: Observed, tensors: Tensors) -> Iterator[Problem]:
    """meta.json, tensors.json, the index and the headers tell the same story."""
    yield from _same_names("weight sets", meta.weights, tensors.weights)
    for name in sorted(meta.weights.keys() & tensors.weights.keys()):
        yield from _weight_set(meta, observed, name, tensors.weights[name])
    stated = [group.parameters for group in meta.optimizer.groups] if meta.optimizer else []
    listed = [len(group) for group in tensors.optimizer_groups.get("optimizer", [])]
    if stated != listed:
        yield _disagree("optimizer groups have other sizes than meta.json says", listed, stated)


def _weight_set(
    meta: Meta, observed: Observed, name: str, found: WeightSetTensors
) -> Iterator[Problem]:
    stated = meta.weights[name]
    by_file: dict[str, dict[str, TensorRecord]] = {}
    for tensor, record in found.tensors.items():
        by_file.setdefault(record.file, {})[tensor] = record
    files = {f for f in meta.files if layout.role_of(f) == ("weights", name)}
    # A set without any tensor still has its file.
    yield from _same_names(f"files of {name}", files, by_file.keys() | (files - by_file.keys()))
    for file in sorted(files & observed.headers.keys()):
        yield from _header(file, observed.headers[file], by_file.get(file, {}))
    index = layout.index_file(name)
    if index in observed.indexes:
        yield from _index(index, observed.indexes[index], found)
    yield from _aliases(name, found)
    names = len(found.tensors) + len(found.aliases)
    dtypes = Counter([record.dtype for record in found.tensors.values()])
    named = (found.tensors[name] for name in found.aliases.values() if name in found.tensors)
    dtypes.update(record.dtype for record in named)
    if names != stated.tensors or dtypes != stated.dtypes:
        yield _disagree(
            f"counts of {name} differ from meta.json",
            _counts(names, dtypes),
            _counts(stated.tensors, stated.dtypes),
        )
    finite = all(math.isfinite(r.l2) for r in found.tensors.values() if r.l2 is not None)
    if finite != stated.finite:
        yield _disagree(f"the norms of {name} say otherwise of finite", finite, stated.finite)
    if not digest.is_known(stated.weights_digest):
        return  # said at CONTENT, with the other digests
    algorithm = digest.algorithm_of(stated.weights_digest)
    if algorithm == digest.ALGORITHM:
        recomputed = found.weights_digest
    else:
        recomputed = digest.weights_digest(found.lines(), algorithm)
    if recomputed != stated.weights_digest:
        yield Problem(
            code="weights-digest-mismatch",
            where=f"{META}: weights[{name!r}].weights_digest",
            message="is not the digest of the tensors that tensors.json lists",
            found=recomputed,
            expected=stated.weights_digest,
        )


def _counts(tensors: int, dtypes: Mapping[str, int]) -> str:
    each = ", ".join(f"{count} {dtype}" for dtype, count in sorted(dtypes.items()))
    return f"{tensors} tensors: {each or 'none'}"


def _header(file: str, header: Header, listed: Mapping[str, TensorRecord]) -> Iterator[Problem]:
    yield from _same_names(file, header.tensors, listed)
    for name, info in header.tensors.items():
        record = listed.get(name)
        if record and (info.dtype != record.dtype or [*info.shape] != record.shape):
            yield _disagree(
                f"{name!r} differs between {file} and tensors.json",
                f"{info.dtype} {list(info.shape)}",
                f"{record.dtype} {record.shape}",
            )


def _index(index: str, weight_map: Mapping[str, str], found: WeightSetTensors) -> Iterator[Problem]:
    expected = {name: record.file for name, record in found.tensors.items()}
    if weight_map != expected:
        yield Problem(
            code="index-mismatch",
            where=index,
            message="does not name the same tensor in the same file as tensors.json",
            found=_places(weight_map.items() - expected.items()),
            expected=_places(expected.items() - weight_map.items()),
        )


def _places(odd: Iterable[tuple[str, str]]) -> str:
    """The first tensors of one side that the other has not, with their files."""
    return ", ".join(f"{name[:80]!r} in {file[:80]!r}" for name, file in sorted(odd)[:3]) or "none"


def _aliases(name: str, found: WeightSetTensors) -> Iterator[Problem]:
    for alias, target in found.aliases.items():
        if alias in found.tensors or target not in found.tensors:
            yield _disagree(
                f"alias {alias!r} of {name} must be no tensor and name one", target, "a tensor"
            )


def _extra(meta: Meta, value: Any) -> Iterator[Problem]:
    """extra.pt holds what meta.json says of it, so that who lists need not open it."""
    if not isinstance(value, dict):
        yield _other_extra(layout.EXTRA, [type(value).__name__])
        return
    odd: dict[str, set[object]] = {
        layout.RNG: {layout.RNG} if (layout.RNG in value) != meta.rng else set(),
        layout.OBJECTS: _keys(value, layout.OBJECTS) ^ {*meta.extra},
        layout.MODULES: _keys(value, layout.MODULES) - {*meta.weights},
        "parts": {*value} - {layout.RNG, layout.OBJECTS, layout.MODULES},
    }
    for part, names in odd.items():
        if names:
            yield _other_extra(f"{layout.EXTRA}: {part}", names)


def _keys(parts: dict[Any, Any], name: str) -> set[object]:
    found = parts.get(name, {})
    return {*found} if isinstance(found, dict) else {type(found).__name__}


def _other_extra(where: str, names: Iterable[object]) -> Problem:
    shown = ", ".join(sorted(repr(name)[:80] for name in names)[:5])
    return Problem(
        code="extra-mismatch",
        where=where,
        message=f"stands on one side only, in the file or in meta.json: {shown}",
        found=shown,
        expected="the same names on both sides",
    )


def _same_names(what: str, found: Iterable[str], expected: Iterable[str]) -> Iterator[Problem]:
    left, right = set(found), set(expected)
    if left != right:
        odd = sorted(left ^ right)
        yield _disagree(
            f"{what}: {len(odd)} names stand on one side only",
            ", ".join(map(repr, odd[:3])) + (" ..." if len(odd) > 3 else ""),
            "the same names on both sides",
        )


def _disagree(message: str, found: object, expected: object) -> Problem:
    code: Code = "manifest-mismatch"
    return Problem(
        code=code,
        where=layout.TENSORS,
        message=f"{message} ({found}; expected {expected})"[:400],
        found=str(found)[:200],
        expected=str(expected)[:200],
    )


def _digests(meta: Meta, observed: Observed) -> Iterator[Problem]:
    for name, record in meta.files.items():
        yield from _digest(name, record.digest, observed.digests.get(name))
    for name, weights in meta.weights.items():
        where = f"{META}: weights[{name!r}].weights_digest"
        yield from _digest(where, weights.weights_digest, None)
    for weight_set in observed.tensors.weights.values() if observed.tensors else ():
        for name, tensor in weight_set.tensors.items():
            found = observed.tensor_digests.get(tensor.file, {}).get(name)
            if found != tensor.digest:
                yield from _digest(f"{tensor.file}: {name!r}", tensor.digest, found)


def _digest(where: str, stated: str, found: str | None) -> Iterator[Problem]:
    if not digest.is_known(stated):
        yield Problem(
            code="digest-unknown",
            where=where,
            message="has a digest of an algorithm that this reader does not know",
            found=digest.algorithm_of(stated),
            fix="upgrade smartcash-format",
        )
    elif found is not None and found != stated:
        yield Problem(
            code="digest-mismatch",
            where=where,
            message="does not have the bytes it was saved with: they were changed or have rotted",
            found=found,
            expected=stated,
            fix=RESTORE,
        )
