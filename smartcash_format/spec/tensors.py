"""tensors.json, the manifest: per weight set every tensor's dtype, shape, file, digest, statistics.

What diff, "is this the same model", name-matched resume and the report's weight view are made of,
without opening the weights (FORMAT.md, tensors.json).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from smartcash_format.spec import digest, layout, limits
from smartcash_format.spec.documents import dump_json, parse_json
from smartcash_format.spec.meta import Count, Name, validate_document
from smartcash_format.spec.problems import Problem
from smartcash_format.spec.values import Digest, Frozen, Number, ShortText
from smartcash_format.spec.version import FORMAT_VERSION, TENSORS_FORMAT, gate

WHERE = layout.TENSORS


class TensorRecord(Frozen):
    """One tensor as it lies in its file; floating tensors carry statistics."""

    dtype: ShortText
    shape: Annotated[list[Count], Field(max_length=limits.DIMENSIONS)]
    file: ShortText
    digest: Digest = Field(description="of the tensor's raw little-endian bytes")
    l2: Number | None = Field(default=None, description="Euclidean norm, accumulated in float64")
    absmax: Number | None = Field(default=None, description="largest absolute value")
    nan: Count | None = Field(default=None, description="counted only where l2 is not finite")
    inf: Count | None = Field(default=None, description="counted only where l2 is not finite")


class WeightSetTensors(Frozen):
    """The tensors of one weight set, the other names of tied ones, and odd module versions."""

    tensors: Annotated[dict[Name, TensorRecord], Field(max_length=limits.TENSORS)]
    aliases: Annotated[dict[Name, Name], Field(max_length=limits.TENSORS)] = Field(
        default={}, description="other name of a tied tensor to the name it is stored under"
    )
    modules: dict[Annotated[str, Field(max_length=limits.NAME_BYTES)], Count] = Field(
        default={}, description="module path to its state version where that is not 1"
    )

    def lines(self) -> Iterator[tuple[str, str, list[int], str]]:
        """(name, dtype, shape, digest) of every name, aliases included."""
        for name, record in self.tensors.items():
            yield name, record.dtype, record.shape, record.digest
        for alias, name in self.aliases.items():
            if target := self.tensors.get(name):
                yield alias, target.dtype, target.shape, target.digest

    @property
    def weights_digest(self) -> str:
        """The name of these weights: same names and values, same digest."""
        return digest.weights_digest(self.lines())


class Tensors(Frozen):
    """The whole of tensors.json, parsed and checked field by field."""

    format: Literal["smartcash-tensors"] = TENSORS_FORMAT
    format_version: Annotated[str, Field(pattern=r"^1\.(0|[1-9][0-9]{0,5})$")] = FORMAT_VERSION
    weights: dict[ShortText, WeightSetTensors] = {}
    optimizer_groups: dict[ShortText, list[list[Name | None]]] = Field(
        default={},
        description="'optimizer', or an optimizer's name in extra, to the parameter names of each "
        "group in order; null where unknown; '<set>:<name>' in a weight set other than model",
    )


def parse_tensors(data: bytes) -> tuple[Tensors | None, tuple[Problem, ...]]:
    """The Tensors that these bytes hold and no problems, or None and what is wrong with them."""
    document, problems = parse_json(data, where=WHERE, max_bytes=limits.TENSORS_BYTES)
    if problems:
        return None, problems
    version, refused = gate(document, where=WHERE, format=TENSORS_FORMAT)
    if version is None:
        assert refused is not None
        return None, (refused,)
    return validate_document(Tensors, document, version, where=WHERE)


def encode_tensors(tensors: Tensors) -> bytes:
    """The bytes of a tensors.json: strict JSON, keys sorted, what is absent left out."""
    return dump_json(tensors.model_dump(mode="json", exclude_none=True))
