"""What the format wants where a code of problem is found, and what a person does about it.

A problem that knows better says so itself; these stand in where it does not.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

_COPY: Final = "copy the checkpoint again from its source, or use another one"
_WRITER: Final = (
    "use another checkpoint, and tell the program that wrote this one: it breaks FORMAT.md"
)
_EDITED: Final = "undo the change, or save again: what is in a checkpoint is never edited by hand"
_TORCH_FILE: Final = "use another checkpoint: this file was not written by save_checkpoint"
_DANGER: Final = (
    "do not load this file with torch: it may run code; use a checkpoint from someone you trust"
)

REMEDIES: Final[Mapping[str, tuple[str, str]]] = MappingProxyType(
    {
        "not-a-checkpoint": (
            "a directory with a meta.json",
            "name a checkpoint: smartcash-format ls ROOT shows those of a root",
        ),
        "foreign-format": (
            "the format smartcash-format",
            "open it with the program that wrote it; smartcash-format convert takes torch files",
        ),
        "newer-version": ("a version that this reader knows", "upgrade smartcash-format"),
        "json-too-large": ("a document within the limits of FORMAT.md", _WRITER),
        "json-encoding": ("plain UTF-8", _COPY),
        "json-syntax": ("strict JSON", _COPY),
        "json-duplicate-key": ("each key once", _WRITER),
        "json-number": ("a 64-bit integer or a finite double", _WRITER),
        "json-too-deep": ("a document that nests less deep", _WRITER),
        "field-missing": ("a field that is required", _WRITER),
        "field-unknown": ("the fields of its version only", _EDITED),
        "field-invalid": ("a value as FORMAT.md describes it", _EDITED),
        "meta-digest-mismatch": ("the bytes that were saved", _EDITED),
        "file-name": ("a plain name that every system can have", _WRITER),
        "file-missing": ("every part that meta.json tells of", _COPY),
        "file-kind": ("a plain file", "put the file itself there instead of what leads to it"),
        "file-unreadable": (
            "a file that the system lets be read",
            "check who may read it, and the storage below it; a copy elsewhere may be whole",
        ),
        "file-size": ("the size that was saved", _COPY),
        "file-role": ("the role that belongs to its name", _WRITER),
        "digest-unknown": ("blake3 or sha256", "upgrade smartcash-format"),
        "digest-mismatch": ("the bytes that were saved", _COPY),
        "header-length": ("a header within the limits of FORMAT.md", _COPY),
        "header-field": ("dtype, shape and data_offsets only", _WRITER),
        "header-metadata": ("an object of strings", _WRITER),
        "tensor-count": ("a number of tensors within the limits of FORMAT.md", _WRITER),
        "tensor-name": ("a name without control characters, neither empty nor too long", _WRITER),
        "tensor-dtype": ("a dtype of safetensors", _WRITER),
        "tensor-shape": ("few dimensions, none negative, countable in 64 bits", _WRITER),
        "tensor-size": ("as many bytes as dtype and shape take", _WRITER),
        "tensor-offsets": ("tensors one after another, without a hole", _WRITER),
        "index-mismatch": ("each tensor in the file that tensors.json names", _COPY),
        "manifest-mismatch": ("what the other documents of the checkpoint say", _COPY),
        "weights-digest-mismatch": ("the digest of the tensors that are listed", _COPY),
        "archive-format": ("a zip archive as torch.save writes it", _TORCH_FILE),
        "archive-structure": ("an archive of records and nothing else", _COPY),
        "archive-compressed": ("records as they are", _TORCH_FILE),
        "archive-size": ("an archive within the limits of FORMAT.md", _COPY),
        "archive-record": ("the records that torch.save writes", _TORCH_FILE),
        "pickle-global": ("the names that a state needs", _DANGER),
        "pickle-opcode": ("the opcodes that a state needs", _DANGER),
        "pickle-structure": ("a program that builds plain data", _DANGER),
        "pickle-tensor": ("a tensor that lies inside its storage, each element once", _DANGER),
        "pickle-bounds": ("a state within the limits of FORMAT.md", _DANGER),
        "extra-mismatch": ("what meta.json says of extra.pt", _COPY),
    }
)
