"""The example's training, as small as it gets while it still has everything in it."""

from __future__ import annotations

from typing import Any

from examples.train_detector import configuration


def smallest() -> dict[str, Any]:
    """Three epochs in a second: one with the backbone frozen, two without."""
    config = configuration(epochs=3, seed=0)
    config["model"]["width"] = 4
    config["data"] |= {"scenes": 32, "held_out": 8}
    config["training"]["pretraining_epochs"] = 1
    return config
