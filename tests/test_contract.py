"""The examples: every valid one is accepted, every invalid one refused by its code."""

from __future__ import annotations

import io
import json
import re
from functools import cache
from pathlib import Path

import pytest
import safetensors
from jsonschema import Draft202012Validator

from smartcash_format.disk.observe import validate
from smartcash_format.spec.problems import Depth
from smartcash_format.spec.remedies import REMEDIES
from smartcash_format.spec.schema import documents
from tests.contract import attacks
from tests.contract.invalid import INVALID
from tests.contract.make import EXAMPLES, all_files
from tests.contract.valid import VALID

COMMAND = "python -m tests.contract.make"
FORMAT = (Path(__file__).parents[1] / "schemas" / "FORMAT.md").read_text(encoding="utf-8")
# Where a deeper look finds another thing wrong for the same reason.
ALSO = {
    "file-missing--weights-not-listed": {"manifest-mismatch"},
    "file-missing--one-shard-of-two": {"manifest-mismatch"},
}


def codes(path: Path, depth: Depth) -> set[str]:
    return {problem.code for problem in validate(path, depth).problems}


def test_the_committed_examples_are_those_that_are_made() -> None:
    made = all_files()
    committed = {
        path.relative_to(EXAMPLES).as_posix()
        for path in EXAMPLES.rglob("*")
        if path.is_file() and path.name != "README.md"
    } | {"valid/beside-it/README.md"}
    assert committed == set(made), f"run: {COMMAND}"
    changed = [name for name, data in made.items() if (EXAMPLES / name).read_bytes() != data]
    assert changed == [], f"run: {COMMAND}"


@pytest.mark.parametrize("name", VALID)
def test_a_valid_example_has_no_problem_at_any_depth(name: str) -> None:
    for depth in Depth:
        report = validate(EXAMPLES / "valid" / name, depth)
        assert report.problems == ()
        assert report.depth is depth


def test_what_is_not_listed_is_a_notice_and_no_problem() -> None:
    report = validate(EXAMPLES / "valid" / "beside-it", Depth.CONTENT)
    assert len(report.notices) == 3


@pytest.mark.parametrize("name", INVALID)
def test_an_invalid_example_is_refused_by_its_code_and_by_nothing_else(name: str) -> None:
    path, first = EXAMPLES / "invalid" / name, INVALID[name].depth
    code = name.partition("--")[0]
    for depth in Depth:
        found = codes(path, depth)
        if depth < first:
            assert code not in found
        else:
            assert found - ALSO.get(name, set()) == {code}


def test_the_sentences_about_invalid_examples_are_printable_and_read_on_from_the_place() -> None:
    for name in INVALID:
        for problem in validate(EXAMPLES / "invalid" / name, Depth.CONTENT).problems:
            texts = (problem.where, problem.message, problem.found, problem.expected, problem.fix)
            assert all(text is None or text.isprintable() for text in texts), name
            assert problem.message, name
            assert not problem.message[0].isupper(), name


# Where the message is all that can be said of what was found.
WITHOUT_FOUND = re.compile(
    "archive-|pickle-|json-too-deep|meta-digest-mismatch|not-a-checkpoint", re.ASCII
)


@pytest.mark.parametrize("name", INVALID)
def test_a_problem_says_what_was_found_what_is_expected_and_what_to_do(name: str) -> None:
    for problem in validate(EXAMPLES / "invalid" / name, Depth.CONTENT).problems:
        assert problem.fix, problem
        assert problem.expected, problem
        assert problem.found or WITHOUT_FOUND.match(problem.code), problem
        assert problem.found != problem.expected, problem


def test_every_code_of_a_validation_has_its_remedy_and_no_other_has() -> None:
    validated = re.findall(r"^\| ([a-z-]+) \| (?:META|STRUCTURE|CONTENT) \|", FORMAT, re.M)
    assert sorted(REMEDIES) == sorted(validated)


def test_the_depths_are_those_that_the_examples_state() -> None:
    stated = json.loads((EXAMPLES / "depths.json").read_text())
    assert stated == {name: breach.depth.name for name, breach in INVALID.items()}


def test_no_example_is_shallower_than_the_depth_that_the_document_gives_its_code() -> None:
    document = dict(re.findall(r"^\| ([a-z-]+) \| (META|STRUCTURE|CONTENT) \|", FORMAT, re.M))
    for name, breach in INVALID.items():
        assert breach.depth >= Depth[document[name.partition("--")[0]]], name


# Codes that no directory in a repository can show; the tests named here make what they need.
ELSEWHERE = {
    "json-too-large": "tests/contract/test_large.py",
    "tensor-count": "tests/contract/test_large.py",
    "file-unreadable": "tests/disk/test_unreadable.py",
}


def test_every_code_that_a_validation_can_find_has_an_example() -> None:
    validated = re.findall(r"^\| ([a-z-]+) \| (?:META|STRUCTURE|CONTENT) \|", FORMAT, re.M)
    shown = {name.partition("--")[0] for name in INVALID}
    assert sorted(shown | ELSEWHERE.keys()) == sorted(validated)
    for code, file in ELSEWHERE.items():
        assert f'"{code}"' in (Path(__file__).parents[1] / file).read_text(encoding="utf-8")


@cache
def validator(schema: str) -> Draft202012Validator:
    return Draft202012Validator(json.loads(documents()[f"{schema}-v1.schema.json"]))


@pytest.mark.parametrize("name", [name for name in VALID if name != "newer-minor"])
def test_the_documents_of_a_valid_example_are_accepted_by_their_schemas(name: str) -> None:
    for file, schema in (("meta.json", "meta"), ("tensors.json", "tensors")):
        validator(schema).validate(json.loads((EXAMPLES / "valid" / name / file).read_bytes()))


@pytest.mark.parametrize("name", VALID)
def test_the_weights_of_a_valid_example_are_read_by_safetensors_alone(name: str) -> None:
    for path in (EXAMPLES / "valid" / name).glob("*.safetensors"):
        names = {name for name, _ in safetensors.deserialize(path.read_bytes())}  # type: ignore[no-untyped-call]
        manifest = json.loads((path.parent / "tensors.json").read_bytes())["weights"]
        tensors = manifest[re.split(r"[-.]", path.name)[0]]["tensors"]
        assert names == {name for name, found in tensors.items() if found["file"] == path.name}


@pytest.mark.torch
@pytest.mark.parametrize("name", VALID)
def test_the_torch_files_of_a_valid_example_load_with_weights_only(name: str) -> None:
    import torch

    from smartcash_format.torch_io.state import decode

    listed = json.loads((EXAMPLES / "valid" / name / "meta.json").read_bytes())["files"]
    for file in listed:
        if file.endswith(".pt"):
            data = (EXAMPLES / "valid" / name / file).read_bytes()
            assert decode(torch.load(io.BytesIO(data), weights_only=True))


def test_the_table_of_attacks_is_that_of_the_tests() -> None:
    command = "python -m tests.contract.attacks"
    assert attacks.DOCUMENT.read_text("utf-8") == attacks.document(), f"run: {command}"
