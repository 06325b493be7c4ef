"""The command `smartcash-format`: its parser, and the edge where errors become exit codes."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from types import MappingProxyType
from typing import Annotated, Any, Final

import typer

from smartcash_format import __version__
from smartcash_format.cli import exits, output
from smartcash_format.cli.arguments import take_plainly
from smartcash_format.errors import CheckpointError

NAME: Final = "smartcash-format"
# Which module has a command, in the order of the help.
COMMANDS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "ls": "ls",
        "show": "show",
        "tensors": "tensors",
        "best": "best",
        "validate": "validate",
        "diff": "diff",
        "prune": "prune",
        "convert": "convert",
        "export": "export",
        "share": "share",
        "receive": "share",
        "sign": "sign",
        "verify": "sign",
        "history": "history",
        "report": "report",
        "doctor": "doctor",
        "storage-test": "storage_test",
        "schema": "schema",
    }
)


def app_of(arguments: Sequence[str]) -> typer.Typer:
    """The parser of these arguments: it knows the command that they begin with, or else all.

    All of them take longer to import than one takes to answer; help, completion and whoever
    misspells a command need them.
    """
    app = typer.Typer(
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
        help="Look at checkpoints without loading them: list, find, validate, compare, prune.",
        epilog="Exit codes: 0 fine; 1 findings, a difference or nothing found; 2 usage; "
        "3 cannot read, or cannot write.",
    )
    app.callback()(_start)
    first = next(iter(arguments), "")
    modules = [COMMANDS[first]] if first in COMMANDS else dict.fromkeys(COMMANDS.values())
    for module in modules:
        import_module(f"smartcash_format.cli.commands.{module}").register(app)
    return app


def command_of(arguments: Sequence[str]) -> Any:
    """The same, ready to be called."""
    command = typer.main.get_command(app_of(arguments))
    take_plainly(command)
    return command


def _print_version(wanted: bool) -> None:
    if wanted:
        output.line(f"smartcash-format {__version__}")
        raise typer.Exit()


def _start(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Show the version and stop."
        ),
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show a traceback with an error.")] = False,
) -> None:
    """Look at checkpoints: list, find, validate, compare."""


# typer carries a click of its own since 0.27 and names few of its errors: this is the root of them.
_UsageError: type[Any] = typer.BadParameter.__mro__[1]


def main() -> None:
    """Run the command with the arguments of this process."""
    arguments, debug = _asked(sys.argv[1:])
    _open_streams()
    if "" in arguments:
        # As a path it would be the current directory, to prune there.
        exits.complain("an argument is empty: a variable of the shell may not be set")
        sys.exit(exits.USAGE)
    try:
        # Named, so that `python -m smartcash_format` completes and helps under the same name.
        code = command_of(arguments)(arguments, standalone_mode=False, prog_name=NAME)
    except typer.Abort:
        exits.complain("stopped")
        sys.exit(exits.INTERRUPTED)
    except _UsageError as error:
        if arguments:
            exits.complain(exits.usage_line(error, _help_of(arguments)))
        else:
            error.show()  # its message is the help
        sys.exit(exits.USAGE)
    except SystemExit as stopped:
        if isinstance(stopped.__context__, BrokenPipeError):
            # typer's own output, such as `--help | head`; ours goes on by itself.
            output.no_reader()
            sys.exit(exits.FINE)
        raise
    except (CheckpointError, OSError, ValueError, ImportError) as error:
        if debug:
            exits.trace(error)
        exits.complain(exits.one_line(error))
        sys.exit(exits.code_of(error))
    except Exception as error:  # noqa: BLE001 - the edge, where every error becomes one line
        if debug:
            exits.trace(error)
        where = "" if debug else "; --debug shows where"
        exits.complain(f"{type(error).__name__}: {exits.one_line(error)}{where}")
        sys.exit(exits.UNREADABLE)
    sys.exit(code if isinstance(code, int) else exits.FINE)


def _asked(arguments: Sequence[str]) -> tuple[list[str], bool]:
    """The arguments without `--debug`, which may stand before a command or after it.

    Behind `--` it is a name.
    """
    end = arguments.index("--") if "--" in arguments else len(arguments)
    options = [text for text in arguments[:end] if text != "--debug"]
    return [*options, *arguments[end:]], len(options) < end


def _help_of(arguments: Sequence[str]) -> str:
    """What shows the help of the command that is called."""
    named = f" {arguments[0]}" if arguments[0] in COMMANDS else ""
    return f"{NAME}{named} --help"


def _open_streams() -> None:
    """Somewhere to write, also where a caller closed it (`>&-`), and whatever can be spelled."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            stream = os.fdopen(os.open(os.devnull, os.O_WRONLY), "w", encoding="utf-8")
            setattr(sys, name, stream)
        # What a terminal's encoding does not have is shown as its escape.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
