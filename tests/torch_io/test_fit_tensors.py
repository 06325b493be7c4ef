from __future__ import annotations

from collections.abc import Mapping

from smartcash_format.torch_io.fit_tensors import TensorFit, TensorForm, fit_tensors
from smartcash_format.torch_io.hints import common_prefix, likely_cause

ORIGIN = "a Detector with backbone efficientnet_b4"


def forms(**shapes: tuple[int, ...] | None) -> dict[str, TensorForm]:
    return {
        name.replace("__", "."): TensorForm(dtype="F32", shape=shape)
        for name, shape in shapes.items()
    }


def prefixed(prefix: str, names: Mapping[str, TensorForm]) -> dict[str, TensorForm]:
    return {prefix + name: form for name, form in names.items()}


NETWORK = forms(
    stem__weight=(8, 3, 3, 3),
    stem__bias=(8,),
    block0__weight=(16, 8, 3, 3),
    block0__bias=(16,),
    block1__weight=(16, 16, 3, 3),
    block1__bias=(16,),
    block2__weight=(16, 16, 3, 3),
    block2__bias=(16,),
    head__weight=(36, 16, 1, 1),
    head__bias=(36,),
)


def fit(stored: Mapping[str, TensorForm], live: Mapping[str, TensorForm]) -> TensorFit:
    return fit_tensors(stored, live, weight_set="model")


def test_a_checkpoint_of_the_same_network_agrees() -> None:
    found = fit(NETWORK, NETWORK)
    assert found.agrees
    assert found.fitting == tuple(NETWORK)
    assert found.problems == ()


def test_every_difference_is_a_problem_with_the_name_and_both_shapes() -> None:
    stored = forms(a=(2, 3), gone=(1,))
    live = forms(a=(3, 2), new=(1,))
    found = fit(stored, live)
    assert [(p.code, p.where) for p in found.problems] == [
        ("tensor-missing", "new"),
        ("tensor-unexpected", "gone"),
        ("shape-mismatch", "a"),
    ]
    assert "[2, 3]" in found.problems[2].message
    assert "[3, 2]" in found.problems[2].message
    assert found.fitting == ()


def test_another_dtype_is_listed_and_fits() -> None:
    stored = {"w": TensorForm(dtype="BF16", shape=(2,))}
    live = {"w": TensorForm(dtype="F32", shape=(2,))}
    found = fit(stored, live)
    assert found.agrees
    assert [str(cast) for cast in found.cast] == ["w (BF16 to F32)"]


def test_a_lazy_parameter_takes_any_shape() -> None:
    assert fit(forms(w=(5, 7)), forms(w=None)).agrees


def test_names_of_another_weight_set_are_qualified() -> None:
    found = fit_tensors({}, forms(w=(1,)), weight_set="ema")
    assert found.problems[0].where == "ema:w"


def test_a_prefix_on_the_live_names_is_named() -> None:
    hint = likely_cause(fit(NETWORK, prefixed("module.", NETWORK)), origin=ORIGIN)
    assert "The model's names begin with 'module.'" in hint


def test_a_prefix_on_the_stored_names_is_named() -> None:
    hint = likely_cause(fit(prefixed("model.net.", NETWORK), NETWORK), origin=ORIGIN)
    assert "The checkpoint's names begin with 'model.net.'" in hint


def test_a_prefix_that_explains_few_names_is_not_proposed() -> None:
    assert common_prefix(["a.x", "b", "c", "d"], ["x", "e", "f", "g"]) is None


def test_a_head_for_another_number_of_classes_is_named_with_both_sizes() -> None:
    live = {**NETWORK, **forms(head__weight=(255, 16, 1, 1), head__bias=(255,))}
    hint = likely_cause(fit(NETWORK, live), origin=ORIGIN)
    assert "head for another number of classes" in hint
    assert "36 in the checkpoint, 255 here" in hint
    assert "strict=False" in hint


def test_a_kernel_of_another_size_is_not_called_a_head() -> None:
    live = {**NETWORK, **forms(head__weight=(36, 16, 3, 3))}
    cause = likely_cause(fit(NETWORK, live), origin=ORIGIN)
    assert cause == "strict=False loads the 9 of 10 tensors that fit and lists the rest."


def test_another_backbone_is_named_from_the_meta() -> None:
    live = {name.replace("block", "layer"): form for name, form in NETWORK.items()}
    hint = likely_cause(fit(NETWORK, live), origin=ORIGIN)
    assert "another network (a Detector with backbone efficientnet_b4)" in hint


def test_other_widths_under_the_same_names_are_another_size_of_the_network() -> None:
    live = {n: TensorForm(dtype="F32", shape=(99, *(f.shape or ()))) for n, f in NETWORK.items()}
    assert "another size of this network" in likely_cause(fit(NETWORK, live), origin=ORIGIN)


def test_what_agrees_has_no_hint() -> None:
    assert likely_cause(fit(NETWORK, NETWORK), origin=ORIGIN) == ""
