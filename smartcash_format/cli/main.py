"""The command `smartcash-format`: its parser and its start."""

from typing import Annotated

import typer

from smartcash_format import __version__

app = typer.Typer(name="smartcash-format", no_args_is_help=True, add_completion=False)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"smartcash-format {__version__}")
        raise typer.Exit()


@app.callback()
def start(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Show the version and stop."
        ),
    ] = False,
) -> None:
    """Look at checkpoints: list, find, validate, compare."""


def main() -> None:
    """Run the command with the arguments of this process."""
    app()
