"""What wrote a checkpoint: told once, and never a reason for a save to fail or to wait."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch

import smartcash_format
from smartcash_format.torch_io import environment
from smartcash_format.torch_io.environment import describe_environment

pytestmark = pytest.mark.torch


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No answer of an earlier test, and a working directory of the test's own."""
    environment._describe.cache_clear()
    monkeypatch.chdir(tmp_path)


def git(*arguments: str) -> str:
    settings = ["-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]
    try:
        ran = subprocess.run(["git", *settings, *arguments], capture_output=True, check=True)
    except OSError:
        pytest.skip("there is no git here")
    return ran.stdout.decode().strip()


def test_versions_platform_and_commit_are_told(tmp_path: Path) -> None:
    git("init", "-q")
    git("commit", "-q", "--allow-empty", "-m", "first")
    found = describe_environment()
    assert found.python == platform.python_version()
    assert found.torch == str(torch.__version__)
    assert found.smartcash_format == smartcash_format.__version__
    assert found.git_commit == git("rev-parse", "HEAD")
    assert str(tmp_path) not in found.model_dump_json()


def test_git_is_asked_once_for_each_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(environment, "_git_commit", asked.append)
    describe_environment()
    describe_environment()
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    describe_environment()
    assert asked == [str(tmp_path), str(tmp_path / "other")]


@pytest.mark.parametrize(
    "error",
    [FileNotFoundError("git"), PermissionError("git"), subprocess.TimeoutExpired("git", 2.0)],
    ids=lambda error: type(error).__name__,
)
def test_a_git_that_is_absent_or_slow_is_no_commit(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: Any, **options: Any) -> None:
        assert options["timeout"] == 2.0
        raise error

    monkeypatch.setattr(subprocess, "run", fail)
    assert describe_environment().git_commit is None


def test_outside_of_a_repository_there_is_no_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", os.path.dirname(os.getcwd()))
    assert describe_environment().git_commit is None


def test_a_working_directory_that_was_removed_is_no_reason_to_fail(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def gone() -> str:
        raise FileNotFoundError("getcwd")

    monkeypatch.setattr(os, "getcwd", gone)
    assert describe_environment().git_commit is None
    assert describe_environment().python == platform.python_version()
