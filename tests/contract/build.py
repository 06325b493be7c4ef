"""Checkpoints made by hand, byte by byte, so that each can be wrong in one thing only.

No writer of the package is used for what may be broken: headers and documents are put together
here, and programs in torch_files, from plain values.
"""

from __future__ import annotations

import copy
import json
import math
import struct
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from smartcash_format.spec.digest import SEAL_KEY, digest_of, seal, weights_digest
from tests.contract.torch_files import Stored, archive, floats, program

FLOATING = {"F16": "<e", "F32": "<f", "F64": "<d"}
INTEGER = {"I64": "<q", "I32": "<i", "U8": "<B", "BOOL": "<?"}


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor of a weights file; `raw` where its bytes are not made from `values`."""

    name: str
    dtype: str
    shape: list[int]
    values: Sequence[float] = ()
    raw: bytes = b""

    @property
    def data(self) -> bytes:
        form = (FLOATING | INTEGER).get(self.dtype)
        return self.raw if form is None else b"".join(struct.pack(form, v) for v in self.values)

    def record(self, file: str, algorithm: str = "blake3") -> dict[str, Any]:
        """The tensor's entry in tensors.json."""
        found: dict[str, Any] = {
            "dtype": self.dtype,
            "shape": self.shape,
            "file": file,
            "digest": digest_of(self.data, algorithm),
        }
        if self.dtype in FLOATING:
            l2 = math.sqrt(math.fsum(float(v) ** 2 for v in self.values))
            absmax = max((abs(v) for v in self.values), default=0.0)
            if any(math.isnan(v) for v in self.values):
                l2 = absmax = math.nan
            found |= {"l2": number(l2), "absmax": number(absmax)}
            if not math.isfinite(l2):
                found["nan"] = sum(math.isnan(v) for v in self.values)
                found["inf"] = sum(math.isinf(v) for v in self.values)
        return found


def number(value: float) -> float | str:
    """A number as the format writes it."""
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def json_bytes(value: object, **form: Any) -> bytes:
    """Compact sorted JSON and a newline."""
    spelled: dict[str, Any] = {"separators": (",", ":"), "sort_keys": True, "ensure_ascii": False}
    return json.dumps(value, **(spelled | form)).encode() + b"\n"


# Safetensors -------------------------------------------------------------------------------------


