"""Documents that the tests of several modules start from."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from smartcash_format.spec.digest import digest_of
from smartcash_format.spec.meta import (
    FileRecord,
    Meta,
    OptimizerRecord,
    ParameterGroup,
    SchedulerRecord,
    WeightSet,
)
from smartcash_format.spec.tensors import TensorRecord, Tensors, WeightSetTensors

CHECKPOINT = "3f9a2c1b-0000-4000-8000-000000000001"
RUN = "3f9a2c1b-0000-4000-8000-0000000000aa"


def meta(**changes: Any) -> Meta:
    """A whole meta.json as a training run writes one, with these fields changed."""
    fields: dict[str, Any] = {
        "checkpoint_id": CHECKPOINT,
        "run_id": RUN,
        "saved_at": datetime(2026, 1, 31, 12, tzinfo=UTC),
        "epoch": 10,
        "step": 1_200,
        "is_best": True,
        "metrics": {"val_loss": 0.25, "val_map": 0.5},
        "backbone": "efficientnet_b4",
        "config": {"model": {"backbone": "efficientnet_b4"}, "lr": 1e-05},
        "weights": {
            "model": WeightSet(
                class_name="TinyYolo",
                tensors=2,
                parameters=6,
                trainable_parameters=6,
                dtypes={"F32": 2},
                weights_digest=digest_of(b"weights"),
                finite=True,
            )
        },
        "optimizer": OptimizerRecord(
            class_name="AdamW",
            groups=[ParameterGroup(parameters=2, hyperparameters={"lr": 0.001})],
        ),
        "scheduler": SchedulerRecord(class_name="CosineAnnealingLR"),
        "extra": ["scaler"],
        "rng": True,
        "files": {
            name: FileRecord(role=role, size_bytes=16, digest=digest_of(name.encode()))
            for name, role in [
                ("model.safetensors", "weights"),
                ("tensors.json", "tensors"),
                ("optimizer.pt", "optimizer"),
                ("scheduler.pt", "scheduler"),
                ("extra.pt", "extra"),
            ]
        },
    }
    return Meta(**(fields | changes))


def record(**changes: Any) -> TensorRecord:
    """One floating tensor of the manifest, with these fields changed."""
    fields: dict[str, Any] = {
        "dtype": "F32",
        "shape": [2, 2],
        "file": "model.safetensors",
        "digest": digest_of(b"tensor"),
        "l2": 2.0,
        "absmax": 1.0,
    }
    return TensorRecord(**(fields | changes))


def tensors(**changes: Any) -> Tensors:
    """A whole tensors.json with a tied tensor, an odd module version and one optimizer."""
    fields: dict[str, Any] = {
        "weights": {
            "model": WeightSetTensors(
                tensors={"head.weight": record(), "step": record(dtype="I64", l2=None)},
                aliases={"embed.weight": "head.weight"},
                modules={"bn": 2},
            )
        },
        "optimizer_groups": {"optimizer": [["head.weight", None]]},
    }
    return Tensors(**(fields | changes))
