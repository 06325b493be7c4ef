"""What a checkpoint was converted from, as its notes tell it: the same bytes come in once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from smartcash_format.integrations.found import Found
from smartcash_format.integrations.source_digests import SourceDigests
from smartcash_format.spec import digest
from smartcash_format.spec.meta import parse_meta
from smartcash_format.store.entry import Entry

# The note that says it.
ORIGIN: Final = "converted_from"


def origin_of(found: Found, digests: SourceDigests) -> Mapping[str, str]:
    """The name, the kind and the digest of a source: of its file, or of those that were read."""
    source, of_files = found.source, digests.of_files
    return {
        "name": source.name,
        "kind": found.kind,
        "digest": of_files[source] if source in of_files else _digest_of_all(of_files),
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


def _digest_of_all(of_files: Mapping[Path, str]) -> str:
    lines = sorted(f"{file.name} {of_file}\n" for file, of_file in of_files.items())
    return digest.digest_of("".join(lines).encode("utf-8", "surrogateescape"))
