"""Breaches that no repository can hold: what is too large, links, pipes, sockets."""

from __future__ import annotations

import io
import json
import os
import socket
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from smartcash_format.disk.observe import validate
from smartcash_format.disk.strip import strip
from smartcash_format.errors import InvalidCheckpointError
from smartcash_format.spec import limits
from smartcash_format.spec.header import read_header
from smartcash_format.spec.problems import Depth
from smartcash_format.store.catalog import scan
from smartcash_format.store.compare import diff
from tests.contract.build import (
    MODEL,
    draft,
    sealed,
    weights_of,
    with_optimizer,
)
from tests.contract.torch_files import archive, program


def write(root: Path, files: dict[str, bytes]) -> Path:
    path = root / "epoch-0010-6f1b9a52"
    path.mkdir()
    for name, data in files.items():
        (path / name).write_bytes(data)
    return path


def codes(path: Path, depth: Depth = Depth.CONTENT) -> set[str]:
    return {problem.code for problem in validate(path, depth).problems}


def with_weights(data: bytes) -> dict[str, bytes]:
    made = draft()
    made.parts["model.safetensors"] = data
    return made.files()


@pytest.mark.attack("large", "a `meta.json` beyond its limit", "json-too-large")
def test_a_meta_over_its_limit_is_refused(tmp_path: Path) -> None:
    made = draft()
    made.meta["notes"] = {"long": "x" * limits.META_BYTES}
    assert codes(write(tmp_path, made.files()), Depth.META) == {"json-too-large"}


@pytest.mark.attack("large", "a manifest beyond its limit", "json-too-large")
def test_a_manifest_over_its_limit_is_refused(tmp_path: Path) -> None:
    made = draft()
    made.write_manifest()
    made.parts["tensors.json"] += b" " * limits.TENSORS_BYTES
    assert codes(write(tmp_path, made.files_as_they_are())) == {"json-too-large"}


@pytest.mark.attack("large", "an index beyond its limit", "json-too-large")
def test_an_index_over_its_limit_is_refused(tmp_path: Path) -> None:
    made = draft({"model": [[MODEL[0]], [MODEL[1]]]})
    made.parts["model.safetensors.index.json"] += b" " * limits.INDEX_BYTES
    assert codes(write(tmp_path, made.files())) == {"json-too-large"}


