"""Roots of checkpoints as people have them: a resumed run, and one whose texts are hostile."""

from __future__ import annotations

import math
from pathlib import Path

from tests.store.checkpoints import OTHER_RUN, RUN, identifier, write_checkpoint

SCRIPT = "</script><script>document.title='owned'</script><img src=x onerror=alert(1)>"


def resumed_run(root: Path, count: int = 12) -> Path:
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
        write_checkpoint(
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
