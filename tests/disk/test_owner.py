from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from smartcash_format.disk import owner
from smartcash_format.disk.owner import Owner, parse_owner, this_process


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    yield process
    process.kill()
    process.communicate()


def _owner_of(pid: int) -> Owner:
    shown = owner._process(pid)
    return Owner(this_process().machine, pid, shown.start if shown else 0)


def test_a_name_gives_its_owner_back_and_no_two_names_are_alike() -> None:
    me = this_process()
    names = {me.name() for _ in range(100)}
    assert len(names) == 100
    assert {parse_owner(name) for name in names} == {me}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0a0b0c0d-1-2",
        "0a0b0c0d-1-2-0a0b0c0d-3",
        "0A0b0c0d-1-2-0a0b0c0d",
        "0a0b0c0d-1-2-0a0b0c0d\n",
        "0a0b0c0d-٣-2-0a0b0c0d",
        "0a0b0c0d-12345678901-2-0a0b0c0d",
    ],
)
def test_a_name_of_another_form_has_no_owner(text: str) -> None:
    assert parse_owner(text) is None


def test_this_process_is_alive() -> None:
    assert this_process().life == "alive"


def test_a_process_is_dead_once_it_has_been_waited_for(
    sleeper: subprocess.Popen[bytes],
) -> None:
    other = _owner_of(sleeper.pid)
    lives = [other.life]
    sleeper.kill()
    sleeper.wait()
    lives.append(other.life)
    assert lives == ["alive", "dead"]


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs /proc")
def test_a_killed_process_that_nobody_waits_for_is_dead(
    sleeper: subprocess.Popen[bytes],
) -> None:
    other = _owner_of(sleeper.pid)
    os.kill(sleeper.pid, signal.SIGKILL)
    os.waitid(os.P_PID, sleeper.pid, os.WEXITED | os.WNOWAIT)
    assert other.life == "dead"


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs /proc")
def test_a_pid_that_is_used_again_does_not_revive_its_owner() -> None:
    me = this_process()
    assert Owner(me.machine, me.pid, me.start - 1).life == "dead"


def test_a_process_of_another_boot_or_machine_is_unknown() -> None:
    me = this_process()
    other = "ffffffff" if me.machine != "ffffffff" else "00000000"
    assert Owner(other, me.pid, me.start).life == "unknown"


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs /proc")
def test_a_process_that_hides_its_start_is_never_called_dead(
    monkeypatch: pytest.MonkeyPatch, sleeper: subprocess.Popen[bytes]
) -> None:
    other = _owner_of(sleeper.pid)
    monkeypatch.setattr(owner, "_process", lambda pid: None)  # hidepid=2 shows one's own only
    assert other.life == "unknown"


def test_a_process_of_another_user_counts_as_running(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(pid: int, number: int) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "kill", refuse)
    monkeypatch.setattr(owner, "_process", lambda pid: None)
    assert Owner(this_process().machine, 12345, 1).life != "dead"


def test_a_pid_larger_than_any_is_dead() -> None:
    assert Owner(this_process().machine, 9_999_999_999, 1).life == "dead"


def test_without_a_boot_id_another_machine_of_the_same_name_is_unknown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(owner, "_read", lambda path: "")
    machines = set()
    for card in (1, 2):
        monkeypatch.setattr("uuid.getnode", lambda card=card: card)
        owner._machine.cache_clear()
        machines.add(owner._machine(0))
    owner._machine.cache_clear()
    assert len(machines) == 2


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs /proc")
def test_a_command_name_with_brackets_and_spaces_does_not_shift_the_fields() -> None:
    code = (
        "import ctypes; ctypes.CDLL(None).prctl(15, b'x) Z 1 (y', 0, 0, 0); print(1, flush=True);"
        "input()"
    )
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert _owner_of(process.pid).life == "alive"
        process.kill()
