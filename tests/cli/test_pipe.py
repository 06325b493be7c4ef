"""Output into pipes: nothing is cut, a reader may leave, and what is closed is no error."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from smartcash_format.cli import exits
from smartcash_format.cli.commands import ls
from smartcash_format.disk.read import read_meta
from smartcash_format.spec import layout
from smartcash_format.spec.meta import encode_meta
from smartcash_format.testing.sample import write_sample
from tests.cli.conftest import Run
from tests.processes import CHECKOUT
from tests.store.checkpoints import write_checkpoint, write_weighed

COMMAND = f"{shlex.quote(sys.executable)} -m smartcash_format"


def bash(script: str, **environment: str) -> tuple[str, str]:
    """What a script printed, and what it complained."""
    done = subprocess.run(
        ["bash", "-c", script], cwd=CHECKOUT, env={**os.environ, **environment}, check=False,
        capture_output=True, text=True,
    )  # fmt: skip
    return done.stdout, done.stderr


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A whole checkpoint and one with a file of zeros."""
    root = tmp_path / "root"
    write_sample(root, epoch=1)
    file = write_sample(root, epoch=2) / layout.OPTIMIZER
    file.write_bytes(bytes(file.stat().st_size))
    return root


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ("ls {}", 0),
        ("ls {} --format csv", 0),
        ("ls {} --format paths", 0),
        ("validate {}", 1),
        ("validate {} nowhere", 3),
        ("--help", 0),
        ("ls nowhere 2>&1", 3),
        ("best {} 2>&1", 1),
        ("ls 2>&1", 2),
    ],
)
def test_a_reader_that_has_gone_is_no_error_and_changes_no_exit_code(
    root: Path, arguments: str, code: int
) -> None:
    line = arguments.format(shlex.quote(str(root)))
    # It has left before the command begins to write.
    script = f"(sleep 0.2; {COMMAND} {line}) | true; echo ${{PIPESTATUS[0]}}"
    assert bash(script) == (f"{code}\n", "")


def test_a_reader_that_leaves_in_the_middle_is_no_error_either(root: Path) -> None:
    for number in range(3, 200):
        write_checkpoint(root, number, name=f"{number}-{'x' * 200}")
    script = (
        f"{COMMAND} ls {shlex.quote(str(root))} --format json | head -c 1; echo ${{PIPESTATUS[0]}}"
    )
    assert bash(script) == ("{0\n", "")


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
def test_what_is_closed_takes_nothing_and_is_no_error(root: Path, closed: str) -> None:
    printed, complained = bash(f"{COMMAND} validate {shlex.quote(str(root))} {closed}; echo $?")
    assert printed.splitlines()[-1] == "1"
    assert "Traceback" not in complained


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a device of Linux")
@pytest.mark.parametrize(("arguments", "code"), [("ls nowhere", 3), ("ls --bad", 2)])
def test_where_no_error_can_be_written_the_exit_code_says_it(arguments: str, code: int) -> None:
    assert bash(f"{COMMAND} {arguments} 2>/dev/full; echo $?") == (f"{code}\n", "")


def test_what_an_encoding_does_not_have_is_shown_as_its_escape(root: Path) -> None:
    line = f"{COMMAND} ls {shlex.quote(str(root))}"
    printed, complained = bash(line, PYTHONIOENCODING="ascii")
    assert "\\xb7" in printed
    assert complained == ""


@pytest.mark.parametrize(
    "asked", ["ls {} --format csv", "validate {} --format junit", "report {} -o -"]
)
def test_what_a_program_reads_is_utf_8_whatever_the_locale(tmp_path: Path, asked: str) -> None:
    write_checkpoint(tmp_path, 1, name="bänk-日本")
    line = f"{COMMAND} {asked.format(shlex.quote(str(tmp_path)))}"
    assert "bänk-日本" in bash(line, PYTHONIOENCODING="latin-1")[0]


