"""A tensor as the program of a torch file describes it: a window on a storage, never its bytes.

What is checked here is what torch leaves to the one who wrote the file: that the window lies in the
storage and shows no more elements than the storage has, so that `zeros(1).expand(2**40)` and its
like, a few bytes that become a terabyte when copied, are refused (FORMAT.md, Torch files).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from smartcash_format.spec import limits
from smartcash_format.spec.refusal import Refused, shown

# Each storage type of torch that the allow-list has: dtype as safetensors spells it (which lacks
# C128), and bytes an element.
STORAGE_TYPES: Final[Mapping[str, tuple[str, int]]] = {
    "DoubleStorage": ("F64", 8),
    "FloatStorage": ("F32", 4),
    "HalfStorage": ("F16", 2),
    "BFloat16Storage": ("BF16", 2),
    "LongStorage": ("I64", 8),
    "IntStorage": ("I32", 4),
    "ShortStorage": ("I16", 2),
    "CharStorage": ("I8", 1),
    "ByteStorage": ("U8", 1),
    "BoolStorage": ("BOOL", 1),
    "ComplexDoubleStorage": ("C128", 16),
    "ComplexFloatStorage": ("C64", 8),
}
# torch refuses to load a tensor of any other dtype that asks for gradients.
_DIFFERENTIABLE: Final = frozenset({"F64", "F32", "F16", "BF16", "C128", "C64"})
# "cpu", "cuda:0", "mps", "xla:1": where the storage was when it was saved.
_LOCATION: Final = re.compile(r"[a-z][a-z_]{0,31}(:[0-9]{1,5})?")


class StorageForm(NamedTuple):
    """What a program says of a storage besides its key."""

    dtype: str
    location: str
    numel: int
    size_bytes: int


class Storage(NamedTuple):
    """The bytes that tensors are windows on: one record of the archive."""

    key: str
    form: StorageForm


class TensorRef(NamedTuple):
    """A tensor that would be made from a storage: what it would look like, without its values.

    `dtype` as safetensors spells it, `offset` and `stride` counted in elements, `numel` the
    elements of the tensor, `storage_key` the name of its record below `data/`. A tuple because a
    file makes thousands: who walks a value asks for TensorRef before tuple.
    """

    dtype: str
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int
    storage_key: str
    numel: int


class Storages:
    """The storages that a program names, each checked against the records that are there."""

    def __init__(self, sizes: Mapping[str, int]) -> None:
        self._sizes = sizes
        self._named: dict[str, StorageForm] = {}

    def name(self, key: str, form: StorageForm) -> None:
        """Raises Refused when no record is like this storage, or another one was named so."""
        size_bytes = self._sizes.get(key)
        if size_bytes is None:
            raise Refused("pickle-tensor", f"names the storage {shown(key)}, which is not there")
        if size_bytes != form.size_bytes:
            message = f"gives data/{key} {form.size_bytes:,} bytes ({form.numel:,} of {form.dtype})"
            raise Refused("pickle-tensor", f"{message}, but the record has {size_bytes:,}")
        if self._named.setdefault(key, form) != form:
            raise Refused("pickle-tensor", f"names data/{key} twice, as different things")

    def name_all(self, named: Sequence[tuple[str, StorageForm]]) -> None:
        """The same for many at once."""
        new = dict(named)
        sizes = [form.size_bytes for form in new.values()]
        once = len(new) == len(named) and not new.keys() & self._named.keys()
        if once and list(map(self._sizes.get, new)) == sizes:
            self._named.update(new)
            return
        # One is named again, or is not as it should be: which, and how, is said one by one.
        for key, form in named:
            self.name(key, form)

    def form(self, key: str) -> StorageForm:
        """What was said of a storage that is named."""
        return self._named[key]

    def check_all_named(self) -> None:
        """Raises Refused when a record is there that the program never names."""
        unnamed = len(self._sizes) - len(self._named)
        if unnamed:
            first = next(key for key in self._sizes if key not in self._named)
            message = (
                f"names {unnamed:,} of the storages never, the first of them data/{first[:20]}"
            )
            raise Refused("archive-record", message)


def storage_form(storage_type: str, location: object, numel: object) -> StorageForm:
    """What these arguments of a persistent id say of a storage. Raises Refused."""
    dtype, itemsize = STORAGE_TYPES[storage_type]
    if type(location) is not str or not _LOCATION.fullmatch(location):
        raise Refused("pickle-tensor", f"places a storage on {shown(location)}")
    if type(numel) is not int or numel < 0:
        raise Refused("pickle-tensor", f"has a storage of {shown(numel)} elements")
    return StorageForm(dtype, location, numel, numel * itemsize)


def rebuild(args: tuple[Any, ...]) -> TensorRef:
    """The tensor that torch._utils._rebuild_tensor_v2 would make of these arguments.

    They are storage, offset, shape, stride, requires_grad and hooks. Raises Refused.
    """
    if len(args) != 6:
        raise Refused("pickle-tensor", f"rebuilds a tensor from {len(args)} arguments, not from 6")
    storage, offset, shape, stride, requires_grad, hooks = args
    if type(storage) is not Storage or type(hooks) is not dict or hooks:
        raise Refused("pickle-tensor", "rebuilds a tensor without a storage, or with hooks")
    dtype, _, available, _ = storage.form
    if type(requires_grad) is not bool or (requires_grad and dtype not in _DIFFERENTIABLE):
        raise Refused("pickle-tensor", f"wants a gradient of a tensor of {dtype}")
    numel = check_window(available, offset, shape, stride)
    return TensorRef(dtype, shape, stride, offset, storage.key, numel)


def check_window(available: int, offset: object, shape: object, stride: object) -> int:
    """The elements of a tensor that lies in a storage of `available`. Raises Refused."""
    if not _are_lengths((offset,)) or not _are_lengths(shape) or not _are_lengths(stride):
        raise Refused("pickle-tensor", "has a tensor whose shape is no tuple of lengths")
    assert isinstance(offset, int)
    assert isinstance(shape, tuple)
    assert isinstance(stride, tuple)
    if len(shape) != len(stride) or len(shape) > limits.DIMENSIONS:
        message = f"has a tensor of {len(shape)} dimensions and {len(stride)} strides"
        raise Refused("pickle-tensor", f"{message}; at most {limits.DIMENSIONS} are allowed")
    numel = math.prod(shape)
    last = offset + sum((n - 1) * step for n, step in zip(shape, stride, strict=True) if n)
    # A slice of an empty tensor begins behind its storage, and shows nothing of it.
    reached = last + 1 if numel else 0
    if reached > available or numel > available:
        message = f"has a tensor of {numel:,} elements that reaches element {reached:,}"
        raise Refused("pickle-tensor", f"{message} of a storage of {available:,}")
    if numel and not _shows_each_once(shape, stride):
        raise Refused("pickle-tensor", "has a tensor that shows one element many times")
    # Zeros in a shape let the other dimensions be anything; torch multiplies them and wraps around.
    if math.prod(filter(None, shape)) > limits.INTEGER_MAX:
        raise Refused("pickle-tensor", "has a tensor whose shape is beyond what 64 bits count")
    return numel


def _shows_each_once(shape: tuple[int, ...], stride: tuple[int, ...]) -> bool:
    """Whether every step of an axis leads beyond all that the axes of smaller steps reach.

    So are all views that are made by slicing, transposing and reshaping.
    """
    reach = 0
    for step, n in sorted(zip(stride, shape, strict=True)):
        if n > 1:
            if step <= reach:
                return False
            reach += (n - 1) * step
    return True


def _are_lengths(values: object) -> bool:
    return type(values) is tuple and all(
        type(value) is int and 0 <= value <= limits.INTEGER_MAX for value in values
    )
