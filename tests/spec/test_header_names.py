"""Names in a header that are more than names: paths, and what Python calls its own."""

from __future__ import annotations

import json

import pytest

from smartcash_format.errors import UnsavableStateError
from smartcash_format.spec.header import encode_header
from tests.spec.test_header import F32, codes, file_of, read


@pytest.mark.parametrize(
    "name",
    ["/a", "..", "../a", "a/..", "a/../b", "C:/a", "c:/", "\\\\host\\a", "a\\b"],
)
def test_a_name_that_is_a_path_out_of_a_directory_is_refused(name: str) -> None:
    (problem,) = read(file_of({name: F32}, b"1234"))[1]
    assert (problem.code, "path out of" in problem.message) == ("tensor-name", True)
    with pytest.raises(UnsavableStateError, match="path out of"):
        encode_header([(name, "F32", (1,))])


@pytest.mark.parametrize("key", ["__reduce__", "__import__", "__builtins__", "__"])
def test_metadata_with_a_name_of_pythons_is_refused(key: str) -> None:
    assert codes(file_of({"__metadata__": {key: "x"}})) == ["header-metadata"]


@pytest.mark.parametrize(
    "name",
    ["a", "n" * 1024, "é" * 512, "層.0.重み", "blocks[-0].w", "a b", "a/b.c", "a..b", "...", "c:a"],
)
def test_a_name_that_people_use_is_read(name: str) -> None:
    for ascii_only in (True, False):
        raw = json.dumps({name: F32}, ensure_ascii=ascii_only)
        header, problems = read(file_of(raw, b"1234"))
        assert problems == ()
        assert header is not None
        assert list(header.tensors) == [name]
