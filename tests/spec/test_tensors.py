from __future__ import annotations

import gc
import json
import weakref
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smartcash_format.spec import limits
from smartcash_format.spec.digest import weights_digest
from smartcash_format.spec.documents import dump_json
from smartcash_format.spec.problems import Problem
from smartcash_format.spec.tensor_faults import name_fault
from smartcash_format.spec.tensors import (
    Listed,
    TensorRecord,
    Tensors,
    WeightSetTensors,
    encode_manifest,
    encode_tensors,
    parse_tensors,
    record_text,
)
from tests.spec.samples import record, tensors
from tests.spec.test_documents import TEXT

ENCODED = encode_tensors(tensors())
NAMES = TEXT.filter(bool)


def document() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(ENCODED)
    return found


def with_record(**changes: Any) -> bytes:
    found = document()
    found["weights"]["model"]["tensors"]["head.weight"].update(changes)
    return dump_json(found)


def read(data: bytes) -> Tensors:
    parsed, problems = parse_tensors(data)
    assert problems == ()
    assert parsed is not None
    return parsed


def refused(data: bytes) -> tuple[Problem, ...]:
    parsed, problems = parse_tensors(data)
    assert parsed is None
    assert problems
    return problems


def codes(data: bytes) -> list[str]:
    return [problem.code for problem in refused(data)]


def test_a_manifest_is_read_back_equal() -> None:
    assert read(ENCODED) == tensors()
    assert encode_tensors(read(ENCODED)) == ENCODED


RECORDS = st.builds(
    record,
    shape=st.lists(st.integers(0, limits.INTEGER_MAX), max_size=4),
    l2=st.none() | st.floats() | st.integers(0, limits.INTEGER_MAX),
    absmax=st.none() | st.floats(),
    nan=st.none() | st.integers(0, limits.INTEGER_MAX),
)


@given(st.dictionaries(NAMES.filter(lambda name: name_fault(name) is None), RECORDS, max_size=4))
def test_any_tensors_are_read_back_equal(records: dict[str, TensorRecord]) -> None:
    data = encode_tensors(tensors(weights={"ema": WeightSetTensors(tensors=records)}))
    back = read(data)
    assert repr(back.weights["ema"].tensors) == repr(
        {name: records[name] for name in sorted(records)}
    )
    assert encode_tensors(back) == data


@given(
    st.dictionaries(NAMES.filter(str.isprintable), RECORDS, max_size=4),
    st.dictionaries(NAMES.filter(str.isprintable), NAMES.filter(str.isprintable), max_size=2),
    st.dictionaries(st.text("ab."), st.integers(0, limits.INTEGER_MAX), max_size=2),
    st.lists(st.lists(st.none() | NAMES.filter(str.isprintable), max_size=3), max_size=2),
)
def test_a_manifest_written_from_texts_is_the_same(
    records: dict[str, TensorRecord],
    aliases: dict[str, str],
    modules: dict[str, int],
    groups: list[list[str | None]],
) -> None:
    listed = Listed(
        records={
            name: record_text(r.dtype, r.shape, r.file, r.digest, r.statistics)
            for name, r in records.items()
        },
        aliases=aliases,
        modules=modules,
    )
    own = WeightSetTensors(tensors=records, aliases=aliases, modules=modules)
    expected = Tensors(weights={"ema": own, "model": own}, optimizer_groups={"optimizer": groups})
    manifest = encode_manifest({"model": listed, "ema": listed}, {"optimizer": groups})
    assert manifest == encode_tensors(expected)
    assert encode_manifest({}, {}) == encode_tensors(Tensors())


def test_a_manifest_that_somebody_has_is_not_parsed_again_and_nobody_else_keeps_it() -> None:
    data = encode_tensors(tensors())
    held, _ = parse_tensors(data)
    assert held is not None
    assert parse_tensors(bytes(bytearray(data)))[0] is held

    gone = weakref.ref(held)
    del held
    gc.collect()
    assert gone() is None


def test_a_manifest_with_spaces_and_escapes_is_read_as_the_compact_one() -> None:
    spaced = json.dumps(document(), indent=2, separators=(" ,", " : ")).encode()
    assert read(spaced) == tensors()
    escaped = ENCODED.replace(b'"head.weight"', b'"\\u0068ead.weight"')
    assert read(escaped) == tensors()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"absmax":1.0', b'"absmax":1.0,"absmax":1.0'),
        (b'"modules":{"bn":2}', b'"modules":{"bn":2,"bn":2}'),
        (b'"optimizer_groups":{', b'"optimizer_groups":{"optimizer":[],'),
        (b'"weights":{', b'"weights":{"model":{"tensors":{}},'),
        (b'"dtype":"F32"', b'"dtype" :"F32","dtype":"F32"'),
        (b'"aliases":{', b'"aliases":{"embed.weight":"step",'),
    ],
)
def test_a_key_given_twice_is_refused_wherever_it_stands(old: bytes, new: bytes) -> None:
    assert old in ENCODED
    assert codes(ENCODED.replace(old, new, 1)) == ["json-duplicate-key"]


