"""A line of training_history.yaml, in the subset that JSON and YAML 1.1 read alike.

The file is a YAML sequence; each line is `- ` and a flow mapping that `json.loads` and
`yaml.safe_load` read to equal values (FORMAT.md, training_history.yaml). It tells what happened;
which checkpoints exist the directories tell.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Final, Literal, Protocol

from pydantic import Field, ValidationError

from smartcash_format.spec import limits
from smartcash_format.spec.values import Count, Frozen, Number, ShortText, Time, Uuid

BULLET: Final = "- "
# PyYAML wants a point before an exponent: it reads 1e-05 as text.
_EXPONENT = re.compile(r"^(-?[0-9]+)(e[-+][0-9]+)$")
# What YAML calls unprintable or folds as a line break, and JSON leaves alone. Characters beyond the
# 16-bit plane stay as they are: escaped, YAML reads them as two lone surrogates.
_ESCAPED = re.compile("[\x7f-\x9f\u2028\u2029\ud800-\udfff\ufeff\ufffe\uffff]")

MetricName = Annotated[str, Field(max_length=limits.HISTORY_KEY_CHARACTERS)]


class Saved(Protocol):
    """What a line of a save tells of it: a Meta has it, and an entry of a listing."""

    @property
    def checkpoint_id(self) -> str: ...
    @property
    def run_id(self) -> str: ...
    @property
    def parent_id(self) -> str | None: ...
    @property
    def saved_at(self) -> datetime: ...
    @property
    def epoch(self) -> int: ...
    @property
    def step(self) -> int | None: ...
    @property
    def is_best(self) -> bool: ...
    @property
    def metrics(self) -> Mapping[str, int | float]: ...


class HistoryLine(Frozen):
    """One event in the life of a root."""

    event: Literal["save", "resume", "cleanup", "copy"] = Field(description="what happened")
    at: Time = Field(description="when; of a save the checkpoint's saved_at")
    run_id: Uuid = Field(description="of the run, the life of one manager, that did it")
    checkpoint: ShortText | None = Field(default=None, description="the directory's name")
    checkpoint_id: Uuid | None = Field(
        default=None, description="of the checkpoint saved or resumed"
    )
    parent_id: Uuid | None = Field(default=None, description="as in its meta.json")
    epoch: Count | None = Field(default=None, description="as in its meta.json")
    step: Count | None = Field(default=None, description="as in its meta.json")
    is_best: bool | None = Field(default=None, description="as in its meta.json")
    metrics: dict[MetricName, Number] = Field(
        default={}, description="as in its meta.json; left out where the line would be too long"
    )
    checkpoints: list[ShortText] = Field(
        default=[], description="the names removed by a cleanup, or copied"
    )

    @classmethod
    def of_save(cls, name: str, meta: Saved) -> HistoryLine:
        """The line of a checkpoint that was saved under this name."""
        return cls(
            event="save",
            at=meta.saved_at,
            run_id=meta.run_id,
            checkpoint=printable(name),
            checkpoint_id=meta.checkpoint_id,
            parent_id=meta.parent_id,
            epoch=meta.epoch,
            step=meta.step,
            is_best=meta.is_best,
            metrics=dict(meta.metrics),
        )


def printable(name: str) -> str:
    """A directory's name as a line has it: what the system could not decode is shown escaped."""
    return name.encode("utf-8", "backslashreplace").decode()[: limits.SHORT_TEXT]


def encode_line(line: HistoryLine) -> str:
    """The text of a line, its newline included; metrics that make it too long are left out.

    Of a cleanup or copy of more names than a line has room for it is several lines.
    """
    document = line.model_dump(mode="json", exclude_defaults=True)
    text = BULLET + flow(document) + "\n"
    if len(text.encode()) <= limits.HISTORY_LINE_BYTES:
        return text
    if (half := len(line.checkpoints) // 2) > 0:
        halves = line.checkpoints[:half], line.checkpoints[half:]
        return "".join(
            encode_line(line.model_copy(update={"checkpoints": each})) for each in halves
        )
    return encode_line(line.model_copy(update={"metrics": {}, "checkpoints": []}))


def flow(value: Any) -> str:
    """A value as text that JSON and YAML 1.1 read alike. No NaN, no keys beyond 256 characters."""
    match value:
        case dict():
            pairs = (f"{_text(key)}: {flow(item)}" for key, item in sorted(value.items()))
            return "{" + ", ".join(pairs) + "}"
        case list() | tuple():
            return "[" + ", ".join(flow(item) for item in value) + "]"
        case str():
            return _text(value)
        case float():
            return _EXPONENT.sub(r"\1.0\2", json.dumps(value, allow_nan=False))
    return json.dumps(value)


def _text(text: str) -> str:
    quoted = json.dumps(text, ensure_ascii=False)
    return _ESCAPED.sub(lambda match: f"\\u{ord(match[0]):04x}", quoted)


def parse_line(text: str) -> HistoryLine | None:
    """The event that a line tells; None when it is torn, too long or no line of ours."""
    if not text.startswith(BULLET) or len(text) > limits.HISTORY_LINE_BYTES:
        return None
    try:
        # A newer minor may add keys: the event is the same.
        return HistoryLine.model_validate_json(text[len(BULLET) :], extra="ignore")
    except ValidationError:
        return None


def is_torn(head: bytes, size_bytes: int) -> bool:
    """Whether a line, of which these are the first bytes, is no event of any version."""
    if not head.strip() or head.startswith(b"#"):
        return False
    if not head.startswith(f"{BULLET}{{".encode()):
        return True
    if size_bytes > limits.HISTORY_LINE_BYTES:
        return False
    if not head.rstrip().endswith(b"}"):
        return True  # most are, and an exception for each of them takes its time
    try:
        return not isinstance(json.loads(head[len(BULLET) :]), dict)
    except (ValueError, RecursionError):
        return True
