"""State comes back with the values and the types it had, or is refused by name."""

from __future__ import annotations

import datetime
import enum
import io
import zipfile
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import numpy as np
import pytest
import torch

from smartcash_format.disk.parts import ArchivePart
from smartcash_format.disk.publish import stage
from smartcash_format.disk.write import write_parts
from smartcash_format.errors import UnsavableStateError
from smartcash_format.torch_io.archive import to_archive
from smartcash_format.torch_io.state import StateFormError, decode, encode

pytestmark = pytest.mark.torch


def through_a_file(value: object, root: Path) -> Any:
    """The value written as a torch file and read by torch alone, weights_only."""
    program, storages = to_archive(encode(value, "state"))
    number = len(list(root.iterdir()))
    with stage(root / f"checkpoint-{number}") as staged:
        write_parts(staged, [ArchivePart(name="extra.pt", program=program.data, storages=storages)])
        path = staged.publish() / "extra.pt"
    return decode(torch.load(path, weights_only=True))


def same(left: Any, right: Any) -> bool:
    """Equal in value and in type, all the way down."""
    if type(left) is not type(right):
        return False
    if isinstance(left, torch.Tensor):
        return bool(left.dtype == right.dtype) and torch.equal(_raw(left), _raw(right))
    if isinstance(left, np.ndarray | np.generic):
        return bool(left.dtype == right.dtype and left.tobytes() == right.tobytes())
    if isinstance(left, dict):
        return list(left) == list(right) and all(same(left[key], right[key]) for key in left)
    if isinstance(left, datetime.datetime | datetime.time):
        return left == right and left.fold == right.fold and type(left.tzinfo) is type(right.tzinfo)
    if isinstance(left, list | tuple | deque):
        return len(left) == len(right) and all(map(same, left, right))
    return bool(left == right)


def _raw(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach().resolve_conj().contiguous().reshape(-1).view(torch.uint8)


VALUES: list[Any] = [
    None, True, False, 0, -1, 2**63, -(2**1_000), 0.1, float("inf"), "text", "🙂\x00\u2028", "",
    [], (), {}, [1, (2, [3])], {"a": {"b": (1, 2)}}, {1: "one", None: 2, False: 3, 2.5: 4},
    {(1, 2): "tuple key", b"x": 1}, {"$type": "mine", "items": [1]}, {"$type": {"$type": 1}},
    OrderedDict([("b", 1), ("a", 2)]), OrderedDict([((1, 2), "x")]), Counter({3: 2, 5: 1}),
    Counter({(1,): 2}), defaultdict(list, {"a": [1]}), defaultdict(None, {1: 2}),
    deque([1, 2], maxlen=3), deque(), {1, 2}, set(), frozenset({"a"}), b"", b"\x00\xff" * 40,
    bytearray(b"abc"), 1 + 2j, torch.Size([2, 3]), torch.float32, torch.device("cpu"),
    Path("runs/train"), datetime.datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=datetime.UTC),
    datetime.datetime(2026, 10, 25, 2, 30, fold=1, tzinfo=ZoneInfo("Europe/Berlin")),
    datetime.datetime(2026, 1, 2, tzinfo=datetime.timezone(datetime.timedelta(seconds=-7))),
    PurePosixPath("/a"), PureWindowsPath("C:/a"), np.str_(""), np.longdouble(0.5),
    datetime.date(2026, 1, 2), datetime.time(1, 2), datetime.time(1, fold=1),
    datetime.timedelta(days=-1, microseconds=5),
    range(1, 9, 2), slice(1, None, 2), np.float32(0.1), np.int64(-5), np.bool_(True),
    np.uint64(2**64 - 1), np.datetime64("2026-01-02"), np.str_("x"), np.arange(6).reshape(2, 3),
    np.zeros((0, 3), dtype=np.float16), np.array(1.5), np.array(["ab", "c"]),
    np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    torch.tensor(1.5), torch.zeros(0), torch.zeros(2, 0, 3), torch.arange(6).reshape(2, 3).t(),
    torch.nn.Parameter(torch.ones(2)), torch.nn.Parameter(torch.ones(2), requires_grad=False),
    torch.randn(3, dtype=torch.complex64), torch.randn(3, dtype=torch.complex64).conj(),
    torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
]  # fmt: skip
DTYPES = [value for value in vars(torch).values() if isinstance(value, torch.dtype)]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: f"{type(value).__name__}")
def test_a_value_comes_back_with_its_type(value: object, tmp_path: Path) -> None:
    assert same(through_a_file(value, tmp_path), value)


