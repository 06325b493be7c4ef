"""Every name on disk, spelled once (FORMAT.md, Layout)."""

from __future__ import annotations

import re
from typing import Final, Literal

META: Final = "meta.json"
TENSORS: Final = "tensors.json"
OPTIMIZER: Final = "optimizer.pt"
SCHEDULER: Final = "scheduler.pt"
EXTRA: Final = "extra.pt"
# The parts of extra.pt: random state, state by name in extra, what modules keep beside tensors.
RNG: Final = "rng"
OBJECTS: Final = "objects"
MODULES: Final = "modules"

HISTORY: Final = "training_history.yaml"
OLD_HISTORY: Final = "training_history.old.yaml"
HISTORY_EXPORT: Final = "training_history.json"
PINS: Final = ".pins"
STAGING_PREFIX: Final = ".staging-"
TRASH_PREFIX: Final = ".trash-"
SIGNATURE_SUFFIX: Final = ".sig"

MODEL: Final = "model"
WEIGHTS_SUFFIX: Final = ".safetensors"
INDEX_SUFFIX: Final = ".safetensors.index.json"

Role = Literal["weights", "index", "tensors", "optimizer", "scheduler", "extra", "aux"]
FIXED_ROLES: Final[dict[str, Role]] = {
    TENSORS: "tensors",
    OPTIMIZER: "optimizer",
    SCHEDULER: "scheduler",
    EXTRA: "extra",
}
TORCH_ROLES: Final[frozenset[str]] = frozenset({"optimizer", "scheduler", "extra"})

SET_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,31}")
_WEIGHTS = re.compile(r"([a-z][a-z0-9_]{0,31})(?:-([0-9]{5})-of-([0-9]{5}))?\.safetensors")
_INDEX = re.compile(r"([a-z][a-z0-9_]{0,31})\.safetensors\.index\.json")
_AUX = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
# Names that Windows gives to devices, whatever their suffix.
_RESERVED = re.compile(r"(?i)(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?")


def directory_name(*, epoch: int, step: int | None, checkpoint_id: str) -> str:
    """The name of a checkpoint's directory: for people, unique by the id, never parsed."""
    short = checkpoint_id[:8]
    if step is None:
        return f"epoch-{epoch:04d}-{short}"
    return f"epoch-{epoch:04d}-step-{step:08d}-{short}"


def weights_file(weight_set: str, shard: int | None = None, shards: int | None = None) -> str:
    """The file of a weight set, or of one of its shards, counted from 1."""
    if shard is None:
        return f"{weight_set}{WEIGHTS_SUFFIX}"
    return f"{weight_set}-{shard:05d}-of-{shards:05d}{WEIGHTS_SUFFIX}"


def index_file(weight_set: str) -> str:
    """The index of a sharded weight set, in the Hugging Face layout."""
    return f"{weight_set}{INDEX_SUFFIX}"


def pin_file(checkpoint_id: str, holder: str = "") -> str:
    """The file in PINS that protects a checkpoint; each holder beside the first has its own."""
    return f"{checkpoint_id}.{holder}.json" if holder else f"{checkpoint_id}.json"


def is_plain_name(name: str) -> bool:
    """Whether a listed file may have this name: no path, no device, no hidden or odd characters."""
    return (
        _AUX.fullmatch(name) is not None
        and _RESERVED.fullmatch(name) is None
        and not name.endswith(".")
        # In any case: on many file systems META.JSON is the commit marker itself.
        and name.lower() != META
    )


def role_of(name: str) -> tuple[Role, str | None]:
    """The role that a file name has by its pattern, and its weight set if it has one."""
    if fixed := FIXED_ROLES.get(name):
        return fixed, None
    if match := _WEIGHTS.fullmatch(name):
        return "weights", match[1]
    if match := _INDEX.fullmatch(name):
        return "index", match[1]
    return "aux", None


def is_hidden(name: str) -> bool:
    """Whether a directory entry is never looked at as a checkpoint: stages, trash, pins."""
    return name.startswith(".")
