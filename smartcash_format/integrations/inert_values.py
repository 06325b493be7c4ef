"""What a stranger's pickle may make: tensors as places, plain values, and objects that do nothing.

Each function that a program can call is written here and stands in a table under the name that the
program asks for (inert_pickle). Only the standard library is loaded.
"""

from __future__ import annotations

import datetime
import struct
from collections import deque
from collections.abc import Callable
from typing import Any, Final, NoReturn

from smartcash_format.spec.keys import Keys

# Storage class of torch -> dtype and bytes an element.
STORAGES: Final = {
    "DoubleStorage": ("float64", 8), "FloatStorage": ("float32", 4), "HalfStorage": ("float16", 2),
    "BFloat16Storage": ("bfloat16", 2), "LongStorage": ("int64", 8), "IntStorage": ("int32", 4),
    "ShortStorage": ("int16", 2), "CharStorage": ("int8", 1), "ByteStorage": ("uint8", 1),
    "BoolStorage": ("bool", 1), "ComplexFloatStorage": ("complex64", 8),
    "ComplexDoubleStorage": ("complex128", 16), "UntypedStorage": ("uint8", 1),
}  # fmt: skip
# What has no storage class of its own: a tensor of it names bytes, and its dtype beside them.
_WIDER: Final = {
    "uint16", "uint32", "uint64", "float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2",
    "float8_e5m2fnuz", "float8_e8m0fnu", "float4_e2m1fn_x2",
}  # fmt: skip
DTYPES: Final = (
    {dtype for dtype, _ in STORAGES.values()} | {"float", "double", "half", "long", "int"} | _WIDER
)
# What of a tensor's values is only noted beside its numbers.
_SIGNS: Final = ("conj", "neg")
# numpy's spelling of a dtype -> struct's.
_NUMPY: Final = {
    "f8": "d", "f4": "f", "f2": "e", "i8": "q", "i4": "i", "i2": "h", "i1": "b", "u8": "Q",
    "u4": "I", "u2": "H", "u1": "B", "b1": "?",
}  # fmt: skip


class Refusal(Exception):
    """The file is not taken: what it asks for, and why that is refused."""

    def __init__(self, asked: str, why: str) -> None:
        super().__init__(asked)
        self.asked, self.why = asked, why


class Sealed(type):
    """Stand-ins are given no attributes: a program could set them on the class itself."""

    def __setattr__(cls, name: str, value: object) -> NoReturn:
        raise Refusal(f"{cls.__name__}.{name}", "sets an attribute of a class")


class Keyed(dict[Any, Any]):
    """A dict that counts what it hashes: numbers and tuples can be chosen to share one hash."""

    __slots__ = ("_keys",)

    def __init__(self, keys: Keys) -> None:
        self._keys = keys

    def __setitem__(self, key: Any, value: Any) -> None:
        # The others have hashes that no program chooses, or none.
        if isinstance(key, int | float | tuple):
            self._keys.check((key,))
        super().__setitem__(key, value)

    def __setstate__(self, state: Any) -> None:
        """A dict has no attributes."""

    def take(self, items: Any) -> Keyed:
        """This dict, with what a dict or pairs of keys and values hold."""
        for key, value in items.items() if isinstance(items, dict) else items:
            self[key] = value
        return self


class Inert(metaclass=Sealed):
    """An object of a class that is not there: it keeps its state and does nothing."""

    __slots__ = ("items", "state")
    CLASS = ""
    KEYS: Keys
    state: dict[Any, Any]
    items: dict[Any, Any]

    def __new__(cls, *args: Any, **kwargs: Any) -> Inert:
        made = object.__new__(cls)
        made.state, made.items = {}, Keyed(cls.KEYS)
        return made

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Nothing is made of the arguments."""

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, tuple) and len(state) == 2:
            own, slots = state
            state = {"state": own, "slots": slots} if own and slots else own or slots or {}
        self.state = state if isinstance(state, dict) else {"state": state}

    # A stand-in for a list or a dict of a package's own.
    def append(self, value: Any) -> None:
        self.items[len(self.items)] = value

    def extend(self, values: Any) -> None:
        for value in values:
            self.append(value)

    def __setitem__(self, key: Any, value: Any) -> None:
        self.items[key] = value

    def __hash__(self) -> int:
        return id(self)


class Metadata(Keyed):
    """torch's state dict: a mapping with the versions of its modules as an attribute."""

    __slots__ = ("versions",)

    def __init__(self, keys: Keys) -> None:
        super().__init__(keys)
        self.versions: Any = None

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, dict):
            self.versions = state.get("_metadata")


