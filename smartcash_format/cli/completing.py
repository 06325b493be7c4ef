"""What a shell offers where a metric or a field is asked for: those of the roots that are named."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import typer

from smartcash_format.store import query
from smartcash_format.store.catalog import scan
from smartcash_format.store.tree import search

# A shell takes what is offered as it is typed: no blank, quote or other sign that it obeys.
_PLAIN: Final = re.compile(r"[\w@%+./-]+")
_MODES: Final = ("max", "min")


def metrics_and_modes(ctx: typer.Context) -> list[str]:
    """`val_loss:min`; both modes of a metric whose name does not say which end is good."""
    from smartcash_format.view.answer import by_likelihood, likely_mode  # no answer needs it

    return [
        f"{name}:{mode}"
        for name in by_likelihood(_metrics(ctx))
        for mode in _MODES
        if likely_mode(name) in (None, mode)
    ]


def sort_fields(ctx: typer.Context) -> list[str]:
    """The fields that every checkpoint has, then the metrics."""
    fields = [name for name in query.fields() if _PLAIN.fullmatch(name)]
    return [*fields, *(f"{query.METRICS}{name}" for name in sorted(_metrics(ctx)))]


def _metrics(ctx: typer.Context) -> set[str]:
    """The metrics of the roots that stand before; none where one cannot be read."""
    look = search if ctx.params.get("recursive") else scan
    found: set[str] = set()
    for root in ctx.args:  # left there, as the option behind them has no value yet
        try:
            found.update(name for entry in look(Path(root)) for name in entry.metrics)
        except OSError:
            continue
    return {name for name in found if _PLAIN.fullmatch(name)}
