"""What is found in a checkpoint: its order, whichever process looks, and what to do."""

from __future__ import annotations

from pathlib import Path

from smartcash_format.spec import layout
from smartcash_format.spec.meta import parse_meta
from smartcash_format.spec.problems import Depth
from smartcash_format.spec.rules import Observed, check
from smartcash_format.spec.tensors import parse_tensors

GOLDEN = (
    Path(__file__).parents[1] / "golden" / "v1.0" / "root" / "epoch-0001-step-00000002-bfea30d7"
)


def test_weight_sets_that_are_not_what_was_saved_are_told_by_name() -> None:
    """Texts are in another order of a set in each process."""
    meta, _ = parse_meta((GOLDEN / layout.META).read_bytes())
    tensors, _ = parse_tensors((GOLDEN / layout.TENSORS).read_bytes())
    assert meta is not None
    assert tensors is not None
    names = [f"set{number:02}" for number in range(20)]
    other = meta.weights["model"].model_copy(update={"weights_digest": f"blake3:{'0' * 64}"})
    meta = meta.model_copy(update={"weights": dict.fromkeys(names, other)})
    found = tensors.model_copy(update={"weights": dict.fromkeys(names, tensors.weights["model"])})
    sizes = {name: record.size_bytes for name, record in meta.files.items()}
    problems = check(meta, Observed(depth=Depth.STRUCTURE, sizes=sizes, tensors=found))
    wheres = [each.where for each in problems if each.code == "weights-digest-mismatch"]
    assert wheres == [f"{layout.META}: weights['{name}'].weights_digest" for name in names]


def test_where_a_clone_has_pointers_in_place_of_files_the_way_to_the_files_is_told() -> None:
    meta, _ = parse_meta((GOLDEN / layout.META).read_bytes())
    assert meta is not None
    weights = meta.files["model.safetensors"].size_bytes
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize {weights}\n"
    sizes = {name: record.size_bytes for name, record in meta.files.items()}
    for size_bytes, said in ((len(pointer), "git lfs pull"), (len(pointer) + 1, "from a copy")):
        found = Observed(depth=Depth.META, sizes={**sizes, "model.safetensors": size_bytes})
        (problem,) = check(meta, found)
        assert said in problem.fix
