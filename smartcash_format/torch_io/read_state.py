"""State dicts and single tensors out of a checkpoint, without live objects."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any, Final

import torch

from smartcash_format.disk.read import Opened, open_checkpoint
from smartcash_format.errors import CheckpointNotFoundError
from smartcash_format.spec import layout
from smartcash_format.spec.flags import flag
from smartcash_format.torch_io.inference import made_to_train_with
from smartcash_format.torch_io.parts import Parts, files_of
from smartcash_format.torch_io.result import MODEL_STATE, OPTIMIZER_STATE, SCHEDULER_STATE
from smartcash_format.torch_io.stored_weights import WeightSetInFile, leave_out_idle_extra

Device = torch.device | str | int | None
_FILES: Final[Mapping[str, str]] = {
    OPTIMIZER_STATE: layout.OPTIMIZER,
    SCHEDULER_STATE: layout.SCHEDULER,
}


def device_of(device: Device) -> torch.device:
    """The device that a caller named; the CPU for None. Raises ValueError for what is none."""
    try:
        return torch.device("cpu" if device is None else device)
    except (RuntimeError, TypeError) as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(f"device is {device!r:.80}, which torch does not take: {reason}") from None


class StateReader:
    """Reads a state dict of the checkpoint that was loaded, each time it is asked for one.

    Raises CheckpointNotFoundError when another checkpoint stands at the path by then.
    """

    def __init__(self, opened: Opened, *, verify: bool, device: torch.device) -> None:
        self._path = opened.path
        self._meta_digest = opened.meta.meta_digest
        self._verify = verify
        self._device = device

    @made_to_train_with()
    def __call__(self, key: str) -> Any:
        with open_checkpoint(self._path) as opened:
            if opened.meta.meta_digest != self._meta_digest:
                raise CheckpointNotFoundError(
                    f"{self._path}: another checkpoint stands here than the one that was loaded",
                    root=self._path.parent,
                )
            is_model = key == MODEL_STATE
            parts = self._parts(opened) if is_model else self._parts(opened, _FILES[key])
            if self._verify:
                parts.verify(parts.beside_weights())
            state = (
                model_state(parts, layout.MODEL, self._device, verify=self._verify)
                if is_model
                else _moved(parts.value(_FILES[key]), self._device)
            )
            parts.confirm()
            return state

    def _parts(self, opened: Opened, file: str | None = None) -> Parts:
        """Those of one torch file, or those of the model."""
        if file is not None:
            return Parts(opened, files_of(opened.meta, sets=(), torch_files=(file,)))
        sets, torch_files = (layout.MODEL,), (layout.EXTRA,)
        parts = Parts(opened, files_of(opened.meta, sets=sets, torch_files=torch_files))
        leave_out_idle_extra(parts, layout.MODEL)
        return parts


def model_state(
    parts: Parts, weight_set: str, device: torch.device, *, verify: bool
) -> OrderedDict[str, Any]:
    """A weight set as a module's state dict: in memory of its own, tied tensors one object.

    The versions of modules are where torch's load_state_dict looks for them.
    """
    owned = parts.owned(weight_set, parts.stored_names(weight_set), verify=verify)
    state: Any = OrderedDict(_on(device, owned))
    stored = WeightSetInFile(parts, weight_set)
    if stored.states():
        state.update(stored.state_values())
    versions = parts.weight_set(weight_set).modules
    paths = {name.rpartition(".")[0] for name in state} | versions.keys()
    state._metadata = OrderedDict((path, {"version": versions.get(path, 1)}) for path in paths)
    return state  # type: ignore[no-any-return]


@made_to_train_with()
def load_tensors(
    path: str | os.PathLike[str],
    pattern: str = "*",
    *,
    weight_set: str = layout.MODEL,
    device: Device = None,
    verify: bool = True,
) -> dict[str, torch.Tensor]:
    """The tensors whose names match a shell pattern, by name; only their bytes are read.

    `pattern` is matched case-sensitively, `*` also across dots: "head.*", "*.bias". `verify`
    compares each tensor with its own digest in tensors.json. The tensors have memory of their own;
    names of a tied tensor share it. A checkpoint without the weight set gives none.
    """
    if not isinstance(pattern, str):
        raise TypeError(f'pattern is {pattern!r:.80}; it is one shell pattern, such as "head.*"')
    verify, target = flag(verify, "verify"), device_of(device)
    with open_checkpoint(path) as opened:
        parts = Parts(opened, files_of(opened.meta, sets=(weight_set,), torch_files=()))
        if weight_set not in opened.meta.weights:
            return {}
        names = [name for name in parts.stored_names(weight_set) if fnmatchcase(name, pattern)]
        if verify:
            parts.verify((layout.TENSORS,))
        return _on(target, parts.owned(weight_set, names, verify=verify))


def _on(device: torch.device, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The same by name on a device, where one under several names stays one."""
    moved = {id(tensor): tensor.to(device) for tensor in tensors.values()}
    return {name: moved[id(tensor)] for name, tensor in tensors.items()}


def _moved(value: Any, device: torch.device) -> Any:
    """The same state with its tensors on a device."""
    if isinstance(value, torch.Tensor):
        return value.to(device)
    if isinstance(value, dict):
        for key, item in value.items():
            value[key] = _moved(item, device)
        return value
    if type(value) in (list, tuple):
        return type(value)(_moved(item, device) for item in value)
    return value
