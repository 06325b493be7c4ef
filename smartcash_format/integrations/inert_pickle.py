"""The one Unpickler (architecture, nevers): it imports nothing and calls nothing of a stranger's.

Its find_class gives the few builders of tensors and plain values that are written here, an inert
stand-in for a class whose name an allow-list has, or refuses by name. It runs in a process apart
(inert_reader), with the standard library alone.
"""

from __future__ import annotations

import datetime
import fnmatch
import pickle
import struct
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Any, BinaryIO, Final, NoReturn, cast

# Whose classes become stand-ins. They only keep what is set on them, so the list says what is
# expected of a training's checkpoint rather than what would be dangerous.
PATTERNS: Final = (
    *("models.*", "utils.*", "ultralytics.*", "yolov5.*", "smartcash.*", "__main__.*"),
    *("torch.nn.*", "torch.optim.*", "torch.amp.*", "torch.torch_version.*", "torchvision.*"),
    *("timm.*", "lightning.*", "lightning_fabric.*", "pytorch_lightning.*", "omegaconf.*"),
    *("transformers.*", "accelerate.*", "numpy.random.*", "argparse.Namespace"),
    *("types.SimpleNamespace", "typing.*", "torch.SymInt", "torch.memory_format"),
)
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
_DTYPES: Final = (
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


class _Sealed(type):
    """Stand-ins are given no attributes: a program could set them on the class itself."""

    def __setattr__(cls, name: str, value: object) -> NoReturn:
        raise Refusal(f"{cls.__name__}.{name}", "sets an attribute of a class")


class Inert(metaclass=_Sealed):
    """An object of a class that is not there: it keeps its state and does nothing."""

    __slots__ = ("items", "state")
    CLASS = ""
    state: dict[Any, Any]
    items: dict[Any, Any]

    def __new__(cls, *args: Any, **kwargs: Any) -> Inert:
        made = object.__new__(cls)
        made.state, made.items = {}, {}
        return made

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Nothing is made of the arguments."""

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, tuple) and len(state) == 2:
            first, second = state
            state = {**(first or {}), **second} if isinstance(second, dict) else first
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


class Metadata(OrderedDict[Any, Any]):
    """torch's state dict: a mapping with the versions of its modules as an attribute."""


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
    """An array of numpy: shape, dtype and bytes come with its state."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value: Any = None

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, _, data = state
        self.value = _numbers(dtype, data, tuple(shape) != ())


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


def _numbers(dtype: Any, data: Any, many: bool) -> Any:
    code = _NUMPY.get(getattr(dtype, "text", ""))
    if isinstance(data, str):
        data = data.encode("latin-1")
    if code is None or not isinstance(data, bytes) or len(data) % struct.calcsize(code):
        return "an array of numpy"
    values = [value for (value,) in struct.iter_unpack(f"<{code}", data)]
    return values if many else values[0]


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


def _latin(text: Any, encoding: str = "latin1") -> bytes:
    if encoding not in ("latin1", "latin-1"):
        raise Refusal(f"_codecs.encode to {encoding}", "only bytes are written so")
    return bytes(text.encode("latin-1"))


_BUILDERS: Final[dict[str, Callable[..., Any]]] = {
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
    "collections.defaultdict": lambda *_: {},
    "collections.Counter": lambda items=(): dict(items),
    "collections.deque": lambda items=(), *_: deque(items),
    "_codecs.encode": _latin,
    # A pickled time without a zone is one without a zone.
    "datetime.datetime": lambda *parts: datetime.datetime(*parts).isoformat(),  # noqa: DTZ001
    "datetime.date": lambda *parts: datetime.date(*parts).isoformat(),
    "datetime.timedelta": lambda *parts: datetime.timedelta(*parts).total_seconds(),
    "numpy.dtype": NumpyType,
    "copyreg._reconstructor": lambda kind, base, state: kind(),
    "copy_reg._reconstructor": lambda kind, base, state: kind(),
}
for _core in ("numpy.core.multiarray", "numpy._core.multiarray"):
    _BUILDERS[f"{_core}.scalar"] = lambda dtype, data=b"": _numbers(dtype, data, False)
    _BUILDERS[f"{_core}._reconstruct"] = lambda *_: Scalar()
for _path in ("PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath", "Path"):
    for _home in ("pathlib", "pathlib._local"):
        _BUILDERS[f"{_home}.{_path}"] = lambda *parts: "/".join(map(str, parts)).replace("//", "/")
_BUILDERS["builtins.set"] = lambda items=(): list(items)
_BUILDERS["builtins.frozenset"] = lambda items=(): tuple(items)
_BUILDERS["builtins.complex"] = lambda real, imaginary: f"{real}+{imaginary}j"
_BUILDERS["builtins.bytearray"] = lambda *_: "bytes"
_BUILDERS["builtins.slice"] = lambda *parts: list(parts)
# Types that stand in a pickle as values and factories; nothing is ever made of them.
_NAMED_TYPES: Final = {
    f"builtins.{name}"
    for name in ("int", "float", "bool", "str", "list", "dict", "tuple", "object", "bytes", "long")
} | {"numpy.ndarray", "torch.Tensor", "collections.abc.Mapping"}


class Reader(pickle.Unpickler):
    """An unpickler that imports nothing; `storages` has what the program names, by key."""

    def __init__(self, stream: BinaryIO, patterns: tuple[str, ...]) -> None:
        super().__init__(stream, encoding="utf-8", errors="surrogateescape")
        self._patterns = patterns
        self._classes: dict[str, type[Inert]] = {}
        self.storages: dict[str, int] = {}
        self.widths: dict[str, int] = {}

    def find_class(self, module: str, name: str) -> Any:
        # Protocol 2 spells the builtins as Python 2 did.
        asked = f"{module.replace('__builtin__', 'builtins')}.{name}"
        if asked == "collections.OrderedDict":
            return Metadata
        if asked in _BUILDERS:
            return Builder(_BUILDERS[asked])
        if module == "torch" and name in STORAGES:
            return _StorageKind(name)
        if asked == "torch.storage.UntypedStorage":
            return _StorageKind("UntypedStorage")
        if module == "torch" and name in _DTYPES:
            return f"torch.{name}"
        if asked in _NAMED_TYPES or any(fnmatch.fnmatchcase(asked, p) for p in self._patterns):
            return self._stand_in(asked)
        raise Refusal(asked, "no class or function of that name is expected in a checkpoint")

    def _stand_in(self, asked: str) -> type[Inert]:
        if asked not in self._classes:
            body = {"CLASS": asked, "__slots__": ()}
            self._classes[asked] = cast(
                "type[Inert]", _Sealed(asked.rpartition(".")[2], (Inert,), body)
            )
        return self._classes[asked]

    def persistent_load(self, pid: Any) -> Any:
        # Legacy files name a module's class with its source code, which is not looked at.
        if isinstance(pid, tuple) and len(pid) > 1 and pid[0] in ("module", b"module"):
            return pid[1]
        if not (isinstance(pid, tuple) and len(pid) > 4 and pid[0] in ("storage", b"storage")):
            raise Refusal(f"{pid!r:.80}", "is no storage of a tensor")
        if not isinstance(pid[1], _StorageKind):
            raise Refusal(f"{pid[1]!r:.80}", "is no kind of storage")
        if len(pid) > 5 and pid[5] is not None:
            raise Refusal("a view of a storage", "written by torch before 0.4")
        dtype, width = STORAGES[pid[1].name]
        key = str(pid[2])
        self.storages[key] = max(self.storages.get(key, 0), int(pid[4]) * width)
        self.widths[key] = width
        return key, dtype


class _StorageKind:
    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name
