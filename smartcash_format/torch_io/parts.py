"""The parts of an opened checkpoint that a load needs: found sound, then read from one place.

Headers, digests, the static reading of torch files and the values come from one descriptor of each
file. What was parsed is compared with what is hashed. Of torch files, and of all where nothing is
mapped, what is used is the very memory that was hashed; that mapped weights change between their
hashing and their use is told by the times of their file (`confirm`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable
from functools import cached_property, partial
from typing import Any, Final, NoReturn

import torch

from smartcash_format.disk.observe import observe
from smartcash_format.disk.read import Opened
from smartcash_format.disk.stated import Stated, compare, rewritten
from smartcash_format.errors import InvalidCheckpointError, UnsafeCheckpointError
from smartcash_format.spec import layout
from smartcash_format.spec.header_entry import TensorInfo
from smartcash_format.spec.meta import Meta
from smartcash_format.spec.problems import Code, Depth, Problem
from smartcash_format.spec.rules import check
from smartcash_format.spec.tensors import Tensors, WeightSetTensors
from smartcash_format.spec.watching import Progress, watched
from smartcash_format.torch_io.dtypes import TORCH_DTYPES, bytes_of, torch_shape
from smartcash_format.torch_io.fit_tensors import TensorForm
from smartcash_format.torch_io.state import StateFormError, decode
from smartcash_format.torch_io.stored_data import readable
from smartcash_format.torch_io.stored_values import values

# Of the largest element, complex128.
_ALIGNMENT: Final = 16
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
    asks for more than data.
    """

    def __init__(self, opened: Opened, files: Collection[str]) -> None:
        self.opened = opened
        self.meta = opened.meta
        opened.remember()
        self._observed = observe(opened, Depth.STRUCTURE, names=files)
        _raise_for(opened, check(opened.meta, self._observed))
        self._files = frozenset(files)
        self._verified: dict[str, tuple[int, int, int]] = {}
        self._data: dict[str, Any] = {}
        self._decoded: dict[str, Any] = {}
        # The storages of torch files that are verified and not decoded yet, by their places.
        self._storages: dict[str, dict[int, torch.Tensor]] = {}

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
        """Views of these tensors' bytes in their file, valid while the checkpoint is open.

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

    def owned(
        self, weight_set: str, names: Iterable[str], *, verify: bool
    ) -> dict[str, torch.Tensor]:
        """These tensors in memory of their own, read for it; names of a tied tensor share one.

        `verify` compares each with its own digest in tensors.json; raises as `Parts.verify`.
        """
        stored = self.stored_names(weight_set)
        names = list(names)
        places = {stored[name]: self._place(weight_set, stored[name]) for name in names}
        memory = {name: self._bytes(*place) for name, place in places.items()}
        if verify:
            records = self.weight_set(weight_set).tensors
            self._compare(
                Stated(
                    where=f"{records[name].file}: {name!r}",
                    digest=records[name].digest,
                    size_bytes=found.numel(),
                    read=partial(_whole, found),
                )
                for name, found in sorted(memory.items())
            )
        made = {name: _made(places[name][1], found) for name, found in memory.items()}
        return {name: made[stored[name]] for name in names}

    def make_ready(self, weight_set: str) -> None:
        """Reads what `tensors` will not map: from then on it meets no error of the disk there."""
        for file in {record.file for record in self.weight_set(weight_set).tensors.values()}:
            self.opened.buffer(file)

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
                    values(self._observed.torch_files[file], partial(self._memory, file))
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

    def beside_weights(self) -> frozenset[str]:
        """The files that hold no weights: those may be verified tensor by tensor (`owned`)."""
        return self._files - self._observed.headers.keys()

    def verify(
        self, files: Iterable[str] | None = None, *, progress: Progress | None = None
    ) -> None:
        """Checks the digests of these files, or of all, on several threads.

        Raises InvalidCheckpointError with every file whose bytes are not those that were saved, or
        whose digest this reader cannot compute.
        """
        asked = self._files if files is None else frozenset(files)
        wanted = sorted(asked - self._verified.keys())
        written = {name: self._written(name) for name in wanted}
        self._compare(
            (
                Stated(
                    where=name,
                    digest=self.meta.files[name].digest,
                    size_bytes=self.meta.files[name].size_bytes,
                    read=self._reader(name),
                    parsed=self.opened.parsed(name),
                )
                for name in wanted
            ),
            progress,
        )
        self._verified |= written

    def confirm(self) -> None:
        """Raises InvalidCheckpointError when a file was written to since its bytes were verified.

        Bytes that are held in memory are those that were verified, whatever happened to the file.
        """
        now = {name: self._written(name) for name in self._verified if not self._is_own(name)}
        changed = [name for name, facts in now.items() if facts[:2] != self._verified[name][:2]]
        _raise_for(self.opened, tuple(map(rewritten, changed)))
        # A link that another save made, or a writer who restored the time of writing.
        touched = [name for name, facts in now.items() if facts != self._verified[name]]
        if touched:
            for name in touched:
                del self._verified[name]
            self.verify(touched)

    def _is_own(self, name: str) -> bool:
        return name in self._storages or self.opened.held(name) is not None

    def _reader(self, name: str) -> Callable[[int], Iterable[memoryview]]:
        """All bytes of a file; those of a torch file's storages go where they will be used."""
        scanned = self._observed.torch_files.get(name)
        if scanned is None or name in self._decoded:
            return lambda threads: self.opened.chunks(name, threads=threads)
        # Here and not in the thread that reads: its allocator would have no memory to use again.
        self._storages[name] = memory = {
            begin: torch.empty(size_bytes, dtype=torch.uint8, device="cpu")
            for begin, size_bytes in scanned.storages.values()
            if size_bytes
        }
        places = [(begin, bytes_of(found)) for begin, found in memory.items()]
        return lambda threads: self.opened.scattered(name, places)

    def _written(self, name: str) -> tuple[int, int, int]:
        """What writing into a file changes. Only the last of them does a link change, too."""
        facts = self.opened.facts(name)
        return facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns

    def _compare(self, stated: Iterable[Stated], progress: Progress | None = None) -> None:
        with watched(f"reading {self.opened.path.name}", progress) as tell:
            problems = compare(stated, progress=tell)
        _raise_for(self.opened, problems)

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

    def _view(self, file: str, info: TensorInfo) -> torch.Tensor:
        dtype = TORCH_DTYPES[info.dtype]
        shape = _shape(info)
        count = math.prod(shape)
        if count == 0:
            return torch.empty(shape, dtype=dtype, device="cpu")
        start = self._observed.headers[file].data_start + info.begin
        # A boolean byte other than 0 and 1 becomes 1 wherever torch copies it.
        flat = torch.frombuffer(self.opened.buffer(file), dtype=dtype, count=count, offset=start)
        return flat.view(shape)

    def _bytes(self, file: str, info: TensorInfo) -> torch.Tensor:
        start = self._observed.headers[file].data_start
        return self._memory(file, start + info.begin, info.end - info.begin)

    def _memory(self, file: str, begin: int, size_bytes: int) -> torch.Tensor:
        """These bytes of a file in memory that no file backs: the memory that was hashed, where
        that is there.

        Else read, not copied from a mapping: a copy takes twice as long for the faults of both.
        """
        own = self._storages.get(file, {}).get(begin)
        if own is not None:
            return own
        held = self.opened.held(file)
        if held is not None and size_bytes:
            found = torch.frombuffer(held, dtype=torch.uint8, count=size_bytes, offset=begin)
            if found.data_ptr() % _ALIGNMENT == 0:
                return found
        memory = torch.empty(size_bytes, dtype=torch.uint8, device="cpu")
        self.opened.read_into(file, bytes_of(memory), begin)
        return memory


def _whole(memory: torch.Tensor, threads: int) -> Iterable[memoryview]:
    return (bytes_of(memory),)


def _made(info: TensorInfo, memory: torch.Tensor) -> torch.Tensor:
    """The tensor of these bytes, and on them."""
    dtype = TORCH_DTYPES[info.dtype]
    # A byte other than 0 and 1 is no boolean: it becomes 1.
    return (memory.ne(0) if dtype is torch.bool else memory.view(dtype)).view(_shape(info))


def _shape(info: TensorInfo) -> tuple[int, ...]:
    # None fits no live tensor; so does the shape in the file.
    return torch_shape(info.dtype, info.shape) or info.shape


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
