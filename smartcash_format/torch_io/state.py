"""Any state as the few types that a torch file may hold, and back as the types that it had.

A torch file names four globals and nothing else (FORMAT.md, Torch files). None, bool, int, float,
str, list, tuple, dict, OrderedDict, Counter and dense tensors of torch's classic dtypes are stored
as they are; every other type that has a form is stored as `{"$type": name, ...}` and turned back at
load; a user's own dict that has a key `$type` is stored as its items. A type without a form is
refused by name.
"""

from __future__ import annotations

import datetime
import math
import sys
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Mapping
from pathlib import Path, PurePath
from typing import Any, Final

import torch

from smartcash_format.errors import UnsavableStateError
from smartcash_format.torch_io.dtypes import bytes_of
from smartcash_format.torch_io.plain_tensor import plain_tensor, refused

TYPE: Final = "$type"
# FORMAT.md, Torch files: the reader's bounds, which a writer keeps.
DEPTH: Final = 60
INTEGER_BITS: Final = 1_024
# The dtypes whose tensors torch's own pickles rebuild with _rebuild_tensor_v2.
CLASSIC: Final[Mapping[torch.dtype, str]] = {
    torch.float64: "DoubleStorage", torch.float32: "FloatStorage", torch.float16: "HalfStorage",
    torch.bfloat16: "BFloat16Storage", torch.int64: "LongStorage", torch.int32: "IntStorage",
    torch.int16: "ShortStorage", torch.int8: "CharStorage", torch.uint8: "ByteStorage",
    torch.bool: "BoolStorage", torch.complex64: "ComplexFloatStorage",
    torch.complex128: "ComplexDoubleStorage",
}  # fmt: skip
_FACTORIES: Final[Mapping[str, type]] = {
    factory.__name__: factory for factory in (list, dict, int, float, str, set, tuple, bool)
}
# Kinds of numpy dtypes whose elements are plain memory: numbers, times and fixed-width text.
_NUMPY_KINDS: Final = "biufcSUmM"


class StateFormError(ValueError):
    """A stored form that names no type or lacks what its type needs."""


def encode(value: object, where: str) -> Any:
    """The value as types that a torch file may hold; tensors are not copied.

    Raises UnsavableStateError, naming the place inside `where`, for what has no form.
    """
    return _Encoder().form(value, where, 1)


def decode(form: Any) -> Any:
    """The value whose form this is, with the types it had. Raises StateFormError."""
    match form:
        case list():
            return [decode(item) for item in form]
        case tuple():
            return tuple(decode(item) for item in form)
        case Counter():
            return Counter(form)
        case OrderedDict():
            return OrderedDict((key, decode(item)) for key, item in form.items())
        case dict() if TYPE in form:
            return _typed(form)
        case dict():
            return {key: decode(item) for key, item in form.items()}
    return form


