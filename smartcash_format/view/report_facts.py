"""What a report says of one checkpoint besides its metrics: config, environment, files.

Whatever is cut ends in a few digits of its digest, so that two that differ beyond the cut are seen
to differ.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from smartcash_format.errors import InvalidCheckpointError
from smartcash_format.spec import digest, layout
from smartcash_format.store.entry import Entry

Line = tuple[str, str]

_ROLES: Final = ("weights", *sorted(layout.TORCH_ROLES))
# A text that would read as another value of JSON is shown as what it is.
_LIKE_JSON: Final = re.compile(r'-?[0-9.]+(?:[eE][-+]?[0-9]+)?|true|false|null|NaN|[\["{].*|', re.S)


@dataclass(frozen=True, slots=True, kw_only=True)
class Detail:
    """How much of each checkpoint is shown."""

    metrics: int
    digits: int
    lines: int
    characters: int


@dataclass(frozen=True, slots=True)
class Facts:
    """The lines of one checkpoint, whole. `weights` is the digest of its main weights, or ""."""

    config: list[Line]
    about: list[Line]
    parts: str
    weights: str


def facts(entry: Entry) -> Facts:
    """The facts of a checkpoint; that it is wrong where a field of its meta.json is."""
    parts = " ".join(role for role in _ROLES if role in entry.roles)
    try:
        meta = entry.meta
    except InvalidCheckpointError as error:
        wrong = str(error.problems[0]) if error.problems else str(error)
        return Facts([], [(layout.META, wrong)], parts, "")
    about = [
        ("environment " + name, str(value))
        for name, value in meta.environment.model_dump().items()
        if value is not None
    ]
    for name, weights in meta.weights.items():
        text = f"{weights.class_name or 'a state dict'}, {weights.parameters:,} parameters"
        about.append((f"weights {name}", text + ("" if weights.finite else ", not finite")))
    if meta.optimizer is not None:
        about.append(("optimizer", meta.optimizer.class_name or "a state dict"))
    if meta.scheduler is not None:
        about.append(("scheduler", meta.scheduler.class_name or "a state dict"))
    about += [(f"file {name}", f"{r.size_bytes:,} bytes") for name, r in meta.files.items()]
    config = [] if meta.config is None else config_lines(meta.config)
    main = meta.weights.get(layout.MODEL)
    return Facts(config, about, parts, main.weights_digest if main else "")


@dataclass(slots=True)
class Shears:
    """Cuts texts and lines to a detail, and knows whether it had to cut any."""

    detail: Detail
    cut_texts: bool = False
    cut_lines: bool = False

    def lines(self, lines: list[Line]) -> list[Line]:
        """As many of these as there is room for; the last one names what the others are."""
        most = self.detail.lines
        shown = [(self.text(name), self.text(value)) for name, value in lines[:most]]
        if len(lines) > most:
            self.cut_lines = True
            rest = lines[most:]
            shown.append((f"… {len(rest)} more", _mark(json.dumps(rest))))
        return shown

    def text(self, text: str) -> str:
        """A text, or its beginning with the digits of the whole."""
        if len(text) <= self.detail.characters:
            return text
        self.cut_texts = True
        mark = "… " + _mark(text)
        return text[: self.detail.characters - len(mark)] + mark


def algorithm_of(weights: str) -> str:
    """How a digest was taken; those of two algorithms say nothing of each other."""
    return digest.algorithm_of(weights) if weights else ""


def config_lines(config: Any) -> list[Line]:
    """A config as lines of a dotted path and a text, all of it."""
    return list(_flat(config, ""))


def _mark(text: str) -> str:
    data = text.encode("utf-8", "surrogatepass")
    return "#" + hashlib.blake2b(data, digest_size=4).hexdigest()


def _flat(value: Any, path: str) -> Iterator[Line]:
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            yield from _flat(item, f"{path}.{_key(key)}" if path else _key(key))
        return
    is_plain = isinstance(value, str) and not _LIKE_JSON.fullmatch(value)
    yield path or "value", value if is_plain else json.dumps(value, ensure_ascii=False)


def _key(key: Any) -> str:
    """A key as one step of a path: one that has a dot of its own stands in quotes."""
    text = str(key)
    return json.dumps(text, ensure_ascii=False) if not text or "." in text or '"' in text else text
