"""config, notes and hyperparameters as JSON: every value has a form, none raises."""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import decimal
import enum
import fractions
import types
import uuid
from collections import Counter, OrderedDict, defaultdict, deque, namedtuple
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, JsonValue, RootModel

from smartcash_format.spec import limits
from smartcash_format.spec.documents import dump_json, dump_lines, parse_json
from smartcash_format.spec.plain import DEPTH, keys_of, to_json


class Mode(enum.Enum):
    MIN = "min"
    PAIR = (1, 2)


class Level(enum.IntEnum):
    LOW = 1


@dataclasses.dataclass
class Data:
    source: str
    folds: tuple[int, ...]


class Settings(BaseModel):
    lr: float = 0.1
    path: Path = Path("a/b")


class Names(RootModel[list[str]]):
    pass


class HasItems:
    def items(self) -> list[tuple[str, int]]:
        return [("a", 1)]


class Raises:
    def items(self) -> list[tuple[str, int]]:
        raise KeyError("interpolation")

    def __repr__(self) -> str:
        raise RuntimeError("no")


class OnDisk:
    def __fspath__(self) -> str:
        return "runs/1"


Pair = namedtuple("Pair", "a b")

HAVE_A_RULE: list[tuple[object, JsonValue]] = [
    (None, None),
    (True, True),
    (3, 3),
    (-(1 << 63), -(1 << 63)),
    (1 << 64, "18446744073709551616"),
    (0.5, 0.5),
    (float("nan"), "NaN"),
    (float("inf"), "Infinity"),
    (float("-inf"), "-Infinity"),
    ("Rp100.000 \N{BANKNOTE WITH DOLLAR SIGN}", "Rp100.000 \N{BANKNOTE WITH DOLLAR SIGN}"),
    ("a\udc80b", "a\\udc80b"),
    (1 + 2j, "(1+2j)"),
    (decimal.Decimal("0.10"), "0.10"),
    (fractions.Fraction(1, 3), "1/3"),
    (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
    (b"\x00\xff", {"$base64": "AP8="}),
    (bytearray(b"a"), {"$base64": "YQ=="}),
    (memoryview(b"a"), {"$base64": "YQ=="}),
    (datetime.datetime(2026, 1, 2, 3, tzinfo=datetime.UTC), "2026-01-02T03:00:00+00:00"),
    (datetime.date(2026, 1, 2), "2026-01-02"),
    (datetime.time(3, 4), "03:04:00"),
    (datetime.timedelta(minutes=1), 60.0),
    (PurePosixPath("a/b"), "a/b"),
    (OnDisk(), "runs/1"),
    (Mode.MIN, "min"),
    (Mode.PAIR, "Mode.PAIR"),
    (Level.LOW, 1),
    ((1, (2, 3)), [1, [2, 3]]),
    (Pair(1, 2), [1, 2]),
    (deque([1, 2]), [1, 2]),
    (range(3), [0, 1, 2]),
    ({"b", "a"}, ["a", "b"]),
    (frozenset({3, 1}), [1, 3]),
    (OrderedDict(a=1), {"a": 1}),
    (defaultdict(int, a=1), {"a": 1}),
    (Counter("aab"), {"a": 2, "b": 1}),
    (types.MappingProxyType({"a": 1}), {"a": 1}),
    (argparse.Namespace(a=(1,), items=2), {"a": [1], "items": 2}),
    (types.SimpleNamespace(a=1), {"a": 1}),
    (Data("rupiah", (1, 2)), {"source": "rupiah", "folds": [1, 2]}),
    (Settings(), {"lr": 0.1, "path": "a/b"}),
    (HasItems(), {"a": 1}),
]


# Not the repr, which may hold an address or a set's order: every process collects the same names.
@pytest.mark.parametrize(
    ("value", "form"),
    HAVE_A_RULE,
    ids=[type(value).__name__ for value, _ in HAVE_A_RULE],
)
def test_a_value_with_a_rule_has_this_form_and_no_warning(value: object, form: JsonValue) -> None:
    plain = to_json(value, name="config")
    assert plain.value == form
    assert type(plain.value) is type(form)
    assert plain.warnings == ()


@pytest.mark.parametrize(
    ("keys", "form"),
    [
        ({None: 1, True: 2, 3: 4, 2.5: 5}, {"null": 1, "true": 2, "3": 4, "2.5": 5}),
        ({float("nan"): 1, (1, "a"): 2}, {"NaN": 1, '[1, "a"]': 2}),
        ({Path("a"): 1, Mode.MIN: 2, Mode.PAIR: 3}, {"a": 1, "min": 2, "Mode.PAIR": 3}),
        ({1: "a", "1": "b"}, {"$items": [[1, "a"], ["1", "b"]]}),
        ({"a": {True: 1, "true": 2}}, {"a": {"$items": [[True, 1], ["true", 2]]}}),
    ],
)
def test_keys_that_are_no_strings_become_text_and_never_collide(
    keys: object, form: JsonValue
) -> None:
    assert to_json(keys, name="config").value == form


def test_values_without_a_rule_are_kept_as_text_and_one_warning_names_their_keys() -> None:
    config = {"model": {"act": lambda x: x}, "steps": [1, object()], "lr": 0.1}
    plain = to_json(config, name="config")
    assert isinstance(plain.value, dict)
    assert plain.value["lr"] == 0.1
    act = plain.value["model"]["act"]["$repr"]  # type: ignore[index, call-overload]
    assert "lambda" in str(act)
    assert len(plain.warnings) == 1
    assert "config.model.act, config.steps[1]" in plain.warnings[0]


def test_the_text_of_a_value_without_a_rule_is_cut_at_200_characters() -> None:
    class Long:
        def __repr__(self) -> str:
            return "x\udc80" * 1000

    (text,) = to_json(Long(), name="config").value.values()  # type: ignore[union-attr]
    assert len(str(text)) == limits.REPR_CHARACTERS
    dump_json(text)


def test_what_a_value_raises_counts_as_having_no_rule() -> None:
    plain = to_json({"a": Raises(), "b": 1}, name="config")
    assert plain.value == {"a": {"$repr": "<Raises whose repr raised RuntimeError>"}, "b": 1}
    assert "config.a" in plain.warnings[0]


def test_an_integer_of_ten_thousand_digits_does_not_raise() -> None:
    plain = to_json({"a": 10**10_000}, name="config")
    assert plain.value == {"a": {"$repr": "<int whose repr raised ValueError>"}}


def test_a_generator_is_not_consumed() -> None:
    numbers = (n for n in range(3))
    assert to_json(numbers, name="config").warnings
    assert list(numbers) == [0, 1, 2]


def test_a_cycle_is_cut_where_it_closes_and_shared_values_are_no_cycle() -> None:
    shared = [1]
    looped: dict[str, Any] = {"a": shared, "b": shared}
    looped["self"] = looped
    plain = to_json(looped, name="config")
    assert isinstance(plain.value, dict)
    assert plain.value["a"] == plain.value["b"] == [1]
    assert "$repr" in plain.value["self"]  # type: ignore[operator]
    assert "config.self" in plain.warnings[0]


def test_nesting_beyond_the_bound_is_cut_and_the_document_stays_readable() -> None:
    nested: list[Any] = []
    for _ in range(5_000):
        nested = [nested]
    plain = to_json(nested, name="config")
    assert len(plain.warnings) == 1
    document = dump_json({"meta": {"around": plain.value}})
    assert parse_json(document, where="x", max_bytes=1 << 20)[1] == ()


def test_nesting_within_the_bound_is_kept_whole() -> None:
    nested: JsonValue = 1
    for _ in range(DEPTH - 1):
        nested = {"a": nested}
    assert to_json(nested, name="config").value == nested


def test_a_config_over_its_bound_is_stored_as_its_keys_with_a_warning() -> None:
    config = {"model": {"a": 1}, 7: "x" * limits.CONFIG_BYTES}
    plain = to_json(config, name="config")
    assert plain.value == {"$keys": ["model", "7"]}
    assert "524,288 bytes" in plain.warnings[0]


def test_lists_that_share_lists_exponentially_end_at_the_bound() -> None:
    shared: list[Any] = [0]
    for _ in range(40):
        shared = [shared, shared]
    assert "$repr" in str(to_json(shared, name="config", max_bytes=50_000).value)


def test_the_size_that_counts_is_the_one_meta_json_has() -> None:
    value = {f"k{i}": [[i]] for i in range(20)}
    size = len(dump_lines({"config": value}))
    assert to_json(value, name="config", max_bytes=size).value == value
    assert "$keys" in str(to_json(value, name="config", max_bytes=size - 1).value)


def test_keys_of_something_whose_items_raise_says_so() -> None:
    assert "KeyError" in str(keys_of(Raises()))
    assert keys_of([1]) == {"$repr": "[1]"}


def test_a_pydantic_root_model_and_a_class_have_no_rule() -> None:
    assert to_json(Names(["a"]), name="config").warnings
    assert to_json(Settings, name="config").warnings
    assert to_json(HasItems, name="config").warnings


def test_numpy_values_become_numbers_lists_and_text() -> None:
    np = pytest.importorskip("numpy")
    value = {
        "f32": np.float32(0.5),
        "f64": np.float64("nan"),
        "i": np.int64(3),
        "u": np.uint64((1 << 64) - 1),
        "b": np.bool_(True),
        "long": np.longdouble(0.25),
        "s": np.str_("a"),
        "bytes": np.bytes_(b"a"),
        "c": np.complex64(1j),
        "day": np.datetime64("2026-01-02"),
        "void": np.zeros(1, dtype=[("a", "i4")])[0],
        "a": np.arange(4).reshape(2, 2),
        "zero": np.array(7.5),
        "anchors": np.array([np.inf, 1.0]),
        "dtype": np.dtype("float32"),
        "big": np.zeros(1001),
    }
    plain = to_json(value, name="config")
    assert plain.value == {
        "f32": 0.5,
        "f64": "NaN",
        "i": 3,
        "u": "18446744073709551615",
        "b": True,
        "long": 0.25,
        "s": "a",
        "bytes": {"$base64": "YQ=="},
        "c": "1j",
        "day": "2026-01-02",
        "void": "(0,)",
        "a": [[0, 1], [2, 3]],
        "zero": 7.5,
        "anchors": ["Infinity", 1.0],
        "dtype": "float32",
        "big": {"$repr": "<ndarray float64 [1001]>"},
    }
    assert plain.warnings == ("config: stored as text, having no JSON form: config.big",)


@pytest.mark.torch
def test_torch_values_become_numbers_lists_and_text() -> None:
    torch = pytest.importorskip("torch")
    value = {
        "t": torch.tensor(0.5, requires_grad=True),
        "bf16": torch.tensor([1.5], dtype=torch.bfloat16),
        "p": torch.nn.Parameter(torch.zeros(2)),
        "dtype": torch.float8_e4m3fn,
        "device": torch.device("cuda", 1),
        "size": torch.Size([1, 2]),
        "big": torch.zeros(1001),
        "meta": torch.zeros(2, device="meta"),
        "module": torch.nn.Identity(),
    }
    plain = to_json(value, name="config")
    assert plain.value == {
        "t": 0.5,
        "bf16": [1.5],
        "p": [0.0, 0.0],
        "dtype": "torch.float8_e4m3fn",
        "device": "cuda:1",
        "size": [1, 2],
        "big": {"$repr": "<Tensor torch.float32 [1001]>"},
        "meta": {"$repr": "<Tensor torch.float32 [2]>"},
        "module": {"$repr": "Identity()"},
    }
    assert "config.big, config.meta, config.module" in plain.warnings[0]


def _anything() -> st.SearchStrategy[object]:
    leaves: st.SearchStrategy[object] = st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(), st.text(st.characters()),
        st.binary(), st.complex_numbers(), st.datetimes(), st.timedeltas(), st.decimals(),
        st.builds(object), st.sampled_from(list(Mode)),
    )  # fmt: skip
    return st.recursive(
        leaves,
        lambda inner: st.one_of(
            st.lists(inner, max_size=4),
            st.dictionaries(st.one_of(st.text(), st.integers(), st.booleans()), inner, max_size=4),
            st.tuples(inner, inner),
        ),
        max_leaves=12,
    )


@given(_anything())
def test_whatever_goes_in_strict_json_comes_out(value: object) -> None:
    form = to_json(value, name="config").value
    back, problems = parse_json(dump_json(form), where="x", max_bytes=1 << 20)
    assert problems == ()
    assert back == form


def test_a_mapping_that_ends_in_an_error_half_way_has_no_rule() -> None:
    class Half:
        def items(self) -> Iterator[tuple[str, int]]:
            yield "a", 1
            raise ValueError("half")

    assert to_json({"h": Half()}, name="c").warnings
