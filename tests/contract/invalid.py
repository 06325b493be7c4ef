"""What every reader must refuse: each entry a directory under schemas/examples/invalid.

Each breaks one thing of a sound checkpoint. What stands behind a digest is digested again, so that
nothing else is wrong.
"""

from __future__ import annotations

from tests.contract import (
    broken_files,
    broken_manifest,
    broken_meta,
    broken_torch,
    broken_weights,
)
from tests.contract.register import INVALID

__all__ = ["INVALID"]

# Imported for what they add to the register.
_MODULES = (broken_meta, broken_files, broken_weights, broken_manifest, broken_torch)
