from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from smartcash_format.spec.digest import seal
from smartcash_format.spec.documents import dump_json
from smartcash_format.spec.history import BULLET, HistoryLine, encode_line
from smartcash_format.spec.meta import encode_meta, parse_meta
from smartcash_format.spec.schema import documents
from smartcash_format.spec.tensors import encode_tensors, parse_tensors
from tests.spec.samples import meta, tensors

SCHEMAS = Path(__file__).parents[2] / "schemas"
COMMAND = "python -m smartcash_format schema --write schemas/"
GENERATED = documents()
FILES = ["history-line-v1.schema.json", "meta-v1.schema.json", "tensors-v1.schema.json"]


def schema(file: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(GENERATED[file])
    return found


@cache
def validator(file: str) -> Draft202012Validator:
    return Draft202012Validator(schema(file))


def accepts(file: str, document: object) -> bool:
    return bool(validator(file).is_valid(document))


def properties(part: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(part, dict):
        for name, child in part.get("properties", {}).items():
            yield f"{path}.{name}", child
        for name, child in part.items():
            yield from properties(child, f"{path}.{name}")


@pytest.mark.parametrize("file", FILES)
def test_the_committed_schema_is_the_generated_one(file: str) -> None:
    committed = SCHEMAS / file
    assert committed.is_file(), f"run: {COMMAND}"
    assert committed.read_bytes() == GENERATED[file], f"run: {COMMAND}"


def test_there_is_no_other_schema() -> None:
    assert sorted(GENERATED) == FILES
    assert sorted(path.name for path in SCHEMAS.glob("*.json")) == FILES


@pytest.mark.parametrize("file", FILES)
def test_a_schema_is_one_of_draft_2020_12_with_an_id_of_this_version(file: str) -> None:
    found = schema(file)
    Draft202012Validator.check_schema(found)
    assert found["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    name = file.removesuffix("-v1.schema.json")
    assert found["$id"] == f"urn:smartcash-format:schema:{name}:1.0"


@pytest.mark.parametrize("file", FILES)
def test_every_property_is_described(file: str) -> None:
    bare = [path for path, found in properties(schema(file)) if not found.get("description")]
    assert bare == []


def test_a_written_meta_is_accepted() -> None:
    assert accepts("meta-v1.schema.json", json.loads(encode_meta(meta())))
    diverged = meta(metrics={"loss": float("nan"), "norm": float("-inf")})
    assert accepts("meta-v1.schema.json", json.loads(encode_meta(diverged)))


def test_a_written_manifest_is_accepted() -> None:
    assert accepts("tensors-v1.schema.json", json.loads(encode_tensors(tensors())))


def test_a_written_history_line_is_accepted() -> None:
    line = encode_line(HistoryLine.of_save("epoch-0010-3f9a2c1b", meta()))
    assert accepts("history-line-v1.schema.json", json.loads(line.removeprefix(BULLET)))


META_BREACHES: list[dict[str, Any]] = [
    {"epoch": -1}, {"epoch": 1.5}, {"epoch": "1"}, {"epoch": True}, {"epoch": 1 << 63},
    {"is_best": 1}, {"is_best": None}, {"metrics": {"loss": "0.5"}}, {"metrics": {"loss": None}},
    {"metrics": {"loss": "nan"}}, {"metrics": {"x" * 257: 1}},
    {"metrics": {str(n): n for n in range(1_001)}}, {"saved_at": "2026-01-31T12:00:00Z"},
    {"saved_at": "2026-01-31T12:00:00.000000+00:00"}, {"checkpoint_id": "3F9A2C1B"},
    {"parent_id": ""}, {"tags": ["x" * 257]}, {"tags": "a"}, {"backbone": 4}, {"notes": []},
    {"weights": {"Model": {}}}, {"weights": {"model": {}}}, {"files": []},
    {"files": {"a": {"role": "aux", "size_bytes": 0}}}, {"optimizer": {"groups": []}},
    {"extra": [1]}, {"rng": None}, {"environment": None}, {"environment": {"host": "x"}},
    {"invented": 1}, {"format": "other"}, {"format_version": "2.0"}, {"format_version": "1.01"},
    {"meta_digest": "0" * 64},
]  # fmt: skip


@pytest.mark.parametrize("breach", META_BREACHES, ids=str)
def test_the_schema_of_meta_refuses_what_the_reader_refuses(breach: dict[str, Any]) -> None:
    document = json.loads(encode_meta(meta())) | breach
    assert not accepts("meta-v1.schema.json", document)
    data = dump_json(document) if "meta_digest" in breach else seal(document)
    assert parse_meta(data)[0] is None


@pytest.mark.parametrize("name", json.loads(encode_meta(meta())))
def test_the_schema_of_meta_requires_what_the_reader_requires(name: str) -> None:
    document = json.loads(encode_meta(meta()))
    del document[name]
    data = dump_json(document) if name == "meta_digest" else seal(document)
    assert accepts("meta-v1.schema.json", document) == (parse_meta(data)[0] is not None)


TENSOR_BREACHES: list[dict[str, Any]] = [
    {"shape": [-1]}, {"shape": [1.5]}, {"shape": [1] * 65}, {"shape": 4}, {"dtype": 32},
    {"digest": "0" * 64}, {"l2": "2.0"}, {"l2": True}, {"nan": -1}, {"colour": "red"},
    {"file": None},
]  # fmt: skip


@pytest.mark.parametrize("breach", TENSOR_BREACHES, ids=str)
def test_the_schema_of_the_manifest_refuses_what_the_reader_refuses(
    breach: dict[str, Any],
) -> None:
    document = json.loads(encode_tensors(tensors()))
    document["weights"]["model"]["tensors"]["head.weight"].update(breach)
    assert not accepts("tensors-v1.schema.json", document)
    assert parse_tensors(dump_json(document))[0] is None


def test_a_history_line_of_a_newer_writer_is_accepted() -> None:
    document = {
        "event": "save",
        "at": "2026-01-31T12:00:00.000000Z",
        "run_id": "3f9a2c1b-0000-4000-8000-000000000001",
        "invented": 1,
    }
    assert accepts("history-line-v1.schema.json", document)
    assert not accepts("history-line-v1.schema.json", document | {"event": "party"})
    assert not accepts("history-line-v1.schema.json", document | {"at": "yesterday"})
