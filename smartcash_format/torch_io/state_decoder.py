"""The types of a stored state turned back: `{"$type": name, ...}` into what it was.

Only what stands in the table at the end is ever made; nothing is looked up by a name of the file
but dtypes of torch and numpy and time zones.
"""

from __future__ import annotations

import datetime
import math
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path, PurePath, PurePosixPath, PureWindowsPath
from typing import Any, Final
from zoneinfo import ZoneInfo

import torch

from smartcash_format.spec.keys import TYPE
from smartcash_format.torch_io.dtypes import bytes_of

FACTORIES: Final[Mapping[str, type]] = {
    factory.__name__: factory for factory in (list, dict, int, float, str, set, tuple, bool)
}
# Kinds of numpy dtypes whose elements are plain memory: numbers, times and fixed-width text.
NUMPY_KINDS: Final = "biufcSUmM"
# Path is that of the system that loads; a pure path stays one of its own system.
PATHS: Final[Mapping[str, type[PurePath]]] = {
    "path": Path, "posix path": PurePosixPath, "windows path": PureWindowsPath,
}  # fmt: skip


class StateFormError(ValueError):
    """A stored form that names no type or lacks what its type needs."""


def decode(form: Any) -> Any:
    """The value whose form this is, with the types it had. Raises StateFormError."""
    return _Decoder().value(form)


class _Decoder:
    """One decoding: what stands in two places is turned back once."""

    def __init__(self) -> None:
        self._done: dict[int, Any] = {}

    def value(self, form: Any) -> Any:
        if not isinstance(form, list | tuple | dict):
            return form
        if id(form) not in self._done:
            self._done[id(form)] = self._container(form)
        return self._done[id(form)]

    def _container(self, form: Any) -> Any:
        match form:
            case list():
                return self.items(form)
            case tuple():
                return tuple(self.items(form))
            case Counter():
                return Counter(form)
            case OrderedDict():
                return OrderedDict((key, self.value(item)) for key, item in form.items())
            case dict() if TYPE in form:
                return self._typed(form)
        return {key: self.value(item) for key, item in form.items()}

    def items(self, forms: Iterable[Any]) -> list[Any]:
        return [self.value(item) for item in forms]

    def pairs(self, form: Mapping[str, Any]) -> list[tuple[Any, Any]]:
        return [(self.value(key), self.value(item)) for key, item in form["items"]]

    def _typed(self, form: Mapping[str, Any]) -> Any:
        name = form[TYPE]
        build = BUILDERS.get(name) if isinstance(name, str) else None
        if build is None:
            raise StateFormError(f"{TYPE} {str(name)[:80]!r} is no type that a state may hold")
        try:
            return build(self, form)
        except StateFormError:
            raise
        except _DAMAGE as error:
            raise StateFormError(f"the stored form of a {name} is damaged: {error}") from error


# What the constructors of these types raise when they are given something else than they gave.
_DAMAGE: Final = (
    TypeError, ValueError, RuntimeError, AttributeError, OverflowError, LookupError, OSError,
)  # fmt: skip


def _raw(form: Mapping[str, Any]) -> bytes:
    data = form["data"]
    if not isinstance(data, torch.Tensor) or data.dtype != torch.uint8:
        raise TypeError("its data is no tensor of bytes")
    return bytes(bytes_of(data.contiguous()))


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


def _parameter_of(decoder: _Decoder, form: Mapping[str, Any]) -> torch.nn.Parameter:
    data = decoder.value(form["data"])
    return torch.nn.Parameter(data, requires_grad=bool(form["requires_grad"]))


def _moment_of(kind: Any, form: Mapping[str, Any]) -> Any:
    value = kind.fromisoformat(form["text"])
    if kind is datetime.date:
        return value
    zone = {"tzinfo": ZoneInfo(form["zone"])} if "zone" in form else {}
    return value.replace(fold=form["fold"], **zone)


def _array_of(form: Mapping[str, Any]) -> Any:
    import numpy

    dtype = numpy.dtype(str(form["dtype"]))
    if dtype.kind not in NUMPY_KINDS:
        raise ValueError(f"{str(form['dtype'])[:40]!r} is no dtype of numbers")
    shape = tuple(int(size) for size in form["shape"])
    raw = _raw(form)
    if len(raw) != math.prod(shape) * dtype.itemsize:
        raise ValueError("its data has another size than its shape")
    # Not frombuffer, which refuses elements without a byte, such as those of an empty text.
    return numpy.ndarray(shape, dtype, raw).copy()


def _defaultdict_of(decoder: _Decoder, form: Mapping[str, Any]) -> defaultdict[Any, Any]:
    name = form["factory"]
    factory = None if name is None else FACTORIES[name]
    return defaultdict(factory, decoder.pairs(form))


def _deque_of(decoder: _Decoder, form: Mapping[str, Any]) -> deque[Any]:
    maxlen = form["maxlen"]
    return deque(decoder.items(form["items"]), None if maxlen is None else int(maxlen))


BUILDERS: Final[Mapping[str, Callable[[_Decoder, Mapping[str, Any]], Any]]] = {
    "dict": lambda decoder, form: dict(decoder.pairs(form)),
    "OrderedDict": lambda decoder, form: OrderedDict(decoder.pairs(form)),
    "Counter": lambda decoder, form: Counter(dict(decoder.pairs(form))),
    "defaultdict": _defaultdict_of,
    "deque": _deque_of,
    "set": lambda decoder, form: set(decoder.items(form["items"])),
    "frozenset": lambda decoder, form: frozenset(decoder.items(form["items"])),
    "torch.Size": lambda _, form: torch.Size(form["items"]),
    "torch.dtype": lambda _, form: _dtype(form["name"]),
    "torch.device": lambda _, form: torch.device(form["name"]),
    "bytes": lambda _, form: _raw(form),
    "bytearray": lambda _, form: bytearray(_raw(form)),
    "complex": lambda _, form: complex(form["real"], form["imag"]),
    "path": lambda _, form: Path(form["text"]),
    "posix path": lambda _, form: PurePosixPath(form["text"]),
    "windows path": lambda _, form: PureWindowsPath(form["text"]),
    "datetime": lambda _, form: _moment_of(datetime.datetime, form),
    "date": lambda _, form: _moment_of(datetime.date, form),
    "time": lambda _, form: _moment_of(datetime.time, form),
    "timedelta": lambda _, form: datetime.timedelta(*form["parts"]),
    "range": lambda _, form: range(*form["parts"]),
    "slice": lambda _, form: slice(*form["parts"]),
    "parameter": _parameter_of,
    "tensor": lambda _, form: _tensor_of(form),
    "ndarray": lambda _, form: _array_of(form),
    "numpy.generic": lambda _, form: _array_of(form)[()],
}
