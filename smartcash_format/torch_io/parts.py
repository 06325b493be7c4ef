"""The parts of an opened checkpoint that a load needs: found sound, read once, from one place.

Headers, digests, the static reading of torch files and the values themselves all come from the
same mapped bytes.
"""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Any, Final, NoReturn

import torch

from smartcash_format.disk.observe import CHUNK_BYTES, observe
from smartcash_format.disk.read import Opened
from smartcash_format.errors import InvalidCheckpointError, UnsafeCheckpointError
from smartcash_format.spec import digest, layout
from smartcash_format.spec.header import TensorInfo
from smartcash_format.spec.meta import Meta
from smartcash_format.spec.problems import Code, Depth, Problem
from smartcash_format.spec.rules import RESTORE, check
from smartcash_format.spec.tensors import Tensors, WeightSetTensors
from smartcash_format.spec.watching import Progress, watched
from smartcash_format.torch_io.dtypes import TORCH_DTYPES, torch_shape
from smartcash_format.torch_io.fit_tensors import TensorForm
from smartcash_format.torch_io.state import StateFormError, decode
from smartcash_format.torch_io.stored_data import readable
from smartcash_format.torch_io.stored_values import values

# More threads than cores gain nothing; beyond this the memory's bandwidth is the limit.
HASHING_THREADS: Final = 8
_UNSAFE: Final[frozenset[Code]] = frozenset({"pickle-global", "pickle-opcode"})


def files_of(meta: Meta, *, sets: Collection[str], torch_files: Collection[str]) -> frozenset[str]:
    """The listed files that hold these weight sets and torch files, with the manifest."""
    wanted = {layout.TENSORS, *torch_files}
    for name in meta.files:
        role, weight_set = layout.role_of(name)
        if role in ("weights", "index") and weight_set in sets:
            wanted.add(name)
    return frozenset(name for name in meta.files if name in wanted)


class Parts:
    """The structure of some files of a checkpoint; values are read when they are asked for.

    Raises InvalidCheckpointError with every breach, or UnsafeCheckpointError for a torch file that
    asks for more than data. Tensors given out are views of the mapped file.
    """

    def __init__(self, opened: Opened, files: Collection[str]) -> None:
        self.opened = opened
        self.meta = opened.meta
        self._observed = observe(opened, Depth.STRUCTURE, names=files)
        _raise_for(opened, check(opened.meta, self._observed))
        self._files = frozenset(files)
        self._verified: set[str] = set()
        self._data: dict[str, Any] = {}
        self._decoded: dict[str, Any] = {}

    @cached_property
    def manifest(self) -> Tensors:
        """tensors.json as values."""
        assert self._observed.tensors is not None  # check() has refused a checkpoint without
        return self._observed.tensors

    def weight_set(self, name: str) -> WeightSetTensors:
        """The manifest of one weight set."""
        return self.manifest.weights[name]

    def stored_names(self, weight_set: str) -> dict[str, str]:
        """Every name of the set, other names of tied tensors included, to the name in its file."""
        found = self.weight_set(weight_set)
        return {**{name: name for name in found.tensors}, **found.aliases}

    def forms(self, weight_set: str) -> dict[str, TensorForm]:
        """The dtype and shape of every name of the set, from the headers."""
        return {
            name: TensorForm(dtype=info.dtype, shape=_shape(info))
            for name, stored in self.stored_names(weight_set).items()
            for info in (self._place(weight_set, stored)[1],)
        }

    def tensors(self, weight_set: str, names: Iterable[str]) -> dict[str, torch.Tensor]:
        """Views of these tensors' bytes in their mapped file, valid while the checkpoint is open.

        The names of a tied tensor share one view.
        """
        stored = self.stored_names(weight_set)
        views: dict[str, torch.Tensor] = {}
        found = {}
        for name in names:
            source = stored[name]
            if source not in views:
                views[source] = self._view(*self._place(weight_set, source))
            found[name] = views[source]
        return found

    def data(self, file: str) -> Any:
        """What a torch file holds, as inert data: no torch, nothing decoded."""
        if file not in self._data:
            self._data[file] = readable(self._observed.torch_files[file].value)
        return self._data[file]

    def has(self, file: str) -> bool:
        """Whether the checkpoint lists this file and it was asked for."""
        return file in self._files

    def leave_out(self, file: str) -> None:
        """Nothing of this file is needed after all: it is not verified, and nothing has it."""
        self._files -= {file}

    def value(self, file: str) -> Any:
        """What a torch file holds, in memory of its own, with the types that it was saved with."""
        if file not in self._decoded:
            try:
                self._decoded[file] = decode(
                    values(self._observed.torch_files[file], self.opened.raw(file))
                )
            except StateFormError as error:
                self.refuse("pickle-structure", file, str(error), error)
        return self._decoded[file]

    def refuse(self, code: Code, where: str, message: str, cause: Exception | None) -> NoReturn:
        """Raises InvalidCheckpointError for what only reading the values shows."""
        raise InvalidCheckpointError(
            f"{self.opened.path.name} cannot be loaded",
            path=self.opened.path,
            problems=(Problem(code=code, where=where, message=message),),
        ) from cause

    def verify(
        self, files: Iterable[str] | None = None, *, progress: Progress | None = None
    ) -> None:
        """Checks the digests of these files, or of all, on several threads.

        Raises InvalidCheckpointError with every file whose bytes are not those that were saved, or
        whose digest this reader cannot compute.
        """
        asked = self._files if files is None else frozenset(files)
        wanted = sorted(asked - self._verified)
        stated = [(name, self.meta.files[name].digest, self.opened.buffer(name)) for name in wanted]
        self._compare_digests(stated, progress)
        self._verified.update(wanted)

    def verify_tensors(self, weight_set: str, names: Iterable[str]) -> None:
        """Checks the digests of single tensors, as tensors.json states them; raises as `verify`."""
        stored = self.stored_names(weight_set)
        records = self.weight_set(weight_set).tensors
        self._compare_digests(
            (f"{records[name].file}: {name!r}", records[name].digest, self._bytes(weight_set, name))
            for name in sorted({stored[name] for name in names})
        )

    def _compare_digests(
        self, stated: Iterable[tuple[str, str, memoryview]], progress: Progress | None = None
    ) -> None:
        asked = list(stated)
        with (
            watched(f"reading {self.opened.path.name}", progress) as tell,
            ThreadPoolExecutor(min(HASHING_THREADS, os.cpu_count() or 1)) as pool,
        ):
            meter = _Meter(sum(len(data) for _, _, data in asked), tell)
            found = list(pool.map(lambda item: _digest_problem(meter, *item), asked))
        _raise_for(self.opened, tuple(problem for problem in found if problem is not None))

    def ranges(self) -> list[tuple[int, int]]:
        """Where in memory the weight files are mapped: first address and end of each."""
        found = []
        for name in self._observed.headers:
            buffer = self.opened.buffer(name)
            if len(buffer):
                start = torch.frombuffer(buffer, dtype=torch.uint8).data_ptr()
                found.append((start, start + len(buffer)))
        return found

    def _place(self, weight_set: str, name: str) -> tuple[str, TensorInfo]:
        file = self.weight_set(weight_set).tensors[name].file
        return file, self._observed.headers[file].tensors[name]

    def _bytes(self, weight_set: str, name: str) -> memoryview:
        file, info = self._place(weight_set, name)
        start = self._observed.headers[file].data_start
        return self.opened.buffer(file)[start + info.begin : start + info.end]

    def _view(self, file: str, info: TensorInfo) -> torch.Tensor:
        dtype = TORCH_DTYPES[info.dtype]
        shape = _shape(info)
        count = math.prod(shape)
        if count == 0:
            return torch.empty(shape, dtype=dtype)
        start = self._observed.headers[file].data_start + info.begin
        # A boolean byte other than 0 and 1 becomes 1 wherever torch copies it.
        flat = torch.frombuffer(self.opened.buffer(file), dtype=dtype, count=count, offset=start)
        return flat.view(shape)


