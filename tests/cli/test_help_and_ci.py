"""What users meet before they ask a question: help, completion, the pre-commit hook."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml

from smartcash_format.cli import ci
from smartcash_format.cli.main import COMMANDS as MODULES
from smartcash_format.cli.main import command_of, main
from smartcash_format.testing.sample import write_sample
from tests.store.checkpoints import write_checkpoint

PROJECT = Path(__file__).parents[2]
COMMANDS = sorted(MODULES)


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
    assert run(monkeypatch, capsys, name, "-h") == (0, printed)
    assert f"smartcash-format {name} " in printed.partition("Examples:")[2]


@pytest.mark.parametrize("name", COMMANDS)
def test_eighty_columns_show_each_example_in_a_line_and_what_each_option_is_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    printed = run(monkeypatch, capsys, name, "--help")[1]
    command = command_of([]).commands[name]
    examples = [line for line in command.epilog.splitlines() if line.startswith("  ")]
    # Of an epilog everything stands in by two, and an example by two more.
    block = "\n".join(["  Examples:", *(f"  {line}" for line in examples)])
    assert f"\n{block}\n" in printed
    assert max(map(len, printed.splitlines())) <= 80
    assert [each.name for each in command.params if not each.help] == []
    arguments = [each for each in command.params if each.param_type_name == "argument"]
    usage = " ".join(printed.partition("[OPTIONS]")[2].partition("\n\n")[0].split())
    assert usage == " ".join(
        (each.metavar if each.required else f"[{each.metavar}]") + "..." * (each.nargs != 1)
        for each in arguments
    )
    told = printed.partition("Arguments:\n")[2]
    for each in arguments:  # the oldest typer has brackets here too
        assert re.search(rf"^  \[?{each.metavar}\]?  +[A-Z]", told, re.MULTILINE)


def test_eighty_columns_show_what_each_command_does(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    printed = run(monkeypatch, capsys, "--help")[1]
    listed = printed.partition("Commands:\n")[2].splitlines()[: len(COMMANDS)]
    assert [line.split()[0] for line in listed] == [*MODULES]
    assert [line for line in listed if not line.endswith(".") or line.endswith("...")] == []


def test_the_help_names_every_command_the_exit_codes_and_completion(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, printed = run(monkeypatch, capsys, "--help")
    assert code == 0
    assert run(monkeypatch, capsys, "-h") == (0, printed)
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


def _blocks() -> list[Any]:
    """What the YAML of docs/ci.md says."""
    text = (PROJECT / "docs" / "ci.md").read_text(encoding="utf-8")
    return [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)]


def test_the_workflow_of_the_document_gates(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (workflow,) = (block for block in _blocks() if "jobs" in block)
    steps = workflow["jobs"]["checkpoints"]["steps"]
    program, *arguments = shlex.split(steps[-1]["run"])
    assert program == "smartcash-format"
    monkeypatch.chdir(tmp_path)
    path = write_checkpoint(Path("release"), 1, metrics={"val_map": 0.5})
    meta_depth = ["meta" if argument == "content" else argument for argument in arguments]
    assert run(monkeypatch, capsys, *meta_depth)[0] == 0
    code, printed = run(monkeypatch, capsys, *arguments)
    assert code == 1
    assert printed.startswith(f"::error file={path}/meta.json,title=smartcash-format::{path}: ")
    write_checkpoint(Path("release"), 2, metrics={"val_map": 0.3})
    code, printed = run(monkeypatch, capsys, *meta_depth)
    assert code == 1
    assert "metrics.val_map>=0.4 does not hold: it is 0.3" in printed


def test_the_hook_of_the_document_is_the_hook_of_the_repository() -> None:
    (local,) = (block["repos"][0]["hooks"][0] for block in _blocks() if "repos" in block)
    (hook,) = yaml.safe_load((PROJECT / ".pre-commit-hooks.yaml").read_text(encoding="utf-8"))
    assert local.pop("additional_dependencies") == ["smartcash-format"]
    assert local.pop("args")[0] == "--require"
    assert local == {key: value for key, value in hook.items() if key != "description"}


def test_nothing_is_left_for_a_reader_to_guess() -> None:
    documents = [PROJECT / "README.md", *(PROJECT / "docs").glob("*.md")]
    assert not [path for path in documents if "OWNER" in path.read_text(encoding="utf-8")]


def test_markup_in_names_and_findings_is_text_in_every_form_of_ci(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hostile = """</failure><script>x</script>&amp;"'>]]>::error::\n::set-output"""
    case = (hostile, [hostile, hostile])
    suite = ElementTree.fromstring(ci.junit_xml([case]))
    (found,) = suite
    (failure,) = found
    assert found.get("name") == failure.get("message") == hostile.replace("\n", "\\n")
    assert failure.text == "\n".join([hostile.replace("\n", "\\n")] * 2)
    summary = tmp_path / "summary.md"
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    ci.step_summary([case])
    assert "<script>" not in summary.read_text("utf-8")
    assert all("\n" not in line and line.startswith("::error ") for line in ci.github_lines([case]))
