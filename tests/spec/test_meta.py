from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smartcash_format.spec import limits
from smartcash_format.spec.digest import SEAL_KEY, ZEROS, digest_of, seal
from smartcash_format.spec.documents import dump_json
from smartcash_format.spec.meta import PROBLEMS, Meta, encode_meta, meta_size, parse_meta
from smartcash_format.spec.problems import Problem
from tests.spec.samples import meta
from tests.spec.test_documents import TEXT, VALUES

SEALED = encode_meta(meta())


def document(**changes: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(SEALED)
    return found | changes


def read(data: bytes) -> Meta:
    parsed, problems = parse_meta(data)
    assert problems == ()
    assert parsed is not None
    return parsed


def refused(data: bytes) -> tuple[Problem, ...]:
    parsed, problems = parse_meta(data)
    assert parsed is None
    assert problems
    return problems


def codes(data: bytes) -> list[str]:
    return [problem.code for problem in refused(data)]


def test_a_meta_is_read_back_equal() -> None:
    parsed = read(SEALED)
    assert parsed == meta(meta_digest=parsed.meta_digest)
    assert encode_meta(parsed) == SEALED
    assert meta_size(parsed) == len(SEALED)


@given(
    metrics=st.dictionaries(TEXT, st.floats() | st.integers(-(1 << 63), (1 << 63) - 1), max_size=5),
    config=VALUES,
    notes=st.dictionaries(TEXT, VALUES, max_size=3),
    tags=st.lists(TEXT, max_size=3),
    step=st.none() | st.integers(0, limits.INTEGER_MAX),
)
def test_whatever_the_user_gave_is_read_back_equal(**given_by_user: Any) -> None:
    parsed = read(encode_meta(meta(**given_by_user)))
    assert repr(parsed.metrics) == repr(dict(sorted(given_by_user.pop("metrics").items())))
    for name, value in given_by_user.items():
        assert getattr(parsed, name) == value


@given(st.integers(0, len(SEALED) - 1), st.integers(1, 255))
@settings(max_examples=300)
def test_any_changed_byte_of_a_meta_is_found(place: int, flip: int) -> None:
    data = bytearray(SEALED)
    data[place] ^= flip
    refused(bytes(data))


@pytest.mark.parametrize("bit", range(8))
def test_any_single_flipped_bit_of_a_meta_is_found(bit: int) -> None:
    for place in range(0, len(SEALED), 3):
        data = bytearray(SEALED)
        data[place] ^= 1 << bit
        assert parse_meta(bytes(data))[0] is None, place


@given(st.integers(0, len(SEALED) - 1))
def test_any_truncated_meta_is_found(length: int) -> None:
    refused(SEALED[:length])


def test_an_edited_metric_is_found_by_the_seal() -> None:
    edited = SEALED.replace(b'"val_map": 0.5', b'"val_map": 0.9')
    (problem,) = refused(edited)
    assert problem.code == "meta-digest-mismatch"
    assert problem.where == f"meta.json: {SEAL_KEY}"


def test_white_space_added_to_a_meta_is_found_by_the_seal() -> None:
    assert codes(SEALED + b" ") == ["meta-digest-mismatch"]


def test_a_newer_major_is_said_before_the_seal_and_the_fields_are_looked_at() -> None:
    data = dump_json({"format": "smartcash-checkpoint", "format_version": "2.0", "new": True})
    assert codes(data) == ["newer-version"]


def test_keys_of_a_newer_minor_are_carried_and_written_again() -> None:
    files = document()["files"]
    files["tensors.json"]["note"] = "later"
    data = seal(document(format_version="1.7", invented={"a": [1]}, files=files))
    parsed = read(data)
    assert parsed.version.is_newer_minor
    assert encode_meta(parsed) == data


def test_unknown_keys_of_this_minor_are_refused_with_their_paths_wherever_they_stand() -> None:
    files = document()["files"]
    files["tensors.json"]["note"] = "x"
    optimizer = document()["optimizer"]
    optimizer["groups"][0]["extra"] = 1
    problems = refused(seal(document(invented=1, files=files, optimizer=optimizer)))
    assert {problem.code for problem in problems} == {"field-unknown"}
    assert sorted(problem.where for problem in problems) == [
        "meta.json: files['tensors.json'].note",
        "meta.json: invented",
        "meta.json: optimizer.groups[0].extra",
    ]


def test_the_users_own_keys_are_never_unknown() -> None:
    config = {"format": 2, "files": {"x": {"unknown": []}}}
    assert read(seal(document(config=config, notes=config))).config == config


def edit(**changes: Any) -> Callable[[], bytes]:
    return lambda: seal(document(**changes))


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"epoch": -1}, "epoch"),
        ({"epoch": 1.0}, "epoch"),
        ({"epoch": True}, "epoch"),
        ({"epoch": "1"}, "epoch"),
        ({"is_best": 1}, "is_best"),
        ({"is_best": None}, "is_best"),
        ({"metrics": {"loss": "0.5"}}, "metrics.loss"),
        ({"metrics": {"loss": None}}, "metrics.loss"),
        ({"metrics": {str(n): n for n in range(limits.METRICS + 1)}}, "metrics"),
        ({"saved_at": "2026-01-31"}, "saved_at"),
        ({"checkpoint_id": "x"}, "checkpoint_id"),
        ({"tags": ["x" * (limits.SHORT_TEXT + 1)]}, "tags[0]"),
        ({"tags": [str(n) for n in range(limits.TAGS + 1)]}, "tags"),
        ({"backbone": 4}, "backbone"),
        ({"weights": {"Model": {}}}, "weights.Model (the key)"),
        ({"notes": []}, "notes"),
        ({"files": []}, "files"),
        ({"files": {"": {"role": "aux", "size_bytes": 0, "digest": digest_of(b"")}}}, "files"),
        ({"format_version": "1.01"}, "format_version"),
    ],
)
def test_a_wrong_field_is_refused_with_its_path(changes: dict[str, Any], where: str) -> None:
    problem = refused(seal(document(**changes)))[0]
    assert problem.code == "field-invalid"
    assert problem.where.startswith(f"meta.json: {where}")


