"""Weights files that are no safetensors files as FORMAT.md wants them."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from tests.contract.build import (
    MODEL,
    draft,
    header_of,
    json_bytes,
    weights_file,
    weights_of,
)
from tests.contract.register import STRUCTURE, Files, breach, example


def weights(data: bytes) -> Callable[[], Files]:
    """A checkpoint whose model.safetensors has these bytes; the manifest is of sound ones."""

    def make() -> Files:
        made = draft()
        made.parts["model.safetensors"] = data
        return made.files()

    return make


def header(change: Callable[[dict[str, Any]], None]) -> Callable[[], Files]:
    """A checkpoint whose weights header was changed."""
    changed = header_of(MODEL)
    change(changed)
    return weights(weights_of(changed, DATA))


DATA = MODEL[0].data + MODEL[1].data


def bias_at(begin: int, end: int) -> dict[str, Any]:
    """A header that puts head.bias elsewhere."""
    bias = {"dtype": "F32", "shape": [2], "data_offsets": [begin, end]}
    return header_of(MODEL) | {"head.bias": bias}


def one(**changes: Any) -> Callable[[], Files]:
    """The entry of head.weight with other fields."""
    return header(lambda found: found["head.weight"].update(changes))


breach("file-size--bytes-behind-the-tensors", STRUCTURE, weights(weights_file(MODEL) + b"\0" * 8))
breach(
    "file-size--weights-shorter-than-their-header-says",
    STRUCTURE,
    weights(weights_file(MODEL)[:-8]),
)
breach("file-size--no-room-for-a-header", STRUCTURE, weights(b"\0\0\0"))
breach(
    "header-length--a-hundred-megabytes",
    STRUCTURE,
    weights(struct.pack("<Q", 100_000_000) + weights_file(MODEL)[8:]),
)
breach(
    "header-length--all-bits",
    STRUCTURE,
    weights(b"\xff" * 8 + weights_file(MODEL)[8:]),
)
breach("json-syntax--weights-header", STRUCTURE, weights(weights_of(b"{not json", DATA)))
breach("json-syntax--weights-header-is-zeros", STRUCTURE, weights(b"\0" * 208))
breach(
    "json-duplicate-key--tensor-twice-in-a-header",
    STRUCTURE,
    weights(
        weights_of(
            json_bytes(header_of(MODEL))[:-2]
            + b',"head.bias":{"dtype":"F32","shape":[2],"data_offsets":[24,32]}}',
            DATA,
        )
    ),
)
breach("header-field--one-more", STRUCTURE, one(strides=[3, 1]))
breach(
    "header-field--no-offsets",
    STRUCTURE,
    header(lambda found: found["head.weight"].pop("data_offsets")),
)
breach(
    "header-metadata--a-number",
    STRUCTURE,
    header(lambda found: found.update(__metadata__={"format": 1})),
)
breach(
    "header-metadata--a-list",
    STRUCTURE,
    header(lambda found: found.update(__metadata__=["pt"])),
)
breach(
    "header-metadata--a-name-of-python",
    STRUCTURE,
    header(lambda found: found.update(__metadata__={"format": "pt", "__reduce__": "os.system"})),
)
_NAMES = {
    "empty": "",
    "control-character": "a\x1b[31m",
    "too-long": "x" * 1_025,
    "absolute-path": "/etc/passwd",
    "path-upwards": "model/../../x",
    "drive-letter": "C:/x",
    "backslash": "..\\x",
}
for what, name in _NAMES.items():
    breach(
        f"tensor-name--{what}",
        STRUCTURE,
        header(lambda found, name=name: found.update({name: found.pop("head.weight")})),  # type: ignore[misc]
    )


@example("tensor-name--in-the-manifest", STRUCTURE)
def _name_in_the_manifest() -> Files:
    made = draft(aliases={"tied\x7f": "head.weight"})
    return made.files()


breach("tensor-dtype--unknown", STRUCTURE, one(dtype="C128"))
breach("tensor-dtype--in-lower-case", STRUCTURE, one(dtype="f32"))
breach("tensor-shape--negative", STRUCTURE, one(shape=[-2, -3]))
breach("tensor-shape--no-list", STRUCTURE, one(shape=6))
breach("tensor-shape--sixty-five-dimensions", STRUCTURE, one(shape=[1] * 63 + [2, 3]))
breach("tensor-shape--beyond-64-bits", STRUCTURE, one(shape=[1 << 62, 1 << 62, 0]))
breach("tensor-size--other-than-dtype-and-shape", STRUCTURE, one(shape=[2, 2]))
breach("tensor-offsets--reversed", STRUCTURE, one(data_offsets=[24, 0]))
breach("tensor-offsets--negative", STRUCTURE, one(data_offsets=[-24, 0]))
breach("tensor-offsets--overlap", STRUCTURE, weights(weights_of(bias_at(16, 24), DATA[:24])))
breach("tensor-offsets--hole", STRUCTURE, weights(weights_of(bias_at(28, 36), DATA + b"\0" * 4)))
