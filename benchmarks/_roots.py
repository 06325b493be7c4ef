"""Roots of checkpoints: a real meta.json in each, and holes of full size for the other files."""

from __future__ import annotations

import random
import sys
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from pydantic import JsonValue  # noqa: E402

from smartcash_format.spec import layout  # noqa: E402
from smartcash_format.spec.meta import (  # noqa: E402
    Environment,
    FileRecord,
    Meta,
    OptimizerRecord,
    ParameterGroup,
    SchedulerRecord,
    WeightSet,
    encode_meta,
)

SIZES = {
    layout.TENSORS: 184_000,
    "model.safetensors": 70_720_000,
    layout.OPTIMIZER: 140_900_000,
    layout.SCHEDULER: 1_600,
    layout.EXTRA: 21_000,
}
DIGEST = "blake3:" + "3f9a2c1b" * 8
# EfficientNet-B4 with its head: 704 tensors, 17.6 million floats.
TENSORS = 704
FLOATS = 17_600_000


def make_meta(number: int, chance: random.Random) -> Meta:
    """The meta.json that a SmartCash training writes, as large as usual."""
    identifiers = [str(uuid.UUID(int=chance.getrandbits(128), version=4)) for _ in range(3)]
    config: JsonValue = {
        "model": {"backbone": "efficientnet_b4", "img_size": [640, 640], "dropout": 0.2},
        "layers": ["banknote", "nominal", "security"],
        "training": {"epochs": 100, "batch_size": 16, "lr": 0.001, "weight_decay": 5e-4},
        "data": {"source": "roboflow", "path": "data/processed"},
    }
    hyperparameters: dict[str, JsonValue] = {"lr": 0.001, "betas": [0.9, 0.999], "eps": 1e-8}
    return Meta(
        checkpoint_id=identifiers[0],
        run_id=identifiers[1],
        parent_id=identifiers[2],
        saved_at=datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=number),
        epoch=number,
        is_best=number % 7 == 0,
        metrics={
            name: chance.random()
            for name in ("train_loss", "val_loss", "val_map", "precision", "recall")
        },
        backbone="efficientnet_b4",
        dataset="roboflow",
        tags=["baseline"],
        config=config,
        weights={
            "model": WeightSet(
                class_name="SmartCashYOLO", tensors=TENSORS, parameters=FLOATS,
                trainable_parameters=FLOATS, dtypes={"F32": TENSORS}, weights_digest=DIGEST,
                finite=True,
            )
        },
        optimizer=OptimizerRecord(
            class_name="AdamW",
            groups=[ParameterGroup(parameters=418, hyperparameters=hyperparameters)],
        ),
        scheduler=SchedulerRecord(class_name="CosineAnnealingLR"),
        rng=True,
        environment=Environment(python="3.13.5", torch="2.13.0", platform="linux-x86_64"),
        files={
            name: FileRecord(role=layout.role_of(name)[0], size_bytes=size, digest=DIGEST)
            for name, size in SIZES.items()
        },
    )  # fmt: skip


def make_root(root: Path, count: int) -> None:
    chance = random.Random(count)
    for number in range(count):
        meta = make_meta(number, chance)
        name = layout.directory_name(epoch=number, step=None, checkpoint_id=meta.checkpoint_id)
        (root / name).mkdir(parents=True)
        for file, size in SIZES.items():
            with open(root / name / file, "wb") as target:
                target.truncate(size)
        (root / name / layout.META).write_bytes(encode_meta(meta))
