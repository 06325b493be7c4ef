from __future__ import annotations

import pytest

from smartcash_format.spec import layout
from smartcash_format.spec.layout import (
    directory_name,
    index_file,
    is_hidden,
    is_plain_name,
    role_of,
    weights_file,
)

ID = "3f9a2c1b-0000-4000-8000-000000000000"


def test_a_directory_is_named_for_people_by_epoch_step_and_id() -> None:
    assert directory_name(epoch=10, step=None, checkpoint_id=ID) == "epoch-0010-3f9a2c1b"
    assert (
        directory_name(epoch=10, step=12_000, checkpoint_id=ID)
        == "epoch-0010-step-00012000-3f9a2c1b"
    )
    assert directory_name(epoch=123_456, step=None, checkpoint_id=ID) == "epoch-123456-3f9a2c1b"


def test_weights_and_shards_have_the_names_that_hugging_face_gives_them() -> None:
    assert weights_file("model") == "model.safetensors"
    assert weights_file("ema", 1, 12) == "ema-00001-of-00012.safetensors"
    assert index_file("model") == "model.safetensors.index.json"


@pytest.mark.parametrize(
    ("name", "role", "weight_set"),
    [
        ("model.safetensors", "weights", "model"),
        ("ema-00002-of-00003.safetensors", "weights", "ema"),
        ("model.safetensors.index.json", "index", "model"),
        ("tensors.json", "tensors", None),
        ("optimizer.pt", "optimizer", None),
        ("scheduler.pt", "scheduler", None),
        ("extra.pt", "extra", None),
        ("Model.safetensors", "aux", None),
        ("model-1-of-2.safetensors", "aux", None),
        ("9model.safetensors", "aux", None),
        ("a" * 33 + ".safetensors", "aux", None),
        ("notes.txt", "aux", None),
    ],
)
def test_the_role_of_a_file_follows_from_its_name(
    name: str, role: str, weight_set: str | None
) -> None:
    assert role_of(name) == (role, weight_set)
    assert is_plain_name(name)


@pytest.mark.parametrize(
    "name",
    [
        "", ".", "..", "../model.safetensors", "a/b", "a\\b", "/etc/passwd", "C:", "C:model",
        "c:\\x",
        ".hidden", "con", "CON", "con.txt", "NUL.safetensors", "com1.pt", "lpt9", "ends.", "a b",
        "a\nb", "a\x00b", "model.safetensors\n", "naïve.txt", "a" * 101, "-x", "_x", "a:b", "a*",
        "meta.json", "META.JSON", "Meta.json",
    ],
)  # fmt: skip
def test_no_listed_file_is_a_path_a_device_hidden_or_the_marker(name: str) -> None:
    assert not is_plain_name(name)


@pytest.mark.parametrize(
    "name", [layout.PINS, layout.STAGING_PREFIX + "x", layout.TRASH_PREFIX + "x", ".DS_Store"]
)
def test_stages_trash_and_pins_are_hidden(name: str) -> None:
    assert is_hidden(name)


def test_a_checkpoint_is_not_hidden() -> None:
    assert not is_hidden(directory_name(epoch=1, step=None, checkpoint_id=ID))
