"""A tensors.json or an index that tells another story."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from smartcash_format.spec.digest import digest_of
from tests.contract.build import (
    MODEL,
    Tensor,
    draft,
    json_bytes,
    with_optimizer,
)
from tests.contract.register import CONTENT, STRUCTURE, Files, breach, example


def manifest(change: Callable[[dict[str, Any]], None]) -> Callable[[], Files]:
    """A checkpoint whose manifest was changed; its weights_digest is the one of the change."""

    def make() -> Files:
        made = with_optimizer(draft())
        change(made.manifest)
        return made.files()

    return make


def manifest_bytes(change: Callable[[bytes], bytes]) -> Callable[[], Files]:
    """A checkpoint whose tensors.json has other bytes."""

    def make() -> Files:
        made = draft()
        made.write_manifest()
        made.parts["tensors.json"] = change(made.parts["tensors.json"])
        return made.files_as_they_are()

    return make


def tensors_of(found: dict[str, Any]) -> dict[str, Any]:
    tensors: dict[str, Any] = found["weights"]["model"]["tensors"]
    return tensors


breach("foreign-format--manifest", STRUCTURE, manifest(lambda m: m.update(format="other")))
breach("newer-version--manifest", STRUCTURE, manifest(lambda m: m.update(format_version="2.0")))
breach("json-syntax--manifest", STRUCTURE, manifest_bytes(lambda data: data[:-3]))
breach(
    "json-duplicate-key--tensor-twice-in-the-manifest",
    STRUCTURE,
    manifest_bytes(lambda data: data.replace(b'"tensors":{', b'"tensors":{"head.bias":{},')),
)
breach(
    "json-number--nan-in-the-manifest",
    STRUCTURE,
    manifest_bytes(lambda data: data.replace(b'"absmax":0.75', b'"absmax":NaN')),
)
breach(
    "field-unknown--in-a-tensor",
    STRUCTURE,
    manifest(lambda m: tensors_of(m)["head.bias"].update(mean=0)),
)
breach(
    "field-missing--shape-of-a-tensor",
    STRUCTURE,
    manifest_bytes(lambda data: data.replace(b',"shape":[2]', b"")),
)
breach(
    "field-invalid--absmax-is-true",
    STRUCTURE,
    manifest(lambda m: tensors_of(m)["head.bias"].update(absmax=True)),
)
breach(
    "manifest-mismatch--other-shape",
    STRUCTURE,
    manifest(lambda m: tensors_of(m)["head.weight"].update(shape=[3, 2])),
)
breach(
    "manifest-mismatch--other-dtype",
    STRUCTURE,
    manifest(lambda m: tensors_of(m)["head.weight"].update(dtype="I32")),
)
breach(
    "manifest-mismatch--alias-of-nothing",
    STRUCTURE,
    manifest(lambda m: m["weights"]["model"].update(aliases={"tied": "tail.weight"})),
)
breach(
    "manifest-mismatch--in-a-file-of-no-name",
    STRUCTURE,
    manifest(lambda m: tensors_of(m)["head.weight"].update(file="../model.safetensors")),
)
breach(
    "manifest-mismatch--groups-of-other-sizes",
    STRUCTURE,
    manifest(lambda m: m.update(optimizer_groups={"optimizer": [["head.weight"]]})),
)


@example("manifest-mismatch--tensor-of-no-file", STRUCTURE)
def _tensor_of_no_file() -> Files:
    made = draft()
    extra = Tensor("tail.weight", "F32", [1], [1.0])
    made.manifest["weights"]["model"]["tensors"]["tail.weight"] = extra.record("model.safetensors")
    made.meta["weights"]["model"] |= {"tensors": 3, "dtypes": {"F32": 3}}
    return made.files()


@example("manifest-mismatch--alias-of-a-stored-name", STRUCTURE)
def _alias_of_a_stored_name() -> Files:
    return draft(aliases={"head.bias": "head.weight"}).files()


@example("manifest-mismatch--set-of-no-name", STRUCTURE)
def _set_of_no_name() -> Files:
    made = draft()
    made.write_manifest()
    made.manifest["weights"]["ema"] = {"tensors": {}}
    made.parts["tensors.json"] = json_bytes(made.manifest)
    return made.files_as_they_are()


@example("manifest-mismatch--counts", STRUCTURE)
def _counts() -> Files:
    made = draft()
    made.meta["weights"]["model"]["dtypes"] = {"F32": 1, "F16": 1}
    return made.files()


@example("manifest-mismatch--called-finite", STRUCTURE)
def _called_finite() -> Files:
    made = draft({"model": [[Tensor("w", "F32", [1], [float("inf")])]]})
    made.meta["weights"]["model"]["finite"] = True
    return made.files()


@example("weights-digest-mismatch--of-other-weights", STRUCTURE)
def _other_weights_digest() -> Files:
    made = draft()
    made.write_manifest()
    made.meta["weights"]["model"]["weights_digest"] = digest_of(b"other weights")
    return made.files_as_they_are()


@example("weights-digest-mismatch--by-sha256", STRUCTURE)
def _other_weights_digest_by_sha256() -> Files:
    made = draft()
    made.write_manifest()
    made.meta["weights"]["model"]["weights_digest"] = "sha256:" + "0" * 64
    return made.files_as_they_are()


@example("digest-unknown--of-the-weights", CONTENT)
def _unknown_weights_digest() -> Files:
    made = draft()
    made.write_manifest()
    made.meta["weights"]["model"]["weights_digest"] = "k12:" + "0" * 64
    return made.files_as_they_are()


def index(change: Callable[[dict[str, Any]], Any]) -> Callable[[], Files]:
    """A sharded checkpoint whose index was changed."""

    def make() -> Files:
        made = draft({"model": [[MODEL[0]], [MODEL[1]]]})
        name = "model.safetensors.index.json"
        document = json.loads(made.parts[name])
        change(document)
        made.parts[name] = json_bytes(document)
        return made.files()

    return make


breach(
    "index-mismatch--other-shard",
    STRUCTURE,
    index(lambda i: i["weight_map"].update({"head.bias": "model-00001-of-00002.safetensors"})),
)
breach("index-mismatch--tensor-left-out", STRUCTURE, index(lambda i: i["weight_map"].popitem()))
breach("index-mismatch--no-map", STRUCTURE, index(lambda i: i.pop("weight_map")))
breach(
    "index-mismatch--outside-the-directory",
    STRUCTURE,
    index(lambda i: i["weight_map"].update({"head.bias": "../model.safetensors"})),
)
