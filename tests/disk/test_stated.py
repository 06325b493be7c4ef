"""Digests beside bytes."""

from __future__ import annotations

from smartcash_format.disk.stated import Stated, compare
from smartcash_format.spec.digest import digest_of


def stated(data: bytes, digest: str) -> Stated:
    return Stated(
        where="f", digest=digest, size_bytes=len(data), read=lambda threads: (memoryview(data),)
    )


def test_every_difference_is_told() -> None:
    told: list[tuple[int, int]] = []
    problems = compare(
        [
            stated(b"same", digest_of(b"same")),
            stated(b"rot", digest_of(b"not")),
            stated(b"sha", digest_of(b"sha", "sha256")),
            stated(b"new", f"blake9:{'0' * 64}"),
        ],
        progress=lambda done, total: told.append((done, total)),
    )
    assert [problem.code for problem in problems] == ["digest-mismatch", "digest-unknown"]
    assert told[-1] == (10, 13)  # what cannot be told is not hashed
