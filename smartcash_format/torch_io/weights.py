"""A weight set out of a live module, anything with state_dict(), or a plain state dict.

Names are those of the bare module: torch.compile, DataParallel and DistributedDataParallel put a
segment into every name, wherever in the module they stand, and come off by type, never by string.
A tensor of several names is stored once, under the first of them in the order of the state dict.
Two tensors are one only if storage, offset, shape, strides and dtype are the same; views that
overlap otherwise are each stored in full. Memory formats (channels_last) are the live module's
affair: values are stored in the order of the axes.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, Final

import torch
from torch import nn

from smartcash_format.disk.parts import Measure, TensorSource
from smartcash_format.errors import UnsavableStateError
from smartcash_format.spec import limits
from smartcash_format.spec.tensor_faults import name_fault, shape_fault
from smartcash_format.torch_io.dtypes import (
    DTYPES,
    TORCH_DTYPES,
    bytes_of,
    file_shape,
    is_plain_memory,
    on_cpu,
    region_of,
)
from smartcash_format.torch_io.plain_tensor import identity, is_simple, plain_tensor, refused
from smartcash_format.torch_io.statistics import measure

# How torch ends the name under which a module's get_extra_state() stands.
EXTRA_STATE: Final = "_extra_state"
_COMPILED: Final = "torch._dynamo.eval_frame"
Named = Sequence[tuple[str, nn.Parameter]]
# Numbers of 4 bits have no arithmetic in torch.
_MEASURES: Final = {
    dtype: partial(measure, dtype)
    for dtype, name in DTYPES.items()
    if dtype.is_floating_point and name != "F4"
}


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveState:
    """The entries of a state dict by bare name.

    `raw` has for each the name that the live object itself uses. By bare path of a module,
    `paths` has its path in the live object and `versions` the version of its state. `module` is
    the bare module where the live object is one, `named` has each name of its parameters.
    """

    entries: Mapping[str, Any]
    raw: Mapping[str, str]
    paths: Mapping[str, str]
    versions: Mapping[str, int]
    module: nn.Module | None
    named: Named


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightSetSource:
    """A weight set ready to be written; every refusal lies behind it.

    `aliases` has the other names of tied tensors, `modules` the versions other than 1, `state`
    what of the state dict is no tensor, `names` each live tensor's name by its id(). `frozen` are
    the parameters that are not trained where others are: a first guess at what will not change.
    """

    name: str
    class_name: str | None
    tensors: tuple[TensorSource, ...]
    aliases: Mapping[str, str]
    modules: Mapping[str, int]
    state: Mapping[str, Any]
    parameters: int
    trainable_parameters: int | None
    dtypes: Mapping[str, int]
    names: Mapping[int, str]
    frozen: frozenset[str]


def weight_set(
    name: str,
    source: Any,
    live: LiveState | None = None,
    tensors: Sequence[TensorSource] | None = None,
) -> WeightSetSource:
    """The weight set of this name out of a module, anything with state_dict(), or a state dict.

    `live` is its state where that is at hand, `tensors` all that is in it where that is known.
    Raises UnsavableStateError, naming the tensor, for what could not be loaded again.
    """
    live = live_state(source, where=name) if live is None else live
    aliases: Mapping[str, str] = {}
    state: Mapping[str, Any] = {}
    if tensors is None:
        tensors, aliases, state = _taken_apart(name, live.entries)
    if len(tensors) + len(aliases) > limits.TENSORS:
        found = len(tensors) + len(aliases)
        message = f"{name} has {found:,} tensors; at most {limits.TENSORS:,} are allowed"
        raise UnsavableStateError(message, where=name, kind="state dict")
    dtypes = Counter(tensor.dtype for tensor in tensors)
    if aliases:
        by_name = {tensor.name: tensor.dtype for tensor in tensors}
        dtypes.update(by_name[stored] for stored in aliases.values())
    return WeightSetSource(
        name=name,
        class_name=_class_name(source),
        tensors=tuple(tensors),
        aliases=aliases,
        modules={path: version for path, version in live.versions.items() if version != 1},
        state=state,
        parameters=_parameters(live, tensors),
        trainable_parameters=_trainable(live),
        dtypes=dtypes,
        names=_names(live.named, aliases),
        frozen=_frozen(live.named, aliases),
    )


def _taken_apart(
    name: str, entries: Mapping[str, Any]
) -> tuple[Sequence[TensorSource], Mapping[str, str], Mapping[str, Any]]:
    """The tensors that are stored, the other names of tied ones, and what is no tensor."""
    sources: list[TensorSource] = []
    state: dict[str, Any] = {}
    aliases: dict[str, str] = {}
    first: dict[tuple[Any, ...], str] = {}
    for key, value in entries.items():
        if not isinstance(value, torch.Tensor) or is_extra_state(key):
            state[key] = value
            continue
        if fault := name_fault(key) or _encoding_fault(key):
            raise UnsavableStateError(f"{name}: {key[:80]!r} {fault}", where=key[:80], kind="name")
        if is_simple(value):
            tensor, copies = value, False
        else:
            tensor = plain_tensor(value, f"{name}: {key}")
            copies = not is_plain_memory(tensor)
        stored = first.setdefault(identity(tensor), key)
        if stored == key or not tensor.numel():
            sources.append(_source(key, tensor, name, copies=copies))
        else:
            aliases[key] = stored
    return sources, aliases, state


def unwrap(source: Any) -> Any:
    """The object itself, without torch.compile, DataParallel or DistributedDataParallel."""
    while isinstance(source, nn.Module) and (segment := _wrapping(source)):
        source = getattr(source, segment)
    return source


def live_state(source: Any, *, where: str = "model") -> LiveState:
    """The state dict of a live object, or of a plain one, by bare name.

    Calls state_dict() once. Raises UnsavableStateError for what has none, and for FSDP, whose
    state_dict() is a collective call.
    """
    if isinstance(source, nn.Module):
        _refuse_sharded(source, where)
    state = _state_dict(source, where)
    prefixes, named = _walked(source) if isinstance(source, nn.Module) else ((), ())
    raw = {_bare(key, prefixes) if prefixes else key: key for key in state}
    if len(raw) < len(state):
        message = f"{where}: two tensors have one name once wrappers are off"
        raise UnsavableStateError(message, where=where, kind="state dict")
    paths: dict[str, str] = {}
    versions: dict[str, int] = {}
    for path, entry in getattr(state, "_metadata", {}).items():
        version = entry.get("version") if isinstance(entry, Mapping) else None
        if isinstance(version, int) and not 0 <= version <= limits.INTEGER_MAX:
            message = f"{where}: the module {path!r} has the state version {version}"
            raise UnsavableStateError(message, where=path, kind="version", hint="count from 1")
        # A wrapper comes before what it wraps, whose version is the one that counts.
        bare = _bare(f"{path}.", prefixes)[:-1] if path else ""
        paths[bare] = path
        if version is not None:
            versions[bare] = version
    return LiveState(
        entries={name: state[key] for name, key in raw.items()},
        raw=raw,
        paths=paths,
        versions=versions,
        module=unwrap(source) if isinstance(source, nn.Module) else None,
        named=named,
    )


def is_extra_state(name: str) -> bool:
    """Whether a name of a state dict is that of what a module's get_extra_state() gave."""
    return name.endswith(EXTRA_STATE) and name.rpartition(".")[2] == EXTRA_STATE


