"""Files that are not what meta.json lists."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from smartcash_format.spec.digest import digest_of
from tests.contract.build import (
    MODEL,
    draft,
    sealed,
    weights_file,
    with_optimizer,
)
from tests.contract.register import CONTENT, META, Files, breach, example
from tests.contract.torch_files import archive, floats, program


def listing(change: Callable[[dict[str, Any]], None]) -> Callable[[], Files]:
    """A sealed meta.json whose `files` was changed."""

    def make() -> Files:
        files = with_optimizer(draft()).files()
        document = json.loads(files["meta.json"])
        change(document["files"])
        return files | {"meta.json": sealed(document)}

    return make


def named(name: str) -> Callable[[], Files]:
    """One more listed file of this name, which is not there."""
    record = {"role": "aux", "size_bytes": 0, "digest": digest_of(b"")}
    return listing(lambda files: files.update({name: record}))


for what, name in {
    "parent-directory": "../model.safetensors",
    "absolute": "/etc/passwd",
    "with-a-directory": "parts/model.bin",
    "backslash": "parts\\model.bin",
    "drive-letter": "C:model.bin",
    "windows-device": "aux.txt",
    "hidden": ".hidden",
    "control-character": "model\n.bin",
    "beyond-ascii": "größe.bin",
    "too-long": "x" * 101,
    "ends-in-a-point": "model.bin.",
    "meta-itself": "meta.json",
    "meta-in-capitals": "META.JSON",
}.items():
    breach(f"file-name--{what}", META, named(name))


@example("file-name--only-case-differs", META)
def _only_case_differs() -> Files:
    made = draft()
    made.parts["Notes.txt"] = made.parts["notes.txt"] = b""
    return made.files()


@example("file-missing--optimizer-deleted", META)
def _optimizer_deleted() -> Files:
    files = with_optimizer(draft()).files()
    del files["optimizer.pt"]
    return files


@example("file-missing--optimizer-not-listed", META)
def _optimizer_not_listed() -> Files:
    made = with_optimizer(draft())
    del made.parts["optimizer.pt"]
    return made.files()


@example("file-missing--weights-not-listed", META)
def _weights_not_listed() -> Files:
    made = draft()
    del made.parts["model.safetensors"]
    return made.files()


@example("file-missing--one-shard-of-two", META)
def _one_shard_of_two() -> Files:
    made = draft({"model": [[MODEL[0]], [MODEL[1]]]})
    del made.parts["model-00002-of-00002.safetensors"]
    return made.files()


@example("file-missing--shards-without-index", META)
def _shards_without_index() -> Files:
    made = draft({"model": [[MODEL[0]], [MODEL[1]]]})
    del made.parts["model.safetensors.index.json"]
    return made.files()


@example("file-missing--no-manifest", META)
def _no_manifest() -> Files:
    made = draft()
    made.write_manifest()
    del made.parts["tensors.json"]
    return made.files_as_they_are()


@example("file-kind--directory", META)
def _directory() -> Files:
    files = with_optimizer(draft()).files()
    files["optimizer.pt/inside"] = files.pop("optimizer.pt")
    return files


@example("file-size--truncated-weights", META)
def _truncated_weights() -> Files:
    files = draft().files()
    return files | {"model.safetensors": files["model.safetensors"][:-4]}


@example("file-size--longer-optimizer", META)
def _longer_optimizer() -> Files:
    files = with_optimizer(draft()).files()
    return files | {"optimizer.pt": files["optimizer.pt"] + b"\0"}


@example("file-size--empty-manifest", META)
def _empty_manifest() -> Files:
    return draft().files() | {"tensors.json": b""}


breach(
    "file-role--weights-called-aux",
    META,
    listing(lambda files: files["model.safetensors"].update(role="aux")),
)
breach(
    "file-role--of-no-kind",
    META,
    listing(lambda files: files["optimizer.pt"].update(role="momentum")),
)


@example("file-role--scheduler-of-which-nothing-is-said", META)
def _undescribed_scheduler() -> Files:
    made = draft()
    made.parts["scheduler.pt"] = archive(program({"last_epoch": 1}), {})
    return made.files()


@example("file-role--weights-of-no-set", META)
def _weights_of_no_set() -> Files:
    made = draft()
    made.parts["ema.safetensors"] = weights_file(MODEL)
    return made.files()


breach(
    "digest-unknown--of-a-file",
    CONTENT,
    listing(lambda files: files["optimizer.pt"].update(digest="k12:" + "0" * 64)),
)


@example("digest-unknown--of-a-tensor", CONTENT)
def _unknown_tensor_digest() -> Files:
    made = draft()
    made.manifest["weights"]["model"]["tensors"]["head.bias"]["digest"] = "k12:" + "0" * 64
    return made.files()


@example("digest-mismatch--one-bit-of-the-weights", CONTENT)
def _one_bit_of_the_weights() -> Files:
    files = draft().files()
    data = bytearray(files["model.safetensors"])
    data[-1] ^= 1
    return files | {"model.safetensors": bytes(data)}


@example("digest-mismatch--one-bit-of-the-optimizer", CONTENT)
def _one_bit_of_the_optimizer() -> Files:
    files = with_optimizer(draft()).files()
    data = bytearray(files["optimizer.pt"])
    at = data.index(floats(0.25, 0.25))
    data[at] ^= 1
    return files | {"optimizer.pt": bytes(data)}


@example("digest-mismatch--tensor-of-another-value", CONTENT)
def _tensor_of_another_value() -> Files:
    # The file has the digest that meta.json states; only the manifest knows other values.
    made = draft()
    tensors = made.manifest["weights"]["model"]["tensors"]
    tensors["head.bias"]["digest"] = digest_of(floats(0.0, 0.5))
    return made.files()
