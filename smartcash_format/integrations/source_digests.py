"""The digests of a source: of its files, and of the tensors where they lie in them.

Each byte is read once for both, before anything is written. What was written is compared with
these, so that a source is not read again for it (decision 0049).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import torch

from smartcash_format.disk.hashing import Digests, Meter, Span, cores, digests_of, threads_for
from smartcash_format.disk.pool import Pool
from smartcash_format.disk.positioned import read_chunks
from smartcash_format.integrations.found import Found
from smartcash_format.spec import digest
from smartcash_format.spec.watching import Progress
from smartcash_format.torch_io.dtypes import bytes_of, on_cpu
from smartcash_format.torch_io.weights import live_state

# Where a tensor lies: in which of the mapped files, from which byte on, how many.
_Place = tuple[int, int, int]
_CONTAINERS: Final = (list, tuple)


class SourceDigests:
    """The digests of all files that were read of a source; `progress` is told the bytes hashed."""

    def __init__(self, found: Found, progress: Progress | None = None) -> None:
        self._mapped = tuple(found.mapped)
        self._of_tensors: dict[_Place, str] = {}
        self.of_files: dict[Path, str] = {}
        places = {place for tensor in _tensors_of(found) if (place := self._place(tensor))}
        files = [found.source] if found.source.is_file() else found.files
        total = sum(file.stat().st_size for file in files)
        meter = Meter(total, progress)
        for file in files:
            numbers = [n for n, mapped in enumerate(self._mapped) if mapped.path == file]
            spans = [place for place in places if place[0] in numbers]
            self._read(file, spans, meter, total)

    def of(self, tensor: torch.Tensor) -> str:
        """The digest of a tensor's bytes: as they were read, of what does not lie in a file now."""
        place = self._place(tensor)
        if place is not None and (known := self._of_tensors.get(place)):
            return known
        return digest_of_tensor(tensor)

    def _place(self, tensor: torch.Tensor) -> _Place | None:
        for number, mapped in enumerate(self._mapped):
            if (place := mapped.place(tensor)) is not None:
                return number, *place
        return None

    def _read(self, file: Path, places: Sequence[_Place], meter: Meter, total: int) -> None:
        by_name = {str(place): place for place in places}
        spans = [
            Span(begin=begin, end=begin + size_bytes, name=name, algorithm=digest.ALGORITHM)
            for name, (_, begin, size_bytes) in by_name.items()
        ]
        found = _digests(file, spans, meter, total)
        self.of_files[file] = found.of_file
        for name, of_tensor in found.of_tensors.items():
            self._of_tensors[by_name[name]] = of_tensor


def digest_of_tensor(tensor: torch.Tensor) -> str:
    """The digest of the raw bytes of a tensor in memory, in the order of its axes."""
    return digest.digest_of(bytes_of(on_cpu(tensor.detach())))


def _digests(file: Path, spans: Iterable[Span], meter: Meter, total: int) -> Digests:
    with file.open("rb", buffering=0) as stream:
        size_bytes = file.stat().st_size
        threads = threads_for(size_bytes, total, cores())
        pieces = read_chunks(stream.fileno(), size_bytes, threads=threads)
        with Pool(threads) as pool:
            return digests_of(
                pieces, digest.ALGORITHM, spans, meter=meter, threads=threads, pool=pool
            )


def _tensors_of(found: Found) -> Iterator[torch.Tensor]:
    for source in (found.model, found.ema):
        if source is not None:
            yield from _tensors_in(live_state(source).entries)
    yield from _tensors_in([found.optimizer, found.scheduler, found.extra])


def _tensors_in(value: Any) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _tensors_in(item)
    elif isinstance(value, _CONTAINERS):
        for item in value:
            yield from _tensors_in(item)
