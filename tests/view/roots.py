"""Roots of checkpoints as people have them: a resumed run, and one whose texts are hostile."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.store.checkpoints import OTHER_RUN, RUN, identifier, write_checkpoint, write_weighed

Write = Callable[..., Path]

SCRIPT = "</script><script>document.title='owned'</script><img src=x onerror=alert(1)>"


def resumed_run(root: Path, count: int = 12, *, write: Write = write_checkpoint) -> Path:
    """A run, and another that went on from its middle; a NaN early, a metric that comes late.

    val_loss falls with the epoch; the flags go by it. The last third forked from the first.
    """
    third = count // 3
    parent, best = None, math.inf
    for number in range(1, count + 1):
        forked = number > 2 * third
        epoch = number - third if forked else number
        if number == 2 * third + 1:
            parent = identifier(third)
        loss = math.nan if number == 2 else 2 / epoch - (0.01 if forked else 0)
        metrics = {"val_loss": loss, "metrics/mAP50-95(B)": 1 - 1 / (epoch + 1)}
        if number > third:
            metrics["val/late"] = epoch / count
        write(
            root,
            number,
            epoch=epoch,
            run_id=OTHER_RUN if forked else RUN,
            parent_id=parent,
            is_best=loss < best,
            metrics=metrics,
            config={"training": {"lr": 0.0005 if forked else 0.001, "epochs": count}},
        )
        best = min(best, loss) if not math.isnan(loss) else best
        parent = identifier(number)
    return root


def weighed_run(root: Path) -> Path:
    """The resumed run, of twenty-four, with the weights of a small network in each."""

    def write(root: Path, number: int, **fields: Any) -> Path:
        grown = {
            f"{layer}.weight": (2.0 + number * step, number if step else 0)
            for layer, step in _LAYERS.items()
        }
        broken = {"head.box.weight": (math.nan, number)} if number == 3 else {}
        return write_weighed(root, number, grown | broken | {"bn.seen": (None, number)}, **fields)

    return resumed_run(root, 24, write=write)


_LAYERS = {
    **{f"backbone.{i}.conv": 0.0 for i in range(4)},
    **{f"neck.{i}.conv": 10.0 ** -(i + 1) for i in range(4)},
    "head.box": 0.01,
    "head.cls": 0.5,
}


def hostile(root: Path) -> Path:
    """Two checkpoints whose every text is markup, control characters or far too long."""
    for number in (1, 2):
        write_checkpoint(
            root,
            number,
            is_best=True,
            metrics={SCRIPT: number / 10, "{{ 7 * 7 }}": 0.5, "x\u202ey": 1.0},
            backbone=SCRIPT,
            dataset="\u2028<!--<script>",
            tags=[SCRIPT, "a\x1b[31mb"],
            config={SCRIPT: "y" * 10_000, "deep": [{SCRIPT: SCRIPT}], "z" * 10_000: number},
        )
    return root
