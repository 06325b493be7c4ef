"""What wrote a checkpoint: versions, platform and git commit; no host, no user, no path."""

from __future__ import annotations

import os
import platform
import subprocess
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from typing import Final

import torch

import smartcash_format
from smartcash_format.spec import limits
from smartcash_format.spec.meta import Environment

# A repository on a slow mount must not hold up a training.
GIT_TIMEOUT_S: Final = 2.0


def describe_environment() -> Environment:
    """The environment of this process; what cannot be told is None.

    Looked at once for each working directory.
    """
    try:
        directory: str | None = os.getcwd()
    except OSError:
        directory = None  # it was removed under this process
    return _describe(directory)


@lru_cache(maxsize=8)
def _describe(directory: str | None) -> Environment:
    try:
        safetensors: str | None = version("safetensors")[: limits.SHORT_TEXT]
    except PackageNotFoundError:
        safetensors = None
    return Environment(
        python=platform.python_version(),
        torch=str(torch.__version__)[: limits.SHORT_TEXT],
        safetensors=safetensors,
        smartcash_format=smartcash_format.__version__,
        platform=f"{platform.system()} {platform.machine()}".strip(),
        git_commit=None if directory is None else _git_commit(directory),
    )


def _git_commit(directory: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "rev-parse", "HEAD"],
            cwd=directory,
            capture_output=True,
            text=True,
            timeout=GIT_TIMEOUT_S,
            stdin=subprocess.DEVNULL,
            check=False,
        )
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return None
    commit = done.stdout.strip()
    return commit if done.returncode == 0 and commit.isalnum() and len(commit) <= 64 else None
