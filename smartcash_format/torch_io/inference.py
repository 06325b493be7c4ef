"""A load under torch.inference_mode() gives what a load outside gives: tensors to train with.

What is made under it can never be changed in place outside, as the next step of an optimizer would.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import nn

__all__ = ["made_to_train_with", "written_to"]


@contextmanager
def made_to_train_with() -> Iterator[None]:
    """Tensors made inside are ordinary ones; for a block, or around a function."""
    if not torch.is_inference_mode_enabled():
        yield
        return
    # Leaving that mode turns gradients on, which the caller does not have.
    with torch.inference_mode(False), torch.no_grad():
        yield


@contextmanager
def written_to(tensors: Iterable[torch.Tensor]) -> Iterator[None]:
    """These may be written to inside, also those that were made under inference mode."""
    if any(not nn.parameter.is_lazy(each) and each.is_inference() for each in tensors):
        with torch.inference_mode():
            yield
    else:
        yield
