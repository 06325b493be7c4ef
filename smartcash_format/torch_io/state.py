"""Any state as the few types that a torch file may hold, and back as the types that it had.

A torch file names few globals and nothing else (FORMAT.md, Torch files). None, bool, int, float,
str, list, tuple, dict, OrderedDict and dense tensors of torch's classic dtypes are stored as they
are; every other type that has a form is stored as `{"$type": name, ...}` and turned back at
load; a user's own dict that has a key `$type` is stored as its items. A type without a form is
refused by name. What stands in two places is stored once, and is one object again.
"""

from __future__ import annotations

import datetime
import enum
import math
import re
import sys
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Mapping
from pathlib import PurePath
from typing import Any, Final
from zoneinfo import ZoneInfo

import torch

from smartcash_format.errors import UnsavableStateError
from smartcash_format.spec.keys import TYPE
from smartcash_format.torch_io.plain_tensor import is_simple, plain_tensor, refused
from smartcash_format.torch_io.state_decoder import (
    FACTORIES,
    NUMPY_KINDS,
    PATHS,
    StateFormError,
    decode,
)

__all__ = ["CLASSIC", "TYPE", "StateFormError", "decode", "encode"]

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
_SURROGATE: Final = re.compile("[\ud800-\udfff]")
# A place inside a state: its root, or a container's place and the key there. As text only when it
# is told, because a state has thousands.
Where = str | tuple["Where", object]
_KEY: Final = object()
_PLACE_CHARACTERS: Final = 300


def encode(value: object, where: str) -> Any:
    """The value as types that a torch file may hold; tensors are not copied.

    Raises UnsavableStateError, naming the place inside `where`, for what has no form.
    """
    return _Encoder().form(value, where, 1)


def text_of(where: Where) -> str:
    """The place as an error names it."""
    if isinstance(where, str):
        return where
    outer, key = where
    end = " key" if key is _KEY else f"[{key!r}]"
    return (text_of(outer) + end)[:_PLACE_CHARACTERS]


class _Encoder:
    def __init__(self) -> None:
        self._open: set[int] = set()
        # By identity, together with the value: an identity is only one while its object lives.
        self._done: dict[int, tuple[Any, Any]] = {}

    def form(self, value: Any, where: Where, depth: int) -> Any:
        kind = type(value)
        if value is None or kind in (bool, float, str):
            return self._text(value, where) if kind is str else value
        if kind is int:
            if value.bit_length() > INTEGER_BITS:
                raise refused(
                    value, text_of(where), "is an integer beyond 1,024 bits", "store its text"
                )
            return value
        if isinstance(value, torch.Tensor) or kind in _CONTAINERS:
            return self._shared(value, where, depth)
        if (scalar := _scalar(value)) is not None:
            for text in scalar.values():
                if type(text) is str:
                    self._text(text, where)
            return scalar
        if _is_numpy(value):
            return _numpy_form(value, text_of(where))
        raise _without_form(value, text_of(where))

    @staticmethod
    def _text(value: str, where: Where) -> str:
        if not value.isascii() and _SURROGATE.search(value):
            raise refused(value, text_of(where), "has a lone surrogate", "store its bytes")
        return value

    def _shared(self, value: Any, where: Where, depth: int) -> Any:
        if (known := self._done.get(id(value))) is not None:
            return known[1]
        if isinstance(value, torch.Tensor):
            form = self._tensor(value, where)
        else:
            form = self._container(value, where, depth)
        self._done[id(value)] = value, form
        return form

    def _tensor(self, value: torch.Tensor, where: Where) -> Any:
        if type(value) is torch.Tensor and value.dtype in CLASSIC and is_simple(value):
            return value.detach() if value.requires_grad else value
        tensor = plain_tensor(value, text_of(where))
        if isinstance(value, torch.nn.Parameter):
            data = self._tensor(tensor, where)
            return {TYPE: "parameter", "data": data, "requires_grad": value.requires_grad}
        if tensor.dtype in CLASSIC:
            return tensor
        dense = tensor.resolve_conj().resolve_neg().contiguous()
        # One element may have any stride, and then torch gives no view of its bytes.
        flat = torch.as_strided(dense, (dense.numel(),), (1,))
        return {
            TYPE: "tensor",
            "dtype": _dtype_name(tensor.dtype),
            "shape": tuple(tensor.shape),
            "data": flat.view(torch.uint8),
        }

    def _container(self, value: Any, where: Where, depth: int) -> Any:
        if id(value) in self._open:
            raise refused(value, text_of(where), "holds itself", "break the cycle before saving")
        if depth > DEPTH:
            raise refused(value, text_of(where), f"nests deeper than {DEPTH} levels", "flatten it")
        self._open.add(id(value))
        try:
            return _CONTAINERS[type(value)](self, value, where, depth + 1)
        finally:
            self._open.remove(id(value))

    def _items(self, value: Any, where: Where, depth: int) -> list[Any]:
        return [self.form(item, (where, i), depth) for i, item in enumerate(value)]

    def _list(self, value: list[Any], where: Where, depth: int) -> Any:
        return self._items(value, where, depth)

    def _tuple(self, value: tuple[Any, ...], where: Where, depth: int) -> Any:
        return tuple(self._items(value, where, depth))

    def _dict(self, value: Mapping[Any, Any], where: Where, depth: int) -> Any:
        if TYPE in value or not all(_is_plain_key(key) for key in value):
            return {TYPE: "dict", "items": self._pairs(value, where, depth)}
        return {key: self.form(item, (where, key), depth) for key, item in value.items()}

    def _pairs(self, value: Mapping[Any, Any], where: Where, depth: int) -> list[Any]:
        return [
            (self.form(key, (where, _KEY), depth), self.form(item, (where, key), depth))
            for key, item in value.items()
        ]

    def _ordered(self, value: OrderedDict[Any, Any], where: Where, depth: int) -> Any:
        attributes = vars(value).keys()
        if attributes:
            if attributes != {"_metadata"}:
                what = f"is an OrderedDict with attributes ({', '.join(sorted(attributes))[:80]})"
                raise refused(value, text_of(where), what, "store dict(...) of it")
            # A module's state dict: its `_metadata` would need BUILD. It comes back as a dict.
            return self._dict(value, where, depth)
        plain = self._dict(value, where, depth)
        if TYPE in plain:
            return {TYPE: "OrderedDict", "items": plain["items"]}
        return OrderedDict(plain)

    def _counter(self, value: Counter[Any], where: Where, depth: int) -> Any:
        # Never as it is: to a scanner that takes no unknown name for harmless it is a finding.
        return {TYPE: "Counter", "items": self._pairs(value, where, depth)}

    def _defaultdict(self, value: defaultdict[Any, Any], where: Where, depth: int) -> Any:
        factory = value.default_factory
        name = None if factory is None else getattr(factory, "__name__", "")
        if name is not None and FACTORIES.get(name) is not factory:
            raise refused(
                value, text_of(where), f"has the factory {factory!r}", "store it as a dict"
            )
        items = self._pairs(value, where, depth)
        return {TYPE: "defaultdict", "factory": name, "items": items}

    def _deque(self, value: deque[Any], where: Where, depth: int) -> Any:
        return {TYPE: "deque", "items": self._items(value, where, depth), "maxlen": value.maxlen}

    def _set(self, value: set[Any] | frozenset[Any], where: Where, depth: int) -> Any:
        return {TYPE: type(value).__name__, "items": self._items(value, where, depth)}

    def _size(self, value: torch.Size, where: Where, depth: int) -> Any:
        return {TYPE: "torch.Size", "items": list(value)}


