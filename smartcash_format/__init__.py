"""Checkpoints as directories: safetensors weights, safe torch state, validated metadata.

Every public name is importable from here and is loaded when it is first touched (PEP 562), so that
`import smartcash_format` costs nothing and whoever lists or validates never imports torch. A new
name stands three times below, where a type checker, `__all__` and the loader look for it;
tests/test_public_api.py holds the three together.
"""

import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from importlib import import_module
from typing import TYPE_CHECKING

from smartcash_format.spec.watching import show_with

if TYPE_CHECKING:
    from smartcash_format.disk.observe import (
        validate,
    )
    from smartcash_format.disk.read import (
        read_meta,
    )
    from smartcash_format.disk.signatures import (
        SigstoreIdentity,
        sign,
        verify_signature,
    )
    from smartcash_format.disk.strip import (
        Stripped,
    )
    from smartcash_format.disk.transfer import (
        Transferred,
        transfer,
    )
    from smartcash_format.errors import (
        CheckpointError,
        CheckpointExistsError,
        CheckpointNotFoundError,
        CheckpointWriteError,
        InsufficientSpaceError,
        InvalidCheckpointError,
        SignatureError,
        StateMismatchError,
        UnsafeCheckpointError,
        UnsavableStateError,
        UnsupportedVersionError,
    )
    from smartcash_format.integrations.convert import (
        Conversion,
        convert,
        sources_in,
    )
    from smartcash_format.integrations.export import (
        Exported,
        export,
    )
    from smartcash_format.integrations.share import (
        Received,
        Shared,
        receive,
        share,
    )
    from smartcash_format.manager.checkpoint_manager import (
        CheckpointManager,
    )
    from smartcash_format.manager.functions import (
        save_checkpoint,
    )
    from smartcash_format.manager.results import (
        CopyResult,
        SaveResult,
    )
    from smartcash_format.spec.diff import (
        Diff,
    )
    from smartcash_format.spec.personal import (
        Finding,
    )
    from smartcash_format.spec.problems import (
        Depth,
        Problem,
        Report,
    )
    from smartcash_format.store.catalog import (
        Listing,
    )
    from smartcash_format.store.checkpoint_store import (
        CheckpointStore,
        strip,
    )
    from smartcash_format.store.compare import (
        diff,
    )
    from smartcash_format.store.entry import (
        Broken,
        Entry,
    )
    from smartcash_format.store.pruning import (
        Applied,
    )
    from smartcash_format.store.retention import (
        Decision,
        DropResumeState,
        KeepBest,
        KeepEvery,
        KeepFlagged,
        KeepLast,
        KeepTagged,
        KeepUnflagged,
        KeepWithin,
        Plan,
        Policy,
    )
    from smartcash_format.store.tree import (
        find_roots,
        search,
    )
    from smartcash_format.torch_io.load import (
        load_checkpoint,
    )
    from smartcash_format.torch_io.preflight import (
        preflight,
    )
    from smartcash_format.torch_io.read_state import (
        load_tensors,
    )
    from smartcash_format.torch_io.report import (
        FitReport,
    )
    from smartcash_format.torch_io.result import (
        LoadResult,
    )

__version__ = "0.1.0"

__all__ = [
    "Applied",
    "Broken",
    "CheckpointError",
    "CheckpointExistsError",
    "CheckpointManager",
    "CheckpointNotFoundError",
    "CheckpointStore",
    "CheckpointWriteError",
    "Conversion",
    "CopyResult",
    "Decision",
    "Depth",
    "Diff",
    "DropResumeState",
    "Entry",
    "Exported",
    "Finding",
    "FitReport",
    "InsufficientSpaceError",
    "InvalidCheckpointError",
    "KeepBest",
    "KeepEvery",
    "KeepFlagged",
    "KeepLast",
    "KeepTagged",
    "KeepUnflagged",
    "KeepWithin",
    "Listing",
    "LoadResult",
    "Plan",
    "Policy",
    "Problem",
    "Received",
    "Report",
    "SaveResult",
    "Shared",
    "SignatureError",
    "SigstoreIdentity",
    "StateMismatchError",
    "Stripped",
    "Transferred",
    "UnsafeCheckpointError",
    "UnsavableStateError",
    "UnsupportedVersionError",
    "__version__",
    "convert",
    "diff",
    "export",
    "find_roots",
    "load_checkpoint",
    "load_tensors",
    "preflight",
    "read_meta",
    "receive",
    "save_checkpoint",
    "search",
    "share",
    "sign",
    "sources_in",
    "strip",
    "transfer",
    "validate",
    "verify_signature",
]

_MODULES = {
    "disk.observe": ("validate",),
    "disk.read": ("read_meta",),
    "disk.signatures": (
        "SigstoreIdentity",
        "sign",
        "verify_signature",
    ),
    "disk.strip": ("Stripped",),
    "disk.transfer": (
        "Transferred",
        "transfer",
    ),
    "errors": (
        "CheckpointError",
        "CheckpointExistsError",
        "CheckpointNotFoundError",
        "CheckpointWriteError",
        "InsufficientSpaceError",
        "InvalidCheckpointError",
        "SignatureError",
        "StateMismatchError",
        "UnsafeCheckpointError",
        "UnsavableStateError",
        "UnsupportedVersionError",
    ),
    "integrations.convert": (
        "Conversion",
        "convert",
        "sources_in",
    ),
    "integrations.export": (
        "Exported",
        "export",
    ),
    "integrations.share": (
        "Received",
        "Shared",
        "receive",
        "share",
    ),
    "manager.checkpoint_manager": ("CheckpointManager",),
    "manager.functions": ("save_checkpoint",),
    "manager.results": (
        "CopyResult",
        "SaveResult",
    ),
    "spec.diff": ("Diff",),
    "spec.personal": ("Finding",),
    "spec.problems": (
        "Depth",
        "Problem",
        "Report",
    ),
    "store.catalog": ("Listing",),
    "store.checkpoint_store": (
        "CheckpointStore",
        "strip",
    ),
    "store.compare": ("diff",),
    "store.entry": (
        "Broken",
        "Entry",
    ),
    "store.pruning": ("Applied",),
    "store.retention": (
        "Decision",
        "DropResumeState",
        "KeepBest",
        "KeepEvery",
        "KeepFlagged",
        "KeepLast",
        "KeepTagged",
        "KeepUnflagged",
        "KeepWithin",
        "Plan",
        "Policy",
    ),
    "store.tree": (
        "find_roots",
        "search",
    ),
    "torch_io.load": ("load_checkpoint",),
    "torch_io.preflight": ("preflight",),
    "torch_io.read_state": ("load_tensors",),
    "torch_io.report": ("FitReport",),
    "torch_io.result": ("LoadResult",),
}
_HOME = {name: f"{__name__}.{module}" for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if "IPython" in sys.modules:
        # Where a notebook may be, its values are shown as HTML.
        import_module("smartcash_format.view.notebook")
    value: object = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def _bar(what: str, unit: str) -> AbstractContextManager[Callable[[int, int], None] | None]:
    """A bar for work that takes over a second, where a person would see it."""
    from smartcash_format.view.progress import progress_bar

    return progress_bar(what, unit=unit)


show_with(_bar)


def __dir__() -> list[str]:
    return sorted(globals().keys() | _HOME.keys())