class Tensor:
    """A tensor as a place in the file. What a program sets on it (hooks, names) is dropped."""

    __slots__ = (
        *("dtype", "is_parameter", "offset", "shape", "signs", "storage", "stride", "trains"),
    )

    def __init__(
        self, storage: tuple[str, str], offset: int, shape: Any, stride: Any, *, trains: bool
    ) -> None:
        self.storage, self.dtype = storage
        self.offset, self.shape, self.stride = offset, list(shape), list(stride)
        self.is_parameter, self.trains = False, trains
        self.signs: list[str] = []

    def __setstate__(self, state: Any) -> None:
        """A tensor's own attributes are no part of its value."""


class Scalar:
    """An array or a number of numpy; its numbers are made when they are counted."""

    __slots__ = ("_data", "_dtype", "is_array")

    def __init__(self, dtype: Any = None, data: Any = b"") -> None:
        self._dtype, self._data, self.is_array = dtype, data, False

    def __setstate__(self, state: Any) -> None:
        _, shape, self._dtype, _, self._data = state
        self.is_array = tuple(shape) != ()

    def count(self) -> int:
        """How many numbers there are; 0 where they are none that are read here."""
        code = _NUMPY.get(getattr(self._dtype, "text", ""))
        data = self._bytes()
        if code is None or not isinstance(data, bytes) or len(data) % struct.calcsize(code):
            return 0
        return len(data) // struct.calcsize(code)

    def value(self) -> Any:
        """A number, a list of numbers, or a word for what is not read."""
        count = self.count()
        if not count and not (self.is_array and self._bytes() == b""):
            return "an array of numpy"
        code = _NUMPY[self._dtype.text] if count else "b"
        numbers = struct.unpack_from(f"<{count if self.is_array else 1}{code}", self._bytes())
        return list(numbers) if self.is_array else numbers[0]

    def _bytes(self) -> Any:
        return self._data.encode("latin-1") if isinstance(self._data, str) else self._data


class NumpyType:
    """A dtype of numpy."""

    __slots__ = ("text",)

    def __init__(self, text: str, *_: Any) -> None:
        self.text = str(text).lstrip("<=|")

    def __setstate__(self, state: Any) -> None:
        if len(state) > 1 and state[1] == ">":
            self.text = f">{self.text}"


class Builder:
    """A function that is written here, under the name that a program asks for."""

    __slots__ = ("_make",)

    def __init__(self, make: Callable[..., Any]) -> None:
        self._make = make

    def __call__(self, *args: Any) -> Any:
        return self._make(*args)

    def __setstate__(self, state: Any) -> NoReturn:
        raise Refusal("BUILD", "sets an attribute of a function")


def _rebuild(
    storage: Any, offset: int, shape: Any, stride: Any, trains: Any = False, hooks: Any = None,
    signs: Any = None,
) -> Tensor:  # fmt: skip
    tensor = Tensor(storage, offset, shape, stride, trains=trains is True)
    if signs:
        if not isinstance(signs, dict) or not signs.keys() <= set(_SIGNS):
            raise Refusal("torch._utils._rebuild_tensor_v2", "notes more of a tensor than is known")
        tensor.signs = [name for name in _SIGNS if signs.get(name)]
    return tensor


