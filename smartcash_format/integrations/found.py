"""What a foreign file was found to hold: the state to save, and how each field was come by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from smartcash_format.integrations.mapped import MappedFile


class Known(StrEnum):
    """How a field was come by."""

    READ = "read"
    INFERRED = "inferred"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """A field of the checkpoint to be: where it stands in the source, or why it was inferred."""

    name: str
    known: Known
    source: str


@dataclass(slots=True, kw_only=True)
class Found:
    """One source, ready to be saved; filled while it is read, then left alone.

    `kind` says what the source is, `files` which files of it were read and
    `mapped` what of them lies in memory; `model` and `ema` are
    modules or state dicts, `said` has the words of meta.json by the names of `save_checkpoint`.
    """

    source: Path
    kind: str
    files: list[Path] = field(default_factory=list)
    mapped: list[MappedFile] = field(default_factory=list)
    model: Any = None
    ema: Any = None
    optimizer: Mapping[str, Any] | None = None
    scheduler: Mapping[str, Any] | None = None
    extra: dict[str, Any] = field(default_factory=dict)
    said: dict[str, Any] = field(default_factory=dict)
    fields: dict[str, Field] = field(default_factory=dict)
    dropped: list[str] = field(default_factory=list)

    def say(self, name: str, value: Any, known: Known, source: str) -> None:
        """Sets a word of meta.json and where it comes from."""
        self.said[name] = value
        self.note(name, known, source)

    def note(self, name: str, known: Known, source: str) -> None:
        """Where a part of the checkpoint comes from."""
        self.fields[name] = Field(name=name, known=known, source=source)
