from __future__ import annotations

import io
import json
import math
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO, cast

import pytest
import safetensors
from hypothesis import given, settings
from hypothesis import strategies as st

from smartcash_format.errors import UnsavableStateError
from smartcash_format.spec import limits
from smartcash_format.spec.header import METADATA, Header, encode_header, read_header
from smartcash_format.spec.header_entry import DTYPE_BITS, TensorInfo
from smartcash_format.spec.problems import Problem

WHERE = "model.safetensors"
F32 = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}


def file_of(header: bytes | str | Mapping[str, Any], data: bytes = b"") -> bytes:
    """A safetensors file with this header, as it is, and this data."""
    if isinstance(header, Mapping):
        header = json.dumps(header)
    raw = header.encode() if isinstance(header, str) else header
    return len(raw).to_bytes(8, "little") + raw + data


def deserialize(file: bytes) -> list[tuple[str, dict[str, Any]]]:
    return list(safetensors.deserialize(file))  # type: ignore[no-untyped-call]


def read(file: bytes) -> tuple[Header | None, tuple[Problem, ...]]:
    return read_header(io.BytesIO(file), len(file), where=WHERE)


def codes(file: bytes) -> list[str]:
    header, problems = read(file)
    assert (header is None) == bool(problems)
    return [problem.code for problem in problems]


