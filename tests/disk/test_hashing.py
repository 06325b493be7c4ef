"""Digests of files and of the tensors in them, of what is read once, on any number of threads."""

from __future__ import annotations

import errno
import os
import random
import threading
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from smartcash_format.disk import observe, positioned, read
from smartcash_format.disk.hashing import LARGE_BYTES, Meter, Span, digests_of, threads_for
from smartcash_format.disk.observe import validate
from smartcash_format.disk.pool import Pool
from smartcash_format.disk.publish import stage
from smartcash_format.disk.read import open_checkpoint
from smartcash_format.disk.sharing import SoundFiles
from smartcash_format.spec import digest, layout
from smartcash_format.spec.digest import digest_of
from smartcash_format.spec.problems import Depth, Report
from smartcash_format.spec.tensors import parse_tensors
from smartcash_format.testing.sample import write_sample
from tests.contract.build import MODEL, draft

WEIGHTS = "model.safetensors"
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


def listed_bytes(report: Report) -> dict[str, int]:
    assert report.meta is not None
    return {name: record.size_bytes for name, record in report.meta.files.items()}


def pieces_of(data: bytes, step: int) -> Generator[memoryview, None, None]:
    """As a reader gives them: each takes the place of the one before."""
    scratch = bytearray(step)
    for begin in range(0, len(data), step):
        piece = data[begin : begin + step]
        scratch[: len(piece)] = piece
        yield memoryview(scratch)[: len(piece)]


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("step", [1, 7, 64, 4096])
def test_every_tensor_has_its_digest_wherever_the_pieces_end(step: int, threads: int) -> None:
    data = random.Random(step).randbytes(1_000)
    edges = [8, 8, 15, 16, 80, 80, 500, 1_000, 1_000]
    spans = [
        Span(begin, end, f"t{n}", "sha256" if n % 2 else "blake3")
        for n, (begin, end) in enumerate(pairwise(edges))
    ]
    told: list[int] = []
    meter = Meter(len(data), lambda done, total: told.append(done))
    with Pool(threads) as pool:
        found = digests_of(
            pieces_of(data, step),
            "blake3",
            reversed(spans),
            meter=meter,
            threads=threads,
            pool=pool,
        )
    assert found.of_file == digest_of(data)
    assert found.of_tensors == {
        span.name: digest_of(data[span.begin : span.end], span.algorithm) for span in spans
    }
    assert told[-1] == len(data)


def test_a_tensor_that_the_file_does_not_reach_has_no_digest() -> None:
    spans = [Span(0, 10, "whole", "blake3"), Span(10, 30, "cut", "blake3")]
    spans += [Span(30, 30, "empty", "blake3"), Span(30, 40, "away", "blake3")]
    data = bytes(20)
    found = digests_of(pieces_of(data, 8), "blake3", spans, meter=Meter(20, None))
    assert found.of_tensors == {"whole": digest_of(data[:10])}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_sample(tmp_path / "root", epoch=1)


