from __future__ import annotations

import itertools
import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from smartcash_format.disk.publish import remove
from smartcash_format.spec.meta import Meta
from smartcash_format.store.checkpoint_store import CheckpointStore
from smartcash_format.testing import crowd, sample
from smartcash_format.testing.crowd import Deeds, broken_promises, take_part
from tests.processes import CHECKOUT

ENDED = threading.Event()
ENDED.set()


def threads(root: Path, count: int, rounds: int, ended: threading.Event = ENDED) -> list[Deeds]:
    """So many threads, each at it so many rounds, and again until that has ended."""
    found: list[Deeds] = []
    errors: list[Exception] = []

    def member(seed: int) -> None:
        try:
            for turn in itertools.count():
                found.append(take_part(root, seed + turn * count, rounds))
                if ended.is_set():
                    break
        except Exception as error:  # noqa: BLE001  reported by the test's own thread
            errors.append(error)

    members = [threading.Thread(target=member, args=(seed,)) for seed in range(count)]
    for thread in members:
        thread.start()
    for thread in members:
        thread.join()
    assert errors == []
    return found


def processes(root: Path, count: int, rounds: int, managers: int = 0) -> list[Deeds]:
    """So many processes, the first of them with managers."""
    command = [sys.executable, "-m", "smartcash_format.testing.crowd", str(root)]
    members = [
        subprocess.Popen(
            [*command, str(1_000_000 + i), str(rounds), *(["manager"] if i < managers else [])],
            cwd=CHECKOUT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for i in range(count)
    ]
    answers = [member.communicate() for member in members]
    assert [errors for _, errors in answers if errors] == []
    return [Deeds(**json.loads(output)) for output, _ in answers]


def test_eight_threads_at_one_root_lose_nothing(tmp_path: Path) -> None:
    deeds = threads(tmp_path / "root", 8, 8)
    assert broken_promises(tmp_path / "root", deeds) == []
    assert sum(len(member.saved) for member in deeds) >= 8
    assert any(member.removed for member in deeds)
    assert any(member.copied for member in deeds)
    assert any(member.held for member in deeds)


@pytest.mark.no_cover
def test_eight_processes_at_one_root_lose_nothing(tmp_path: Path) -> None:
    deeds = processes(tmp_path / "root", 8, 6)
    assert broken_promises(tmp_path / "root", deeds) == []
    assert sum(len(member.saved) for member in deeds) >= 8
    assert any(member.removed for member in deeds)
    assert any(member.stripped for member in deeds)


@pytest.mark.no_cover
@pytest.mark.torch
def test_managers_that_save_incrementally_and_keep_few_lose_nothing_in_a_crowd(
    tmp_path: Path,
) -> None:
    deeds = processes(tmp_path / "root", 4, 8, managers=2)
    assert broken_promises(tmp_path / "root", deeds) == []
    assert all(member.saved for member in deeds)
    assert any(member.removed for member in deeds[:2])


def test_a_save_that_another_member_removes_at_once_is_noted_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish = sample.publish_sample

    def publish_and_lose(root: Path, *, epoch: int, seed: int) -> tuple[Path, Meta]:
        path, meta = publish(root, epoch=epoch, seed=seed)
        remove(path)
        return path, meta

    monkeypatch.setattr(crowd, "publish_sample", publish_and_lose)
    path, _ = crowd.save_sample(tmp_path, 0, 1)
    assert not path.exists()
    assert [line.checkpoint for line in CheckpointStore(tmp_path).events().lines] == [path.name]


def together(root: Path, rounds: int, managers: int) -> list[Deeds]:
    """Eight threads, and eight processes that come and go while they are at it."""
    deeds: list[Deeds] = []
    ended = threading.Event()
    inside = threading.Thread(target=lambda: deeds.extend(threads(root, 8, rounds, ended)))
    inside.start()
    try:
        found = processes(root, 8, rounds, managers=managers)
    finally:
        ended.set()
        inside.join()
    assert len(deeds) >= 8
    return deeds + found


def test_eight_threads_and_eight_processes_at_once_lose_nothing(tmp_path: Path) -> None:
    root = tmp_path / "root"
    deeds = together(root, 6, managers=0)
    assert broken_promises(root, deeds) == []
    assert sum(len(member.saved) for member in deeds) >= 16
    assert sum(bool(member.removed) for member in deeds) > 1


@pytest.mark.torch
@pytest.mark.torture
def test_eight_threads_and_eight_processes_for_minutes_lose_nothing(tmp_path: Path) -> None:
    root = tmp_path / "root"
    assert broken_promises(root, together(root, 400, managers=3)) == []