def entry(dtype: str = "F32", shape: object = (1,), offsets: object = (0, 4)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


def test_a_header_gives_names_dtypes_shapes_and_bytes_in_the_order_of_the_data() -> None:
    file = file_of(
        {
            "__metadata__": {"format": "pt", "by": "hand"},
            "b": entry("F16", [2], [8, 12]),
            "a": entry("F32", [2, 1], [0, 8]),
            "none": entry("F64", [3, 0], [12, 12]),
        },
        bytes(12),
    )

    header, problems = read(file)

    assert problems == ()
    assert header is not None
    assert list(header.tensors) == ["a", "b", "none"]
    assert header.tensors["a"] == TensorInfo("F32", (2, 1), 0, 8)
    assert header.tensors["b"].size_bytes == 4
    assert header.metadata == {"format": "pt", "by": "hand"}
    assert header.data_start == len(file) - 12
    assert header.size_bytes == len(file)


def test_a_file_without_tensors_is_a_header() -> None:
    header, problems = read(file_of("{}"))
    assert problems == ()
    assert header is not None
    assert not header.tensors
    assert not header.metadata


def test_spaces_between_and_after_are_read_like_none() -> None:
    header, _ = read(
        file_of('{"a" : {"dtype":"F32","shape":[1],"data_offsets":[0,4]} }   ', b"1234")
    )
    assert header is not None
    assert header.tensors == {"a": TensorInfo("F32", (1,), 0, 4)}


def test_reading_a_header_never_touches_the_data() -> None:
    first, header = encode_header([("w", "F32", (1 << 40,))])
    stream = io.BytesIO(first)
    found, problems = read_header(stream, header.size_bytes, where=WHERE)
    assert (found, problems) == (header, ())
    assert stream.tell() == len(first) == header.data_start


def test_a_length_beyond_the_limit_is_refused_before_it_is_read() -> None:
    class Stream(io.BytesIO):
        asked = 0

        def read(self, size: int | None = -1) -> bytes:
            assert size is not None
            self.asked += size
            return super().read(size)

    claim = (limits.HEADER_BYTES + 1).to_bytes(8, "little")
    stream = Stream(claim + b"{" * 100)
    _, problems = read_header(cast("BinaryIO", stream), 200_000_000, where=WHERE)
    assert [p.code for p in problems] == ["header-length"]
    assert stream.asked == 8


def test_a_truncated_weights_file_is_reported_with_both_sizes() -> None:
    file = file_of({"a": F32}, b"123")
    _, problems = read(file)
    (problem,) = problems
    assert (problem.code, problem.where) == ("file-size", WHERE)
    assert (problem.found, problem.expected) == (str(len(file)), str(len(file) + 1))
    assert f"{len(file):,}" in problem.message
    assert f"{len(file) + 1:,}" in problem.message


def test_a_file_is_refused_when_cut_anywhere() -> None:
    file = file_of({"a": F32, "__metadata__": {"format": "pt"}}, b"1234")
    for size in range(len(file)):
        assert codes(file[:size]) == ["file-size"], size
        # The file shrinks after it was measured.
        _, problems = read_header(io.BytesIO(file[:size]), len(file), where=WHERE)
        assert bool(problems) == (size < len(file) - 4)


def test_bytes_after_the_last_tensor_are_refused() -> None:
    assert codes(file_of({"a": F32}, b"12345")) == ["file-size"]


@pytest.mark.parametrize(
    ("header", "code"),
    [
        ("", "json-syntax"),
        ("[]", "json-syntax"),
        ("null", "json-syntax"),
        (' {"a":1}', "json-syntax"),
        ("{}\n", "json-syntax"),
        ("{}\0", "json-syntax"),
        ("{},", "json-syntax"),
        (b"\xef\xbb\xbf{}", "json-encoding"),
        (b'{"\xff":1}', "json-encoding"),
        ('{"\\ud800":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}', "json-encoding"),
        ('{"a":NaN}', "json-number"),
        ('{"a":1e999}', "json-number"),
        ('{"a":{"dtype":"F32","shape":[0],"data_offsets":[0,-0]}}', "json-number"),
        ('{"a":{"dtype":"F32","shape":[9999999999999999999],"data_offsets":[0,0]}}', "json-number"),
        ('{"a":' + "[" * 100 + "]" * 100 + "}", "json-too-deep"),
        ('{"a":' + "[" * 100_000 + "]" * 100_000 + "}", "json-too-deep"),
        ('{"a":[' + "[]," * (8 * limits.TENSORS) + "[]]}", "json-too-large"),
    ],
)  # fmt: skip
def test_a_header_that_is_not_strict_json_is_refused_and_named(
    header: bytes | str, code: str
) -> None:
    file = file_of(header)
    assert codes(file) == [code]
    _, (problem,) = read(file)
    # The file itself is no JSON, and nobody is to think that it should be.
    assert "header" in problem.message


@pytest.mark.parametrize("space", ["", " "])
def test_a_name_given_twice_is_refused_though_safetensors_takes_it(space: str) -> None:
    one = json.dumps(F32, separators=(",", ":"))
    file = file_of(f'{{"a":{one},"a":{space}{one}}}', b"1234")
    assert deserialize(file)
    assert codes(file) == ["json-duplicate-key"]


@pytest.mark.parametrize(
    ("broken", "code"),
    [
        (1, "header-field"),
        ([], "header-field"),
        ("F32", "header-field"),
        (["F32", [1], [0, 4]], "header-field"),
        ({"dtype": "F32", "shape": [1]}, "header-field"),
        ({**F32, "extra": 1}, "header-field"),
        (entry("F33"), "tensor-dtype"),
        ({**F32, "dtype": ["F32"]}, "tensor-dtype"),
        (entry(shape=1), "tensor-shape"),
        (entry(shape={"0": 1}), "tensor-shape"),
        (entry(shape=[-1]), "tensor-shape"),
        (entry(shape=[True]), "tensor-shape"),
        (entry(shape=[1.0]), "tensor-shape"),
        (entry(shape=[(1 << 63) - 1]), "tensor-shape"),
        (entry(shape=[1] * 65), "tensor-shape"),
        (entry(shape=[1 << 32, 1 << 32]), "tensor-shape"),
        (entry(shape=[0, 1 << 32, 1 << 32], offsets=[0, 0]), "tensor-shape"),
        (entry(offsets=[0]), "tensor-offsets"),
        (entry(offsets=[0, 2, 4]), "tensor-offsets"),
        (entry(offsets={"0": 4}), "tensor-offsets"),
        (entry(offsets=[4, 0]), "tensor-offsets"),
        (entry(offsets=[-4, 0]), "tensor-offsets"),
        (entry(offsets=[0.0, 4.0]), "tensor-offsets"),
        (entry(offsets=[False, 4]), "tensor-offsets"),
        (entry(shape=[2]), "tensor-size"),
        (entry("F4", [1], [0, 1]), "tensor-size"),
        (entry("F64", [], [0, 4]), "tensor-size"),
    ],
)
def test_an_entry_that_is_no_tensor_is_refused(broken: object, code: str) -> None:
    # Compact as a writer gives it and spaced as a person would: both ways of reading are one.
    for separators in ((",", ":"), (", ", ": ")):
        raw = json.dumps({"a": broken}, separators=separators)
        assert codes(file_of(raw, b"1234")) == [code]


@pytest.mark.parametrize(
    "name", ["", "a\nb", "\x7f", "\x85", "\x1b[2J", "n" * 1025, "é" * 513, "\U0001f600" * 257]
)
def test_a_name_nobody_can_read_is_refused(name: str) -> None:
    (problem,) = read(file_of({name: F32}, b"1234"))[1]
    assert problem.code == "tensor-name"
    assert problem.where.isprintable()
    assert problem.message.isprintable()


def test_an_overlap_and_a_hole_are_told_apart_and_name_both_neighbours() -> None:
    overlap = {"a": entry(shape=[2], offsets=[0, 8]), "b": entry(offsets=[4, 8])}
    hole = {"a": entry(offsets=[0, 4]), "b": entry(offsets=[8, 12])}
    for tensors, what in ((overlap, "overlaps"), (hole, "hole")):
        problem = read(file_of(tensors, bytes(12)))[1][0]
        assert problem.code == "tensor-offsets"
        assert "'b'" in problem.where
        assert what in problem.message
        assert "'a'" in problem.message


def test_a_first_tensor_that_leaves_room_after_the_header_is_refused() -> None:
    assert codes(file_of({"a": entry(offsets=[4, 8])}, bytes(8))) == ["tensor-offsets"]


@pytest.mark.parametrize("metadata", [None, [], "pt", {"a": 1}, {"a": None}, {"a": {"b": "c"}}])
def test_metadata_is_strings_under_strings(metadata: object) -> None:
    assert codes(file_of({"__metadata__": metadata})) == ["header-metadata"]


def test_all_that_is_wrong_is_told_at_once_up_to_a_bound() -> None:
    tensors = {f"t{i}": entry("X") for i in range(3)}
    assert (
        codes(file_of({**tensors, "__metadata__": 1})) == ["header-metadata"] + ["tensor-dtype"] * 3
    )
    assert len(codes(file_of({f"t{i}": entry("X") for i in range(1_000)}))) == 100
    assert len(codes(file_of({"__metadata__": {f"{i}": i for i in range(1_000)}}))) == 100
    holes = {f"t{i}": entry(offsets=(8 * i + 8, 8 * i + 12)) for i in range(1_000)}
    assert len(codes(file_of(holes))) == 100


def test_more_tensors_than_the_limit_are_refused() -> None:
    many = dict.fromkeys(map(str, range(limits.TENSORS + 1)), 0)
    assert codes(file_of(many)) == ["tensor-count"]


@pytest.mark.parametrize("dtype", DTYPE_BITS)
def test_every_dtype_takes_the_bytes_that_safetensors_gives_it(dtype: str) -> None:
    first, header = encode_header([("a", dtype, (4, 2))])
    file = first + bytes(header.tensors["a"].end)
    ((name, view),) = deserialize(file)
    assert (name, view["dtype"], view["shape"]) == ("a", dtype, [4, 2])
    assert len(view["data"]) == header.tensors["a"].size_bytes == DTYPE_BITS[dtype]


def test_a_dtype_that_safetensors_learns_is_noticed() -> None:
    file = file_of({"a": entry("?")}, b"1234")
    with pytest.raises(safetensors.SafetensorError) as caught:
        deserialize(file)
    known = str(caught.value).partition("expected one of ")[2].split("`")[1::2]
    assert known == list(DTYPE_BITS)


MIXED = [
    ("z", "U8", (3,)), ("b.weight", "F32", (2, 3)), ("a", "F16", (5,)), ("é\"", "F32", ()),
    ("B.weight", "F32", (0, 7)), ("mask", "BOOL", (3, 1)), ("n", "I64", (1,)), ("d", "F64", (2,)),
    ("😀", "BF16", (2, 2)), ("k", "C64", (1,)), ("i", "I32", (1,)), ("s", "I16", (1,)),
    ("f8", "F8_E4M3", (4,)), ("e8", "F8_E5M2", (4,)),
]  # fmt: skip


@pytest.mark.torch
def test_the_bytes_are_those_of_safetensors_own_writer() -> None:
    torch = pytest.importorskip("torch")
    from safetensors.torch import _TYPES, save

    for chosen in (MIXED, MIXED[:1], MIXED[3:5], []):
        live = {name: torch.zeros(shape, dtype=_TYPES[dtype]) for name, dtype, shape in chosen}
        theirs = save(live, dict(METADATA))
        ours, header = encode_header(chosen)
        assert theirs[: len(ours)] == ours
        assert len(theirs) == header.size_bytes
        assert read(theirs) == (header, ())


def test_a_header_is_padded_to_eight_bytes_with_spaces() -> None:
    for width in range(9):
        first, header = encode_header([("n" * (width + 1), "U8", (1,))])
        assert len(first) % 8 == 0
        assert first[8:].rstrip(b" ").endswith(b"}")
        assert header.data_start == len(first)


@pytest.mark.parametrize(
    ("tensors", "names"),
    [
        ([("a", "F32", (1,)), ("a", "F16", (1,))], "'a'"),
        ([("a\n", "F32", (1,))], "control"),
        ([("", "F32", (1,))], "empty"),
        ([("a", "C128", (1,))], "C128"),
        ([("a", "F32", (-1,))], "shape"),
        ([("a", "F4", (1,))], "F4"),
        ([("\ud800", "F32", (1,))], "UTF-8"),
        ([("__metadata__", "F32", (1,))], "__metadata__"),
        ([("a", "F32", (1,) * 65)], "65"),
    ],
)
def test_what_would_be_refused_is_not_written(
    tensors: list[tuple[str, str, tuple[int, ...]]], names: str
) -> None:
    with pytest.raises(UnsavableStateError, match=names):
        encode_header(tensors, where=WHERE)


def theirs_of(file: bytes) -> dict[str, tuple[str, list[int], int]]:
    return {
        name: (view["dtype"], view["shape"], len(view["data"])) for name, view in deserialize(file)
    }


shapes = st.lists(st.integers(0, 4), max_size=3).map(tuple)
tensors = st.lists(
    st.tuples(st.text(min_size=1, max_size=4), st.sampled_from(list(DTYPE_BITS)), shapes),
    max_size=4,
    unique_by=lambda t: t[0],
)


@settings(max_examples=150, deadline=None)
@given(
    tensors=tensors,
    where=st.floats(0, 1, exclude_max=True),
    edit=st.sampled_from(
        ["flip", "drop", "double", "space", "digit", "bracket", "escape", "tail", "none"]
    ),
    value=st.integers(0, 255),
)
def test_what_passes_here_safetensors_opens_and_sees_alike(
    tensors: list[tuple[str, str, tuple[int, ...]]], where: float, edit: str, value: int
) -> None:
    tensors = [t for t in tensors if math.prod(t[2], start=DTYPE_BITS[t[1]]) % 8 == 0]
    try:
        first, header = encode_header(tensors)
    except UnsavableStateError:
        return
    at = int(where * (len(first) - 8))
    raw = bytearray(first[8:])
    edits: dict[str, Callable[[], object]] = {
        "flip": lambda: raw.__setitem__(at, value),
        "drop": lambda: raw.__delitem__(at),
        "double": lambda: raw.insert(at, raw[at]),
        "space": lambda: raw.insert(at, 0x20),
        "digit": lambda: raw.insert(at, 0x30 + value % 10),
        "bracket": lambda: raw.insert(at, b"[]{},:\"-"[value % 8]),
        "escape": lambda: raw.__setitem__(slice(at, at + 1), b"\\u%04x" % raw[at]),
        "tail": lambda: raw.append(value),
        "none": lambda: None,
    }  # fmt: skip
    edits[edit]()
    file = file_of(bytes(raw), bytes(header.size_bytes - header.data_start))

    found, problems = read(file)

    assert (found is None) == bool(problems)
    if found is not None:
        ours = {n: (i.dtype, list(i.shape), i.size_bytes) for n, i in found.tensors.items()}
        assert ours == theirs_of(file)
    assert edit != "none" or found == header


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=64), st.integers(0, 1 << 64))
def test_any_bytes_are_answered_with_findings(tail: bytes, length: int) -> None:
    assert codes(length.to_bytes(9, "little")[:8] + tail)
    assert codes(file_of(tail)) or tail.rstrip(b" ") == b"{}"