@pytest.fixture
def nothing_lent(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where the system gives no lease: everything is read."""
    monkeypatch.setattr(read, "lent_pieces", lambda *asked: iter(()))


@pytest.fixture
def cut(path: Path, nothing_lent: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody cuts the weights when some of them were read: on a mapping that is SIGBUS."""
    monkeypatch.setattr(positioned, "CHUNK_BYTES", 100)
    real = os.preadv

    def preadv(descriptor: int, buffers: list[Any], position: int) -> int:
        count = real(descriptor, buffers, position)
        if Path(f"/proc/self/fd/{descriptor}").resolve().name == WEIGHTS:
            os.truncate(path / WEIGHTS, 10)
        return count

    monkeypatch.setattr(os, "preadv", preadv)


@pytest.mark.attack("move", "a file that is cut while it is hashed", "file-unreadable")
@pytest.mark.usefixtures("cut")
def test_a_file_that_is_cut_while_it_is_hashed_is_a_finding(path: Path) -> None:
    report = validate(path, Depth.CONTENT)
    (problem,) = report.problems
    assert (problem.code, problem.where) == ("file-unreadable", WEIGHTS)
    assert "became shorter" in problem.message
    sizes = listed_bytes(report)
    assert report.bytes_hashed == sum(sizes.values()) - sizes[WEIGHTS]


@pytest.mark.usefixtures("cut")
def test_a_file_that_is_cut_while_it_is_compared_is_not_linked(path: Path, tmp_path: Path) -> None:
    with open_checkpoint(path) as opened, stage(tmp_path / "epoch-0002-aa") as staged:
        reason = SoundFiles().link(opened, WEIGHTS, staged, WEIGHTS)
        assert reason is not None
        assert "became shorter" in reason
        assert os.listdir(staged.path) == []


@pytest.mark.parametrize("size_bytes", [10, 100_000])
def test_a_file_that_changes_its_size_before_it_is_hashed_is_a_finding(
    path: Path, monkeypatch: pytest.MonkeyPatch, size_bytes: int
) -> None:
    def size(opened: read.Opened, name: str) -> int:
        if name == WEIGHTS:
            os.truncate(path / WEIGHTS, size_bytes)
        return opened.facts(name).st_size

    monkeypatch.setattr(read.Opened, "size", size)
    (problem,) = validate(path, Depth.CONTENT).problems
    assert (problem.code, problem.where) == ("file-unreadable", WEIGHTS)
    assert "changed its size" in problem.message


@pytest.mark.parametrize("system", ["ext4", "nfs4"])
def test_nothing_is_mapped_or_held_by_who_only_looks(
    path: Path, monkeypatch: pytest.MonkeyPatch, system: str
) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("mapped or held")

    monkeypatch.setattr(read, "file_system", lambda device: system)
    monkeypatch.setattr(read.Opened, "_map", refuse)
    monkeypatch.setattr(read.Opened, "chunks", refuse)
    report = validate(path, Depth.CONTENT)
    assert report.valid
    assert report.bytes_hashed == sum(listed_bytes(report).values())


def test_a_file_is_opened_once_for_who_looks_at_it_and_who_hashes_it_at_the_same_time(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened_names: list[str] = []
    never = threading.Event()
    with open_checkpoint(path) as opened:
        real = opened._directory.open

        def slow(name: str) -> int:
            opened_names.append(name)
            never.wait(0.2)  # the other one asks meanwhile
            return real(name)

        monkeypatch.setattr(opened._directory, "open", slow)
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(opened.size, [layout.OPTIMIZER] * 2))
    assert opened_names == [layout.OPTIMIZER]


def test_a_part_that_the_disk_does_not_give_is_named_once(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = read.Opened._descriptor

    def refuse(opened: read.Opened, name: str) -> int:
        if name in (layout.TENSORS, layout.OPTIMIZER):
            raise OSError(errno.EIO, "Input/output error")
        return real(opened, name)

    monkeypatch.setattr(read.Opened, "_descriptor", refuse)
    report = validate(path, Depth.CONTENT)
    assert [(each.code, each.where) for each in report.problems] == [
        ("file-unreadable", layout.TENSORS),
        ("file-unreadable", layout.OPTIMIZER),
    ]
    sizes = listed_bytes(report)
    unread = sizes[layout.TENSORS] + sizes[layout.OPTIMIZER]
    assert report.bytes_hashed == sum(sizes.values()) - unread


def test_what_is_large_and_no_weights_is_hashed_before_the_structure_is_known(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(observe, "LARGE_BYTES", 1)
    began = threading.Event()
    waited: list[bool] = []

    def digested(*args: Any, **kwargs: Any) -> Any:
        began.set()
        return digests_of(*args, **kwargs)

    def parse(data: bytes) -> Any:
        waited.append(began.wait(10))
        return parse_tensors(data)

    monkeypatch.setattr(observe, "digests_of", digested)
    monkeypatch.setattr(observe, "parse_tensors", parse)
    assert validate(path, Depth.CONTENT).valid
    assert waited == [True]


def many_spans(count: int) -> tuple[bytes, list[Span], dict[str, str]]:
    """So many bytes, a tensor of one byte each, and their digests."""
    data = bytes(range(count))
    spans = [Span(n, n + 1, f"t{n}", "blake3") for n in range(count)]
    return data, spans, {span.name: digest_of(data[span.begin : span.end]) for span in spans}


def test_an_idle_thread_takes_a_share_of_the_tensors(monkeypatch: pytest.MonkeyPatch) -> None:
    data, spans, expected = many_spans(16)
    both = threading.Barrier(2)
    threads: set[int] = set()

    def digested(*args: Any) -> str:
        if threading.get_ident() not in threads:
            threads.add(threading.get_ident())
            both.wait(10)  # raises where one thread does it all
        return digest_of(*args)

    monkeypatch.setattr(digest, "digest_of", digested)
    with Pool(1) as pool:
        found = digests_of(pieces_of(data, 16), "blake3", spans, meter=Meter(16, None), pool=pool)
    assert found.of_tensors == expected
    assert found.of_file == digest_of(data)
    assert len(threads) == 2


def test_nobody_waits_for_a_thread_that_has_other_things_to_do() -> None:
    data, spans, expected = many_spans(16)
    done = threading.Event()
    with Pool(1) as pool:
        busy = pool.submit(done.wait, 10)
        found = digests_of(pieces_of(data, 5), "blake3", spans, meter=Meter(16, None), pool=pool)
        done.set()
    assert found.of_tensors == expected
    assert busy.result()  # it was not waited for


def test_who_still_hashes_when_the_pool_is_shut_down_does_it_alone() -> None:
    data, spans, expected = many_spans(16)
    with Pool(1) as pool:
        pass
    found = digests_of(pieces_of(data, 5), "blake3", spans, meter=Meter(16, None), pool=pool)
    assert found.of_tensors == expected


def test_what_fails_in_another_thread_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    data, spans, _ = many_spans(16)
    here = threading.get_ident()
    failed = threading.Event()

    def digested(*args: Any) -> str:
        if threading.get_ident() == here:
            failed.wait(10)
            return digest_of(*args)
        failed.set()
        raise MemoryError

    monkeypatch.setattr(digest, "digest_of", digested)
    with Pool(1) as pool, pytest.raises(MemoryError):
        digests_of(pieces_of(data, 16), "blake3", spans, meter=Meter(16, None), pool=pool)


@pytest.mark.parametrize("spelled", ['"sha256:', '"\\u0073ha256:'])
def test_a_tensor_is_hashed_with_the_algorithm_that_the_manifest_names(
    spelled: str, tmp_path: Path
) -> None:
    made = draft()
    for tensor in MODEL:
        record = made.manifest["weights"]["model"]["tensors"][tensor.name]
        record["digest"] = digest_of(tensor.data, "sha256")
    made.write_manifest()
    manifest = made.parts[layout.TENSORS]
    made.parts[layout.TENSORS] = manifest.replace(b'"sha256:', spelled.encode())
    for name, data in made.files_as_they_are().items():
        (tmp_path / name).write_bytes(data)
    report = validate(tmp_path, Depth.CONTENT)
    assert report.valid, report.problems
    rotten = bytearray((tmp_path / WEIGHTS).read_bytes())
    rotten[-1] ^= 1
    (tmp_path / WEIGHTS).write_bytes(rotten)
    problems = validate(tmp_path, Depth.CONTENT).problems
    assert [problem.code for problem in problems] == ["digest-mismatch"] * 2
    assert [(problem.found or "").partition(":")[0] for problem in problems] == ["blake3", "sha256"]


def test_what_is_held_is_what_is_looked_at(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read, "file_system", lambda device: "nfs4")
    with open_checkpoint(path) as opened:
        data = b"".join(opened.chunks(WEIGHTS))
        os.truncate(path / WEIGHTS, 0)
        assert b"".join(opened.pieces(WEIGHTS)) == data


@pytest.mark.usefixtures("nothing_lent")
def test_a_bad_sector_is_a_finding_and_all_other_files_are_hashed(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.preadv

    def rotten(descriptor: int, buffers: list[Any], position: int) -> int:
        if Path(f"/proc/self/fd/{descriptor}").resolve().name == layout.OPTIMIZER:
            raise OSError(errno.EIO, "Input/output error")
        return real(descriptor, buffers, position)

    monkeypatch.setattr(os, "preadv", rotten)
    report = validate(path, Depth.CONTENT)
    (problem,) = report.problems
    assert (problem.code, problem.where) == ("file-unreadable", layout.OPTIMIZER)
    sizes = listed_bytes(report)
    assert report.bytes_hashed == sum(sizes.values()) - sizes[layout.OPTIMIZER]
