"""What a module's own `_load_from_state_dict` makes of names and shapes that are not its own.

torch lets a module supply what its older versions lacked, rename what they called otherwise and
take other shapes: BatchNorm supplies `num_batches_tracked` to a state of version 1. Whether it does
is tried on a stand-in of the one module, whose tensors have no memory.
"""

from __future__ import annotations

import copy
import warnings
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn

from smartcash_format.torch_io.fit_tensors import TensorForm


def handled(
    module: nn.Module,
    path: str,
    stored: Mapping[str, TensorForm],
    *,
    dtypes: Mapping[str, torch.dtype],
    version: int,
) -> Iterator[str]:
    """The stored or live names that this module, without its children, takes care of itself.

    `stored` are the tensors of the whole state by the names that the live object uses, `path` is
    where the module stands in it, `version` what it was saved with.
    """
    if type(module)._load_from_state_dict is nn.Module._load_from_state_dict:
        return
    prefix = f"{path}." if path else ""
    own = {name: form for name, form in stored.items() if _is_own(module, name, prefix)}
    tensors = {name: _memoryless(form, dtypes) for name, form in own.items()}
    missing, unexpected, errors = _tried(module, prefix, tensors, {"version": version})
    if errors:
        return
    names = {prefix + name for name in (*module._parameters, *module._buffers)}
    yield from (own.keys() | names) - missing - unexpected


def _is_own(module: nn.Module, name: str, prefix: str) -> bool:
    if not name.startswith(prefix):
        return False
    head, _, rest = name[len(prefix) :].partition(".")
    return not (rest and head in module._modules)


def _memoryless(form: TensorForm, dtypes: Mapping[str, torch.dtype]) -> torch.Tensor:
    return torch.empty(form.shape or (), dtype=dtypes[form.dtype], device="meta")


def _tried(
    module: nn.Module, prefix: str, tensors: dict[str, torch.Tensor], metadata: dict[str, Any]
) -> tuple[set[str], set[str], list[str]]:
    """Missing names, unexpected names and errors, as torch's load_state_dict would gather them."""
    missing: list[str] = []
    unexpected: list[str] = []
    errors: list[str] = []
    # What the module makes anew while it is tried has no memory either.
    with warnings.catch_warnings(), torch.device("meta"):
        warnings.simplefilter("ignore")  # about copies to tensors without memory
        try:
            stand_in = _stand_in(module)
            arguments = (tensors, prefix, metadata, True, missing, unexpected, errors)
            stand_in._load_from_state_dict(*arguments)
        except (RuntimeError, TypeError, ValueError, LookupError, AttributeError) as error:
            errors.append(str(error))
    return set(missing), set(unexpected), errors


def _stand_in(module: nn.Module) -> nn.Module:
    """A copy of the module whose tensors, children and hooks are its own, and whose code is not."""
    stand_in = copy.copy(module)
    attributes: dict[str, Any] = vars(stand_in)
    attributes["_parameters"] = {
        name: None if p is None else nn.Parameter(p.detach().to("meta"), requires_grad=False)
        for name, p in module._parameters.items()
    }
    attributes["_buffers"] = {
        name: None if b is None else b.detach().to("meta") for name, b in module._buffers.items()
    }
    attributes["_modules"] = {}
    attributes["_load_state_dict_pre_hooks"] = OrderedDict()
    return stand_in