class _Encoder:
    def __init__(self) -> None:
        self._open: set[int] = set()

    def form(self, value: Any, where: str, depth: int) -> Any:
        kind = type(value)
        if value is None or kind in (bool, float, str):
            return self._text(value, where) if kind is str else value
        if kind is int:
            if value.bit_length() > INTEGER_BITS:
                raise refused(value, where, "is an integer beyond 1,024 bits", "store its text")
            return value
        if isinstance(value, torch.Tensor):
            return self._tensor(value, where)
        if kind in _CONTAINERS:
            return self._container(value, where, depth)
        if (scalar := _scalar(value)) is not None:
            return scalar
        if _is_numpy(value):
            return _numpy_form(value, where)
        raise _without_form(value, where)

    @staticmethod
    def _text(value: str, where: str) -> str:
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:
            raise refused(value, where, "has a lone surrogate", "store its bytes") from None
        return value

    def _tensor(self, value: torch.Tensor, where: str) -> Any:
        tensor = plain_tensor(value, where)
        if isinstance(value, torch.nn.Parameter):
            data = self._tensor(tensor, where)
            return {TYPE: "parameter", "data": data, "requires_grad": value.requires_grad}
        if tensor.dtype in CLASSIC:
            return tensor
        flat = tensor.resolve_conj().resolve_neg().contiguous()
        return {
            TYPE: "tensor",
            "dtype": _dtype_name(tensor.dtype),
            "shape": tuple(tensor.shape),
            "data": flat.reshape(-1).view(torch.uint8),
        }

    def _container(self, value: Any, where: str, depth: int) -> Any:
        if id(value) in self._open:
            raise refused(value, where, "holds itself", "break the cycle before saving")
        if depth > DEPTH:
            raise refused(value, where, f"nests deeper than {DEPTH} levels", "flatten it")
        self._open.add(id(value))
        try:
            return _CONTAINERS[type(value)](self, value, where, depth + 1)
        finally:
            self._open.remove(id(value))

    def _items(self, value: Any, where: str, depth: int) -> list[Any]:
        return [self.form(item, f"{where}[{i}]", depth) for i, item in enumerate(value)]

    def _list(self, value: list[Any], where: str, depth: int) -> Any:
        return self._items(value, where, depth)

    def _tuple(self, value: tuple[Any, ...], where: str, depth: int) -> Any:
        return tuple(self._items(value, where, depth))

    def _dict(self, value: Mapping[Any, Any], where: str, depth: int) -> Any:
        if TYPE in value or not all(_is_plain_key(key) for key in value):
            return {TYPE: "dict", "items": self._pairs(value, where, depth)}
        return {
            key: self.form(item, f"{where}[{key!r}]"[:300], depth) for key, item in value.items()
        }

    def _pairs(self, value: Mapping[Any, Any], where: str, depth: int) -> list[Any]:
        return [
            (
                self.form(key, f"{where} key", depth),
                self.form(item, f"{where}[{key!r}]"[:300], depth),
            )
            for key, item in value.items()
        ]

    def _ordered(self, value: OrderedDict[Any, Any], where: str, depth: int) -> Any:
        if vars(value):
            # A module's state dict: its `_metadata` would need BUILD. It comes back as a dict.
            return self._dict(value, where, depth)
        plain = self._dict(value, where, depth)
        if TYPE in plain:
            return {TYPE: "OrderedDict", "items": plain["items"]}
        return OrderedDict(plain)

    def _counter(self, value: Counter[Any], where: str, depth: int) -> Any:
        if all(_is_plain_key(key) and type(count) is int for key, count in value.items()):
            return Counter(value)
        return {TYPE: "Counter", "items": self._pairs(value, where, depth)}

    def _defaultdict(self, value: defaultdict[Any, Any], where: str, depth: int) -> Any:
        factory = value.default_factory
        name = None if factory is None else getattr(factory, "__name__", "")
        if name is not None and _FACTORIES.get(name) is not factory:
            raise refused(value, where, f"has the factory {factory!r}", "store it as a dict")
        items = self._pairs(value, where, depth)
        return {TYPE: "defaultdict", "factory": name, "items": items}

    def _deque(self, value: deque[Any], where: str, depth: int) -> Any:
        return {TYPE: "deque", "items": self._items(value, where, depth), "maxlen": value.maxlen}

    def _set(self, value: set[Any] | frozenset[Any], where: str, depth: int) -> Any:
        return {TYPE: type(value).__name__, "items": self._items(value, where, depth)}

    def _size(self, value: torch.Size, where: str, depth: int) -> Any:
        return {TYPE: "torch.Size", "items": list(value)}


_CONTAINERS: Final[Mapping[type, Callable[[_Encoder, Any, str, int], Any]]] = {
    list: _Encoder._list,
    tuple: _Encoder._tuple,
    dict: _Encoder._dict,
    OrderedDict: _Encoder._ordered,
    Counter: _Encoder._counter,
    defaultdict: _Encoder._defaultdict,
    deque: _Encoder._deque,
    set: _Encoder._set,
    frozenset: _Encoder._set,
    torch.Size: _Encoder._size,
}