def _rebuild_wider(
    storage: Any, offset: int, shape: Any, stride: Any, trains: Any, hooks: Any, dtype: Any,
    signs: Any = None,
) -> Tensor:  # fmt: skip
    tensor = _rebuild(storage, offset, shape, stride, trains, hooks, signs)
    name = dtype.removeprefix("torch.") if isinstance(dtype, str) else ""
    if name not in _WIDER:
        raise Refusal("torch._utils._rebuild_tensor_v3", "has a dtype that is not known")
    tensor.dtype = name
    return tensor


def _parameter(data: Any, trains: bool = True, *_: Any) -> Any:
    if isinstance(data, Tensor):
        data.is_parameter, data.trains = True, bool(trains)
    return data


def _from_type(rebuild: Any, kind: Any, args: Any, state: Any = None) -> Any:
    return rebuild(*args)


def _zone(seconds: float, *_: Any) -> datetime.timezone:
    return datetime.timezone(datetime.timedelta(seconds=seconds))


def _moment(*parts: Any) -> str:
    """The time as text; one whose zone is no offset is no time that others can read."""
    if len(parts) > 1 and isinstance(parts[-1], Inert):
        return f"{datetime.datetime(*parts[:-1]).isoformat()} ({parts[-1].CLASS})"  # noqa: DTZ001
    # A pickled time without a zone is one without a zone.
    return datetime.datetime(*parts).isoformat()  # noqa: DTZ001


def _latin(text: Any, encoding: str = "latin1") -> bytes:
    if encoding not in ("latin1", "latin-1"):
        raise Refusal(f"_codecs.encode to {encoding}", "only bytes are written so")
    return bytes(text.encode("latin-1"))


BUILDERS: Final[dict[str, Callable[..., Any]]] = {
    "torch._utils._rebuild_tensor_v2": _rebuild,
    "torch._utils._rebuild_tensor": _rebuild,
    "torch._utils._rebuild_tensor_v3": _rebuild_wider,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
    "torch.nn.parameter.Parameter": _parameter,
    "torch._tensor._rebuild_from_type_v2": _from_type,
    "torch._tensor._rebuild_from_type": _from_type,
    "torch.Size": lambda items=(): list(items),
    "torch.device": lambda *parts: ":".join(map(str, parts)),
    "torch.storage._load_from_bytes": lambda *_: "a storage of its own",
    "collections.deque": lambda items=(), *_: deque(items),
    "_codecs.encode": _latin,
    "datetime.datetime": _moment,
    "datetime.timezone": _zone,
    "datetime.date": lambda *parts: datetime.date(*parts).isoformat(),
    "datetime.timedelta": lambda *parts: datetime.timedelta(*parts).total_seconds(),
    "numpy.dtype": NumpyType,
    "copyreg._reconstructor": lambda kind, base, state: kind(),
    "copy_reg._reconstructor": lambda kind, base, state: kind(),
}
for _core in ("numpy.core.multiarray", "numpy._core.multiarray"):
    BUILDERS[f"{_core}.scalar"] = Scalar
    BUILDERS[f"{_core}._reconstruct"] = lambda *_: Scalar()
for _path in ("PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath", "Path"):
    for _home in ("pathlib", "pathlib._local"):
        BUILDERS[f"{_home}.{_path}"] = lambda *parts: "/".join(map(str, parts)).replace("//", "/")
BUILDERS["builtins.set"] = lambda items=(): list(items)
BUILDERS["builtins.frozenset"] = lambda items=(): tuple(items)
BUILDERS["builtins.complex"] = lambda real, imaginary: f"{real}+{imaginary}j"
BUILDERS["builtins.bytearray"] = lambda *_: "bytes"
BUILDERS["builtins.slice"] = lambda *parts: list(parts)
# Types that stand in a pickle as values and factories; nothing is ever made of them.
NAMED_TYPES: Final = {
    f"builtins.{name}"
    for name in ("int", "float", "bool", "str", "list", "dict", "tuple", "object", "bytes", "long")
} | {"numpy.ndarray", "torch.Tensor", "collections.abc.Mapping"}


class StorageKind:
    """The class of a storage: which numbers its bytes are."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __setstate__(self, state: Any) -> NoReturn:
        raise Refusal("BUILD", "sets an attribute of a class")
