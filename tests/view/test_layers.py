"""Tensors as a tree: repeated layers stand once, and no name or shape is too much for it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import pytest
from rich.console import Console

from smartcash_format.spec import digest
from smartcash_format.spec.tensors import TensorRecord
from smartcash_format.view.layers import layer_tree

DIGEST = digest.digest_of(b"")


def tensors(shapes: Mapping[str, list[int]]) -> dict[str, TensorRecord]:
    """Records of these shapes, in the order of tensors.json: by name."""
    return {
        name: TensorRecord(dtype="F32", shape=shape, file="model.safetensors", digest=DIGEST)
        for name, shape in sorted(shapes.items())
    }


def drawn(shapes: Mapping[str, list[int]], lines: int | None = None) -> list[str]:
    console = Console(width=10_000, color_system=None)
    with console.capture() as captured:
        console.print(layer_tree("model", tensors(shapes), lines=lines))
    return [line.rstrip() for line in captured.get().splitlines()]


def blocks(numbers: Iterable[int], size: int = 4) -> dict[str, list[int]]:
    return {
        name: shape
        for n in numbers
        for name, shape in {
            f"blocks.{n}.norm.weight": [size],
            f"blocks.{n}.mlp.weight": [size, size],
            f"blocks.{n}.mlp.bias": [size],
        }.items()
    }


def test_layers_that_repeat_stand_once_with_how_often() -> None:
    assert drawn(blocks(range(12)) | {"head.weight": [10, 4], "scale": []}) == [
        "model  329 elements",
        "├── scale  F32 scalar",
        "├── blocks  288",
        "│   └── 0 ... 11  (12 alike)  24 each",
        "│       ├── mlp  20",
        "│       │   ├── bias  F32 4",
        "│       │   └── weight  F32 4x4",
        "│       └── norm  4",
        "│           └── weight  F32 4",
        "└── head  40",
        "    └── weight  F32 10x4",
    ]


@pytest.mark.parametrize(
    ("changed", "headings"),
    [
        ({}, ["0 ... 5  (6 alike)"]),
        # A shape, a dtype's width apart: what differs stands by itself, and parts its neighbours.
        ({"blocks.2.mlp.bias": [5]}, ["0 ... 1  (2 alike)", "2", "3 ... 5  (3 alike)"]),
        ({"blocks.5.gate": [1]}, ["0 ... 4  (5 alike)", "5"]),
        ({"blocks.0.mlp.more.weight": [1]}, ["0", "1 ... 5  (5 alike)"]),
    ],
)
def test_only_neighbours_of_one_form_are_taken_together(
    changed: dict[str, list[int]], headings: list[str]
) -> None:
    lines = drawn(blocks(range(6)) | changed)
    found = [line.partition("── ")[2] for line in lines if line[4:6] in ("├─", "└─")]
    assert [heading.rpartition("  ")[0] for heading in found] == headings


def test_where_there_is_little_room_only_the_upper_levels_are_shown() -> None:
    shapes = {f"stage{n}.{name}": shape for n in range(9) for name, shape in blocks([n]).items()}
    assert len(drawn(shapes)) == 1 + 9 * 8
    shown = drawn(shapes, lines=30)
    assert shown[1:3] == ["├── stage0  24", "│   └── blocks  24"]
    assert len(shown) == 1 + 9 * 3
    assert shown[3] == "│       └── 0  24, 3 tensors"
    assert len(drawn(shapes, lines=9)) == 1 + 9
    assert len(drawn(shapes, lines=1)) == 1 + 9  # the first level is always there


@pytest.mark.parametrize("name", ["." * 511, "a." * 500 + "b", "." * 1023])
def test_a_name_of_many_points_is_shown_and_no_stack_overflows(name: str) -> None:
    lines = drawn({name: [2], "w": [2]})
    assert len(lines) == 2 + 33
    assert lines[-1].endswith("F32 2")


def test_shapes_beyond_any_number_are_shown() -> None:
    assert drawn({"w": [2**62] * 60})[0] == "model  over 1000 P elements"
