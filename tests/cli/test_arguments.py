"""Plain arguments are what typer would make of them, right and wrong ones alike."""

from __future__ import annotations

from typing import Any

import pytest
import typer

from smartcash_format.cli.main import app_of, command_of

ORDINARY: Any = typer.main.get_command(app_of([]))
PLAIN: Any = command_of([])


def parsed(group: Any, command: str, arguments: list[str]) -> object:
    """The parameters that a command is called with, or why it is not."""
    try:
        return group.commands[command].make_context(command, list(arguments)).params
    # What a usage error is called in the click that this typer has.
    except typer.BadParameter.__mro__[1] as error:  # type: ignore[misc]
        return type(error).__name__, error.format_message()


@pytest.mark.parametrize("command", sorted(PLAIN.commands))
@pytest.mark.parametrize("arguments", [[], ["a"], ["a", "b"], ["--no-such"], ["a", "--format"]])
def test_every_command_takes_what_typer_would_make_of_it(
    command: str, arguments: list[str]
) -> None:
    assert parsed(PLAIN, command, arguments) == parsed(ORDINARY, command, arguments)


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        ("ls", ["a", "--format", "json", "--where", "x>1", "--where", "y>1", "--sort", ""]),
        ("ls", ["a", "--format", "JSON"]),
        ("ls", ["a", "--format", "none"]),
        ("ls", ["--", "-a", ""]),
        ("ls", ["a", "-r", "--best", "ä:max"]),
        ("validate", ["a", "--depth", "content", "--require", "x>1", "--max-size", "1GB"]),
        ("validate", ["a", "--depth", "all"]),
        ("prune", ["a", "--keep-last", "3", "--best-count", "2", "--keep-tagged", "t", "--apply"]),
        ("prune", ["a", "--keep-last", "0"]),
        ("prune", ["a", "--keep-every", "x"]),
        ("export", ["a", "-o", "b", "--to", "pth"]),
        ("export", ["a", "--output"]),
        ("schema", ["--write", "."]),
    ],
)
def test_given_options_are_what_typer_would_make_of_them(
    command: str, arguments: list[str]
) -> None:
    assert parsed(PLAIN, command, arguments) == parsed(ORDINARY, command, arguments)
