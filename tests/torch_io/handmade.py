"""Checkpoints written by other hands than ours: safetensors' writer, torch.save, and meta.json."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

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
from smartcash_format.torch_io.dtypes import DTYPES, file_shape
from tests.torch_io.zoo import Training

UUID = "3f9a2c1b-0000-4000-8000-000000000000"


def write(
    path: Path,
    *,
    weights: Mapping[str, Mapping[str, torch.Tensor]] | None = None,
    aliases: Mapping[str, str] | None = None,
    versions: Mapping[str, int] | None = None,
    optimizer: Any = None,
    optimizer_class: str | None = None,
    names: Sequence[Sequence[str | None]] | None = None,
    scheduler: Any = None,
    extra: Mapping[str, Any] | None = None,
    **facts: Any,
) -> Path:
    """A checkpoint of these state dicts; `extra` is what extra.pt holds."""
    path.mkdir(parents=True)
    manifest = {}
    for name, tensors in (weights or {}).items():
        manifest[name] = _weight_set(path, name, tensors, aliases or {}, versions or {})
    groups: list[dict[str, Any]] = optimizer["param_groups"] if optimizer else []
    if optimizer is not None and names is None:
        names = [[None] * len(group["params"]) for group in groups]
    listed = {"optimizer": [list(group) for group in names or []]} if optimizer is not None else {}
    tensors_json = Tensors(weights=manifest, optimizer_groups=listed)
    (path / layout.TENSORS).write_bytes(encode_tensors(tensors_json))
    states = {layout.OPTIMIZER: optimizer, layout.SCHEDULER: scheduler, layout.EXTRA: extra}
    for file, state in states.items():
        if state is not None:
            torch.save(state, path / file)
    meta = Meta(
        checkpoint_id=UUID,
        run_id=UUID,
        saved_at=datetime.now(UTC),
        is_best=False,
        weights={name: _summary(found) for name, found in manifest.items()},
        optimizer=_optimizer(groups, optimizer_class) if optimizer is not None else None,
        scheduler=SchedulerRecord(class_name=None) if scheduler is not None else None,
        extra=sorted((extra or {}).get("objects", {})),
        rng="rng" in (extra or {}),
        files={file.name: _record(file) for file in sorted(path.iterdir())},
        **{"epoch": 3, **facts},
    )
    (path / layout.META).write_bytes(encode_meta(meta))
    return path


def of(model: nn.Module, optimizer: torch.optim.Optimizer | None = None) -> dict[str, Any]:
    """What `write` takes for a model and its optimizer, with names in the groups."""
    found: dict[str, Any] = {"weights": {"model": dict(model.state_dict())}}
    if optimizer is not None:
        known = {id(parameter): name for name, parameter in model.named_parameters()}
        found["optimizer"] = optimizer.state_dict()
        found["optimizer_class"] = type(optimizer).__name__
        found["names"] = [
            [known.get(id(p)) for p in group["params"]] for group in optimizer.param_groups
        ]
    return found


def saved_model(tmp_path: Path, model: nn.Module | Mapping[str, Any], **facts: Any) -> Path:
    """A checkpoint of this model alone."""
    state = model.state_dict() if isinstance(model, nn.Module) else model
    return write(tmp_path / "c", weights={"model": dict(state)}, **facts)


def saved_training(tmp_path: Path, training: Training, **facts: Any) -> Path:
    """A checkpoint of a model and its optimizer."""
    return write(tmp_path / "c", **of(training.model, training.optimizer), **facts)


def reseal(path: Path, **changes: Any) -> None:
    """Makes meta.json list the files as they are now, with these facts changed."""
    meta = Meta.model_validate_json((path / layout.META).read_bytes())
    files = {name: _record(path / name) for name in meta.files}
    data = meta.model_copy(update={"files": files, **changes})
    (path / layout.META).write_bytes(encode_meta(data))


def _record(file: Path) -> FileRecord:
    data = file.read_bytes()
    return FileRecord(
        role=layout.role_of(file.name)[0], size_bytes=len(data), digest=digest.digest_of(data)
    )


def _weight_set(
    path: Path,
    name: str,
    tensors: Mapping[str, torch.Tensor],
    aliases: Mapping[str, str],
    versions: Mapping[str, int],
) -> WeightSetTensors:
    stored = {key: t.detach().contiguous() for key, t in tensors.items() if key not in aliases}
    file = layout.weights_file(name)
    save_file(stored, path / file, metadata={"format": "pt"})
    data = (path / file).read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    records = {}
    for key, tensor in stored.items():
        begin, end = (8 + length + offset for offset in header[key]["data_offsets"])
        records[key] = TensorRecord(
            dtype=DTYPES[tensor.dtype],
            shape=list(file_shape(DTYPES[tensor.dtype], tensor.shape)),
            file=file,
            digest=digest.digest_of(data[begin:end]),
        )
    return WeightSetTensors(tensors=records, aliases=dict(aliases), modules=dict(versions))


def _summary(found: WeightSetTensors) -> WeightSet:
    dtypes: dict[str, int] = {}
    for _, dtype, _, _ in found.lines():
        dtypes[dtype] = dtypes.get(dtype, 0) + 1
    return WeightSet(
        class_name="Net",
        tensors=len(found.tensors) + len(found.aliases),
        parameters=0,
        trainable_parameters=None,
        dtypes=dtypes,
        weights_digest=found.weights_digest,
        finite=True,
    )


def _optimizer(groups: Sequence[Mapping[str, Any]], class_name: str | None) -> OptimizerRecord:
    return OptimizerRecord(
        class_name=class_name,
        groups=[
            ParameterGroup(parameters=len(group["params"]), hyperparameters={}) for group in groups
        ],
    )
