"""What a shell offers behind what is typed, and how it comes to ask."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Run
from tests.processes import CHECKOUT
from tests.store.checkpoints import write_checkpoint


def completed(words: str) -> list[str]:
    """What bash would offer after these words."""
    program = (
        "import sys\n"
        "from smartcash_format.cli.main import main\n"
        "try:\n    main()\n"
        "finally:\n    assert 'torch' not in sys.modules\n"
    )
    environment = {
        **os.environ,
        "COMP_WORDS": f"smartcash-format {words}",
        "COMP_CWORD": str(words.count(" ") + 1),
        "_SMARTCASH_FORMAT_COMPLETE": "complete_bash",
    }
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=CHECKOUT, env=environment, check=False,
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.parametrize(
    ("words", "offered"),
    [("va", ["validate"]), ("validate --dep", ["--depth"]), ("validate --depth c", ["content"])],
)
def test_a_shell_completes_commands_options_and_choices_without_torch(
    words: str, offered: list[str]
) -> None:
    assert completed(words) == offered


def test_completion_installs_itself_at_home(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION", "1")
    ran = run("--install-completion", "bash")
    assert ran.code == 0
    script = tmp_path / ".bash_completions" / "smartcash-format.sh"
    assert "_SMARTCASH_FORMAT_COMPLETE=complete_bash" in script.read_text()
    assert str(script) in (tmp_path / ".bashrc").read_text()
    assert script.read_text().strip() in run("--show-completion", "bash").out


def test_bash_itself_completes_by_the_script_that_is_shown(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Else the shell is the one that the tests were started from, whatever is asked for.
    monkeypatch.setenv("_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION", "1")
    script = tmp_path / "completion"
    script.write_text(run("--show-completion", "bash").out)
    command = tmp_path / "smartcash-format"
    command.write_text(f"#!/bin/sh\nexec {shlex.quote(sys.executable)} -m smartcash_format\n")
    command.chmod(0o755)
    typed = (
        f"source {shlex.quote(str(script))}; COMP_WORDS=(smartcash-format ls \"'a b'\" --form) "
        f"COMP_CWORD=3; _smartcash_format_completion {shlex.quote(str(command))}; "
        "complete -p smartcash-format; echo ${COMPREPLY[@]}"
    )
    done = subprocess.run(
        ["bash", "--norc", "-c", typed], cwd=CHECKOUT, capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    # What no word of the command fits is a file.
    assert done.stdout.splitlines() == [
        "complete -o default -F _smartcash_format_completion smartcash-format",
        "--format",
    ]


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("ls {} --best ", ["val_map:max", "lr:max", "lr:min"]),
        ("best {} --metric v", ["val_map:max"]),
        ("prune {} --keep-best l", ["lr:max", "lr:min"]),
        ("report {} --best val", ["val_map:max"]),
        ("ls {} --sort met", ["metrics.lr", "metrics.val_map"]),
        ("ls {} --sort e", ["epoch"]),
        ("ls {}/nowhere --best ", []),
        ("ls {}/file --best ", []),
        ("ls --best ", []),
        ("schema t", ["tensors-v1.schema.json"]),
    ],
)
def test_metrics_fields_and_schemas_are_offered_as_they_are_there(
    tmp_path: Path, words: str, offered: list[str]
) -> None:
    hostile = {"$(reboot)": 1.0, "a b": 1.0, "x\x1b[2J": 1.0, "`x`": 1.0}
    write_checkpoint(tmp_path, 1, metrics={"val_map": 0.5, **hostile})
    write_checkpoint(tmp_path, 2, metrics={"lr": 0.1})
    (tmp_path / "file").write_bytes(b"")
    assert completed(words.format(tmp_path)) == offered
