"""Writes schemas/examples: `python -m tests.contract.make [DIRECTORY]`."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from tests.contract.build import json_bytes
from tests.contract.invalid import INVALID
from tests.contract.valid import VALID

EXAMPLES = Path(__file__).parents[2] / "schemas" / "examples"
DEPTHS = "depths.json"


def all_files() -> dict[str, bytes]:
    """Path below schemas/examples to bytes, of every file but its README."""
    found = {
        f"valid/{name}/{file}": data
        for name, make in VALID.items()
        for file, data in make().items()
    }
    for name, breach in INVALID.items():
        found |= {f"invalid/{name}/{file}": data for file, data in breach.make().items()}
    depths = {name: breach.depth.name for name, breach in INVALID.items()}
    return found | {DEPTHS: json_bytes(depths, indent=1, separators=(",", ": "))}


def write(directory: Path) -> None:
    """Writes every example anew; what is there under valid and invalid goes."""
    for kind in ("valid", "invalid"):
        shutil.rmtree(directory / kind, ignore_errors=True)
    for name, data in all_files().items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


if __name__ == "__main__":
    write(Path(sys.argv[1]) if len(sys.argv) > 1 else EXAMPLES)