@pytest.mark.parametrize(
    ("changes", "code", "where"),
    [
        ({"shape": [-1]}, "field-invalid", "shape[0]"),
        ({"shape": [1.0]}, "field-invalid", "shape[0]"),
        ({"shape": [1] * (limits.DIMENSIONS + 1)}, "field-invalid", "shape"),
        ({"shape": 4}, "field-invalid", "shape"),
        ({"dtype": 32}, "field-invalid", "dtype"),
        ({"digest": "0" * 64}, "field-invalid", "digest"),
        ({"l2": "2.0"}, "field-invalid", "l2"),
        ({"l2": True}, "field-invalid", "l2"),
        ({"nan": -1}, "field-invalid", "nan"),
        ({"colour": "red"}, "field-unknown", "colour"),
    ],
)
def test_a_wrong_field_is_refused_with_its_path(
    changes: dict[str, Any], code: str, where: str
) -> None:
    problem = refused(with_record(**changes))[0]
    assert problem.code == code
    assert problem.where == f"tensors.json: weights.model.tensors['head.weight'].{where}"


def test_a_missing_field_is_refused() -> None:
    found = document()
    del found["weights"]["model"]["tensors"]["step"]["file"]
    assert codes(dump_json(found)) == ["field-missing"]


def test_a_newer_major_is_refused_and_a_newer_minor_carried() -> None:
    assert codes(dump_json(document() | {"format_version": "2.0"})) == ["newer-version"]
    later = dump_json(document() | {"format_version": "1.3", "invented": {"a": 1}})
    assert encode_tensors(read(later)) == later


def test_a_manifest_of_another_format_is_refused() -> None:
    assert codes(dump_json(document() | {"format": "smartcash-checkpoint"})) == ["foreign-format"]


@pytest.mark.parametrize("literal", ["NaN", "Infinity", "1e999", "9223372036854775808"])
def test_no_number_that_json_readers_disagree_on_passes(literal: str) -> None:
    data = ENCODED.replace(b'"absmax":1.0', f'"absmax":{literal}'.encode(), 1)
    assert codes(data) == ["json-number"]


@pytest.mark.parametrize(
    "name",
    ["\x1b[31m", "a\x7f", "a\u0085b", "é" * 513, "\x00", "/a", "..", "a/../b", "C:/a", "a\\b"],
)
def test_a_name_with_control_characters_too_many_bytes_or_a_way_out_is_refused(name: str) -> None:
    for part in (
        {"tensors": {name: record()}},
        {"tensors": {}, "aliases": {name: "x"}},
        {"tensors": {}, "modules": {name: 2}},
    ):
        data = encode_tensors(tensors(weights={"model": WeightSetTensors(**part)}))
        (problem,) = refused(data)
        assert problem.code == "tensor-name"
        assert problem.where.isprintable()


def test_the_root_module_has_an_empty_path() -> None:
    weights = WeightSetTensors(tensors={}, modules={"": 3})
    assert read(encode_tensors(tensors(weights={"model": weights}))).weights["model"] == weights


@pytest.mark.parametrize("name", ["Model", "../x", "a-b", "", "é"])
def test_a_weight_set_has_the_name_of_a_file(name: str) -> None:
    found = document()
    found["weights"][name] = found["weights"].pop("model")
    assert codes(dump_json(found)) == ["field-invalid"]


def test_non_finite_statistics_go_by_name() -> None:
    data = with_record(l2="NaN", absmax="Infinity", nan=3)
    found = read(data).weights["model"].tensors["head.weight"]
    assert (repr(found.l2), found.absmax, found.nan) == ("nan", float("inf"), 3)
    assert encode_tensors(read(data)) == data


def test_a_tied_tensor_has_a_line_under_each_of_its_names() -> None:
    weights = tensors().weights["model"]
    names = [line[0] for line in weights.lines()]
    assert sorted(names) == ["embed.weight", "head.weight", "step"]
    assert weights.weights_digest == weights_digest(weights.lines())


def test_a_million_faults_are_reported_by_the_first() -> None:
    found = document()
    wrong = {"a": 1, "dtype": 1, "l2": []}
    found["weights"]["model"]["tensors"] = {f"t{n}": wrong for n in range(5_000)}
    found["weights"]["model"]["modules"] = {f"m{n}": -1 for n in range(5_000)}
    assert len(refused(dump_json(found))) <= 10
    unknown = document() | {f"unknown{n}": n for n in range(5_000)}
    assert len(refused(dump_json(unknown))) == 100


def test_a_manifest_over_its_bound_is_refused_before_it_is_parsed() -> None:
    assert codes(b" " * (limits.TENSORS_BYTES + 1)) == ["json-too-large"]
    assert codes(b"[" + b"[]," * limits.JSON_VALUES + b"[]]") == ["json-too-large"]


@given(st.binary(max_size=40))
def test_no_bytes_make_the_reader_raise(data: bytes) -> None:
    refused(data)
