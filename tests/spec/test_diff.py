"""What differs between two checkpoints, from their documents alone."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smartcash_format.spec.diff import Diff, FieldChange, changes, diff, leaves
from smartcash_format.spec.digest import digest_of
from smartcash_format.spec.meta import Meta, WeightSet
from smartcash_format.spec.tensors import TensorRecord, Tensors, WeightSetTensors
from tests.spec import samples

ALIEN = "sha256:" + "ab" * 32


def record(value: str, *, dtype: str = "F32", shape: list[int] | None = None) -> TensorRecord:
    digest = ALIEN if value == "alien" else digest_of(value.encode())
    return TensorRecord(
        dtype=dtype, shape=[2, 3] if shape is None else shape, file="model.safetensors",
        digest=digest,
    )  # fmt: skip


def checkpoint(
    tensors: Mapping[str, TensorRecord] | None = None,
    aliases: Mapping[str, str] | None = None,
    **fields: Any,
) -> tuple[Meta, Tensors]:
    """A meta and the manifest of these tensors, with the weights_digest that they have."""
    named = {"stem": record("a"), "head": record("b")} if tensors is None else dict(tensors)
    weights = WeightSetTensors(tensors=named, aliases=dict(aliases or {}))
    described = WeightSet(
        class_name="Tiny", tensors=len(named), parameters=6, trainable_parameters=6,
        dtypes={"F32": len(named)}, weights_digest=weights.weights_digest, finite=True,
    )  # fmt: skip
    meta = samples.meta(weights={"model": described}, **fields)
    return meta, Tensors(weights={"model": weights})


def named(found: Diff) -> dict[str, Any]:
    """The parts of the one weight set that are not empty."""
    (weights,) = found.weights
    return {
        part: [change if isinstance(change, str) else change.name for change in content]
        for part in ("added", "removed", "renamed", "reshaped", "retyped", "changed", "unknown")
        if (content := getattr(weights, part))
    }


def test_a_checkpoint_does_not_differ_from_itself() -> None:
    found = diff(checkpoint(), checkpoint())
    assert not found.differs
    assert found.identity == found.fields == found.config == ()
    assert found.same_weights == "same"
    assert found.weights[0].unchanged == 2


def test_ids_and_times_alone_are_no_difference() -> None:
    found = diff(checkpoint(), checkpoint(checkpoint_id="4" + samples.CHECKPOINT[1:]))
    assert [change.path for change in found.identity] == ["checkpoint_id"]
    assert not found.differs


def test_metadata_differs_by_field_and_config_by_path() -> None:
    found = diff(
        checkpoint(config={"lr": 1e-3, "layers": [1, 2], "old": None}, tags=["a"]),
        checkpoint(config={"lr": 1e-4, "layers": [1, 3, 4], "a b": {}}, tags=["a"], epoch=11),
    )
    assert found.fields == (FieldChange(path="epoch", kind="changed", before=10, after=11),)
    assert found.config == (
        FieldChange(path="['a b']", kind="added", after={}),
        FieldChange(path="layers[1]", kind="changed", before=2, after=3),
        FieldChange(path="layers[2]", kind="added", after=4),
        FieldChange(path="lr", kind="changed", before=1e-3, after=1e-4),
        FieldChange(path="old", kind="removed"),
    )
    assert found.differs


def test_metrics_have_a_delta_where_both_are_finite() -> None:
    found = diff(
        checkpoint(metrics={"loss": 1.5, "map": 0.5, "same": 3, "nan": math.nan, "gone": 1}),
        checkpoint(metrics={"loss": 1.0, "map": math.inf, "same": 3.0, "nan": math.nan, "new": 2}),
    )
    assert [(m.name, m.delta, m.differs) for m in found.metrics] == [
        ("gone", None, True),
        ("loss", -0.5, True),
        ("map", None, True),
        ("nan", None, False),
        ("new", None, True),
        ("same", 0, False),
    ]


def test_tensors_are_added_removed_reshaped_retyped_and_changed() -> None:
    before = {
        "same": record("a"),
        "removed": record("b"),
        "reshaped": record("c"),
        "retyped": record("d"),
        "changed": record("e"),
        "both": record("f"),
    }
    after = {
        "same": record("a"),
        "added": record("g"),
        "reshaped": record("c", shape=[3, 2]),
        "retyped": record("h", dtype="F16"),
        "changed": record("i"),
        "both": record("f", dtype="I32", shape=[6]),
    }
    found = diff(checkpoint(before), checkpoint(after))
    assert named(found) == {
        "added": ["added"],
        "removed": ["removed"],
        "reshaped": ["both", "reshaped"],
        "retyped": ["both", "retyped"],
        "changed": ["changed"],
    }
    assert found.weights[0].unchanged == 1
    assert found.same_weights == "different"


def test_a_tensor_with_the_same_bytes_under_a_new_name_is_renamed_where_that_is_certain() -> None:
    zeros = {"a.bias": record("zero"), "b.bias": record("zero"), "a.weight": record("w")}
    moved = {"c.bias": record("zero"), "d.bias": record("zero"), "c.weight": record("w")}
    found = diff(checkpoint(zeros), checkpoint(moved))
    assert [(one.name, one.new_name) for one in found.weights[0].renamed] == [
        ("a.weight", "c.weight")
    ]
    assert found.weights[0].removed == ("a.bias", "b.bias")
    assert found.weights[0].added == ("c.bias", "d.bias")


def test_every_name_of_a_tied_tensor_is_compared() -> None:
    tied = {"embed": record("a")}
    untied = {"embed": record("a"), "head": record("x")}
    assert named(diff(checkpoint(tied, {"head": "embed"}), checkpoint(untied))) == {
        "changed": ["head"]
    }
    same = {"embed": record("a"), "head": record("a")}
    found = diff(checkpoint(tied, {"head": "embed"}), checkpoint(same))
    assert found.same_weights == "same"
    assert named(found) == {}


def test_digests_of_another_algorithm_are_unknown_never_same() -> None:
    before, after = checkpoint({"a": record("a")}), checkpoint({"a": record("alien")})
    stated = before[0].weights["model"].model_copy(update={"weights_digest": ALIEN})
    after = (after[0].model_copy(update={"weights": {"model": stated}}), after[1])
    found = diff(before, after)
    assert found.same_weights == "unknown"
    assert found.differs
    assert named(found) == {"unknown": ["a"]}


def test_what_is_said_of_weights_is_a_field_and_their_digest_is_not() -> None:
    before, after = checkpoint(), checkpoint({"stem": record("a"), "head": record("changed")})
    assert diff(before, after).fields == ()
    renamed = after[0].weights["model"].model_copy(update={"class_name": "Other"})
    after = (after[0].model_copy(update={"weights": {"model": renamed}}), after[1])
    (change,) = diff(before, after).fields
    assert (change.path, change.before, change.after) == (
        "weights.model.class_name",
        "Tiny",
        "Other",
    )


@pytest.mark.parametrize(
    "other",
    [
        {"b": record("alien")},
        {"a": record("alien"), "b": record("b")},
        {"a": record("alien", shape=[3, 2])},
        {"a": record("alien", dtype="F16")},
    ],
)
def test_what_differs_without_a_digest_is_different_under_another_algorithm(other: Any) -> None:
    before, after = checkpoint({"a": record("a")}), checkpoint(other)
    stated = before[0].weights["model"].model_copy(update={"weights_digest": ALIEN})
    after = (after[0].model_copy(update={"weights": {"model": stated}}), after[1])
    assert diff(before, after).same_weights == "different"


def test_a_weight_set_that_only_one_has_is_a_difference() -> None:
    meta, tensors = checkpoint()
    more = (
        meta.model_copy(update={"weights": {**meta.weights, "ema": meta.weights["model"]}}),
        Tensors(weights={**tensors.weights, "ema": tensors.weights["model"]}),
    )
    found = diff((meta, tensors), more)
    assert found.same_weights == "different"
    assert {weights.name: weights.added for weights in found.weights} == {
        "ema": ("head", "stem"),
        "model": (),
    }


@pytest.mark.parametrize(
    ("before", "after", "differ"),
    [(1, 1.0, False), (1, True, True), (0, False, True), (None, {}, True), ([], {}, True)],
)
def test_values_differ_as_json_values_do(before: Any, after: Any, differ: bool) -> None:
    assert bool(list(changes(before, after))) is differ


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=2),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner),
    max_leaves=8,
)


@given(JSON, JSON)
def test_changes_are_empty_for_equals_and_turn_around_with_the_documents(a: Any, b: Any) -> None:
    assert list(changes(a, a)) == []
    there, back = list(changes(a, b)), list(changes(b, a))
    turn = {"added": "removed", "removed": "added", "changed": "changed"}
    assert [(c.path, turn[c.kind], c.after, c.before) for c in there] == [
        (c.path, c.kind, c.before, c.after) for c in back
    ]


def test_every_value_of_a_document_stands_at_the_place_that_changes_names() -> None:
    document: dict[str, object] = {"a": {"b c": [1, None, []]}, "d": {}}
    assert dict(leaves(document)) == {
        "a['b c'][0]": 1, "a['b c'][1]": None, "a['b c'][2]": [], "d": {}
    }  # fmt: skip
    other = {"a": {"b c": [2, 2, 2]}, "d": 2}
    assert [change.path for change in changes(document, other)] == list(dict(leaves(document)))
