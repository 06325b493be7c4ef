"""How the command behaves in a terminal, a pipe and a script: colours, cuts, errors, completion."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from smartcash_format.cli.commands import ls
from smartcash_format.spec import layout
from smartcash_format.testing.sample import write_sample
from tests.cli.conftest import Run
from tests.processes import run_python
from tests.store.checkpoints import write_checkpoint

RED = "\x1b[31m"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for number in (1, 2):
        write_checkpoint(tmp_path / "root", number)
    return tmp_path / "root"


def pruned(run: Run, root: Path, monkeypatch: pytest.MonkeyPatch, **environment: str) -> str:
    """What `prune` prints into something that says it is a terminal."""
    for name in ("NO_COLOR", "FORCE_COLOR", "COLORTERM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"TERM": "xterm", "COLUMNS": "60", **environment}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(type(sys.stdout), "isatty", lambda self: True)
    return run("prune", root, "--keep-last", "0").out


def test_colours_are_for_terminals(run: Run, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "\x1b" not in run("prune", root, "--keep-last", "0").out
    assert RED in pruned(run, root, monkeypatch)


def test_no_color_is_honoured(run: Run, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert RED not in pruned(run, root, monkeypatch, NO_COLOR="1")


def test_nothing_is_cut_or_folded_where_nobody_looks(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    name = "epoch-0001-" + "long" * 40
    path = write_checkpoint(tmp_path, 1, name=name, metrics={"m" * 90: 0.5})
    sample = write_sample(tmp_path / ("deep" * 20), epoch=1)
    assert name in run("ls", tmp_path).out
    assert name in run("prune", tmp_path).out
    assert "m" * 90 in run("show", path).out
    assert str(sample) in run("tensors", sample).out
    assert str(sample) in run("diff", sample, sample).out
    assert str(sample) in run("validate", sample).out


@pytest.mark.parametrize("asking", [["--debug", "ls"], ["ls", "--debug"]])
def test_a_traceback_is_for_those_who_ask_and_changes_no_exit_code(
    run: Run, tmp_path: Path, asking: list[str]
) -> None:
    nowhere = tmp_path / "no\x1b[2J"
    ran = run("ls", nowhere)
    assert ran.code == 3
    assert ran.err.count("\n") == 1
    traced = run(*asking, nowhere)
    assert traced.code == 3
    assert traced.err.startswith("Traceback (most recent call last):\n")
    assert traced.err.endswith(ran.err)
    assert "\x1b" not in traced.err


def test_behind_two_dashes_debug_is_a_name(run: Run) -> None:
    ran = run("ls", "--", "--debug")
    assert (ran.code, ran.err) == (
        3,
        "smartcash-format: --debug: no such directory; check the path\n",
    )


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        (["ls", "--bad"], "smartcash-format ls"),
        (["ls"], "smartcash-format ls"),
        (["--debug", "ls", "x", "--format"], "smartcash-format ls"),
        (["--bad"], "smartcash-format"),
        (["--", "list"], "smartcash-format"),
    ],
)
def test_a_wrong_call_is_told_whose_help_to_see(
    run: Run, arguments: list[str], command: str
) -> None:
    ran = run(*arguments)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.endswith(f"; see {command} --help\n")


def test_an_option_that_is_misspelled_is_told_those_that_may_be_meant(run: Run) -> None:
    ran = run("ls", "x", "--forma", "json")
    assert ran.code == 2
    assert ": --forma (Possible options: --format, --sort); see " in ran.err


def test_what_nobody_thought_of_is_one_line_too(
    run: Run, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise ZeroDivisionError("division by\nzero \x1b[2J")

    monkeypatch.setattr(ls, "listing_table", fail)
    ran = run("ls", root)
    assert ran.code == 3
    assert ran.err == (
        "smartcash-format: ZeroDivisionError: division by: zero \\x1b[2J; --debug shows where\n"
    )
    traced = run("--debug", "ls", root)
    assert traced.code == 3
    assert ", in fail\n" in traced.err
    assert "--debug shows" not in traced.err


def test_an_error_with_many_breaches_is_one_line(run: Run, root: Path) -> None:
    path = next(iter(root.iterdir()))
    (path / layout.META).write_text('{"format": "smartcash-format", "format_version": "1.0"}')
    ran = run("show", path)
    assert ran.code == 3
    assert ran.err.count("\n") == 1
    assert "is no valid checkpoint: meta.json" in ran.err


def test_without_torch_a_command_that_needs_it_says_the_pip_command(tmp_path: Path) -> None:
    (tmp_path / "old.pth").write_bytes(b"")
    arguments = ["smartcash-format", "convert", str(tmp_path / "old.pth"), "-o", str(tmp_path)]
    printed = run_python(
        "import sys; sys.modules['torch'] = None; sys.stderr = sys.stdout\n"
        f"sys.argv = {arguments}\n"
        "from smartcash_format.cli.main import main\n"
        "try:\n    main()\nexcept SystemExit as stopped:\n    print(stopped.code)"
    )
    said, code = printed.splitlines()
    assert said.endswith('pip install "smartcash-format[torch]"')
    assert code == "3"
