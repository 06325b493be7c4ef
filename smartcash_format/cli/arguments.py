"""Arguments that are what they seem: texts, paths and the choices of a command.

Since 0.29 typer gives every argument of a command, given or not, to a model of pydantic, whose
import takes longer than a listing of a hundred. Those of the kinds below need none; what is wrong
with them, and every other kind, is typer's.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, get_args, get_origin


def take_plainly(group: Any) -> None:
    """From now on plain arguments of a group and of its commands are taken as they are."""
    for command in (group, *group.commands.values()):
        # Here the option for the help comes from as well, which is made when it is asked for.
        command.get_params = partial(_params, command.get_params)


def _params(get_params: Callable[[Any], list[Any]], context: Any) -> list[Any]:
    params = get_params(context)
    for param in params:
        if param.param_type_name == "argument":
            _name(param)
        # Before 0.29 no parameter tells its kind in this manner, and none has a model.
        kind = getattr(getattr(param, "type_descriptor", None), "annotation", None)
        if kind is not None and not isinstance(param.process_value, partial):
            param.process_value = partial(_process, param, kind, param.process_value)
    return params


def _name(argument: Any) -> None:
    """An argument stands in the help as `ROOT...` or `[NAME]`, without a type of Python's."""
    usage = argument.metavar if argument.required else f"[{argument.metavar}]"
    several = "" if argument.nargs == 1 else "..."
    argument.get_usage_pieces = lambda *_, **__: [f"{usage}{several}"]
    argument.display_type_rich = lambda *_, **__: None


def _process(
    param: Any, kind: Any, process: Callable[[Any, Any], Any], context: Any, value: Any
) -> Any:
    is_many = param.multiple or param.nargs == -1
    found: Any = None
    if value is None and not param.required:
        found = () if is_many else None
    elif value and is_many and get_origin(kind) is list:
        found = [_plain(get_args(kind)[0], each) for each in value]
        if None in found:
            return process(context, value)
    else:
        found = None if is_many else _plain(kind, value)
        if found is None:
            return process(context, value)
    return found if param.callback is None else param.callback(context, param, found)


def _plain(kind: Any, value: Any) -> Any:
    """What a text stands for as a value of a kind; None where that is not plain."""
    if not isinstance(value, str):
        return None
    if kind is str:
        return value
    if kind is Path:
        return Path(value)
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return next((each for each in kind if each.value == value), None)
    return None
