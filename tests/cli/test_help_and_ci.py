"""What users meet before they ask a question: help, completion, the pre-commit hook."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import yaml

from smartcash_format.cli.main import app, main
from smartcash_format.testing.sample import write_sample

PROJECT = Path(__file__).parents[2]
COMMANDS = sorted(command.name or "" for command in app.registered_commands)


def run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str
) -> tuple[object, str]:
    monkeypatch.setattr(sys, "argv", ["smartcash-format", *arguments])
    with pytest.raises(SystemExit) as stopped:
        main()
    return stopped.value.code, capsys.readouterr().out


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_every_command_shows_examples(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    code, printed = run(monkeypatch, capsys, name, "--help")
    assert code == 0
    assert f"smartcash-format {name} " in printed.partition("Examples:")[2]


def test_the_help_names_every_command_the_exit_codes_and_completion(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, printed = run(monkeypatch, capsys, "--help")
    assert code == 0
    assert "Exit codes: 0 fine" in printed
    for word in (*COMMANDS, "--show-completion", "--install-completion"):
        assert word in printed


def test_the_hook_is_given_meta_json_files_and_installs_no_torch(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (hook,) = yaml.safe_load((PROJECT / ".pre-commit-hooks.yaml").read_text(encoding="utf-8"))
    assert hook["language"] == "python"
    assert "additional_dependencies" not in hook
    assert hook["files"] == r"(^|/)meta\.json$"
    program, *arguments = hook["entry"].split()
    assert program == "smartcash-format"
    paths = [write_sample(tmp_path, epoch=epoch) for epoch in (1, 2)]
    given = [str(path / "meta.json") for path in paths]
    assert run(monkeypatch, capsys, *arguments, *given)[0] == 0
    (paths[0] / "model.safetensors").unlink()
    code, printed = run(monkeypatch, capsys, *arguments, *given)
    assert code == 1
    assert "file-missing" in printed
