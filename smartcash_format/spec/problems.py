"""Findings as values: one breach at one place, and all breaches of one checkpoint."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from smartcash_format.spec.displaying import Displayed
from smartcash_format.spec.remedies import REMEDIES

if TYPE_CHECKING:
    from smartcash_format.spec.meta import Meta

Code = Literal[
    # a directory
    "not-a-checkpoint",
    "foreign-format",
    "newer-version",
    # strict JSON documents: meta.json, tensors.json, the index, headers
    "json-too-large",
    "json-encoding",
    "json-syntax",
    "json-duplicate-key",
    "json-number",
    "json-too-deep",
    # fields of a document
    "field-missing",
    "field-unknown",
    "field-invalid",
    "meta-digest-mismatch",
    # files
    "file-name",
    "file-missing",
    "file-kind",
    "file-unreadable",
    "file-size",
    "file-role",
    "digest-unknown",
    "digest-mismatch",
    # safetensors
    "header-length",
    "header-field",
    "header-metadata",
    "tensor-count",
    "tensor-name",
    "tensor-dtype",
    "tensor-shape",
    "tensor-size",
    "tensor-offsets",
    "index-mismatch",
    "manifest-mismatch",
    "weights-digest-mismatch",
    # torch files
    "archive-format",
    "archive-structure",
    "archive-compressed",
    "archive-size",
    "archive-record",
    "pickle-global",
    "pickle-opcode",
    "pickle-structure",
    "pickle-tensor",
    "pickle-bounds",
    "extra-mismatch",
    # a checkpoint against live objects
    "component-absent",
    "tensor-missing",
    "tensor-unexpected",
    "shape-mismatch",
    "optimizer-class",
    "optimizer-groups",
    "optimizer-names",
    "optimizer-state",
    "hyperparameter",
    "scheduler-key",
    "extra-missing",
    "extra-unexpected",
    "extra-state",
]
CODES: frozenset[str] = frozenset(get_args(Code))


class Depth(IntEnum):
    """How hard a validation looks; each depth includes the ones before it (FORMAT.md, Depths)."""

    META = 1
    STRUCTURE = 2
    CONTENT = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One breach at one place.

    `code` is stable, `message` may be reworded. `where` is a file of the checkpoint or a path in
    it (`meta.json: files["model.safetensors"].size_bytes`). `found` is None where `message` is all
    that can be said of it; `expected` and `fix`, what to do, follow from the code where not given.
    """

    code: Code
    where: str
    message: str
    found: str | None = None
    expected: str | None = None
    fix: str = ""

    def __post_init__(self) -> None:
        expected, fix = REMEDIES.get(self.code, (None, ""))
        if self.expected is None:
            object.__setattr__(self, "expected", expected)
        if not self.fix:
            object.__setattr__(self, "fix", fix)


@dataclass(frozen=True, slots=True, kw_only=True)
class Report(Displayed):
    """All problems of one checkpoint, and how deep the look was.

    `notices` are worth a line and break nothing, such as a file that meta.json does not list.
    `bytes_hashed` is 0 above CONTENT.
    """

    path: Path
    depth: Depth
    problems: tuple[Problem, ...]
    notices: tuple[str, ...] = ()
    meta: Meta | None = None
    bytes_hashed: int = 0

    def __repr__(self) -> str:
        found = "valid" if self.valid else f"{len(self.problems)} problems"
        return f"Report({str(self.path)!r}, {self.depth.name}: {found})"

    @property
    def valid(self) -> bool:
        """Whether nothing is wrong as deep as the look was."""
        return not self.problems

    @property
    def message(self) -> str:
        """One sentence that names the depth, or the first problem and how many there are."""
        return self.sentence("depth=CONTENT")

    def sentence(self, deepest: str) -> str:
        """The message; `deepest` is how the look at every byte is asked for where it is read."""
        if self.problems:
            first = self.problems[0]
            more = f" (and {len(self.problems) - 1} more)" if len(self.problems) > 1 else ""
            return f"{first.where}: {first.message}{more}"
        if self.depth is Depth.CONTENT:
            return "valid and intact (content: every digest holds)"
        name = self.depth.name.lower()
        return f"valid and complete ({name}; contents not hashed: {deepest})"
