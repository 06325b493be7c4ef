"""What a question costs is counted: bytes read of weights and torch files, and torch never loaded.

tests/metered.py asks every question once, in one process.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from smartcash_format.disk.read import open_checkpoint
from smartcash_format.spec.archive import read_archive
from smartcash_format.spec.header import read_header
from smartcash_format.testing.sample import write_sample
from tests import metered
from tests.processes import run_python

# Large beside its header, its directory and its program.
FLOATS = 60_000
WEIGHTS, OPTIMIZER = "model.safetensors", "optimizer.pt"
# `storage-test` saves a checkpoint of its own, and reads it back.
CONTENT = {"validate --depth content", "storage-test"}
STRUCTURE = {
    "validate(STRUCTURE)",
    "validate_checkpoint()",
    "validate --depth structure",
    "doctor",
}
NOWHERE = (Path(), Path(), Path())
COMMANDS = dict(metered.commands(*NOWHERE))
QUESTIONS = [*COMMANDS, *(name for name, _ in metered.calls(*NOWHERE))]

pytestmark = pytest.mark.skipif(
    not os.path.isdir("/proc/self/fd"), reason="names descriptors by /proc/self/fd"
)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("runs") / "root"
    for epoch in (1, 2, 3):
        write_sample(root, epoch=epoch, floats=FLOATS)
    return root


@pytest.fixture(scope="module")
def asked(root: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run_python("-m", "tests.metered", str(root)))
    return found


@pytest.fixture(scope="module")
def newest(asked: dict[str, Any], root: Path) -> Path:
    return max(root.glob("epoch-*"))


@pytest.mark.parametrize("question", QUESTIONS)
def test_no_question_loads_torch_or_numpy(asked: dict[str, Any], question: str) -> None:
    assert asked[question]["code"] == (1 if question == "diff" else 0)
    assert not asked[question]["torch"]


@pytest.mark.parametrize("question", sorted(set(QUESTIONS) - STRUCTURE - CONTENT))
def test_a_question_that_metadata_answers_opens_no_weights(
    asked: dict[str, Any], question: str
) -> None:
    assert asked[question]["opened"] == []
    assert asked[question]["ranges"] == {}


@pytest.mark.parametrize("question", sorted(STRUCTURE))
def test_structure_reads_headers_and_programs_once_and_no_tensor(
    asked: dict[str, Any], newest: Path, question: str
) -> None:
    assert sorted(asked[question]["opened"]) == [WEIGHTS, OPTIMIZER]
    ranges = asked[question]["ranges"]
    for name, data in data_of(newest).items():
        assert touching(ranges[name], data) == []
    assert sum(end - begin for begin, end in ranges[WEIGHTS]) == data_of(newest)[WEIGHTS][0][0]


def test_content_reads_every_byte_that_is_hashed_once(asked: dict[str, Any], newest: Path) -> None:
    assert sorted(asked["validate --depth content"]["opened"]) == [WEIGHTS, OPTIMIZER]
    ranges = asked["validate --depth content"]["ranges"]
    for name, data in data_of(newest).items():
        whole = (0, (newest / name).stat().st_size)
        # Weights are digested as files and as tensors: one mapping serves both.
        assert touching(ranges[name], data) == [whole]


def touching(ranges: list[list[int]], data: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The ranges that have bytes of tensors in them."""
    return [
        (begin, end)
        for begin, end in ranges
        if any(begin < last and first < end for first, last in data)
    ]


def data_of(path: Path) -> dict[str, list[tuple[int, int]]]:
    """Where the tensors' bytes lie in each file."""
    with open_checkpoint(path) as opened:
        size_bytes = opened.size(WEIGHTS)
        header, _ = read_header(opened.raw(WEIGHTS), size_bytes, where=WEIGHTS)
        archive, _ = read_archive(opened.raw(OPTIMIZER), opened.size(OPTIMIZER), where=OPTIMIZER)
    assert header is not None
    assert archive is not None
    storages = [(each.begin, each.begin + each.size_bytes) for each in archive.storages.values()]
    return {WEIGHTS: [(header.data_start, size_bytes)], OPTIMIZER: storages}
