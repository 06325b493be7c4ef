"""What every reader must accept: one function a directory under schemas/examples/valid."""

from __future__ import annotations

import json
import math
import random
import struct
from collections.abc import Callable, Mapping
from typing import Any, Final

from smartcash_format.spec.digest import ZEROS, digest_of
from tests.contract.build import (
    MODEL,
    Tensor,
    draft,
    json_bytes,
    weights_of,
    with_optimizer,
)
from tests.contract.torch_files import (
    Raw,
    Stored,
    archive,
    floats,
    program,
)

Files = dict[str, bytes]


def plain() -> Files:
    """What a training run saves each epoch: weights, optimizer, scheduler, other state."""
    made = with_optimizer(draft())
    schedule = {"T_max": 20, "base_lrs": [0.001], "last_epoch": 10, "_last_lr": [0.0005]}
    made.parts["scheduler.pt"] = archive(program(schedule), {})
    made.meta["scheduler"] = {"class_name": "CosineAnnealingLR"}
    scaler = {"scale": 65536.0, "growth_factor": 2.0, "_growth_tracker": 7}
    state = {
        "rng": {"python": random.Random(0).getstate(), "torch": _bytes("0", 16)},
        "objects": {"scaler": scaler},
    }
    made.parts["extra.pt"] = archive(program(state), {"0": bytes(range(16))})
    made.meta |= {"extra": ["scaler"], "rng": True}
    return made.files()


def least() -> Files:
    """The required keys alone, and weights."""
    made = draft()
    made.manifest = {
        "format": "smartcash-tensors",
        "format_version": "1.0",
        "weights": {"model": {"tensors": made.manifest["weights"]["model"]["tensors"]}},
    }
    made.write_manifest()
    kept = ("format", "format_version", "checkpoint_id", "run_id", "saved_at", "epoch", "is_best")
    made.meta = {key: made.meta[key] for key in (*kept, "weights")}
    return made.files_as_they_are()


def sharded() -> Files:
    """A set in two shards with its index, beside another set in one file."""
    ema = [Tensor(t.name, t.dtype, t.shape, [v / 2 for v in t.values]) for t in MODEL]
    made = draft({"model": [[MODEL[0]], [MODEL[1]]], "ema": [ema]})
    return with_optimizer(made).files()


