"""The root that checkpoints of others are brought into."""

from __future__ import annotations

from pathlib import Path

from smartcash_format.disk.publish import write_error
from smartcash_format.store.catalog import Listing, scan


def list_target(root: Path) -> Listing:
    """The listing of a root that is about to be written into; empty where there is none yet.

    Raises CheckpointWriteError where it cannot be listed, or is no directory.
    """
    try:
        return scan(root)
    except OSError as error:
        raise write_error(error, root, "was not written to") from error