def _is_plain_key(key: object) -> bool:
    if type(key) is float:
        return math.isfinite(key)
    return key is None or type(key) in (str, bool) or (type(key) is int and abs(key) < 1 << 63)


def _scalar(value: Any) -> Any:
    """The form of a value that holds no others; None where it has none."""
    match value:
        case bytes() | bytearray() if type(value) in (bytes, bytearray):
            return {TYPE: type(value).__name__, "data": _bytes_tensor(bytes(value))}
        case complex() if type(value) is complex:
            return {TYPE: "complex", "real": value.real, "imag": value.imag}
        case torch.dtype():
            return {TYPE: "torch.dtype", "name": _dtype_name(value)}
        case torch.device():
            return {TYPE: "torch.device", "name": str(value)}
        case PurePath():
            return {TYPE: "path", "text": str(value)}
        case datetime.datetime() | datetime.date() | datetime.time():
            kind = type(value)
            if kind.__module__ == "datetime" and getattr(value, "fold", 0) == 0:
                return {TYPE: kind.__name__, "text": value.isoformat()}
        case datetime.timedelta():
            parts = (value.days, value.seconds, value.microseconds)
            return {TYPE: "timedelta", "parts": parts}
        case range():
            return {TYPE: "range", "parts": (value.start, value.stop, value.step)}
        case slice() if all(p is None or type(p) is int for p in (value.start, value.stop)):
            return {TYPE: "slice", "parts": (value.start, value.stop, value.step)}
    return None


def _without_form(value: object, where: str) -> UnsavableStateError:
    kind = type(value)
    if isinstance(value, torch.nn.Module):
        hint = "pass it through extra= as a module of its own, or store its state_dict()"
    elif callable(value):
        hint = "store its name or its settings; code is never stored"
    elif isinstance(value, Mapping):
        hint = "store dict(...) of it"
    elif isinstance(value, tuple | list):
        hint = "store tuple(...) or list(...) of it"
    elif hasattr(value, "state_dict"):
        hint = "store its state_dict()"
    else:
        hint = "give it a state_dict() of numbers, text, lists, dicts and tensors"
    return refused(value, where, f"is a {kind.__module__}.{kind.__qualname__}", hint)


def _dtype_name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _bytes_tensor(data: bytes) -> torch.Tensor:
    if not data:
        return torch.empty(0, dtype=torch.uint8)
    return torch.frombuffer(bytearray(data), dtype=torch.uint8)


def _is_numpy(value: object) -> bool:
    numpy = sys.modules.get("numpy")
    return numpy is not None and isinstance(value, numpy.ndarray | numpy.generic)


def _numpy_form(value: Any, where: str) -> Any:
    if value.dtype.kind not in _NUMPY_KINDS:
        what = f"is a numpy array of {value.dtype}"
        raise refused(value, where, what, "store it as numbers, or as a list")
    data = _bytes_tensor(value.tobytes())
    if isinstance(value, sys.modules["numpy"].generic):
        return {TYPE: "numpy.generic", "dtype": value.dtype.str, "data": data}
    if type(value).__name__ not in ("ndarray", "memmap"):
        raise refused(value, where, f"is a {type(value).__name__}", "store numpy.asarray(...)")
    shape = tuple(value.shape)
    return {TYPE: "ndarray", "dtype": value.dtype.str, "shape": shape, "data": data}


def _typed(form: Mapping[str, Any]) -> Any:
    name = form[TYPE]
    build = _BUILDERS.get(name) if isinstance(name, str) else None
    if build is None:
        raise StateFormError(f"{TYPE} {str(name)[:80]!r} is no type that a state may hold")
    try:
        return build(form)
    except (KeyError, TypeError, ValueError, RuntimeError, AttributeError, OverflowError) as error:
        raise StateFormError(f"the stored form of a {name} is damaged: {error}") from error


