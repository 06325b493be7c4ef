"""What a checkpoint was converted from, as its notes tell it: the same bytes come in once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from smartcash_format.integrations.found import Found
from smartcash_format.spec import digest
from smartcash_format.spec.meta import parse_meta
from smartcash_format.spec.watching import Progress
from smartcash_format.store.entry import Entry

# The note that says it.
ORIGIN: Final = "converted_from"
_CHUNK_BYTES: Final = 1 << 20


def origin_of(found: Found, progress: Progress | None = None) -> Mapping[str, str]:
    """The name, the kind and the digest of a source: of its file, or of those that were read.

    `progress` is called with (bytes hashed, bytes to hash).
    """
    source = found.source
    files = [source] if source.is_file() else found.files
    tell = _Told(progress, sum(file.stat().st_size for file in files))
    return {
        "name": source.name,
        "kind": found.kind,
        "digest": _digest(source, tell) if source.is_file() else _digest_of_all(files, tell),
    }


def converted_from(origin: Mapping[str, str], entries: Iterable[Entry]) -> Entry | None:
    """The newest checkpoint that came from the very bytes of this source, if there is one."""
    wanted = origin["digest"]
    return next((entry for entry in entries if _noted(entry) == wanted), None)


def _noted(entry: Entry) -> object:
    if ORIGIN.encode() not in entry.meta_bytes:
        return None
    meta, _ = parse_meta(entry.meta_bytes)
    origin = None if meta is None else meta.notes.get(ORIGIN)
    return origin.get("digest") if isinstance(origin, dict) else None


class _Told:
    def __init__(self, progress: Progress | None, total: int) -> None:
        self._progress = progress
        self._done = 0
        self._total = total

    def add(self, count: int) -> None:
        self._done += count
        if self._progress is not None:
            self._progress(self._done, self._total)


def _digest_of_all(files: Iterable[Path], told: _Told) -> str:
    lines = sorted(f"{file.name} {_digest(file, told)}\n" for file in files)
    return digest.digest_of("".join(lines).encode("utf-8", "surrogateescape"))


def _digest(path: Path, told: _Told) -> str:
    running = digest.hasher()
    buffer = memoryview(bytearray(_CHUNK_BYTES))
    with path.open("rb", buffering=0) as stream:
        while count := stream.readinto(buffer):
            running.update(buffer[:count])
            told.add(count)
    return digest.named(running)
