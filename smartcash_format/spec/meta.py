"""meta.json: what a checkpoint says about itself (FORMAT.md, meta.json).

The version is looked at first and alone; then the digest of the bytes; then every field, strictly.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Annotated, Any, Final, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, Field, JsonValue, ValidationError

from smartcash_format.spec import digest, layout, limits
from smartcash_format.spec.documents import parse_json
from smartcash_format.spec.problems import Problem
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
    Time,
    Uuid,
)
from smartcash_format.spec.version import FORMAT, FORMAT_VERSION, Version, gate

WHERE = layout.META

ModelT = TypeVar("ModelT", bound=Frozen)
# A document that breaks every rule a thousand times over says so in its first hundred problems.
PROBLEMS: Final = 100


class FileRecord(Frozen):
    """One listed file: what it is for, its size and the digest of its bytes."""

    role: Annotated[str, Field(pattern=r"^[a-z][a-z_]{0,31}$")] = Field(
        description="weights, index, tensors, optimizer, scheduler, extra or aux; follows from the "
        "file's name"
    )
    size_bytes: Count = Field(description="of the whole file")
    digest: Digest = Field(description="of the whole file's bytes")


class WeightSet(Frozen):
    """One set of named tensors: the model, its moving average, a second network."""

    class_name: ShortText | None = Field(
        description="the module's class; null when it was saved from a plain dict"
    )
    tensors: Count = Field(description="names, each name of a tied tensor counted")
    parameters: Count = Field(description="elements of all parameters, tied ones counted once")
    trainable_parameters: Count | None = Field(description="null where it is not known")
    dtypes: Table[ShortText, Count] = Field(description="safetensors dtype to number of names")
    weights_digest: Digest = Field(
        description="of the lines json([name, dtype, shape, tensor digest]), sorted by name: same "
        "names and values, same digest, however sharded, filed or dated"
    )
    finite: bool = Field(description="no NaN or infinity in any floating tensor")


class ParameterGroup(Frozen):
    """One parameter group: its size and hyperparameters; the names stand in tensors.json."""

    parameters: Count = Field(description="number of parameters in the group")
    hyperparameters: Table[ShortText, JsonValue] = Field(
        description="lr, weight_decay, betas, ...: the group without its parameters"
    )


class OptimizerRecord(Frozen):
    """The optimizer: its class and its groups."""

    class_name: ShortText | None = Field(description="null when it was saved from a plain dict")
    groups: Series[ParameterGroup] = Field(description="in the optimizer's order")


class SchedulerRecord(Frozen):
    """The scheduler: its class."""

    class_name: ShortText | None = Field(description="null when it was saved from a plain dict")


class Environment(Frozen):
    """What wrote the checkpoint; no host, no user, no path."""

    python: ShortText | None = Field(default=None, description="version of the interpreter")
    torch: ShortText | None = Field(default=None, description="version of torch")
    safetensors: ShortText | None = Field(default=None, description="version of safetensors")
    smartcash_format: ShortText | None = Field(
        default=None, description="version of the package that wrote the checkpoint"
    )
    platform: ShortText | None = Field(
        default=None, description="operating system and machine, such as Linux-x86_64"
    )
    git_commit: ShortText | None = Field(
        default=None, description="commit of the repository that the training ran in"
    )


class Meta(Frozen):
    """The whole of meta.json, parsed and checked field by field."""

    format: Literal["smartcash-checkpoint"] = Field(
        default=FORMAT, description="what this file is; looked at first"
    )
    format_version: Annotated[str, Field(pattern=r"^1\.(0|[1-9][0-9]{0,5})$")] = Field(
        default=FORMAT_VERSION, description="MAJOR.MINOR; looked at before any other field"
    )
    meta_digest: Digest = Field(
        default=f"{digest.ALGORITHM}:{digest.ZEROS}",
        description="of meta.json's own bytes, taken with these hex digits as zeros; names the "
        "whole checkpoint through files",
    )
    checkpoint_id: Uuid = Field(description="of this save; a copy keeps it")
    run_id: Uuid = Field(description="of the training process that saved it")
    parent_id: Uuid | None = Field(
        default=None,
        description="checkpoint_id of what this run resumed from or of its previous save",
    )
    derived_from: Uuid | None = Field(
        default=None, description="checkpoint_id of what this one was stripped or curated from"
    )
    saved_at: Time = Field(description="UTC; never runs backwards in a root; decides the order")
    epoch: Count = Field(description="as the user gave it; never decides which is the newest")
    step: Count | None = Field(default=None, description="optimizer steps, as the user gave it")
    is_best: bool = Field(description="a fact of the moment of saving")
    metrics: Annotated[Table[ShortText, Number], Field(max_length=limits.METRICS)] = Field(
        default={}, description="name to number; nested names are joined by '/'"
    )
    backbone: ShortText | None = Field(default=None, description="what is filtered by")
    dataset: ShortText | None = Field(default=None, description="what is filtered by")
    tags: Annotated[Series[ShortText], Field(max_length=limits.TAGS)] = Field(
        default=[], description="what is filtered by"
    )
    config: JsonValue = Field(
        default=None, description="the user's own, carried and never interpreted"
    )
    notes: dict[str, JsonValue] = Field(
        default={}, description="the user's own, carried and never interpreted"
    )
    weights: Table[SetName, WeightSet] = Field(
        default={}, description="name of a weight set, such as model or ema, to what it holds"
    )
    optimizer: OptimizerRecord | None = Field(
        default=None, description="null when no optimizer was saved"
    )
    scheduler: SchedulerRecord | None = Field(
        default=None, description="null when no scheduler was saved"
    )
    extra: Annotated[
        Series[ShortText],
        AfterValidator(lambda names: sorted(names)),
        Field(max_length=limits.TAGS, description="names of the other state in extra.pt"),
    ] = []
    rng: bool = Field(default=False, description="random number state is in extra.pt")
    environment: Environment = Field(default=Environment(), description="what wrote the checkpoint")
    files: Annotated[Table[Name, FileRecord], Field(max_length=limits.FILES)] = Field(
        description="every file of the checkpoint but meta.json: plain name to its record"
    )

    @property
    def version(self) -> Version:
        """The format version of the document."""
        major, _, minor = self.format_version.partition(".")
        return Version(int(major), int(minor))

    @property
    def size_bytes(self) -> int:
        """What the listed files take together; meta.json itself is not listed."""
        return sum(record.size_bytes for record in self.files.values())


def parse_meta(data: bytes) -> tuple[Meta | None, tuple[Problem, ...]]:
    """The Meta that these bytes hold and no problems, or None and what is wrong with them."""
    document, problems = parse_json(data, where=WHERE, max_bytes=limits.META_BYTES)
    if problems:
        return None, problems
    version, refused = gate(document, where=WHERE)
    if version is None:
        assert refused is not None
        return None, (refused,)
    seal = check_seal(data, document)
    if seal is not None:
        return None, (seal,)
    return validate_document(Meta, document, version, where=WHERE)


def check_seal(data: bytes, document: Mapping[str, Any]) -> Problem | None:
    """The problem of a meta.json that does not have the digest it states; None when it has."""
    stated = document.get(digest.SEAL_KEY)
    where = f"{WHERE}: {digest.SEAL_KEY}"
    if not isinstance(stated, str) or digest.SHAPE.fullmatch(stated) is None:
        return Problem(
            code="field-missing" if stated is None else "field-invalid",
            where=where,
            message="has no digest of its own bytes",
            found=_shown(stated),
        )
    if not digest.is_known(stated):
        algorithm = digest.algorithm_of(stated)
        return Problem(
            code="digest-unknown",
            where=where,
            message=f"uses the digest {algorithm}, which this reader does not know",
            found=algorithm,
            fix="upgrade smartcash-format",
        )
    if digest.seal_holds(data, stated):
        return None
    return Problem(
        code="meta-digest-mismatch",
        where=where,
        message="does not match the bytes of meta.json: they were changed or damaged",
        expected=stated,
        fix="restore meta.json from a copy; edits by hand are not possible",
    )


def encode_meta(meta: Meta) -> bytes:
    """The bytes of a meta.json: strict JSON, keys sorted, sealed with the digest of themselves."""
    return digest.seal(meta.model_dump(mode="json"))


def meta_size(meta: Meta) -> int:
    """How many bytes `encode_meta` gives."""
    return len(digest.unsealed(meta.model_dump(mode="json")))


def validate_document(
    model: type[ModelT], document: object, version: Version, *, where: str
) -> tuple[ModelT | None, tuple[Problem, ...]]:
    """The document as a model, or every field that is wrong.

    Unknown keys are a problem in a document of a minor that this reader knows and are carried in
    one of a newer minor. In a list or mapping the first wrong element is reported.
    """
    try:
        # Forbidden keys would be an error each, and a hostile document has two million of them.
        value = model.model_validate(document, extra="allow")
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False)
        return None, tuple(_problem(dict(item), where) for item in found[:PROBLEMS])
    unknown = () if version.is_newer_minor else islice(_unknown(value, ()), PROBLEMS)
    problems = tuple(
        Problem(
            code="field-unknown",
            where=f"{where}: {_path(loc)}",
            message=f"is no field of format version {version}",
            found=_shown(loc[-1]),
        )
        for loc in unknown
    )
    return (None, problems) if problems else (value, ())


def _unknown(value: object, loc: tuple[str | int, ...]) -> Iterator[tuple[str | int, ...]]:
    """Where keys stand that no model has. What a user gave (config, notes) holds no models."""
    if isinstance(value, BaseModel):
        yield from ((*loc, key) for key in value.model_extra or ())
        for name in type(value).model_fields:
            yield from _unknown(getattr(value, name), (*loc, name))
    elif isinstance(value, dict) and isinstance(next(iter(value.values()), None), BaseModel):
        for key, child in value.items():
            yield from _unknown(child, (*loc, key))
    elif isinstance(value, list) and value and isinstance(value[0], BaseModel):
        for index, child in enumerate(value):
            yield from _unknown(child, (*loc, index))


def _problem(item: dict[str, Any], where: str) -> Problem:
    place = f"{where}: {_path(item['loc'])}"
    if item["type"] == "missing":
        message = "is missing, and required"
        return Problem(code="field-missing", where=place, message=message, found="nothing")
    # Worded by pydantic, as "Input should be ..." or "Value error, ...": a part of our sentence.
    text = item["msg"].removeprefix("Value error, ")
    return Problem(
        code="field-invalid",
        where=place,
        message=text[:1].lower() + text[1:],
        found=_shown(item["input"]),
    )


def _shown(value: object) -> str:
    match value:
        case dict():
            return f"an object of {len(value):,} keys"
        case list():
            return f"an array of {len(value):,}"
        case str():
            return repr(value[:80])
        case bool() | None:
            return json.dumps(value)
    return repr(value)


def _path(loc: tuple[str | int, ...]) -> str:
    text = ""
    for part in loc:
        if part == "[key]":
            text += " (the key)"
        elif isinstance(part, str) and part.isidentifier():
            text += f".{part}" if text else part
        else:
            text += f"[{part!r}]"
    return text[:300]