def _raw(form: Mapping[str, Any]) -> bytes:
    data = form["data"]
    if not isinstance(data, torch.Tensor) or data.dtype != torch.uint8:
        raise TypeError("its data is no tensor of bytes")
    return bytes(bytes_of(data.contiguous()))


def _decoded_pairs(form: Mapping[str, Any]) -> list[tuple[Any, Any]]:
    return [(decode(key), decode(item)) for key, item in form["items"]]


def _decoded_items(form: Mapping[str, Any]) -> list[Any]:
    return [decode(item) for item in form["items"]]


def _dtype(name: object) -> torch.dtype:
    found = getattr(torch, str(name), None)
    if not isinstance(found, torch.dtype):
        raise ValueError(f"{str(name)[:40]!r} is no dtype of this torch")
    return found


def _tensor_of(form: Mapping[str, Any]) -> torch.Tensor:
    shape = tuple(int(size) for size in form["shape"])
    flat: torch.Tensor = form["data"]
    # A clone: a view of bytes need not be aligned for a wider type.
    return flat.clone().view(_dtype(form["dtype"])).reshape(shape)


def _parameter_of(form: Mapping[str, Any]) -> torch.nn.Parameter:
    data = decode(form["data"])
    return torch.nn.Parameter(data, requires_grad=bool(form["requires_grad"]))


def _numpy_dtype(form: Mapping[str, Any]) -> Any:
    import numpy

    dtype = numpy.dtype(str(form["dtype"]))
    if dtype.kind not in _NUMPY_KINDS:
        raise ValueError(f"{str(form['dtype'])[:40]!r} is no dtype of numbers")
    return dtype


def _array_of(form: Mapping[str, Any]) -> Any:
    import numpy

    shape = tuple(int(size) for size in form["shape"])
    return numpy.frombuffer(_raw(form), dtype=_numpy_dtype(form)).reshape(shape).copy()


def _generic_of(form: Mapping[str, Any]) -> Any:
    import numpy

    return numpy.frombuffer(_raw(form), dtype=_numpy_dtype(form))[0]


def _defaultdict_of(form: Mapping[str, Any]) -> defaultdict[Any, Any]:
    name = form["factory"]
    factory = None if name is None else _FACTORIES[name]
    return defaultdict(factory, _decoded_pairs(form))


def _deque_of(form: Mapping[str, Any]) -> deque[Any]:
    maxlen = form["maxlen"]
    return deque(_decoded_items(form), None if maxlen is None else int(maxlen))


_BUILDERS: Final[Mapping[str, Callable[[Mapping[str, Any]], Any]]] = {
    "dict": lambda form: dict(_decoded_pairs(form)),
    "OrderedDict": lambda form: OrderedDict(_decoded_pairs(form)),
    "Counter": lambda form: Counter(dict(_decoded_pairs(form))),
    "defaultdict": _defaultdict_of,
    "deque": _deque_of,
    "set": lambda form: set(_decoded_items(form)),
    "frozenset": lambda form: frozenset(_decoded_items(form)),
    "torch.Size": lambda form: torch.Size(form["items"]),
    "torch.dtype": lambda form: _dtype(form["name"]),
    "torch.device": lambda form: torch.device(form["name"]),
    "bytes": _raw,
    "bytearray": lambda form: bytearray(_raw(form)),
    "complex": lambda form: complex(form["real"], form["imag"]),
    "path": lambda form: Path(form["text"]),
    "datetime": lambda form: datetime.datetime.fromisoformat(form["text"]),
    "date": lambda form: datetime.date.fromisoformat(form["text"]),
    "time": lambda form: datetime.time.fromisoformat(form["text"]),
    "timedelta": lambda form: datetime.timedelta(*form["parts"]),
    "range": lambda form: range(*form["parts"]),
    "slice": lambda form: slice(*form["parts"]),
    "parameter": _parameter_of,
    "tensor": _tensor_of,
    "ndarray": _array_of,
    "numpy.generic": _generic_of,
}
