"""Checkpoint directories whose meta.json is real and whose other files only have their sizes."""

from __future__ import annotations

import math
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from smartcash_format.spec import digest, layout
from smartcash_format.spec.meta import (
    FileRecord,
    Meta,
    OptimizerRecord,
    ParameterGroup,
    SchedulerRecord,
    WeightSet,
    encode_meta,
)
from smartcash_format.spec.tensors import TensorRecord, Tensors, WeightSetTensors, encode_tensors
from smartcash_format.store.entry import Broken, Entry
from smartcash_format.store.glance import glance

START = datetime(2026, 1, 31, 12, tzinfo=UTC)
RUN = "11111111-1111-4111-8111-111111111111"
OTHER_RUN = "22222222-2222-4222-8222-222222222222"
SIZES = {
    "tensors.json": 300,
    "model.safetensors": 5_000,
    "optimizer.pt": 10_000,
    "scheduler.pt": 700,
}
_DIGEST = f"{digest.ALGORITHM}:{'ab' * 32}"


def identifier(number: int) -> str:
    """A checkpoint_id; they sort as the numbers do."""
    return str(uuid.UUID(int=number << 96 | 4 << 76 | 8 << 60))


def build_meta(number: int, /, **fields: Any) -> Meta:
    """The meta of save `number`: by default of that epoch, `number` minutes after START."""
    files = {
        name: FileRecord(role=layout.role_of(name)[0], size_bytes=size, digest=_DIGEST)
        for name, size in fields.pop("sizes", SIZES).items()
    }
    return Meta(
        **{
            "checkpoint_id": identifier(number),
            "run_id": RUN,
            "saved_at": START + timedelta(minutes=number),
            "epoch": number,
            "is_best": False,
            "metrics": {"val_map": 0.5, "val_loss": 1.5},
            "backbone": "efficientnet_b4",
            "dataset": "roboflow",
            "weights": {
                "model": WeightSet(
                    class_name="Tiny",
                    tensors=2,
                    parameters=6,
                    trainable_parameters=6,
                    dtypes={"F32": 2},
                    weights_digest=_DIGEST,
                    finite=True,
                )
            },
            "optimizer": OptimizerRecord(
                class_name="AdamW", groups=[ParameterGroup(parameters=2, hyperparameters={})]
            ),
            "scheduler": SchedulerRecord(class_name="CosineAnnealingLR"),
            "files": files,
            **fields,
        }
    )


def write_checkpoint(root: Path, number: int, /, *, name: str = "", **fields: Any) -> Path:
    """A checkpoint directory with this meta; the other files are holes of the listed sizes."""
    meta = build_meta(number, **fields)
    path = root / (name or _directory_name(meta))
    path.mkdir(parents=True)
    for file, record in meta.files.items():
        with open(path / file, "wb") as target:
            target.truncate(record.size_bytes)
    (path / layout.META).write_bytes(encode_meta(meta))
    return path


def write_weighed(
    root: Path,
    number: int,
    /,
    layers: Mapping[str, float | tuple[float | None, int]],
    **fields: Any,
) -> Path:
    """A checkpoint whose tensors.json has these tensors of four elements: the norm, or the norm and
    a number that names the values. Without a norm they are whole numbers.
    """
    records = {}
    for name, given in layers.items():
        l2, values = given if isinstance(given, tuple) else (given, hash(given))
        statistics: dict[str, Any] = {} if l2 is None else {"l2": l2, "absmax": l2}
        if l2 is not None and not math.isfinite(l2):
            statistics |= {"nan": int(math.isnan(l2)), "inf": 1}
        records[name] = TensorRecord(
            dtype="I32" if l2 is None else "F32", shape=[2, 2], file="model.safetensors",
            digest=digest.digest_of(str(values).encode()), **statistics,
        )  # fmt: skip
    return write_tensors(root, number, records, **fields)


def write_tensors(
    root: Path, number: int, /, records: Mapping[str, TensorRecord], **fields: Any
) -> Path:
    """A checkpoint whose tensors.json has these records."""
    tensors = WeightSetTensors(tensors=dict(records))
    data = encode_tensors(Tensors(weights={"model": tensors}))
    record = FileRecord(role="tensors", size_bytes=len(data), digest=digest.digest_of(data))
    files = {**build_meta(number).files, layout.TENSORS: record}
    model = build_meta(number).weights["model"]
    weights = {"model": model.model_copy(update={"weights_digest": tensors.weights_digest})}
    path = write_checkpoint(root, number, files=files, weights=weights, **fields)
    (path / layout.TENSORS).write_bytes(data)
    return path


def entry(number: int, /, **fields: Any) -> Entry:
    """The entry of a checkpoint that is nowhere."""
    meta = build_meta(number, **fields)
    data = encode_meta(meta)
    (seen,) = glance([data])
    assert seen is not None
    return Entry("/root-of-nothing", _directory_name(meta), data, seen)


def codes(broken: Broken) -> list[str]:
    return [problem.code for problem in broken.problems]


def _directory_name(meta: Meta) -> str:
    return layout.directory_name(epoch=meta.epoch, step=meta.step, checkpoint_id=meta.checkpoint_id)