def test_a_missing_field_is_refused_with_its_path() -> None:
    found = document()
    del found["epoch"], found["files"]["extra.pt"]["digest"]
    problems = refused(seal(found))
    assert [(p.code, p.where) for p in problems] == [
        ("field-missing", "meta.json: epoch"),
        ("field-missing", "meta.json: files['extra.pt'].digest"),
    ]


def test_a_meta_without_a_seal_is_refused() -> None:
    found = document()
    del found[SEAL_KEY]
    assert codes(dump_json(found)) == ["field-missing"]
    assert codes(dump_json(found | {SEAL_KEY: "zzz"})) == ["field-invalid"]
    assert codes(dump_json(found | {SEAL_KEY: f"blake3:{ZEROS}"})) == ["meta-digest-mismatch"]


def test_a_seal_of_an_unknown_algorithm_is_refused_and_never_passes() -> None:
    (problem,) = refused(dump_json(document(meta_digest="k12:" + "0" * 64)))
    assert problem.code == "digest-unknown"
    assert problem.fix == "upgrade smartcash-format"


def test_a_digest_of_an_unknown_algorithm_among_the_files_is_read() -> None:
    files = document()["files"]
    files["extra.pt"]["digest"] = "k12:" + "0" * 64
    assert read(seal(document(files=files))).files["extra.pt"].digest.startswith("k12:")


def test_a_diverged_loss_is_stored_by_name_and_read_as_itself() -> None:
    data = encode_meta(meta(metrics={"loss": math.nan, "norm": math.inf}))
    assert b'"loss": "NaN"' in data
    assert repr(read(data).metrics) == "{'loss': nan, 'norm': inf}"


def test_a_config_that_is_no_json_cannot_be_written() -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        encode_meta(meta(config={"lr": math.nan}))


def test_a_meta_over_a_mebibyte_is_refused() -> None:
    assert codes(seal(document(config="x" * limits.META_BYTES))) == ["json-too-large"]


def test_a_thousand_wrong_fields_are_reported_by_the_first_hundred() -> None:
    data = seal(document(**{f"unknown{n}": n for n in range(1_000)}))
    assert len(refused(data)) == PROBLEMS


def test_names_from_a_file_stand_in_problems_without_control_characters() -> None:
    problems = refused(seal(document(**{"\x1b[31m": 1}, epoch="\x1b]0;x\x07")))
    problems += refused(seal(document(**{"\x1b[31m": 1})))
    assert all((p.where + p.message + str(p.found)).isprintable() for p in problems)


@pytest.mark.parametrize("size", [0, 50_000])
def test_a_large_wrong_value_is_named_not_quoted(size: int) -> None:
    assert refused(seal(document(epoch=["x"] * size)))[0].found == f"an array of {size:,}"
    assert refused(seal(document(epoch={str(n): 1 for n in range(size)})))[0].found == (
        f"an object of {size:,} keys"
    )


def test_the_size_of_a_checkpoint_is_that_of_its_listed_files() -> None:
    assert meta().size_bytes == 80


@given(st.binary(max_size=40))
def test_no_bytes_make_the_reader_raise(data: bytes) -> None:
    refused(data)
