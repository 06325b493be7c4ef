"""A pickled torch file as data: read by a process apart, its tensors mapped from where they lie.

The process (inert_reader) loads neither torch nor any package of the file; here its places become
tensors over one private mapping of the source, so that nothing is read twice or copied. A whole
module of a stranger comes out as a `Standin` with its attributes.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch

from smartcash_format.errors import UnsafeCheckpointError, UnsavableStateError
from smartcash_format.integrations.inert_reader import DOCUMENT_BYTES
from smartcash_format.integrations.mapped import MappedFile

# Isolated, and without what is installed: the standard library, and this package behind it.
_PROGRAM: Final = (
    "import sys; sys.path.append(sys.argv.pop(1)); "
    "from smartcash_format.integrations.inert_reader import main; sys.exit(main(sys.argv[1:]))"
)
_HOME: Final = Path(__file__).parents[2]
# Python, the pickle program and its document; no tensor is ever loaded there.
MEMORY_BYTES: Final = 2 << 30
# Reading the program of a module with thousands of layers takes a second on a slow machine; a
# program that others want to take long is as long as they like, but not in a small file.
SECONDS: Final = 10
SECONDS_AT_MOST: Final = 120
_BYTES_A_SECOND: Final = 1 << 20
# Views of one storage are common, and a small file that becomes a large checkpoint is not.
_TIMES_THE_FILE: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Standin:
    """An object whose class is not here: the name of the class, and what was set on it."""

    class_name: str
    attributes: Mapping[Any, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class TorchData:
    """What a torch file holds. `form` is `zip` or `legacy`; `dropped` says what was left behind."""

    value: Any
    form: str
    dropped: tuple[str, ...]
    mapped: MappedFile


def read_torch_file(path: Path, *, allow: Sequence[str] = ()) -> TorchData:
    """What the torch file holds, as containers, numbers, text, tensors and stand-ins.

    `allow` adds patterns of class names, `package.*`, whose objects become stand-ins.
    Raises UnsafeCheckpointError naming the first thing that is not taken.
    """
    with path.open("rb") as stream:
        before = os.fstat(stream.fileno())
        document = _document(path, allow)
        after = path.stat()
        same = (before.st_ino, before.st_size, before.st_mtime_ns)
        if same != (after.st_ino, after.st_size, after.st_mtime_ns):
            raise _refused(path, "the file", "it changed while it was read")
        mapped = MappedFile(path, stream)
        value = _Builder(path, mapped, document["storages"]).value(document["value"])
    return TorchData(
        value=value, form=document["format"], dropped=tuple(document["dropped"]), mapped=mapped
    )


def _document(path: Path, allow: Sequence[str]) -> dict[str, Any]:
    command = [
        sys.executable,
        "-I",
        "-S",
        "-c",
        _PROGRAM,
        os.fspath(_HOME),
        os.fspath(path.resolve()),
    ]
    seconds = min(SECONDS_AT_MOST, SECONDS + path.stat().st_size // _BYTES_A_SECOND)
    text, late = _output([*command, str(MEMORY_BYTES), *allow], seconds)
    if late:
        raise _refused(path, "the file", f"reading takes more than {seconds} seconds")
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        raise _refused(path, "the file", "its reader ended without an answer") from None
    if "refused" in document:
        raise _refused(path, str(document["refused"]), str(document["why"]))
    found: dict[str, Any] = document
    return found


def _output(command: list[str], seconds: int) -> tuple[bytes, bool]:
    """What a process prints, as far as it may, and whether it took too long."""
    late = threading.Event()
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:

        def stop() -> None:
            late.set()
            process.kill()

        timer = threading.Timer(seconds, stop)
        timer.start()
        try:
            assert process.stdout is not None
            text = process.stdout.read(DOCUMENT_BYTES + 1)
        finally:
            timer.cancel()
            process.kill()
    return text, late.is_set()


def _refused(path: Path, asked: str, why: str) -> UnsafeCheckpointError:
    shown = asked.encode("ascii", "backslashreplace").decode()[:200]
    return UnsafeCheckpointError(
        f"{path.name} was not read: {shown!r}: {why}",
        path=path,
        file=path.name,
        first_refused=shown,
    )


class _Builder:
    def __init__(self, path: Path, mapped: MappedFile, places: Mapping[str, Sequence[int]]) -> None:
        self._path = path
        self._mapped = mapped
        self._places = places
        self._storages: dict[tuple[str, int], torch.UntypedStorage] = {}
        self._left = _TIMES_THE_FILE * path.stat().st_size
        self._seen: set[str] = set()

    def value(self, node: Any) -> Any:
        if not isinstance(node, list):
            return node
        match node[0]:
            case "list":
                return [self.value(item) for item in node[1:]]
            case "tuple":
                return tuple(self.value(item) for item in node[1:])
            case "dict":
                found = OrderedDict((key, self.value(item)) for key, item in node[1])
                if len(node) > 2:
                    found._metadata = self.value(node[2])  # type: ignore[attr-defined]
                return found
            case "object":
                attributes = {key: self.value(item) for key, item in node[2]}
                return Standin(class_name=node[1], attributes=attributes)
        return self._tensor(*node[1:])

    def _tensor(
        self,
        key: str,
        dtype_name: str,
        offset: int,
        shape: list[int],
        stride: list[int],
        is_parameter: bool,
        trains: bool,
        signs: list[str],
    ) -> torch.Tensor:
        dtype = self._dtype(dtype_name)
        count = self._places[key][1] // dtype.itemsize
        last = offset + sum((n - 1) * s for n, s in zip(shape, stride, strict=True))
        if 0 not in shape and (last >= count or math.prod(shape) > count):
            raise UnsavableStateError(
                f"{self._path.name} has a tensor of shape {shape} in a storage of {count} elements",
                where=self._path.name,
                kind="tensor",
                hint="the file is damaged, or a tensor was expanded: save a clone() of it",
            )
        self._spend(f"{key} {dtype} {offset} {shape} {stride}", math.prod(shape) * dtype.itemsize)
        tensor = torch.empty(0, dtype=dtype, device="cpu")
        if 0 in shape:
            tensor = torch.empty(shape, dtype=dtype, device="cpu")
        else:
            tensor.set_(self._storage(key, dtype.itemsize), offset, shape, stride)
        # Done to values of its own: whoever reads the bytes would not know of it.
        if "conj" in signs:
            tensor = tensor.conj().resolve_conj()
        if "neg" in signs:
            tensor = tensor.neg()
        if is_parameter:
            differentiable = dtype.is_floating_point or dtype.is_complex
            tensor = torch.nn.Parameter(tensor, requires_grad=trains and differentiable)
        return tensor

    def _spend(self, window: str, size_bytes: int) -> None:
        """Counts the bytes of each window once."""
        if window in self._seen:
            return
        self._seen.add(window)
        self._left -= size_bytes
        if self._left < 0:
            raise UnsavableStateError(
                f"{self._path.name} has overlapping tensors of more than {_TIMES_THE_FILE} times "
                "its own size",
                where=self._path.name,
                kind="tensor",
                hint="save a clone() of those that are needed",
            )

    def _dtype(self, name: str) -> torch.dtype:
        found = getattr(torch, name, None)
        if not isinstance(found, torch.dtype):
            raise UnsavableStateError(
                f"{self._path.name} has a tensor of {name}, which this torch does not have",
                where=self._path.name,
                kind="tensor",
                hint="upgrade torch",
            )
        return found

    def _storage(self, key: str, width: int) -> torch.UntypedStorage:
        if (key, width) not in self._storages:
            begin, size_bytes = self._places[key]
            found = self._mapped.numbers(begin, size_bytes, width)
            self._storages[key, width] = found.untyped_storage()
        return self._storages[key, width]