def bare_named_parameters(module: nn.Module) -> Named:
    """(bare name, parameter) of every name that a parameter has, in the order of the modules."""
    return _walked(module)[1]


def _wrapping(module: nn.Module) -> str | None:
    """The segment that a wrapper puts into names; None of a module that is no wrapper."""
    if isinstance(module, nn.DataParallel | nn.parallel.DistributedDataParallel):
        return "module"
    # Importing torch's compiler takes a second; a compiled module has imported it.
    compiler = sys.modules.get(_COMPILED)
    if compiler is not None and isinstance(module, compiler.OptimizedModule):
        return "_orig_mod"
    return None


def _walked(module: nn.Module) -> tuple[tuple[str, ...], Named]:
    """What wrappers put in front of names, and the bare names of the parameters: in one walk."""
    prefixes: list[str] = []
    named: list[tuple[str, nn.Parameter]] = []
    for path, child in module.named_modules(remove_duplicate=False):
        inside = f"{path}." if path else ""
        if segment := _wrapping(child):
            prefixes.append(f"{inside}{segment}.")
        for name, parameter in child._parameters.items():
            if parameter is not None:
                named.append((inside + name, parameter))
    if prefixes:
        named = [(_bare(name, tuple(prefixes)), parameter) for name, parameter in named]
    return tuple(prefixes), named


def _bare(name: str, prefixes: tuple[str, ...]) -> str:
    # The innermost first: what stands before it is then as it was in the live object.
    for prefix in reversed(prefixes):
        if name.startswith(prefix):
            segment = prefix[:-1].rpartition(".")[0]
            name = (f"{segment}." if segment else "") + name[len(prefix) :]
    return name


