"""What is really on the disk, looked at as hard as asked: META, STRUCTURE, CONTENT.

META stats the listed files; STRUCTURE also reads tensors.json, safetensors headers and the pickle
programs of torch files, as data; CONTENT also hashes every byte, once. None of them needs torch.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, Final

from smartcash_format.disk.collector import collector_paused
from smartcash_format.disk.hashing import (
    LARGE_BYTES,
    Digests,
    Meter,
    Span,
    cores,
    digests_of,
    threads_for,
)
from smartcash_format.disk.kinds import NotPlainFileError
from smartcash_format.disk.lending import LENT_BYTES
from smartcash_format.disk.pool import Pool
from smartcash_format.disk.read import Opened, try_open
from smartcash_format.spec import digest, layout, limits
from smartcash_format.spec.documents import parse_json
from smartcash_format.spec.header import Header, read_header
from smartcash_format.spec.pickles import TorchFile, scan_torch_file
from smartcash_format.spec.problems import Depth, Problem, Report
from smartcash_format.spec.refusal import Refused
from smartcash_format.spec.rules import Observed, check
from smartcash_format.spec.tensors import Tensors, parse_tensors
from smartcash_format.spec.watching import Progress, watched

# Twice of what others take: half as many turns of Python's lock, which the structure keeps busy.
_LENT_BYTES: Final = 2 * LENT_BYTES
Unreadable = Callable[[str, OSError], Problem]


def validate(
    path: str | os.PathLike[str],
    depth: Depth = Depth.STRUCTURE,
    *,
    progress: Progress | None = None,
) -> Report:
    """A report of every breach found as deep as asked; it never raises for what it finds.

    What the system does not let be read is found too, as `file-unreadable`; everything else is
    looked at all the same. `progress` is called with (bytes hashed, bytes to hash) at CONTENT, from
    any thread.
    """
    if not isinstance(depth, Depth):
        raise TypeError(
            f"depth is {depth!r:.80}; it is Depth.META, Depth.STRUCTURE or Depth.CONTENT"
        )
    try:
        opened, problems = try_open(path)
    except OSError as error:
        name = os.path.basename(error.filename or layout.META)
        where = layout.META if name == layout.META else "."
        return Report(path=Path(path), depth=depth, problems=(_unreadable(where, error),))
    if opened is None:
        return Report(path=Path(path), depth=depth, problems=problems)
    # Hashing may take minutes, and makes few objects.
    with opened, nullcontext() if depth >= Depth.CONTENT else collector_paused():
        # In a call of its own: what was read is gone before the collector would look at all of it.
        return _report(opened, depth, progress)


def _report(opened: Opened, depth: Depth, progress: Progress | None) -> Report:
    observed = observe(opened, depth, progress=progress, unreadable=_unreadable)
    return Report(
        path=opened.path,
        depth=depth,
        problems=check(opened.meta, observed),
        notices=tuple(f"{name} is not listed in meta.json" for name in observed.unlisted),
        meta=opened.meta,
        bytes_hashed=sum(observed.sizes[name] for name in observed.digests),
    )


def observe(
    opened: Opened,
    depth: Depth,
    *,
    names: Collection[str] | None = None,
    progress: Progress | None = None,
    unreadable: Unreadable | None = None,
) -> Observed:
    """What lies in an opened checkpoint, as far as `depth` looks.

    Every listed file's size is looked at; `names` bounds which files are read, None is all.
    `unreadable` makes a problem of an error of the system; without it OSError passes through.
    """
    looked = _Look(opened, opened.meta.files if names is None else names, unreadable)
    looked.sizes_of_files()
    if depth == Depth.STRUCTURE:
        looked.structure()
    if depth >= Depth.CONTENT:
        with watched(f"validating {opened.path.name}", progress) as tell:
            looked.content(tell)
    listed = {*opened.meta.files, layout.META}
    return Observed(
        depth=depth,
        sizes=looked.sizes,
        odd=looked.odd,
        unlisted=sorted(name for name in looked.names_there() if name not in listed),
        tensors=looked.tensors,
        headers=looked.headers,
        indexes=looked.indexes,
        torch_files=looked.torch_files,
        digests=looked.digests,
        tensor_digests=looked.tensor_digests,
        problems=tuple(looked.problems),
    )


class _Look:
    def __init__(
        self, opened: Opened, names: Collection[str], unreadable: Unreadable | None
    ) -> None:
        self.opened = opened
        self.names = names
        self.unreadable = unreadable
        self.sizes: dict[str, int] = {}
        self.odd: dict[str, str] = {}
        self.tensors: Tensors | None = None
        self.headers: dict[str, Header] = {}
        self.indexes: dict[str, dict[str, str]] = {}
        self.torch_files: dict[str, TorchFile] = {}
        self.digests: dict[str, str] = {}
        self.tensor_digests: dict[str, dict[str, str]] = {}
        self.problems: list[Problem] = []
        self.refused: set[str] = set()

    @contextmanager
    def _reading(self, name: str) -> Iterator[None]:
        """What the system refuses here is a problem of this file, where a problem is wanted.

        That a document is too large to be read always is one.
        """
        try:
            yield
        except Refused as refused:
            self.problems.append(refused.problem(name))
        except OSError as error:
            if self.unreadable is None:
                raise
            self.problems.append(self.unreadable(name, error))
            self.refused.add(name)

    def names_there(self) -> list[str]:
        with self._reading("."):
            return self.opened.names()
        return []

    def sizes_of_files(self) -> None:
        for name in self.opened.meta.files:
            if not layout.is_plain_name(name):
                continue  # never handed to the system: check() names it
            with self._reading(name):
                try:
                    self.sizes[name] = self.opened.listed_size(name)
                except FileNotFoundError:
                    continue
                except NotPlainFileError as error:
                    self.odd[name] = str(error.strerror)

    def structure(self) -> None:
        self._structures(self._whole())

    def _structures(self, names: Iterable[str]) -> None:
        for name in names:
            with self._reading(name):
                self._structure(name)

    def _structure(self, name: str) -> None:
        role, _ = layout.role_of(name)
        match role:
            case "tensors":
                data = self.opened.read(name, limits.TENSORS_BYTES)
                self.tensors, problems = parse_tensors(data)
                self.problems += problems
            case "index":
                self._index(name)
            case "weights":
                header, problems = read_header(self.opened.raw(name), self.sizes[name], where=name)
                self.problems += problems
                if header is not None:
                    self.headers[name] = header
            case "optimizer" | "scheduler" | "extra":
                scanned, problems = scan_torch_file(
                    self.opened.raw(name), self.sizes[name], where=name
                )
                self.problems += problems
                if scanned is not None:
                    self.torch_files[name] = scanned
            case _:
                pass

    def _whole(self) -> Iterator[str]:
        """The files worth reading: those with their listed size; the others are named already."""
        for name, record in self.opened.meta.files.items():
            is_whole = self.sizes.get(name) == record.size_bytes
            if is_whole and name in self.names and name not in self.refused:
                yield name

    def _index(self, name: str) -> None:
        data = self.opened.read(name, limits.INDEX_BYTES)
        value, problems = parse_json(data, where=name, max_bytes=limits.INDEX_BYTES)
        self.problems += problems
        if problems:
            return
        weight_map: Any = value.get("weight_map") if isinstance(value, dict) else None
        if _is_text_map(weight_map):
            self.indexes[name] = weight_map
        else:
            message = "has no weight_map from tensor names to files"
            self.problems.append(
                Problem(
                    code="index-mismatch",
                    where=name,
                    message=message,
                    found=f"weight_map: {type(weight_map).__name__}",
                    expected="an object that names a file for each tensor",
                )
            )

    def content(self, progress: Progress | None) -> None:
        """The structure as well, which is looked at while everything is hashed."""
        records = {name: self.opened.meta.files[name] for name in self._whole()}
        known = [name for name, record in records.items() if digest.is_known(record.digest)]
        # What the hashing of a file takes: its tensors are hashed once more.
        work = {name: self.sizes[name] * (2 if _is_weights(name) else 1) for name in known}
        meter = Meter(sum(self.sizes[name] for name in known), progress)

        with Pool(cores()) as pool:
            futures = {}

            def hashed(name: str, spans: list[Span]) -> Digests:
                threads = threads_for(work[name], sum(work.values()), cores())
                algorithm = digest.algorithm_of(records[name].digest)
                pieces = self._pieces(name, threads)
                return digests_of(pieces, algorithm, spans, meter=meter, threads=threads, pool=pool)

            def start(names: Iterable[str]) -> None:
                stated = self._stated()
                for name in names:
                    if name not in self.refused:
                        futures[name] = pool.submit(hashed, name, self._spans(name, stated))

            # What is large hashes from the beginning on, while the structure is looked at: that
            # tells where the tensors lie. Their thousand digests would wait for each other's turn
            # of Python's lock meanwhile; whatever thread is idle at the end takes a share of them.
            largest_first = sorted(known, key=lambda name: work[name], reverse=True)
            early = {n for n in known if work[n] >= LARGE_BYTES and not _is_weights(n)}
            start(name for name in largest_first if name in early)
            with collector_paused():
                # What tells more comes first.
                self._structures(sorted(records, key=_is_torch_file))
            start(name for name in largest_first if name not in early)
            # The rules ask for it when nothing hashes any more: it is known by then.
            for weight_set in self.tensors.weights.values() if self.tensors else ():
                _ = weight_set.weights_digest
            for name, future in futures.items():
                if name in self.refused:
                    continue  # said already
                with self._reading(name):
                    self.digests[name], self.tensor_digests[name] = future.result()

    def _pieces(self, name: str, threads: int) -> Generator[memoryview, None, None]:
        if self.opened.size(name) != self.sizes[name]:
            raise OSError(errno.EIO, "the file changed its size while it was looked at")
        return self.opened.pieces(name, threads=threads, lent_bytes=_LENT_BYTES)

    def _spans(self, name: str, stated: Mapping[tuple[str, str], str]) -> list[Span]:
        if (header := self.headers.get(name)) is None:
            return []
        return [
            Span(
                begin=header.data_start + info.begin,
                end=header.data_start + info.end,
                name=tensor,
                algorithm=stated.get((name, tensor), digest.ALGORITHM),
            )
            for tensor, info in header.tensors.items()
        ]

    def _stated(self) -> dict[tuple[str, str], str]:
        """File and tensor to what tensors.json digests it with, where it is another algorithm."""
        sets = self.tensors.weights.values() if self.tensors else ()
        return {
            (record.file, name): algorithm
            for weight_set in sets
            for name, record in weight_set.tensors.items()
            if (algorithm := digest.algorithm_of(record.digest)) != digest.ALGORITHM
            and digest.is_known(record.digest)
        }


def _unreadable(where: str, error: OSError) -> Problem:
    found = error.strerror or str(error)
    return Problem(
        code="file-unreadable",
        where=where,
        message=f"cannot be read: {found}",
        found=found,
        expected="what the system lets be read",
    )


def _is_torch_file(name: str) -> bool:
    return layout.role_of(name)[0] in layout.TORCH_ROLES


def _is_weights(name: str) -> bool:
    return layout.role_of(name)[0] == "weights"


def _is_text_map(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(v, str) for v in value.values())