def header_of(tensors: Sequence[Tensor]) -> dict[str, Any]:
    """The header of these tensors in this order."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for tensor in tensors:
        begin, end = end, end + len(tensor.data)
        header[tensor.name] = {
            "dtype": tensor.dtype,
            "shape": tensor.shape,
            "data_offsets": [begin, end],
        }
    return header


def weights_of(header: Mapping[str, Any] | bytes, data: bytes) -> bytes:
    """A safetensors file with this header, padded, and this data."""
    raw = header if isinstance(header, bytes) else json_bytes(header, sort_keys=False)[:-1]
    raw += b" " * (-len(raw) % 8)
    return struct.pack("<Q", len(raw)) + raw + data


def weights_file(tensors: Sequence[Tensor]) -> bytes:
    """A sound safetensors file."""
    return weights_of(header_of(tensors), b"".join(t.data for t in tensors))


# Whole checkpoints -------------------------------------------------------------------------------

MODEL = [
    Tensor("head.weight", "F32", [2, 3], [0.5, -1.0, 0.25, 2.0, -0.125, 1.5]),
    Tensor("head.bias", "F32", [2], [0.0, 0.75]),
]
ROLES = {
    "tensors.json": "tensors",
    "optimizer.pt": "optimizer",
    "scheduler.pt": "scheduler",
    "extra.pt": "extra",
}
ADAMW = {"lr": 0.001, "betas": [0.9, 0.999], "eps": 1e-08, "weight_decay": 0.01}


@dataclass(slots=True)
class Draft:
    """A checkpoint in the making: everything can be changed until `files` is asked for."""

    sets: dict[str, list[list[Tensor]]]
    manifest: dict[str, Any]
    meta: dict[str, Any]
    parts: dict[str, bytes] = field(default_factory=dict)
    algorithm: str = "blake3"

    def listed(self) -> dict[str, Any]:
        """`files` as these parts need it."""
        return {
            name: {
                "role": role_of(name),
                "size_bytes": len(data),
                "digest": digest_of(data, self.algorithm),
            }
            for name, data in self.parts.items()
        }

    def write_manifest(self, **form: Any) -> None:
        """tensors.json from `manifest`, and the weights digests from it."""
        self.parts["tensors.json"] = json_bytes(self.manifest, **form)
        for name, weights in self.manifest["weights"].items():
            digest = named_weights(weights, self.algorithm)
            self.meta["weights"][name]["weights_digest"] = digest

    def files(self) -> dict[str, bytes]:
        """Every file of a sound checkpoint."""
        self.write_manifest()
        self.meta["files"] = self.listed()
        return self.parts | {"meta.json": sealed(self.meta)}

    def files_as_they_are(self) -> dict[str, bytes]:
        """The same with the bytes that tensors.json already has."""
        self.meta["files"] = self.listed()
        return self.parts | {"meta.json": sealed(self.meta)}


def role_of(name: str) -> str:
    if name in ROLES:
        return ROLES[name]
    if name.endswith(".index.json"):
        return "index"
    return "weights" if name.endswith(".safetensors") else "aux"


def sealed(document: Mapping[str, Any]) -> bytes:
    """A meta.json with its digest."""
    return seal({key: value for key, value in document.items() if key != SEAL_KEY})


def named_weights(weights: Mapping[str, Any], algorithm: str = "blake3") -> str:
    """The weights_digest of a set of the manifest."""
    tensors = weights["tensors"]
    names = [*((name, name) for name in tensors), *weights.get("aliases", {}).items()]
    found = ((name, tensors[target]) for name, target in names if target in tensors)
    lines = ((name, t["dtype"], t["shape"], t["digest"]) for name, t in found)
    return weights_digest(lines, algorithm)


def draft(
    sets: Mapping[str, list[list[Tensor]]] | None = None,
    *,
    aliases: Mapping[str, str] | None = None,
    algorithm: str = "blake3",
) -> Draft:
    """A sound checkpoint of weights alone; a list of tensors for each shard of each set."""
    sets = dict(sets or {"model": [MODEL]})
    aliases = dict(aliases or {})
    made = Draft(
        sets=sets,
        manifest={
            "format": "smartcash-tensors",
            "format_version": "1.0",
            "weights": {},
            "optimizer_groups": {},
        },
        meta=copy.deepcopy(META),
        algorithm=algorithm,
    )
    for name, shards in sets.items():
        _add_set(made, name, shards, aliases)
        aliases = {}
    return made


def _add_set(
    made: Draft, name: str, shards: list[list[Tensor]], aliases: Mapping[str, str]
) -> None:
    where: dict[str, str] = {}
    for number_, tensors in enumerate(shards, 1):
        file = f"{name}.safetensors"
        if len(shards) > 1:
            file = f"{name}-{number_:05d}-of-{len(shards):05d}.safetensors"
        made.parts[file] = weights_file(tensors)
        where |= {tensor.name: file for tensor in tensors}
    tensors = [tensor for shard in shards for tensor in shard]
    if len(shards) > 1:
        total = sum(len(tensor.data) for tensor in tensors)
        index = {"metadata": {"total_size": total}, "weight_map": where}
        made.parts[f"{name}.safetensors.index.json"] = json_bytes(index)
    made.manifest["weights"][name] = {
        "tensors": {t.name: t.record(where[t.name], made.algorithm) for t in tensors},
        "aliases": dict(aliases),
        "modules": {},
    }
    by_name = {t.name: t for t in tensors}
    elements = sum(math.prod(t.shape) for t in tensors if t.dtype in FLOATING)
    made.meta["weights"][name] = {
        "class_name": "TinyNet",
        "tensors": len(tensors) + len(aliases),
        "parameters": elements,
        "trainable_parameters": elements,
        "dtypes": dict(
            Counter(t.dtype for t in tensors) + Counter(by_name[t].dtype for t in aliases.values())
        ),
        "weights_digest": "",
        "finite": all(math.isfinite(v) for t in tensors for v in t.values),
    }


META: dict[str, Any] = {
    "format": "smartcash-checkpoint",
    "format_version": "1.0",
    "checkpoint_id": "6f1b9a52-3c44-4d0e-9a17-0c5d2e8f4b01",
    "run_id": "0d8e7c66-5b43-4f2a-8e19-1a2b3c4d5e6f",
    "parent_id": None,
    "derived_from": None,
    "saved_at": "2026-01-31T12:00:00.000000Z",
    "epoch": 10,
    "step": 1200,
    "is_best": True,
    "metrics": {"val_loss": 0.25, "val_map": 0.5},
    "backbone": "efficientnet_b4",
    "dataset": "rupiah",
    "tags": ["baseline"],
    "config": {"lr": 0.001, "model": {"backbone": "efficientnet_b4"}},
    "notes": {"why": "an example"},
    "weights": {},
    "optimizer": None,
    "scheduler": None,
    "extra": [],
    "rng": False,
    "environment": {
        "python": "3.13.1",
        "torch": "2.13.0",
        "safetensors": "0.8.0",
        "smartcash_format": "0.1.0",
        "platform": "Linux-x86_64",
        "git_commit": None,
    },
}


def adamw_state() -> dict[str, Any]:
    """What AdamW's state_dict() gives for the two parameters of MODEL."""
    state = {
        index: {
            "step": Stored(str(3 * index), 1, (), ()),
            "exp_avg": Stored(str(3 * index + 1), *window),
            "exp_avg_sq": Stored(str(3 * index + 2), *window),
        }
        for index, window in enumerate([(6, (2, 3), (3, 1)), (2, (2,), (1,))])
    }
    return {"state": state, "param_groups": [{**ADAMW, "params": [0, 1]}]}


def adamw_storages() -> dict[str, bytes]:
    """The bytes of the tensors of `adamw_state`."""
    step = floats(1200.0)
    return {
        "0": step, "1": floats(*[0.5] * 6), "2": floats(*[0.25] * 6),
        "3": step, "4": floats(*[0.5] * 2), "5": floats(*[0.25] * 2),
    }  # fmt: skip


def with_optimizer(made: Draft, data: bytes | None = None) -> Draft:
    """The same with an optimizer.pt, a sound one unless another is given."""
    if data is None:
        data = archive(program(adamw_state()), adamw_storages())
    made.parts["optimizer.pt"] = data
    made.meta["optimizer"] = {
        "class_name": "AdamW",
        "groups": [{"parameters": 2, "hyperparameters": dict(ADAMW)}],
    }
    made.manifest["optimizer_groups"]["optimizer"] = [["head.weight", "head.bias"]]
    return made