@pytest.mark.attack("large", "any of these: not a byte of it is read", "json-too-large")
@pytest.mark.parametrize("name", ["meta.json", "tensors.json", "model.safetensors.index.json"])
def test_a_document_over_its_limit_is_not_read(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = with_optimizer(draft({"model": [[MODEL[0]], [MODEL[1]]]}))
    made.write_manifest()
    if name != "meta.json":
        made.parts[name] += b" " * limits.TENSORS_BYTES
    path = write(tmp_path, made.files_as_they_are())
    if name == "meta.json":
        os.truncate(path / name, limits.META_BYTES + 1)
    inode = (path / name).stat().st_ino
    for call in ("read", "pread", "preadv"):
        real = getattr(os, call)

        def counted(descriptor: int, *arguments: Any, real: Any = real) -> Any:
            assert os.fstat(descriptor).st_ino != inode
            return real(descriptor, *arguments)

        monkeypatch.setattr(os, call, counted)
    assert codes(path, Depth.STRUCTURE) == {"json-too-large"}
    if name == "meta.json":
        (broken,) = scan(tmp_path).broken
        assert [problem.code for problem in broken.problems] == ["json-too-large"]
    if name == "tensors.json":
        with pytest.raises(InvalidCheckpointError) as caught:
            diff(path, path)
        assert [problem.code for problem in caught.value.problems] == ["json-too-large"]
        with pytest.raises(InvalidCheckpointError) as caught:
            strip(path)
        assert [problem.code for problem in caught.value.problems] == ["json-too-large"]


@pytest.mark.attack(
    "large", "a header of brackets, objects, keys or numbers alone", "json-too-large"
)
@pytest.mark.parametrize(
    ("value", "most"), [(b"[]", 6), (b"{}", 3), (b'{"a":1,"b":1,"c":1}', 2), (b"1", 12)]
)
def test_a_header_of_one_thing_alone_is_refused_before_it_is_parsed(
    tmp_path: Path, value: bytes, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = b",".join([value] * (most * limits.TENSORS + 2))
    path = write(tmp_path, with_weights(weights_of(b'{"a":[' + values + b"]}", b"")))
    monkeypatch.setattr("smartcash_format.spec.header._sound", None)
    assert codes(path) == {"json-too-large"}


@pytest.mark.no_cover
def test_a_header_of_all_tensors_of_eight_dimensions_is_read() -> None:
    each = {"dtype": "F32", "shape": [0] * 8, "data_offsets": [0, 0]}
    names = {f"blocks[{n}]": each for n in range(limits.TENSORS)}
    raw = json.dumps(names, separators=(",", ":")).encode()
    data = struct.pack("<Q", len(raw)) + raw
    header, problems = read_header(io.BytesIO(data), len(data), where="model.safetensors")
    assert problems == ()
    assert header is not None
    assert len(header.tensors) == limits.TENSORS


@pytest.mark.no_cover
@pytest.mark.attack("large", "a header of too many tensors", "tensor-count")
def test_a_header_of_too_many_tensors_is_refused(tmp_path: Path) -> None:
    empty = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
    header = {f"t{n}": empty for n in range(limits.TENSORS + 1)}
    assert codes(write(tmp_path, with_weights(weights_of(header, b"")))) == {"tensor-count"}


@pytest.mark.attack("large", "a pickle program beyond its limit", "pickle-bounds")
def test_a_program_over_its_limit_is_refused(tmp_path: Path) -> None:
    data = archive(program("x" * limits.PROGRAM_BYTES), {})
    assert codes(write(tmp_path, with_optimizer(draft(), data).files())) == {"pickle-bounds"}


def link(path: Path) -> None:
    path.rename(path.with_suffix(".real"))
    path.symlink_to(path.with_suffix(".real").name)


def link_outside(path: Path) -> None:
    outside = path.parent.parent / "outside"
    path.rename(outside)
    path.symlink_to(outside)


def link_to_nothing(path: Path) -> None:
    path.unlink()
    path.symlink_to("nowhere")


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def bound_socket(path: Path) -> None:
    path.unlink()
    here = Path.cwd()
    os.chdir(path.parent)  # a socket's path has at most 107 bytes
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    finally:
        os.chdir(here)


@pytest.mark.attack("large", "a link inside, outside or to nothing, a pipe, a socket", "file-kind")
@pytest.mark.skipif(os.name == "nt", reason="Windows has neither pipes nor sockets as files")
@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.pt", "tensors.json", "meta.json"])
@pytest.mark.parametrize("replace", [link, link_outside, link_to_nothing, pipe, bound_socket])
def test_what_is_no_plain_file_is_refused_and_not_opened(
    tmp_path: Path, name: str, replace: Callable[[Path], None]
) -> None:
    path = write(tmp_path, with_optimizer(draft()).files())
    replace(path / name)
    for depth in Depth:
        assert codes(path, depth) == {"file-kind"}


@pytest.mark.attack("large", "a file that is listed twice", "json-duplicate-key")
def test_a_file_that_is_listed_twice_is_no_json(tmp_path: Path) -> None:
    files = draft().files()
    listed = b'"model.safetensors": {'
    twice = files["meta.json"].replace(listed, b'"model.safetensors":0,' + listed)
    assert codes(write(tmp_path, files | {"meta.json": twice})) == {"json-duplicate-key"}


@pytest.mark.attack("large", "too many listed files", "field-invalid")
def test_more_files_than_allowed_are_refused(tmp_path: Path) -> None:
    files = draft().files()
    document = {"role": "aux", "size_bytes": 0, "digest": "blake3:" + "0" * 64}
    made = draft()
    made.files()
    made.meta["files"] |= {f"f{n}": document for n in range(limits.FILES)}
    path = write(tmp_path, files | {"meta.json": sealed(made.meta)})
    assert codes(path, Depth.META) == {"field-invalid"}
