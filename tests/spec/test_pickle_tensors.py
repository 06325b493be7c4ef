"""A tensor in a program is a window on a storage that is there, and nothing else."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from smartcash_format.spec.pickles import TensorRef
from smartcash_format.spec.tensor_refs import STORAGE_TYPES
from tests.spec.programs import read, refused, value_of
from tests.spec.torch_files import (
    COUNTER,
    ORDERED_DICT,
    PROTO,
    REBUILD,
    STOP,
    code_of,
    file_of,
    integer,
    storage,
    tensor,
    text,
)


@pytest.mark.parametrize("kind", STORAGE_TYPES)
def test_each_storage_type_has_its_dtype_and_size(kind: str) -> None:
    dtype, itemsize = STORAGE_TYPES[kind]
    stored = storage(numel=6, kind=kind)
    made = PROTO + tensor(stored, shape=(2, 3), stride=(3, 1)) + STOP
    found, problems = read(made, _0=6 * itemsize)
    assert problems == ()
    assert found is not None
    assert found.value == TensorRef(dtype, (2, 3), (3, 1), 0, "0", 6)
    assert f"torch.{kind}" in found.globals
    assert refused(made, _0=6 * itemsize - 1).code == "pickle-tensor"


@pytest.mark.parametrize(
    ("window", "numel"),
    [
        ({"shape": (), "stride": ()}, 1),
        ({"shape": (6,), "stride": (1,)}, 6),
        ({"shape": (3, 2), "stride": (1, 3)}, 6),
        ({"shape": (2, 1, 3), "stride": (3, 9_999, 1)}, 6),
        ({"shape": (2,), "stride": (3,), "offset": 2}, 2),
        ({"shape": (0,), "stride": (1,)}, 0),
        ({"shape": (5, 0), "stride": (0, 1), "offset": 6}, 0),
        ({"shape": (0,), "stride": (1,), "offset": 7}, 0),
        ({"shape": (1, 1), "stride": (0, 0), "offset": 5}, 1),
        ({"shape": (1,) * 64, "stride": (1,) * 64}, 1),
    ],
)
def test_a_tensor_is_a_window_on_its_storage(window: Any, numel: int) -> None:
    ref = value_of(PROTO + tensor(storage(numel=6), **window) + STOP, _0=24)
    assert (ref.shape, ref.stride) == (window["shape"], window["stride"])
    assert (ref.numel, ref.offset) == (numel, window.get("offset", 0))


@pytest.mark.parametrize(
    "window",
    [
        {"shape": (1 << 40,), "stride": (0,)},
        {"shape": (6, 2), "stride": (1, 0)},
        {"shape": (2,), "stride": (0,)},
        {"shape": (7,), "stride": (1,)},
        {"shape": (2,), "stride": (6,)},
        {"shape": (6,), "stride": (1,), "offset": 1},
        {"shape": (), "stride": (), "offset": 6},
        {"shape": (3, 3), "stride": (1, 1)},
        {"shape": (2, 2), "stride": (1, 1)},
        {"shape": (2, 3), "stride": (2, 1)},
        {"shape": (2, 1, 2), "stride": (1, 0, 1)},
        {"shape": (2,), "stride": (-1,), "offset": 5},
        {"shape": (-1,), "stride": (1,)},
        {"shape": (1,), "stride": (1,), "offset": -1},
        {"shape": (2,), "stride": (1, 1)},
        {"shape": (2,), "stride": ()},
        {"shape": (1,) * 65, "stride": (1,) * 65},
        {"shape": (0, 1 << 62, 1 << 62), "stride": (1, 1, 1)},
        {"shape": (1,), "stride": (1 << 64,)},
        {"shape": (1 << 64, 0), "stride": (1, 1)},
    ],
)
def test_a_tensor_that_its_storage_does_not_have_is_refused(window: Any) -> None:
    made = tensor(storage(numel=6), **window)
    assert refused(PROTO + made + STOP, _0=24).code == "pickle-tensor"


@pytest.mark.parametrize(
    "made",
    [
        tensor(storage("1")),
        tensor(storage(numel=2)),
        tensor(storage(numel=-1)),
        tensor(storage(kind="LongStorage")),
        tensor(storage(location="")),
        tensor(storage(location="cpu\n")),
        tensor(storage(location="c" * 100)),
        tensor(b"N"),
        tensor(b"K\x01"),
        tensor(b"(" + text("module") + b"ctorch\nFloatStorage\n" + text("0") + b"tQ"),
        tensor(storage().replace(b"storage", b"Storage")),
        tensor(storage().replace(b"ctorch\nFloatStorage\n", COUNTER)),
        tensor(storage().replace(b"ctorch\nFloatStorage\n", text("FloatStorage"))),
        tensor(storage().replace(text("0"), integer(0), 1)),
        tensor(storage().replace(b"tQ", b"]tQ")),
        tensor(b"]" + storage()[1:].replace(b"tQ", b"Q")),
        tensor(storage(), grad=b"K\x00"),
        tensor(storage(), grad=b"N"),
        tensor(storage(), hooks=b"N"),
        tensor(storage(), hooks=b")"),
        tensor(storage(), hooks=b"}K\x00K\x01s"),
        tensor(storage(), hooks=ORDERED_DICT + b")RK\x00K\x01s"),
        tensor(storage(), hooks=b"}}"),
        tensor(storage()).replace(b"tR", b"}tR"),
        REBUILD + b")R",
        REBUILD + b"(" + storage() + b"\x88))\x89}tR",
        REBUILD + b"(" + storage() + b"K\x00])\x89}tR",
        REBUILD + b"(" + storage() + b"K\x00)]\x89}tR",
        REBUILD + b"(" + storage() + b"K\x00(\x88t(K\x01t\x89}tR",
        REBUILD + b"(" + storage() + b"K\x00(G" + struct.pack(">d", 1.0) + b"t(K\x01t\x89}tR",
    ],
)  # fmt: skip
def test_a_tensor_that_is_described_otherwise_is_refused(made: bytes) -> None:
    assert refused(PROTO + made + STOP, _0=4).code in {"pickle-tensor", "pickle-structure"}


def test_only_a_floating_tensor_may_want_a_gradient() -> None:
    made = PROTO + tensor(storage(kind="IntStorage"), grad=b"\x88") + STOP
    assert refused(made, _0=4).code == "pickle-tensor"
    assert value_of(PROTO + tensor(storage(), grad=b"\x88") + STOP, _0=4).numel == 1


def test_hooks_added_after_the_tensor_was_made_are_refused() -> None:
    # hooks = {}; hooks[0] = tensor(hooks)
    made = PROTO + b"}q\x00K\x00" + tensor(storage(), hooks=b"h\x00") + b"s" + STOP
    assert refused(made, _0=4).code == "pickle-tensor"


def test_a_storage_is_one_thing() -> None:
    two = PROTO + b"(" + tensor(storage()) + tensor(storage()) + b"t" + STOP
    assert len(value_of(two, _0=4)) == 2
    for other in (storage(kind="IntStorage"), storage(location="cuda:0")):
        made = PROTO + b"(" + tensor(storage()) + tensor(other) + b"t" + STOP
        assert refused(made, _0=4).code == "pickle-tensor"


def test_a_storage_that_nothing_names_is_refused() -> None:
    problem = refused(PROTO + tensor(storage()) + STOP, _0=4, _7=1 << 30)
    assert problem.code == "archive-record"
    assert "data/7" in problem.message
    assert code_of(file_of(PROTO + b"N" + STOP, {"0": b"payload"})) == "archive-record"
