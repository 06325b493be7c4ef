"""What Hugging Face's Trainer says of its checkpoint in trainer_state.json."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

from smartcash_format.integrations.foreign_json import document_of
from smartcash_format.integrations.found import Found, Known

STATE: Final = "trainer_state.json"
_STEP_IN_NAME: Final = re.compile(r"checkpoint-([0-9]{1,15})")
_NOT_FINITE: Final = ("NaN", "Infinity", "-Infinity")


def read_trainer_state(found: Found, directory: Path) -> None:
    """Step, epoch, the last metrics and whether it was the best, where the directory tells them."""
    state = document_of(found, directory / STATE)
    if not isinstance(state, dict):
        match = _STEP_IN_NAME.fullmatch(directory.name)
        if match:
            found.say("step", int(match[1]), Known.INFERRED, "the name of the directory")
        found.note("metrics", Known.UNKNOWN, "the source has none")
        return
    found.kind = "a Trainer checkpoint"
    step, epoch = state.get("global_step"), state.get("epoch")
    if isinstance(step, int) and not isinstance(step, bool) and step >= 0:
        found.say("step", step, Known.READ, f"{STATE}: global_step")
    if isinstance(epoch, int | float) and not isinstance(epoch, bool) and epoch >= 0:
        how = Known.READ if float(epoch).is_integer() else Known.INFERRED
        found.say("epoch", int(epoch), how, f"{STATE}: epoch is {epoch}")
    metrics = _last_metrics(state.get("log_history"), step)
    known = Known.READ if metrics else Known.UNKNOWN
    found.say("metrics", metrics, known, f"{STATE}: log_history")
    best = state.get("best_model_checkpoint")
    is_best = isinstance(best, str) and re.split(r"[/\\]", best)[-1] == directory.name
    known = Known.READ if isinstance(best, str) else Known.UNKNOWN
    found.say("is_best", is_best, known, f"{STATE}: best_model_checkpoint")


def _last_metrics(log: object, step: object) -> dict[str, Any]:
    metrics: dict[str, Any] = {}
    for line in log if isinstance(log, list) else ():
        if isinstance(line, dict) and line.get("step") == step:
            metrics |= {k: v for k, v in line.items() if k not in ("step", "epoch")}
    return {k: float(v) if v in _NOT_FINITE else v for k, v in metrics.items()}