def test_ctrl_c_ends_with_its_own_exit_code(
    run: Run, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ls, "listing_table", lambda *_, **__: signal.raise_signal(signal.SIGINT))
    ran = run("ls", root)
    assert (ran.code, ran.err) == (130, "")


@pytest.mark.parametrize("module", ["typer", "smartcash_format.cli.commands.ls"])
def test_ctrl_c_while_the_command_is_imported_ends_alike(root: Path, module: str) -> None:
    """As a person in a hurry does: what is imported then is interrupted."""
    program = (
        "import runpy, sys\n"
        "class Hurry:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name == {module!r}: raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Hurry())\n"
        f"sys.argv[1:] = ['ls', {str(root)!r}]\n"
        "runpy.run_module('smartcash_format', run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=CHECKOUT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (exits.INTERRUPTED, "", "")


def test_the_installed_command_begins_where_the_module_does() -> None:
    scripts = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))
    assert scripts["project"]["scripts"] == {"smartcash-format": "smartcash_format.cli.start:main"}


def test_colours_that_are_forced_cut_nothing(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "80")
    name = "epoch-0001-" + "long" * 40
    write_checkpoint(tmp_path, 1, name=name, metrics={f"m{n}" * 20: 0.5 for n in range(9)})
    printed = run("ls", tmp_path).out
    assert name in printed
    assert all(f"m{n}" * 20 in printed for n in range(9))


LONG = "v" * 3_000


def test_nothing_of_a_checkpoint_is_cut_in_a_pipe(run: Run, tmp_path: Path) -> None:
    config = {f"key{n}": n for n in range(200)} | {"text": LONG}
    layers = {f"blocks.{n}.w": float(n) for n in range(100)}
    one = write_weighed(tmp_path, 1, layers, config=config, tags=["t" * 200])
    other = write_weighed(tmp_path, 2, {f"{n}x": v for n, v in layers.items()}, config={})
    for number in range(30):
        (one / f"left-{number}").write_bytes(b"")
    shown = run("show", one).out
    assert all(f"key{n}  {n}" in shown for n in range(200))
    assert all(f"left-{n}" in shown for n in range(30))
    assert LONG in shown
    assert "t" * 200 in shown
    compared = run("diff", one, other).out
    assert all(f"- key{n}  {n}" in compared for n in range(200))
    assert all(f"blocks.{n}.w" in compared for n in range(100))
    assert LONG in compared
    assert "…" not in shown + compared
    assert " more" not in shown + compared


def test_no_reason_and_no_cell_is_cut_in_a_pipe(run: Run, tmp_path: Path) -> None:
    path = write_sample(tmp_path, epoch=1)
    meta = read_meta(path)
    many = {f"metric-{n:03}-{'m' * 40}": float(n) for n in range(40)}
    (path / layout.META).write_bytes(encode_meta(meta.model_copy(update={"metrics": many})))
    listed = run("ls", tmp_path).out
    assert all(name in listed for name in many)
    value = "x" * 12_000
    write_checkpoint(tmp_path, 2, tags=[], backbone="b" * 250, dataset="d")
    ran = run("validate", path, "--require", f"backbone={value}")
    assert value in ran.out
    assert "b" * 250 in run("ls", tmp_path, "--format", "csv").out


def test_what_is_cut_for_a_person_is_counted(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("smartcash_format.view.terminal.is_terminal", lambda: True)
    monkeypatch.setenv("COLUMNS", "200")
    layers = {f"blocks.{n}.w": float(n) for n in range(100)}
    one = write_weighed(tmp_path, 1, layers, config={f"key{n}": n for n in range(70)})
    other = write_weighed(tmp_path, 2, {f"{n}x": v for n, v in layers.items()}, config={})
    for number in range(30):
        (one / f"left-{number}").write_bytes(b"")
    shown = run("show", one).out
    assert "... 10 more: show --format json" in shown
    assert "... 18 more that are not listed" in shown
    compared = run("diff", one, other).out
    assert "... 10 more: diff --format json" in compared
    assert "renamed (100)" in compared
    assert "... 88 more: diff --format json" in compared
