"""What Lightning's own ModelCheckpoint callback says of the file that it wrote."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import torch

from smartcash_format.integrations.found import Found, Known

_CALLBACK: Final = "ModelCheckpoint"


def read_callbacks(found: Found, value: Mapping[str, Any]) -> None:
    """The monitored metric at this save, and whether the file was the best, where one tells it.

    A `.ckpt` has no other metrics. The callbacks' states stay for whoever resumes with them.
    """
    callbacks = value.get("callbacks")
    for name, state in callbacks.items() if isinstance(callbacks, Mapping) else ():
        if not str(name).startswith(_CALLBACK) or not isinstance(state, Mapping):
            continue
        monitor, score = state.get("monitor"), state.get("current_score")
        if isinstance(score, torch.Tensor) and score.numel() == 1:
            score = score.item()
        if isinstance(monitor, str) and isinstance(score, int | float):
            metrics = {**found.said.get("metrics", {}), monitor: score}
            found.say("metrics", metrics, Known.READ, f"callbacks: {_CALLBACK}")
        best = state.get("best_model_path")
        if isinstance(best, str) and best:
            is_best = re.split(r"[/\\]", best)[-1] == found.source.name
            found.say("is_best", is_best, Known.READ, f"callbacks: {_CALLBACK}: best_model_path")
