from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from smartcash_format.disk.read import open_checkpoint
from smartcash_format.spec.digest import digest_of
from smartcash_format.spec.meta import FileRecord, Meta, encode_meta

UUID = "3f9a2c1b-0000-4000-8000-000000000000"


def write_checkpoint(root: Path, name: str, data: bytes) -> Path:
    root.mkdir()
    (root / name).write_bytes(data)
    record = FileRecord(role="extra", size_bytes=len(data), digest=digest_of(data))
    meta = Meta(
        checkpoint_id=UUID,
        run_id=UUID,
        saved_at=datetime.now(UTC),
        epoch=1,
        is_best=False,
        files={name: record},
    )
    (root / "meta.json").write_bytes(encode_meta(meta))
    return root


def test_a_write_into_a_buffer_never_reaches_the_file(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path / "c", "extra.pt", b"saved")
    with open_checkpoint(path) as opened:
        buffer = opened.buffer("extra.pt")
        buffer[0:1] = b"X"
        assert bytes(opened.buffer("extra.pt")) == b"Xaved"
        del buffer
    assert (path / "extra.pt").read_bytes() == b"saved"