def _refuse_sharded(module: nn.Module, where: str) -> None:
    sharding = sys.modules.get("torch.distributed.fsdp")
    if sharding is None:
        return
    for path, child in module.named_modules():
        if isinstance(child, sharding.FullyShardedDataParallel):
            raise UnsavableStateError(
                f"{where}{'.' if path else ''}{path} is sharded by FSDP",
                where=path or where,
                kind="FullyShardedDataParallel",
                hint="gather it on every rank with torch.distributed.checkpoint.state_dict."
                "get_model_state_dict(..., options=StateDictOptions(full_state_dict=True, "
                "cpu_offload=True)) and save what that returns",
            )


def _state_dict(source: Any, where: str) -> Mapping[str, Any]:
    state = source.state_dict() if callable(getattr(source, "state_dict", None)) else source
    if not isinstance(state, Mapping):
        raise UnsavableStateError(
            f"{where} is {_kind(state)}, not a module, a state dict or an object that has one",
            where=where,
            kind=_kind(state),
            hint="pass the live module",
        )
    for key in state:
        if not isinstance(key, str):
            raise UnsavableStateError(
                f"{where} has the key {key!r}", where=where, kind=_kind(key), hint="names are text"
            )
    return state


def _encoding_fault(key: str) -> str | None:
    if key == "__metadata__":
        return "is a name that safetensors keeps for itself"
    if not key.isascii():
        try:
            key.encode("utf-8")
        except UnicodeEncodeError:
            return "is a name with a lone surrogate"
    return None


def _source(name: str, tensor: torch.Tensor, weight_set: str, *, copies: bool) -> TensorSource:
    form = _form(tensor.dtype, tensor.shape)
    if form is None:
        raise _unfit(tensor, f"{weight_set}: {name}")
    dtype, shape, measure = form
    if copies:
        return TensorSource(
            name, dtype, shape, tensor.nbytes, partial(_copied, tensor), True, measure
        )
    region = region_of(tensor)
    return TensorSource(name, dtype, shape, tensor.nbytes, region, False, measure, region.address)


# A model has a thousand tensors of a few forms.
@lru_cache(maxsize=1 << 12)
def _form(
    dtype: torch.dtype, shape: Sequence[int]
) -> tuple[str, tuple[int, ...], Measure | None] | None:
    """How a file spells such a tensor, and what measures it; None where safetensors has no such."""
    spelled = DTYPES.get(dtype)
    if spelled is None or (spelled == "F4" and not shape):
        return None
    sizes = file_shape(spelled, shape)
    return None if shape_fault(list(sizes)) else (spelled, sizes, _MEASURES.get(dtype))


def _unfit(tensor: torch.Tensor, where: str) -> UnsavableStateError:
    dtype = DTYPES.get(tensor.dtype)
    if tensor.dtype is torch.complex128:
        hint = "save torch.view_as_real(...) of it, or complex64"
        return refused(tensor, where, "is complex128, which safetensors does not have", hint)
    if dtype is None:
        what = f"is {tensor.dtype}, which safetensors does not have"
        return refused(tensor, where, what, "convert it before saving")
    if dtype == "F4" and not tensor.dim():
        what = "is two numbers of 4 bits without an axis"
        return refused(tensor, where, what, "save it with an axis")
    fault = shape_fault(list(file_shape(dtype, tensor.shape)))
    return refused(tensor, where, f"has a shape that {fault}", "")


def _copied(tensor: torch.Tensor) -> memoryview:
    return bytes_of(on_cpu(tensor))


def _class_name(source: Any) -> str | None:
    if isinstance(source, Mapping):
        return None
    return type(unwrap(source)).__name__[: limits.SHORT_TEXT]


def _parameters(live: LiveState, tensors: Sequence[TensorSource]) -> int:
    """Elements of all parameters; of all tensors where nothing says which are parameters."""
    if live.module is None:
        return sum(tensor.size_bytes // TORCH_DTYPES[tensor.dtype].itemsize for tensor in tensors)
    return sum(parameter.numel() for parameter in _each_once(live.named))


def _trainable(live: LiveState) -> int | None:
    if live.module is None:
        return None
    return sum(p.numel() for p in _each_once(live.named) if p.requires_grad)


def _each_once(named: Named) -> Collection[nn.Parameter]:
    return {id(parameter): parameter for _, parameter in named}.values()


def _names(named: Named, aliases: Mapping[str, str]) -> dict[int, str]:
    names: dict[int, str] = {}
    for name, parameter in named:
        names.setdefault(id(parameter), aliases.get(name, name))
    return names


def _frozen(named: Named, aliases: Mapping[str, str]) -> frozenset[str]:
    if not any(parameter.requires_grad for _, parameter in named):
        return frozenset()
    return frozenset(aliases.get(name, name) for name, p in named if not p.requires_grad)


def _kind(value: object) -> str:
    return type(value).__name__