_CONTAINERS: Final[Mapping[type, Callable[[_Encoder, Any, Where, int], Any]]] = {
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
    if type(key) is str:
        return key.isascii() or not _SURROGATE.search(key)
    if type(key) is float:
        return math.isfinite(key)
    return key is None or type(key) is bool or (type(key) is int and abs(key) < 1 << 63)


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
            name = next((n for n, kind in PATHS.items() if type(value) is type(kind())), None)
            return None if name is None else {TYPE: name, "text": str(value)}
        case datetime.date() | datetime.time():
            return _moment(value)
        case datetime.timedelta():
            parts = (value.days, value.seconds, value.microseconds)
            return {TYPE: "timedelta", "parts": parts}
        case range():
            return {TYPE: "range", "parts": (value.start, value.stop, value.step)}
        case slice():
            bounds: tuple[Any, ...] = (value.start, value.stop, value.step)
            if all(bound is None or type(bound) is int for bound in bounds):
                return {TYPE: "slice", "parts": bounds}
    return None


def _moment(value: Any) -> Any:
    """The form of a date, a time or both; None for classes of others and for unknown zones."""
    kind = type(value)
    if kind not in (datetime.datetime, datetime.date, datetime.time):
        return None
    form = {TYPE: kind.__name__, "text": value.isoformat(), "fold": getattr(value, "fold", 0)}
    zone = getattr(value, "tzinfo", None)
    if zone is None or type(zone) is datetime.timezone:
        return form
    if type(zone) is not ZoneInfo or zone.key is None:
        return None
    return {**form, "text": value.replace(tzinfo=None).isoformat(), "zone": zone.key}


def _without_form(value: object, where: str) -> UnsavableStateError:
    kind = type(value)
    if isinstance(value, torch.nn.Module):
        hint = "pass it through extra= as a module of its own, or store its state_dict()"
    elif isinstance(value, enum.Enum):
        hint = "store its value or its name"
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
        return torch.empty(0, dtype=torch.uint8, device="cpu")
    return torch.frombuffer(bytearray(data), dtype=torch.uint8)


def _is_numpy(value: object) -> bool:
    numpy = sys.modules.get("numpy")
    return numpy is not None and isinstance(value, numpy.ndarray | numpy.generic)


def _numpy_form(value: Any, where: str) -> Any:
    if value.dtype.kind not in NUMPY_KINDS:
        what = f"is a numpy array of {value.dtype}"
        raise refused(value, where, what, "store it as numbers, or as a list")
    numpy = sys.modules["numpy"]
    is_array = isinstance(value, numpy.ndarray)
    # A memmap is an array whose file is elsewhere; its values are kept. Others add meaning.
    if is_array and type(value) not in (numpy.ndarray, numpy.memmap):
        raise refused(value, where, f"is a {type(value).__name__}", "store numpy.asarray(...)")
    return {
        TYPE: "ndarray" if is_array else "numpy.generic",
        "dtype": value.dtype.str,
        "shape": tuple(value.shape),
        # An empty text scalar gives four bytes and has none.
        "data": _array_bytes(value) if is_array else _bytes_tensor(value.tobytes()[: value.nbytes]),
    }


def _array_bytes(value: Any) -> torch.Tensor:
    """The bytes of an array in the order of its axes: the same memory where that is possible."""
    numpy = sys.modules["numpy"]
    flat = numpy.ascontiguousarray(value).reshape(-1)
    # Empty text has elements without a byte; torch warns of memory that may not be written.
    if flat.nbytes and flat.flags.writeable:
        return torch.from_numpy(flat.view(numpy.uint8))
    return _bytes_tensor(flat.tobytes())
