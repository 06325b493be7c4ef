"""What checkpoints take, by stat: shared files once, what goes with each."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from smartcash_format.store.catalog import scan
from smartcash_format.store.disk_use import beside, disk_use
from tests.store.checkpoints import write_checkpoint


def test_what_a_part_takes_is_the_sum_of_its_files(tmp_path: Path) -> None:
    paths = [write_checkpoint(tmp_path, number) for number in (1, 2)]
    found = disk_use(scan(tmp_path))
    assert found.by_part["weights"] == 2 * 5_000
    assert found.by_part["tensors"] == 2 * 300
    sizes = [sum(file.stat().st_size for file in path.iterdir()) for path in paths]
    assert [each.exclusive_bytes for each in found.checkpoints] == sizes[::-1]
    assert found.size_bytes == sum(sizes)
    assert found.saved_bytes == 0
    assert next(iter(found.by_part)) == "optimizer"


def test_a_linked_file_is_counted_once_and_stays_when_one_goes(tmp_path: Path) -> None:
    one, other = (write_checkpoint(tmp_path, number) for number in (1, 2))
    (other / "model.safetensors").unlink()
    os.link(one / "model.safetensors", other / "model.safetensors")
    found = disk_use(scan(tmp_path))
    assert found.by_part["weights"] == 5_000
    assert found.saved_bytes == 5_000
    assert [each.shared_bytes for each in found.checkpoints] == [5_000, 5_000]


def test_what_has_gone_meanwhile_takes_nothing(tmp_path: Path) -> None:
    paths = [write_checkpoint(tmp_path, number) for number in (1, 2)]
    listing = scan(tmp_path)
    shutil.rmtree(paths[0])
    found = disk_use(listing)
    assert [bool(each.exclusive_bytes) for each in found.checkpoints] == [True, False]


def test_a_root_of_nothing_takes_nothing(tmp_path: Path) -> None:
    assert disk_use(scan(tmp_path)).size_bytes == 0


def test_what_lies_beside_the_checkpoints_is_counted_too(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, 1)
    assert beside(scan(tmp_path)) == ()
    broken = write_checkpoint(tmp_path, 2)
    (broken / "optimizer.pt").unlink()
    (tmp_path / "old.pth").write_bytes(bytes(70))
    stage = tmp_path / ".staging-left-by-somebody"
    stage.mkdir()
    (stage / "model.safetensors").write_bytes(bytes(30))
    found = {each.kind: (each.count, each.size_bytes) for each in beside(scan(tmp_path))}
    size = sum(file.stat().st_size for file in broken.iterdir())
    assert found == {"broken": (1, size), "unfinished": (1, 30), "legacy": (1, 70)}
