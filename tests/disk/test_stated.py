"""Digests beside bytes."""

from __future__ import annotations

import pytest

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


@pytest.mark.parametrize("step", [1, 3, 100])
@pytest.mark.parametrize("place", range(10))
def test_what_was_parsed_has_to_be_there_again(step: int, place: int) -> None:
    data = b"0123456789"
    parsed = [(0, b"01"), (7, b"789"), (1, b"1234"), (3, b""), (7, b"7")]
    cut = [memoryview(data)[at : at + step] for at in range(0, len(data), step)]

    def problems(parsed: list[tuple[int, bytes]]) -> list[str]:
        one = Stated(
            where="f", digest=digest_of(data), size_bytes=10, read=lambda t: cut, parsed=parsed
        )
        return [problem.message for problem in compare([one])]

    assert problems(parsed) == []
    other = [
        (at, bytes(b ^ (at + n == place) for n, b in enumerate(there))) for at, there in parsed
    ]
    found = ["was written to while it was loaded"] if other != parsed else []
    assert problems(other) == found
