"""The schemas hold without this package: `check-jsonschema` takes them and says what they say."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from smartcash_format.spec.history import BULLET
from tests.processes import CHECKOUT

pytest.importorskip("check_jsonschema", reason="of the dependency group check")

SCHEMAS = CHECKOUT / "schemas"
EXAMPLES = SCHEMAS / "examples"
HISTORY = CHECKOUT / "tests" / "golden" / "v1.0" / "root" / "training_history.yaml"
# A reader takes fields that a newer minor version adds; the schema is of this one.
NEWER = "newer-minor"


def checked(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "check_jsonschema", "--no-cache", *map(str, arguments)],
        cwd=CHECKOUT, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_the_schemas_are_schemas() -> None:
    done = checked("--check-metaschema", *SCHEMAS.glob("*.schema.json"))
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("document", ["meta", "tensors"])
def test_valid_examples_are_accepted_and_a_wrong_field_is_named(document: str) -> None:
    schema = ("--schemafile", SCHEMAS / f"{document}-v1.schema.json")
    valid = [path for path in EXAMPLES.glob(f"valid/*/{document}.json") if NEWER not in path.parts]
    assert len(valid) > 5
    done = checked(*schema, *valid)
    assert done.returncode == 0, done.stdout
    broken = EXAMPLES / "invalid" / {
        "meta": "field-invalid--epoch-is-text",
        "tensors": "field-missing--shape-of-a-tensor",
    }[document] / f"{document}.json"  # fmt: skip
    done = checked(*schema, broken)
    assert done.returncode == 1
    assert {"meta": "$.epoch", "tensors": "'shape' is a required property"}[document] in done.stdout


def test_the_lines_of_a_history_are_accepted(tmp_path: Path) -> None:
    lines = HISTORY.read_text(encoding="utf-8").splitlines()
    texts = [line.removeprefix(BULLET) for line in lines if line.startswith(BULLET)]
    paths = [tmp_path / f"{number}.json" for number in range(len(texts))]
    for path, text in zip(paths, texts, strict=True):
        path.write_text(json.dumps(json.loads(text)), encoding="utf-8")
    done = checked("--schemafile", SCHEMAS / "history-line-v1.schema.json", *paths)
    assert done.returncode == 0, done.stdout
