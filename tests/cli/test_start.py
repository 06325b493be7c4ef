"""What a command starts with: its own module, and none that its answer can do without."""

from __future__ import annotations

from pathlib import Path

import pytest

from smartcash_format.cli import commands
from smartcash_format.cli.main import COMMANDS, app_of
from tests.processes import run_python
from tests.store.checkpoints import write_checkpoint

# What a listing never asks: models of any kind, rules of a validation, whatever writes, and the
# drawing of tables whose cells may be anything.
UNASKED = {
    *("pydantic", "pydantic.main", "pydantic.type_adapter", "typer._adapters"),
    *("smartcash_format.spec.meta", "smartcash_format.spec.tensors", "smartcash_format.spec.rules"),
    *("smartcash_format.spec.pickles", "smartcash_format.spec.values"),
    *("smartcash_format.disk.read", "smartcash_format.disk.publish", "smartcash_format.disk.write"),
    *("smartcash_format.disk.observe", "smartcash_format.disk.signatures"),
    *("smartcash_format.store.history", "smartcash_format.store.retention"),
    *("smartcash_format.manager", "smartcash_format.integrations", "smartcash_format.torch_io"),
    *("rich.table", "rich.tree", "rich.progress", "rich.markdown", "rich.traceback"),
    *("typer.rich_utils", "torch", "numpy", "safetensors", "jinja2", "yaml", "IPython"),
    *("asyncio", "concurrent.futures", "multiprocessing", "sqlite3", "unittest", "http.client"),
}


def loaded(*arguments: object) -> set[str]:
    """The modules that a fresh process has after a command."""
    printed = run_python(
        f"import sys; sys.argv[1:] = {[str(each) for each in arguments]}\n"
        "from smartcash_format.cli.main import main\n"
        "try: main()\nexcept SystemExit as stopped: assert not stopped.code, stopped.code\n"
        "print('\\n::', *sys.modules)"
    )
    return set(printed.partition("\n::")[2].split())


@pytest.mark.parametrize(
    "arguments",
    [
        ["ls"],
        ["ls", "--format", "json", "--where", "epoch>=1", "--sort", "epoch", "-r"],
        ["best", "--metric", "val_map:max"],
    ],
)
def test_a_listing_loads_no_model_no_rule_and_nothing_that_writes(
    tmp_path: Path, arguments: list[str]
) -> None:
    write_checkpoint(tmp_path, 1)
    modules = loaded(*arguments, tmp_path)
    assert "smartcash_format.store.glance" in modules
    # Of the oldest releases pydantic_core has need of asyncio, and a console of tables.
    bare = "import sys, pydantic_core, typer, rich.console; print(*sys.modules)"
    needed = set(run_python(bare).split())
    assert not (modules - needed) & UNASKED


@pytest.mark.parametrize("before", [[], ["--debug"]])
def test_a_command_loads_its_own_module_alone(before: list[str]) -> None:
    room = f"{commands.__name__}."
    found = {name for name in loaded(*before, "schema") if name.startswith(room)}
    assert found == {f"{room}schema"}


def test_every_module_of_commands_is_registered_under_the_names_that_it_gives() -> None:
    modules = {file.stem for file in Path(commands.__path__[0]).glob("[!_]*.py")}
    assert set(COMMANDS.values()) == modules
    assert [each.name for each in app_of([]).registered_commands] == [*COMMANDS]
    for name in COMMANDS:
        assert name in [each.name for each in app_of([name]).registered_commands]


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--help", "ls"], ["lss"], ["--show-completion", "bash"], []]
)
def test_help_completion_and_a_wrong_name_know_every_command(arguments: list[str]) -> None:
    assert len(app_of(arguments).registered_commands) == len(COMMANDS)