def every_dtype() -> Files:
    """Every dtype of safetensors of whole bytes, a scalar, an empty tensor, names beyond ASCII."""
    wide = {"F64": 8, "F32": 4, "I64": 8, "I32": 4, "U64": 8, "U32": 4, "C64": 8}
    narrow = {"F16": 2, "BF16": 2, "I16": 2, "U16": 2, "I8": 1, "U8": 1, "BOOL": 1}
    small = ["F8_E4M3", "F8_E5M2", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"]
    tensors = [
        Tensor("schicht.größe", "F64", [2], [1.5, -2.5]),
        Tensor("層.重み", "F32", [1, 2], [0.5, 0.25]),
        Tensor("half 😀", "F16", [1], [0.5]),
        Tensor("steps", "I64", [], [1200]),
        Tensor("empty", "F32", [0, 3], []),
        Tensor("spaced name/with: signs", "I32", [1], [-7]),
        Tensor("mask", "BOOL", [2], [1, 0]),
        Tensor("bytes", "U8", [2], [0, 255]),
    ]
    made = {tensor.dtype for tensor in tensors}
    for dtype, size in (wide | narrow | dict.fromkeys(small, 1)).items():
        if dtype not in made:
            tensors.append(Tensor(f"of_{dtype.lower()}", dtype, [1], raw=b"\x01" * size))
    built = draft({"model": [tensors]})
    for name in ("of_bf16", *(f"of_{dtype.lower()}" for dtype in small)):
        built.manifest["weights"]["model"]["tensors"][name] |= {"l2": 1.0, "absmax": 1.0}
    return built.files()


def tied() -> Files:
    """A tied tensor under three names, modules of odd versions, an unknown parameter name."""
    aliases = {"embed.weight": "head.weight", "decoder.weight": "head.weight"}
    made = with_optimizer(draft(aliases=aliases))
    made.manifest["weights"]["model"]["modules"] = {"": 2, "norm.0": 3}
    made.manifest["optimizer_groups"]["optimizer"] = [["embed.weight", None]]
    return made.files()


def diverged() -> Files:
    """A loss and weights that are no numbers any more."""
    tensors = [
        Tensor("head.weight", "F32", [3], [math.inf, -1.0, -math.inf]),
        Tensor("head.bias", "F32", [2], [math.nan, 0.5]),
        Tensor("stem.weight", "F16", [1], [0.5]),
    ]
    made = draft({"model": [tensors]})
    made.meta["metrics"] = {"loss": "NaN", "norm": "Infinity", "score": "-Infinity", "epochs": 3}
    made.meta["is_best"] = False
    return made.files()


def two_optimizers() -> Files:
    """A second network as a weight set of its own, its optimizer in extra, the names of both."""
    critic = [Tensor("net.weight", "F32", [1, 2], [0.5, 0.25])]
    made = with_optimizer(draft({"model": [MODEL], "critic": [critic]}))
    groups = [{"lr": 0.01, "params": [0]}]
    state = {"objects": {"critic_opt": {"state": {}, "param_groups": groups}}}
    made.parts["extra.pt"] = archive(program(state), {})
    made.meta["extra"] = ["critic_opt"]
    made.manifest["optimizer_groups"]["critic_opt"] = [["critic:net.weight"]]
    return made.files()


def tagged_forms() -> Files:
    """Each tagged form once, and a user's own key $type."""
    made = draft()
    made.parts["extra.pt"] = archive(program({"objects": {"state": TAGGED}}), TAGGED_STORAGES)
    made.meta["extra"] = ["state"]
    return made.files()


def newer_minor() -> Files:
    """A later 1.x: keys that version 1.0 does not know, and a file of role aux."""
    made = with_optimizer(draft())
    made.meta |= {"format_version": "1.7", "mood": {"of": ["the", "day"]}}
    made.meta["weights"]["model"]["hue"] = "green"
    made.manifest |= {"format_version": "1.7", "palette": []}
    made.manifest["weights"]["model"]["tensors"]["head.bias"]["median"] = 0.5
    made.parts["notes-2.txt"] = b"carried\n"
    return made.files()


def sha256() -> Files:
    """Every digest by the other algorithm that readers know."""
    made = with_optimizer(draft(algorithm="sha256"))
    files = made.files()
    document = json.loads(files["meta.json"])
    document["meta_digest"] = f"sha256:{ZEROS}"
    zeroed = json_bytes(document)
    digits = digest_of(zeroed, "sha256").removeprefix("sha256:")
    files["meta.json"] = zeroed.replace(ZEROS.encode(), digits.encode())
    return files


def other_spelling() -> Files:
    """The same values with other white space, order and escapes in every document."""
    made = with_optimizer(draft())
    header = {
        "head.bias": {"data_offsets": [0, 8], "shape": [2], "dtype": "F32"},
        "head.weight": {"shape": [2, 3], "dtype": "F32", "data_offsets": [8, 32]},
    }
    raw = json.dumps(header, indent=1).replace("head", "\\u0068ead").encode()
    made.parts["model.safetensors"] = weights_of(raw, MODEL[1].data + MODEL[0].data)
    made.write_manifest(separators=(" ,\t", " :\r\n "), sort_keys=False, ensure_ascii=True)
    made.meta["notes"] = {"why": 'x/"größe" 😀'}
    made.meta["files"] = made.listed()
    reordered = dict(sorted(made.meta.items(), reverse=True)) | {"meta_digest": f"blake3:{ZEROS}"}
    text = json.dumps(reordered, ensure_ascii=True, separators=(" , ", " : ")).replace("x/", "x\\/")
    digits = digest_of(text.encode()).removeprefix("blake3:")
    return made.parts | {"meta.json": text.replace(ZEROS, digits).encode()}


def beside_it() -> Files:
    """Files that meta.json does not list: they are mentioned and never opened."""
    strangers = {".DS_Store": b"\x00\x00\x00\x01Bud1", "README.md": b"# Mine\n", "evil.pt": b"\x80"}
    return draft().files() | strangers


def edges() -> Files:
    """The largest integers, the longest texts, the deepest config that the limits allow."""
    made = draft()
    config: object = "bottom"
    for _ in range(62):
        config = [config]
    made.meta |= {
        "epoch": (1 << 63) - 1,
        "step": 0,
        "config": config,
        "metrics": {"x" * 256: -(1 << 63), "y": 1.7976931348623157e308, "z": 5e-324},
        "tags": ["é" * 256] + [str(n) for n in range(99)],
        "saved_at": "0001-01-01T00:00:00.000000Z",
    }
    return made.files()


def _bytes(key: str, count: int) -> Stored:
    return Stored(key, count, (count,), (1,), storage="ByteStorage")


def _tag(kind: str, /, **others: Any) -> dict[str, Any]:
    return {"$type": kind, **others}


TAGGED_STORAGES: Final[Mapping[str, bytes]] = {
    "0": b"\x01\x02\x03\x04", "1": floats(1.5), "2": struct.pack("<2q", 7, 8), "3": b"\x38\x40",
}  # fmt: skip
TAGGED: Final[Mapping[str, Any]] = {
    "user": _tag("dict", items=[("$type", "mine"), ("x", 1)]),
    "keys": _tag("dict", items=[((1, 2), "tuple"), (1 << 80, "large")]),
    "ordered": _tag("OrderedDict", items=[("$type", 1)]),
    "plain_ordered": Raw(b"ccollections\nOrderedDict\n)R(X\x01\x00\x00\x00aK\x01u"),
    "counter": _tag("Counter", items=[("a", 1.5)]),
    "plain_counter": Raw(b"ccollections\nCounter\n}(X\x01\x00\x00\x00aK\x02u\x85R"),
    "default": _tag("defaultdict", factory="list", items=[("a", [1])]),
    "deque": _tag("deque", items=[1, 2], maxlen=4),
    "set": _tag("set", items=[3]),
    "frozenset": _tag("frozenset", items=["f"]),
    "size": _tag("torch.Size", items=[2, 3]),
    "dtype": _tag("torch.dtype", name="bfloat16"),
    "device": _tag("torch.device", name="cuda:0"),
    "bytes": _tag("bytes", data=_bytes("0", 4)),
    "bytearray": _tag("bytearray", data=_bytes("0", 4)),
    "complex": _tag("complex", real=1.0, imag=-2.0),
    "path": _tag("path", text="runs/train"),
    "posix path": _tag("posix path", text="/runs/train"),
    "windows path": _tag("windows path", text="C:\\runs"),
    "datetime": _tag("datetime", text="2026-01-31T12:00:00+07:00", fold=0),
    "zoned": _tag("datetime", text="2026-10-25T02:30:00+01:00", fold=1, zone="Europe/Berlin"),
    "date": _tag("date", text="2026-01-31", fold=0),
    "time": _tag("time", text="12:00:00", fold=0),
    "timedelta": _tag("timedelta", parts=(1, 2, 3)),
    "range": _tag("range", parts=(0, 10, 2)),
    "slice": _tag("slice", parts=(None, 5, None)),
    "parameter": _tag("parameter", data=Stored("1", 1, (1,), (1,)), requires_grad=True),
    "tensor": _tag(
        "tensor",
        dtype="float8_e4m3fn",
        shape=(2,),
        data=Stored("3", 2, (2,), (1,), storage="ByteStorage"),
    ),
    "array": _tag(
        "ndarray",
        dtype="<i8",
        shape=(2,),
        data=Stored("2", 16, (16,), (1,), storage="ByteStorage"),
    ),
    "scalar": _tag("numpy.generic", dtype="<f4", shape=(), data=_bytes("0", 4)),
}

VALID: Final[Mapping[str, Callable[[], Files]]] = {
    "plain": plain,
    "least": least,
    "sharded": sharded,
    "every-dtype": every_dtype,
    "tied": tied,
    "diverged": diverged,
    "two-optimizers": two_optimizers,
    "tagged-forms": tagged_forms,
    "newer-minor": newer_minor,
    "sha256": sha256,
    "other-spelling": other_spelling,
    "beside-it": beside_it,
    "edges": edges,
}
