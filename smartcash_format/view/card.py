"""A model card as a draft: what the metadata says, and room for what only a person can say.

Everything that comes from a checkpoint stands in code: there Markdown and HTML mean nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import Final

from smartcash_format.spec.history import flow
from smartcash_format.spec.meta import Meta
from smartcash_format.view import words

# A page that is read; meta.json has it whole.
CONFIG_CHARACTERS: Final = 10_000
_CELL_CHARACTERS: Final = 200
_BACKTICKS: Final = re.compile("`+")
_DRAFT: Final = """\
This page is a draft, written from the checkpoint's metadata. Say here what the model is for and
what not, what it was trained and tried on, where it fails, and who may use it."""
_USE: Final = """\
Every byte is checked before the checkpoint is there, and no code of it runs:

    smartcash-format receive DIRECTORY -o ROOT

Then `load_checkpoint(path, model=model)` of `smartcash_format` fills a model;
`model.safetensors` opens in any safetensors loader."""


def card(name: str, meta: Meta) -> str:
    """The text of a README.md beside a checkpoint of this name."""
    title = meta.backbone or _first(weights.class_name for weights in meta.weights.values())
    parts = [
        f"---\ntags: {flow([words.harmless(tag) for tag in meta.tags])}\n---",
        f"# {_code(title or name)}, epoch {meta.epoch}",
        _DRAFT,
        _table(("what", "this checkpoint"), _facts(name, meta)),
    ]
    if meta.metrics:
        rows = [(_code(metric), words.number(value)) for metric, value in meta.metrics.items()]
        parts += ["## Metrics", _table(("metric", "value"), rows)]
    parts += ["## Use", _USE]
    if meta.config is not None and meta.config != {}:
        parts += ["## Configuration", _config(meta)]
    return "\n\n".join(parts) + "\n"


def _facts(name: str, meta: Meta) -> Iterator[tuple[str, str]]:
    yield "checkpoint", _code(name)
    yield "saved", f"{meta.saved_at:%Y-%m-%d %H:%M} UTC"
    if meta.step is not None:
        yield "step", str(meta.step)
    if meta.dataset:
        yield "dataset", _code(meta.dataset)
    for weight_set, weights in meta.weights.items():
        dtypes = ", ".join(weights.dtypes)
        says = f"{words.count(weights.parameters)} parameters in {weights.tensors} tensors"
        yield f"weights {_code(weight_set)}", f"{says}, {_code(dtypes)}"
        yield "their digest", _code(weights.weights_digest)
    if meta.environment.torch:
        yield "made with", f"torch {_code(meta.environment.torch)}"


def _table(head: tuple[str, str], rows: Iterable[tuple[str, str]]) -> str:
    lines = [f"| {left} | {right} |" for left, right in (head, ("---", "---"), *rows)]
    return "\n".join(lines)


def _config(meta: Meta) -> str:
    text = json.dumps(meta.config, indent=2, ensure_ascii=False)
    if len(text) > CONFIG_CHARACTERS:
        return f"It has {len(text):,} characters and stands in `meta.json`."
    lines = "\n".join(words.harmless(line, CONFIG_CHARACTERS) for line in text.split("\n"))
    fence = _fence(lines, 3)
    return f"{fence}json\n{lines}\n{fence}"


def _code(text: str) -> str:
    shown = words.harmless(text, _CELL_CHARACTERS)
    fence = _fence(shown, 1)
    # Spaces part the fence from backticks in the text; one on each side is not shown.
    inside = f" {shown} " if shown.startswith("`") or shown.endswith("`") else shown
    # In a table a bar ends the cell, also in code.
    return f"{fence}{inside}{fence}".replace("|", "\\|")


def _fence(text: str, least: int) -> str:
    runs = [len(run) for run in _BACKTICKS.findall(text)]
    return "`" * max(least, *(length + 1 for length in runs), least)


def _first(texts: Iterable[str | None]) -> str | None:
    return next((text for text in texts if text), None)