def test_all_values_together_come_back(tmp_path: Path) -> None:
    assert same(through_a_file(VALUES, tmp_path), VALUES)


@pytest.mark.parametrize("dtype", sorted(set(DTYPES), key=str), ids=str)
def test_a_tensor_of_every_dtype_comes_back_or_is_refused(
    dtype: torch.dtype, tmp_path: Path
) -> None:
    try:
        value = torch.arange(48, dtype=torch.uint8).view(dtype)
    except (RuntimeError, TypeError, NotImplementedError):
        pytest.skip(f"{dtype} cannot view plain bytes in this torch")
    try:
        found = through_a_file({"t": value}, tmp_path)["t"]
    except UnsavableStateError:
        assert "quint" in str(dtype) or "qint" in str(dtype) or "bits" in str(dtype)
        return
    assert found.dtype == dtype
    assert torch.equal(found.view(torch.uint8), value.view(torch.uint8))


@pytest.mark.parametrize(
    "generator", [np.random.PCG64, np.random.Philox, np.random.MT19937, np.random.SFC64]
)
def test_a_numpy_generator_goes_on_where_it_was(
    generator: Callable[[int], Any], tmp_path: Path
) -> None:
    live = np.random.Generator(generator(7))
    live.random(5)
    state = through_a_file(live.bit_generator.state, tmp_path)
    other = np.random.Generator(generator(1))
    other.bit_generator.state = state
    assert other.random(5).tolist() == live.random(5).tolist()


def test_one_tensor_in_two_places_is_stored_once_and_a_view_without_its_neighbours() -> None:
    whole = torch.arange(1_000_000)
    _, storages = to_archive(encode({"a": whole[5:8], "b": whole[5:8], "c": whole[::2]}, "state"))
    assert [storage.size_bytes for storage in storages] == [24, 500_000 * 8]


def test_the_program_names_only_the_allowed_globals(tmp_path: Path) -> None:
    program, _ = to_archive(encode(VALUES, "state"))
    import pickletools

    named = {str(arg) for op, arg, _ in pickletools.genops(program.data) if op.name == "GLOBAL"}
    allowed = {"collections OrderedDict", "torch._utils _rebuild_tensor_v2"}
    assert all(name in allowed or name.endswith("Storage") for name in named)


class Colour(enum.Enum):
    RED = 1


class Pair(NamedTuple):
    left: int


class Zone(datetime.tzinfo):
    def utcoffset(self, moment: datetime.datetime | None, /) -> datetime.timedelta:
        return datetime.timedelta(0)

    def dst(self, moment: datetime.datetime | None, /) -> None:
        return None

    def tzname(self, moment: datetime.datetime | None, /) -> None:
        return None


def with_attribute() -> OrderedDict[str, int]:
    value: Any = OrderedDict(a=1)
    value.colour = "red"
    return value  # type: ignore[no-any-return]


