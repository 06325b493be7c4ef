"""What is looked at by columns is what is found entry by entry."""

from __future__ import annotations

import io
import random

import pytest

from smartcash_format.spec import stored_zip, zip_columns
from smartcash_format.spec.refusal import Refused
from smartcash_format.spec.zip_headers import Records
from tests.spec.torch_files import PROTO, RECORDS, STOP, code_of, container, file_of, patched


def looked_at(file: bytes) -> object:
    """The records, or why there are none."""
    try:
        stream = io.BytesIO(file)
        directory = stored_zip.read_directory(stream, len(file))
        return dict(stored_zip.read_records(stream, directory).by_name)
    except Refused as refused:
        return refused.code, refused.message, refused.part


def by_columns(file: bytes) -> Records | None:
    stream = io.BytesIO(file)
    return zip_columns.read_aligned(stream, stored_zip.read_directory(stream, len(file)))


def test_what_is_looked_at_together_is_what_is_found_one_by_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    file = file_of(PROTO + b"N" + STOP, {str(key): bytes(key % 7) for key in range(120)})
    chance = random.Random(5)
    starts = [at for at in range(len(file)) if file.startswith((b"PK\x03\x04", b"PK\x01\x02"), at)]
    damaged = [
        patched(file, chance.choice(starts) + chance.randrange(60), chance.randbytes(1))
        for _ in range(300)
    ]
    together = [looked_at(each) for each in (file, *damaged)]
    assert by_columns(file) is not None
    monkeypatch.setattr(stored_zip, "read_aligned", lambda *arguments: None)
    monkeypatch.setattr(stored_zip, "_alike", lambda *arguments: iter(()))
    assert together == [looked_at(each) for each in (file, *damaged)]
    assert len(together[0]) == 123  # type: ignore[arg-type]
    assert 50 < sum(isinstance(each, dict) for each in together) < 250


def test_names_that_are_not_counted_are_looked_at_one_by_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each is a run, which takes as long as many entries do."""
    letters = [f"data/{key}th" for key in range(400)]
    file = container([*RECORDS.items(), *((name, b"") for name in letters)])
    assert by_columns(file) is None
    assert code_of(file) == "archive-record"
    monkeypatch.setattr(zip_columns, "_RUNS", 1_000)
    found = by_columns(file)
    assert found is not None
    assert len(found.by_name) == 403
