"""FORMAT.md agrees with the code: every limit, every problem code, every clause number."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from smartcash_format.spec import layout, limits
from smartcash_format.spec.digest import ALGORITHM
from smartcash_format.spec.problems import CODES, Depth
from smartcash_format.spec.schema import documents
from smartcash_format.spec.version import FORMAT_VERSION, SUPPORTED, TENSORS_FORMAT

SCHEMAS = Path(__file__).parents[1] / "schemas"
TEXT = (SCHEMAS / "FORMAT.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## (\d+)\. .*?\n(.*?)(?=^## |\Z)", TEXT, re.MULTILINE | re.DOTALL))


def rows(section: str) -> list[list[str]]:
    found = re.findall(r"^\| (?!-)(.*) \|$", SECTIONS[section], re.MULTILINE)
    return [row.split(" | ") for row in found][1:]


def test_every_limit_stands_in_the_document_with_its_value_and_a_reason() -> None:
    stated = {name: int(value.replace(",", "")) for name, value, _ in rows("14")}
    assert stated == {name: value for name, value in vars(limits).items() if name.isupper()}
    assert all(reason.strip() for _, _, reason in rows("14"))


def test_every_problem_code_stands_in_the_document_once_with_its_depth_and_a_sentence() -> None:
    codes = [code for code, _, _ in rows("15")]
    assert sorted(codes) == sorted(CODES)
    assert {depth for _, depth, _ in rows("15")} == {*Depth.__members__, "live"}
    assert all(sentence.strip() for _, _, sentence in rows("15"))


def test_clauses_are_numbered_without_a_gap() -> None:
    assert [int(section) for section in SECTIONS] == list(range(1, len(SECTIONS) + 1))
    for section, body in SECTIONS.items():
        clauses = re.findall(r"^- \*\*F-(\d+)\.(\d+)\*\* ", body, re.MULTILINE)
        expected = [(section, str(n)) for n in range(1, len(clauses) + 1)]
        assert clauses == expected
        assert clauses or section == "16"


def test_the_document_is_of_the_version_that_is_written() -> None:
    assert TEXT.startswith(f"# The smartcash-format checkpoint, version {FORMAT_VERSION}\n")
    assert f"this is {FORMAT_VERSION}\n  and its readers are named {SUPPORTED}" in TEXT
    assert f"- **{FORMAT_VERSION}** " in SECTIONS["16"]
    assert TENSORS_FORMAT in SECTIONS["5"]
    assert f"Writers write `{ALGORITHM}:`" in SECTIONS["8"]


def test_every_name_on_disk_stands_in_the_document() -> None:
    names = [
        *(layout.META, layout.TENSORS, layout.OPTIMIZER, layout.SCHEDULER, layout.EXTRA),
        *(layout.HISTORY, layout.PINS, layout.STAGING_PREFIX, layout.TRASH_PREFIX),
        *(layout.WEIGHTS_SUFFIX, layout.INDEX_SUFFIX, layout.SET_NAME.pattern),
        f"`{layout.SIGNATURE_SUFFIX}`",
    ]
    assert [name for name in names if name not in SECTIONS["1"]] == []
    assert layout.OLD_HISTORY in SECTIONS["11"]


def test_every_required_field_of_meta_stands_in_the_document() -> None:
    required = json.loads(documents()["meta-v1.schema.json"])["required"]
    sentence = re.search(r"Required are (.*?);", SECTIONS["4"], re.DOTALL)
    assert sentence is not None
    assert re.findall(r"`(\w+)`", sentence[1]) == required


def test_every_link_of_the_document_leads_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", TEXT):
        assert (SCHEMAS / target).exists(), target


def table(heading: str) -> list[list[str]]:
    body = TEXT.partition(f"### {heading}\n")[2]
    lines = re.split(r"\n#+ ", body)[0].splitlines()
    return [line.strip("| ").split(" | ") for line in lines if line.startswith("| ")][1:]


@pytest.mark.torch
def test_every_tagged_form_stands_in_the_document() -> None:
    decoder = pytest.importorskip("smartcash_format.torch_io.state_decoder")
    assert [row[0].strip("`") for row in table("7.1 Tagged forms")] == list(decoder.BUILDERS)


@pytest.mark.torch
def test_every_random_state_stands_in_the_document() -> None:
    rng = pytest.importorskip("smartcash_format.torch_io.rng")
    names = [row[0].strip("`") for row in table("7.2 Random number state")]
    assert names == [rng.PYTHON, rng.NUMPY, rng.TORCH, rng.ACCELERATOR]


@pytest.mark.torch
def test_the_storage_types_of_the_document_are_those_that_are_written() -> None:
    state = pytest.importorskip("smartcash_format.torch_io.state")
    listed = re.search(r"for the types\s(.*?)\.\sThey", SECTIONS["7"], re.DOTALL)
    assert listed is not None
    types = re.findall(r"[A-Z]\w+", listed[1])
    assert sorted(f"{name}Storage" for name in types) == sorted(state.CLASSIC.values())
