"""How weights moved, from tensors.json alone."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from smartcash_format.store.catalog import scan
from smartcash_format.store.entry import Entry
from smartcash_format.store.grouping import LAYERS, grouped
from smartcash_format.store.weight_changes import COLUMNS, Layer, weight_changes
from tests.store.checkpoints import write_weighed


def oldest_first(root: Path) -> list[Entry]:
    return list(scan(root))[::-1]


def layers(root: Path) -> dict[str, tuple[Layer | None, ...]]:
    return dict(weight_changes(oldest_first(root)).layers)


def test_the_tensors_of_a_module_are_taken_together(tmp_path: Path) -> None:
    write_weighed(tmp_path, 1, {"head.weight": 3.0, "head.bias": 4.0, "stem.weight": 1.0})
    found = layers(tmp_path)
    assert list(found) == ["head", "stem"]
    (head,) = found["head"]
    assert head is not None
    assert (head.l2, head.absmax) == (5.0, 4.0)


def test_a_change_is_a_part_of_the_norm_before_and_none_where_nothing_changed(
    tmp_path: Path,
) -> None:
    write_weighed(tmp_path, 1, {"a.w": (2.0, 1), "b.w": (1.0, 1)})
    write_weighed(tmp_path, 2, {"a.w": (2.5, 2), "b.w": (1.0, 1)})
    found = layers(tmp_path)
    before, after = found["a"]
    assert before is not None
    assert after is not None
    assert after.moved(before) == pytest.approx(0.25)
    assert before.moved(None) is None
    first, second = found["b"]
    assert first == second


def test_nan_and_infinity_are_counted_and_have_no_change(tmp_path: Path) -> None:
    write_weighed(tmp_path, 1, {"a.w": 2.0})
    write_weighed(tmp_path, 2, {"a.w": math.nan})
    before, after = layers(tmp_path)["a"]
    assert after is not None
    assert (after.nan, after.inf) == (1, 1)
    assert after.moved(before) is None


def test_a_layer_that_is_not_everywhere_has_holes(tmp_path: Path) -> None:
    write_weighed(tmp_path, 1, {"a.w": 2.0})
    write_weighed(tmp_path, 2, {"a.w": 2.0, "late.w": 1.0})
    assert layers(tmp_path)["late"][0] is None


def test_a_checkpoint_whose_manifest_is_not_what_was_saved_is_left_out(tmp_path: Path) -> None:
    write_weighed(tmp_path, 1, {"a.w": 2.0})
    path = write_weighed(tmp_path, 2, {"a.w": 2.0})
    size = (path / "tensors.json").stat().st_size
    (path / "tensors.json").write_bytes(b"{}".ljust(size))
    found = weight_changes(oldest_first(tmp_path))
    assert [entry.epoch for entry in found.entries] == [1]
    assert found.of == 2


def test_of_many_checkpoints_some_are_read_the_first_the_last_and_the_asked_among_them(
    tmp_path: Path,
) -> None:
    for number in range(1, 2 * COLUMNS + 1):
        write_weighed(tmp_path, number, {"a.w": float(number)})
    entries = oldest_first(tmp_path)
    found = weight_changes(entries, [entries[6]])
    assert len(found.entries) <= COLUMNS
    assert {entries[0], entries[6], entries[-1]} <= set(found.entries)
    assert list(found.entries) == sorted(found.entries, key=lambda entry: entry.order)
    assert len(found.layers["a"]) == len(found.entries)


def test_deep_modules_are_taken_together_until_few_are_left(tmp_path: Path) -> None:
    deep = {f"blocks.{block}.{part}.w": 1.0 for block in range(20) for part in range(5)}
    write_weighed(tmp_path, 1, deep)
    assert list(layers(tmp_path)) == [f"blocks.{block}" for block in range(20)]  # 10 after 9


def test_blocks_beyond_counting_are_taken_together_in_ranges() -> None:
    blocks = {f"h.{i}.{part}.weight" for i in range(48) for part in ("ln_1", "attn.c_attn", "mlp")}
    found = grouped(blocks | {"wte.weight", "wpe.weight", "ln_f.weight", "ln_f.bias"})
    assert list(found)[:3] == ["h.0-1", "h.2-3", "h.4-5"]
    assert list(found)[-4:] == ["h.46-47", "ln_f", "wpe", "wte"]
    assert len(found["h.10-11"]) == 6
    assert len(found) <= LAYERS


def test_of_unlike_modules_the_largest_is_divided() -> None:
    backbone = {f"backbone.stage{i}.conv{j}.weight" for i in range(4) for j in range(6)}
    head = {f"head.{i}.weight" for i in range(20)}
    found = grouped(backbone | head | {"backbone.scale"})
    assert "backbone.stage1.conv3" in found
    assert "backbone" in found  # what it has of its own
    assert sum(len(names) for names in found.values()) == 45
    assert len(found) <= LAYERS
    assert any(label.startswith("head.0-") for label in found)


def test_modules_without_end_have_a_rest(tmp_path: Path) -> None:
    write_weighed(tmp_path, 1, {f"layer{n}.w": 1.0 for n in range(LAYERS + 5)})
    found = layers(tmp_path)
    assert len(found) == LAYERS
    assert list(found)[-1] == "… 6 more"


def test_a_change_of_whole_numbers_is_seen_too(tmp_path: Path) -> None:
    for number in (1, 2):
        write_weighed(tmp_path, number, {"quant.w": (None, number), "bn.w": (1.0, 1),
                                         "bn.num_batches_tracked": (None, number)})  # fmt: skip
    found = layers(tmp_path)
    for name in ("quant", "bn"):
        before, after = found[name]
        assert before is not None
        assert after is not None
        assert before.digest != after.digest
    (quant, _), (bn, _) = found["quant"], found["bn"]
    assert quant is not None
    assert bn is not None
    assert (quant.l2, quant.absmax, bn.l2) == (None, None, 1.0)


def test_a_tensor_without_a_module_is_its_own_layer() -> None:
    assert grouped(["w", "b", "a.w"]) == {"a": ["a.w"], "b": ["b"], "w": ["w"]}
    assert grouped([]) == {}
