"""What is fuzzed: each reader of bytes that strangers write, and where its seeds are."""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from smartcash_format.integrations.inert_reader import read
from smartcash_format.spec.header import read_header
from smartcash_format.spec.meta import parse_meta
from smartcash_format.spec.pickles import read_program, scan_torch_file
from tests.contract.make import EXAMPLES

# Inputs that a fuzzer found: TARGET-name, kept after what they broke was mended.
CORPUS: Final = Path(__file__).parent / "corpus"


def header(data: bytes) -> None:
    """The header of a weights file."""
    read_header(io.BytesIO(data), len(data), where="model.safetensors")


def meta(data: bytes) -> None:
    """A meta.json."""
    parse_meta(data)


def program(data: bytes) -> None:
    """A pickle program of ours, and the storages that it may name."""
    read_program(data, where="data.pkl", storages={str(number): 16 for number in range(4)})


def archive(data: bytes) -> None:
    """A torch file of ours."""
    scan_torch_file(io.BytesIO(data), len(data), where="optimizer.pt")


def foreign(data: bytes) -> None:
    """A torch file of a stranger's, as the process apart reads it."""
    with tempfile.NamedTemporaryFile(dir=_MEMORY) as file:
        file.write(data)
        file.flush()
        try:
            read(file.name, ("models.*",))
        except Exception as error:
            # What a broken pickle makes Python raise is one answer there: not readable.
            if isinstance(error, MemoryError):
                raise


_MEMORY: Final = "/dev/shm" if os.path.isdir("/dev/shm") else None
TARGETS: Final[dict[str, Callable[[bytes], None]]] = {
    each.__name__: each for each in (header, meta, program, archive, foreign)
}
_SEEDS: Final = {
    "header": "*.safetensors", "meta": "meta.json", "program": "*.pt", "archive": "*.pt",
    "foreign": "*.pt",
}  # fmt: skip


def seeds(target: str) -> Iterator[bytes]:
    """The examples of the format that are of this kind, and what was found before."""
    paths = sorted(EXAMPLES.glob(f"*/*/{_SEEDS[target]}"))
    found = sorted(CORPUS.glob(f"{target}-*"))
    for path in (*(path for path in paths if path.is_file()), *found):
        data = path.read_bytes()
        if target == "program" and path not in found:
            begin, end = data.find(b"\x80\x02"), data.find(b"PK", 4)
            data = data[begin:end] if begin >= 0 else data
        yield data