def _shape(info: TensorInfo) -> tuple[int, ...]:
    # None fits no live tensor; so does the shape in the file.
    return torch_shape(info.dtype, info.shape) or info.shape


class _Meter:
    """Counts bytes from several threads and says how many are done."""

    def __init__(self, total: int, progress: Progress | None) -> None:
        self._total = total
        self._progress = progress
        self._done = 0
        self._lock = threading.Lock()

    def add(self, size_bytes: int) -> None:
        if self._progress is not None:
            with self._lock:
                self._done += size_bytes
                self._progress(self._done, self._total)


def _digest_problem(meter: _Meter, where: str, stated: str, data: memoryview) -> Problem | None:
    if not digest.is_known(stated):
        return Problem(
            code="digest-unknown",
            where=where,
            message="has a digest of an algorithm that this reader does not know",
            found=digest.algorithm_of(stated),
            fix="upgrade smartcash-format, or load with verify=False",
        )
    running = digest.hasher(digest.algorithm_of(stated))
    for begin in range(0, len(data), CHUNK_BYTES):
        chunk = data[begin : begin + CHUNK_BYTES]
        running.update(chunk)
        meter.add(len(chunk))
    found = digest.named(running, digest.algorithm_of(stated))
    if found == stated:
        return None
    return Problem(
        code="digest-mismatch",
        where=where,
        message="does not have the bytes it was saved with: they were changed or have rotted",
        found=found,
        expected=stated,
        fix=RESTORE,
    )


def _raise_for(opened: Opened, problems: tuple[Problem, ...]) -> None:
    if not problems:
        return
    for problem in problems:
        if problem.code in _UNSAFE:
            file = problem.where.partition(":")[0]
            raise UnsafeCheckpointError(
                f"{opened.path.name}: {problem.where}: {problem.message}",
                path=opened.path,
                file=file,
                first_refused=problem.found or problem.message,
            )
    raise InvalidCheckpointError(
        f"{opened.path.name} is not a whole checkpoint", path=opened.path, problems=problems
    )