LOOP: list[Any] = []
LOOP.append(LOOP)
DEEP: list[Any] = []
for _ in range(100):
    DEEP = [DEEP]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (lambda: 0, "code is never stored"),
        (Colour.RED, "Colour"),
        (Pair(1), "tuple(...)"),
        (torch.nn.Linear(1, 1), "extra="),
        (LOOP, "holds itself"),
        (DEEP, "nests deeper"),
        (2**1_025, "1,024 bits"),
        ("\ud800", "lone surrogate"),
        (Path("\udc80"), "lone surrogate"),
        (slice("a"), "slice"),
        (datetime.datetime(2026, 1, 1, tzinfo=Zone()), "datetime"),
        (with_attribute(), "attributes (colour)"),
        (np.ma.masked_array([1.0]), "numpy.asarray"),
        (np.array([object()]), "numpy array of object"),
        (defaultdict(lambda: 0), "factory"),
        (torch.zeros(2).to_sparse(), "sparse"),
        (torch.zeros(2, device="meta"), "meta device"),
        (io.BytesIO(), "state_dict()"),
        (zipfile, "state_dict()"),
    ],
)
def test_what_has_no_form_is_refused_with_its_place(value: object, words: str) -> None:
    with pytest.raises(UnsavableStateError) as caught:
        encode({"a": [1, {"b": value}]}, "extra['mine']")
    assert caught.value.where.startswith("extra['mine']['a'][1]['b']")
    assert words in str(caught.value)


def test_a_key_with_a_lone_surrogate_is_refused() -> None:
    with pytest.raises(UnsavableStateError, match="lone surrogate"):
        encode({"a\udc80": 1}, "state")


def test_what_stands_in_two_places_is_one_object_again(tmp_path: Path) -> None:
    tensor, mutable = torch.arange(3.0), [1]
    parameter = torch.nn.Parameter(torch.ones(2))
    kept = {"k": deque([1])}
    value = {"a": [tensor, mutable, parameter, kept], "b": (tensor, mutable, parameter, kept)}
    found = through_a_file(value, tmp_path)
    assert all(one is other for one, other in zip(found["a"], found["b"], strict=True))


def test_tensors_that_share_memory_share_it_again(tmp_path: Path) -> None:
    base = torch.arange(4.0)
    found = through_a_file({"a": base, "same": base.view(4), "float8": base}, tmp_path)
    found["a"][0] = 7
    assert found["same"][0] == 7


def test_lists_that_share_lists_exponentially_are_stored_once_each() -> None:
    shared: list[Any] = [0]
    for _ in range(40):
        shared = [shared, shared]
    program, _ = to_archive(encode(shared, "state"))
    assert len(program.data) < 1_000


def test_a_module_state_dict_comes_back_as_a_plain_dict(tmp_path: Path) -> None:
    state = torch.nn.BatchNorm1d(2).state_dict()
    found = through_a_file(state, tmp_path)
    assert type(found) is dict
    assert all(torch.equal(found[key], state[key]) for key in state)


@pytest.mark.parametrize(
    "form",
    [
        {"$type": "datetime", "text": "2026-01-02", "fold": 0, "zone": "No/Where"},
        {"$type": "datetime", "text": "2026-01-02", "fold": 0, "zone": "../../etc/passwd"},
        {"$type": "os.system"}, {"$type": 3}, {"$type": "deque"}, {"$type": "bytes", "data": 3},
        {"$type": "torch.dtype", "name": "load"}, {"$type": "ndarray", "dtype": "O", "shape": (1,),
         "data": torch.zeros(8, dtype=torch.uint8)}, {"$type": "defaultdict", "factory": "eval",
         "items": []}, {"$type": "set", "items": [[1]]}, {"$type": "tensor", "dtype": "float32",
         "shape": (-5, 3), "data": torch.zeros(8, dtype=torch.uint8)},
    ],
)  # fmt: skip
def test_a_damaged_form_is_a_form_error(form: dict[str, Any]) -> None:
    with pytest.raises(StateFormError):
        decode({"x": form})


def test_an_array_is_written_from_its_own_memory() -> None:
    array = np.arange(6, dtype=np.int64).reshape(2, 3)
    assert encode(array, "a")["data"].data_ptr() == array.ctypes.data
    array.flags.writeable = False
    assert encode(array, "a")["data"].data_ptr() != array.ctypes.data
    turned = encode(array.T, "a")["data"]
    assert bytes(turned.tolist()) == array.T.tobytes()
