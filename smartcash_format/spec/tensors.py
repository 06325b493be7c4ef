"""tensors.json, the manifest: per weight set every tensor's dtype, shape, file, digest, statistics.

What diff, "is this the same model", name-matched resume and the report's weight view are made of,
without opening the weights (FORMAT.md, tensors.json).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property, lru_cache
from itertools import chain, islice
from json.encoder import encode_basestring as quoted
from typing import Annotated, Final, Literal, NamedTuple
from weakref import WeakValueDictionary

from pydantic import Field, ValidationError

from smartcash_format.spec import digest, layout, limits
from smartcash_format.spec.documents import (
    count_key_marks,
    dump_json,
    has_too_many_values,
    parse_json,
)
from smartcash_format.spec.meta import PROBLEMS, validate_document
from smartcash_format.spec.problems import Problem
from smartcash_format.spec.refusal import shown
from smartcash_format.spec.spelling import number_to_json
from smartcash_format.spec.tensor_faults import name_fault
from smartcash_format.spec.values import (
    Count,
    Digest,
    Frozen,
    Name,
    Number,
    Series,
    SetName,
    ShortText,
    Table,
)
from smartcash_format.spec.version import FORMAT_VERSION, TENSORS_FORMAT, gate

WHERE = layout.TENSORS
# Where none of these stands in ASCII, no name of a sound length can be wrong but the one that leads
# out of a directory: escapes, DEL, and what parts a path.
_MARKS: Final = (b"\\", b"\x7f", b"/")
_PARENT: Final = ".."


class TensorRecord(Frozen):
    """One tensor as it lies in its file; floating tensors carry statistics."""

    dtype: ShortText = Field(description="as safetensors spells it: F32, BF16, I64, ...")
    shape: Annotated[Series[Count], Field(max_length=limits.DIMENSIONS)] = Field(
        description="sizes of the dimensions; empty for a scalar"
    )
    file: ShortText = Field(description="name of the weights file that holds it")
    digest: Digest = Field(description="of the tensor's raw little-endian bytes")
    l2: Number | None = Field(default=None, description="Euclidean norm, accumulated in float64")
    absmax: Number | None = Field(default=None, description="largest absolute value")
    nan: Count | None = Field(default=None, description="counted only where l2 is not finite")
    inf: Count | None = Field(default=None, description="counted only where l2 is not finite")

    @property
    def statistics(self) -> dict[str, int | float]:
        """The norms and counts that it carries, by name."""
        found = {"l2": self.l2, "absmax": self.absmax, "nan": self.nan, "inf": self.inf}
        return {name: value for name, value in found.items() if value is not None}


class WeightSetTensors(Frozen):
    """The tensors of one weight set, the other names of tied ones, and odd module versions."""

    tensors: Annotated[Table[Name, TensorRecord], Field(max_length=limits.TENSORS)] = Field(
        description="name to record of every tensor that is stored"
    )
    aliases: Annotated[Table[Name, Name], Field(max_length=limits.TENSORS)] = Field(
        default={}, description="other name of a tied tensor to the name it is stored under"
    )
    modules: Table[Annotated[str, Field(max_length=limits.NAME_BYTES)], Count] = Field(
        default={}, description="module path to its state version where that is not 1"
    )

    def lines(self) -> Iterator[tuple[str, str, list[int], str]]:
        """(name, dtype, shape, digest) of every name, aliases included."""
        for name, record in self.tensors.items():
            yield name, record.dtype, record.shape, record.digest
        for alias, name in self.aliases.items():
            if target := self.tensors.get(name):
                yield alias, target.dtype, target.shape, target.digest

    @cached_property
    def weights_digest(self) -> str:
        """The name of these weights: same names and values, same digest."""
        return digest.weights_digest(self.lines())

    def count_keys(self) -> int:
        """The number of keys in the part of the document that this was parsed from."""
        own = len(self.model_fields_set)
        own += len(self.tensors) + len(self.aliases) + len(self.modules)
        return own + sum(len(record.model_fields_set) for record in self.tensors.values())


class Tensors(Frozen):
    """The whole of tensors.json, parsed and checked field by field."""

    format: Literal["smartcash-tensors"] = Field(
        default=TENSORS_FORMAT, description="what this file is; looked at first"
    )
    format_version: Annotated[str, Field(pattern=r"^1\.(0|[1-9][0-9]{0,5})$")] = Field(
        default=FORMAT_VERSION, description="MAJOR.MINOR; looked at before any other field"
    )
    weights: Table[SetName, WeightSetTensors] = Field(
        default={}, description="name of a weight set, such as model or ema, to its tensors"
    )
    optimizer_groups: Table[ShortText, Series[Series[Name | None]]] = Field(
        default={},
        description="'optimizer', or an optimizer's name in extra, to the parameter names of each "
        "group in order; null where unknown; '<set>:<name>' in a weight set other than model",
    )

    def count_keys(self) -> int:
        """The number of keys in the document that this was parsed from."""
        own = len(self.model_fields_set) + len(self.weights) + len(self.optimizer_groups)
        return own + sum(weights.count_keys() for weights in self.weights.values())


def parse_tensors(data: bytes) -> tuple[Tensors | None, tuple[Problem, ...]]:
    """The Tensors that these bytes hold and no problems, or None and what is wrong with them."""
    tensors = _parsed.get(data)
    if tensors is None and (tensors := _parse_sound(data)) is not None:
        _parsed[data] = tensors
    if tensors is None:
        tensors, problems = _parse_strictly(data)
        if tensors is None:
            return None, problems
    if data.isascii() and not any(mark in data for mark in _MARKS) and not _names_parent(tensors):
        return tensors, ()
    problems = tuple(islice(_name_problems(tensors), PROBLEMS))
    return (None, problems) if problems else (tensors, ())


def _parse_strictly(data: bytes) -> tuple[Tensors | None, tuple[Problem, ...]]:
    document, problems = parse_json(data, where=WHERE, max_bytes=limits.TENSORS_BYTES)
    if problems:
        return None, problems
    version, refused = gate(document, where=WHERE, format=TENSORS_FORMAT)
    if version is None:
        assert refused is not None
        return None, (refused,)
    return validate_document(Tensors, document, version, where=WHERE)


def _names_parent(tensors: Tensors) -> bool:
    # Three looks into tables of names; in the bytes it would be looked for at each dot.
    return any(
        _PARENT in names
        for weights in tensors.weights.values()
        for names in (weights.tensors, weights.aliases, weights.modules)
    )


def _name_problems(tensors: Tensors) -> Iterator[Problem]:
    for set_name, weights in tensors.weights.items():
        for name in chain(weights.tensors, weights.aliases, filter(None, weights.modules)):
            if fault := name_fault(name):
                where = f"{WHERE}: weights.{set_name}: {name[:80]!r}"
                yield Problem(code="tensor-name", where=where, message=fault, found=shown(name))


# A save reads back what it has just written: known as long as somebody has it.
_parsed: Final[WeakValueDictionary[bytes, Tensors]] = WeakValueDictionary()


def _parse_sound(data: bytes) -> Tensors | None:
    """The Tensors of a document without fault; None where there may be one.

    Read by pydantic from the bytes it costs half of what parsing and then checking does, but a
    fault would be worded otherwise, and duplicate keys pass: those show in the number of keys.
    """
    if len(data) > limits.TENSORS_BYTES or has_too_many_values(data):
        return None
    try:
        tensors = Tensors.model_validate_json(data, extra="ignore")
    except ValidationError:
        return None
    if tensors.count_keys() != count_key_marks(data) or _has_beyond_64_bits(tensors):
        return None
    return tensors


def _has_beyond_64_bits(tensors: Tensors) -> bool:
    integers = [
        number
        for weights in tensors.weights.values()
        for record in weights.tensors.values()
        for number in (record.l2, record.absmax)
        if type(number) is int
    ]
    return any(not limits.INTEGER_MIN <= number <= limits.INTEGER_MAX for number in integers)


def encode_tensors(tensors: Tensors) -> bytes:
    """The bytes of a tensors.json: strict JSON, keys sorted, what is absent left out."""
    return dump_json(tensors.model_dump(mode="json", exclude_none=True))


class Listed(NamedTuple):
    """A weight set on its way into tensors.json: the text of each record, and the rest of it."""

    records: Mapping[str, str]
    aliases: Mapping[str, str] = {}
    modules: Mapping[str, int] = {}


def encode_manifest(
    weights: Mapping[str, Listed],
    optimizer_groups: Mapping[str, Sequence[Sequence[str | None]]],
) -> bytes:
    """What `encode_tensors` gives, from the texts of the records: at a fifth of its cost."""
    head = {
        "format": TENSORS_FORMAT,
        "format_version": FORMAT_VERSION,
        "optimizer_groups": optimizer_groups,
    }
    sets = ",".join(f"{quoted(name)}:{_listed_text(weights[name])}" for name in sorted(weights))
    end = f',"weights":{{{sets}}}}}\n'.encode()
    return dump_json(head).removesuffix(b"}\n") + end


def record_text(
    dtype: str,
    shape: Sequence[int],
    file: str,
    tensor_digest: str,
    statistics: Mapping[str, int | float],
) -> str:
    """A tensor's record as it stands in tensors.json."""
    # By hand, because a JSON encoder takes ten times as long for a record.
    form, sizes = _form_texts(dtype, file, tuple(shape))
    l2, absmax = statistics.get("l2"), statistics.get("absmax")
    if type(l2) is type(absmax) is float and l2 < math.inf > absmax and len(statistics) == 2:
        return f'{{"absmax":{absmax!r},"digest":"{tensor_digest}",{form},"l2":{l2!r},{sizes}}}'
    known = {name: _number_text(value) for name, value in statistics.items()}
    largest = f'"absmax":{known["absmax"]},' if "absmax" in known else ""
    norms = "".join(f'"{name}":{known[name]},' for name in ("inf", "l2", "nan") if name in known)
    return f'{{{largest}"digest":"{tensor_digest}",{form},{norms}{sizes}}}'


# A model has a thousand tensors of a few forms.
@lru_cache(maxsize=1 << 12)
def _form_texts(dtype: str, file: str, shape: tuple[int, ...]) -> tuple[str, str]:
    form = f'"dtype":{quoted(dtype)},"file":{quoted(file)}'
    return form, f'"shape":[{",".join(map(str, shape))}]'


def _number_text(value: int | float) -> str:
    named = number_to_json(value)
    return quoted(named) if isinstance(named, str) else repr(named)


def _listed_text(listed: Listed) -> str:
    aliases, modules = (dump_json(dict(part)).decode().rstrip() for part in listed[1:])
    records = ",".join(f"{quoted(name)}:{listed.records[name]}" for name in sorted(listed.records))
    return f'{{"aliases":{aliases},"modules":{modules},"tensors":{{{records}}}}}'
