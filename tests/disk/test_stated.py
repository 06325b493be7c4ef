"""Digests beside bytes, on as many threads as the bytes are worth."""

from __future__ import annotations

import pytest

from smartcash_format.disk.stated import LARGE_BYTES, Stated, compare, threads_for
from smartcash_format.spec.digest import digest_of

GB = 10**9


@pytest.mark.parametrize(
    ("size_bytes", "total", "cores", "threads"),
    [
        (8 * GB, 12 * GB, 8, 5),
        (4 * GB, 12 * GB, 8, 3),
        (LARGE_BYTES - 1, LARGE_BYTES, 8, 1),
        (141_000_000, 212_000_000, 2, 1),
        (71_000_000, 12 * GB, 8, 1),
    ],
)
def test_a_large_file_gets_its_share_of_the_cores(
    size_bytes: int, total: int, cores: int, threads: int
) -> None:
    assert threads_for(size_bytes, total, cores) == threads


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
