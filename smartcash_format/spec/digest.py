"""How bytes get a name: `"blake3:<hex>"`; `"sha256:<hex>"` is read as well (FORMAT.md, Digests)."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from json.encoder import encode_basestring as quoted
from typing import Any, Final, Protocol

from blake3 import blake3

from smartcash_format.spec.documents import dump_lines

ALGORITHM: Final = "blake3"
ALGORITHMS: Final = frozenset({ALGORITHM, "sha256"})
PATTERN: Final = rf"^({'|'.join(sorted(ALGORITHMS))}):[0-9a-f]{{64}}$"
# What a reader of a later minor may meet: the shape of a digest whose algorithm is unknown here.
SHAPE: Final = re.compile(r"[a-z0-9]{1,16}:[0-9a-f]{32,128}")
_KNOWN = re.compile(PATTERN)
# meta.json states its own digest under this key: the hex digits are zeros while it is taken.
ZEROS: Final = "0" * 64
SEAL_KEY: Final = "meta_digest"
# A config may hold the same; but no key below the first level is at the begin of a line.
_SEAL_LINE: Final = f'\n "{SEAL_KEY}": "{ALGORITHM}:'.encode()


class Hasher(Protocol):
    """A running digest: both algorithms release the GIL on large updates."""

    def update(self, data: Any, /) -> Any: ...

    def hexdigest(self) -> str: ...


def is_known(digest: str) -> bool:
    """Whether this reader can compute the digest's algorithm."""
    return _KNOWN.match(digest) is not None


def hasher(algorithm: str = ALGORITHM, *, threads: int = 1) -> Hasher:
    """A new running digest; BLAKE3 takes a large update in so many threads at once.

    Raises ValueError for an algorithm this version does not know.
    """
    match algorithm:
        case "blake3":
            return blake3(max_threads=threads)
        case "sha256":
            return hashlib.sha256()
    raise ValueError(f"unknown digest algorithm {algorithm!r}")


def named(running: Hasher, algorithm: str = ALGORITHM) -> str:
    """The digest of everything the hasher has seen, with its algorithm's name in front."""
    return f"{algorithm}:{running.hexdigest()}"


def digest_of(data: bytes | memoryview, algorithm: str = ALGORITHM) -> str:
    """The digest of one buffer."""
    if algorithm == ALGORITHM:  # a save asks this of thousands of small tensors
        return f"blake3:{blake3(data).hexdigest()}"
    running = hasher(algorithm)
    running.update(data)
    return named(running, algorithm)


def algorithm_of(digest: str) -> str:
    """The algorithm's name in front of a digest."""
    return digest.partition(":")[0]


def unsealed(document: Mapping[str, Any]) -> bytes:
    """The bytes of a meta.json with zeros in place of the hex digits of its meta_digest."""
    return dump_lines({**document, SEAL_KEY: f"{ALGORITHM}:{ZEROS}"})


def seal(document: Mapping[str, Any]) -> bytes:
    """The bytes of a meta.json whose meta_digest is the digest of these very bytes.

    While the digest is taken its hex digits are zeros.
    """
    zeroed = unsealed(document)
    start = zeroed.index(_SEAL_LINE) + len(_SEAL_LINE)
    digits = digest_of(zeroed)[len(ALGORITHM) + 1 :].encode()
    return zeroed[:start] + digits + zeroed[start + len(ZEROS) :]


def seal_holds(data: bytes, stated: str) -> bool:
    """Whether these bytes of a meta.json have the digest that they state.

    The stated hex digits must stand in the bytes once. Raises ValueError for an unknown algorithm.
    """
    algorithm, _, digits = stated.partition(":")
    around = data.split(digits.encode())  # one search; to count and to replace would be two
    return len(around) == 2 and digest_of(ZEROS.encode().join(around), algorithm) == stated


def weights_digest(
    tensors: Iterable[tuple[str, str, Sequence[int], str]], algorithm: str = ALGORITHM
) -> str:
    """One name for a set of weights: same names and values, same digest, however sharded or dated.

    Takes (name, dtype, shape, tensor digest) of every name, each name of a tied tensor included.
    The digest of the lines `json([name, dtype, shape, digest])` + LF, compact, sorted by the name's
    UTF-8 bytes.
    """
    # By hand, because a JSON encoder takes ten times as long for a line; and a model has a thousand
    # tensors of a few forms. In a digest nothing has to be escaped. Texts are in the order of their
    # UTF-8 as they are in their own.
    forms: dict[tuple[Any, ...], str] = {}
    lines = []
    for name, dtype, shape, digest in tensors:
        form = forms.get(key := (dtype, *shape))
        if form is None:
            form = forms[key] = f"{quoted(dtype)},[{','.join(map(str, shape))}]"
        lines.append((name, f'[{quoted(name)},{form},"{digest}"]\n'))
    lines.sort()
    return digest_of("".join([line for _, line in lines]).encode("utf-8"), algorithm)
