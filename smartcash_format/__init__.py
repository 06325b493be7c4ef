"""Checkpoints as directories: safetensors weights, safe torch state, validated metadata.

Every public name is importable from here and is loaded when it is first touched (PEP 562), so that
`import smartcash_format` costs nothing and whoever lists or validates never imports torch. A new
name stands three times below, where a type checker, `__all__` and the loader look for it;
tests/test_public_api.py holds the three together.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from smartcash_format.errors import (
        CheckpointError,
        CheckpointExistsError,
        CheckpointNotFoundError,
        CheckpointWriteError,
        InsufficientSpaceError,
        InvalidCheckpointError,
        StateMismatchError,
        UnsafeCheckpointError,
        UnsavableStateError,
        UnsupportedVersionError,
    )
    from smartcash_format.spec.problems import Depth, Problem

__version__ = "0.1.0"

__all__ = [
    "CheckpointError",
    "CheckpointExistsError",
    "CheckpointNotFoundError",
    "CheckpointWriteError",
    "Depth",
    "InsufficientSpaceError",
    "InvalidCheckpointError",
    "Problem",
    "StateMismatchError",
    "UnsafeCheckpointError",
    "UnsavableStateError",
    "UnsupportedVersionError",
    "__version__",
]

_MODULES = {
    "errors": (
        "CheckpointError",
        "CheckpointExistsError",
        "CheckpointNotFoundError",
        "CheckpointWriteError",
        "InsufficientSpaceError",
        "InvalidCheckpointError",
        "StateMismatchError",
        "UnsafeCheckpointError",
        "UnsavableStateError",
        "UnsupportedVersionError",
    ),
    "spec.problems": ("Depth", "Problem"),
}
_HOME = {name: f"{__name__}.{module}" for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(globals().keys() | _HOME.keys())
