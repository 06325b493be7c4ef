"""The same bytes come into a root once, and its history tells of it."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file

from smartcash_format.disk.read import read_meta
from smartcash_format.integrations.convert import convert
from smartcash_format.store.catalog import scan
from smartcash_format.store.history import read_history


def test_the_same_bytes_come_in_once_whatever_their_name(tmp_path: Path) -> None:
    root = tmp_path / "root"
    source = tmp_path / "epoch_3.pt"
    torch.save({"a.w": torch.ones(3)}, source)
    first = convert(source, root)
    assert not first.already
    renamed = source.rename(tmp_path / "other.pt")
    for dry_run in (True, False):
        again = convert(renamed, root, dry_run=dry_run)
        assert again.already
        assert again.path == first.path
        assert again.name == first.name
    assert len(scan(root)) == 1
    torch.save({"a.w": torch.zeros(3)}, renamed)
    assert not convert(renamed, root).already
    assert len(scan(root)) == 2


def test_a_directory_is_known_by_the_files_that_were_read(tmp_path: Path) -> None:
    root, source = tmp_path / "root", tmp_path / "model"
    source.mkdir()
    save_file({"w": torch.ones(3)}, source / "model.safetensors")
    (source / "config.json").write_text('{"width": 3}')
    first = convert(source, root)
    (source / "README.md").write_text("is not read")
    assert convert(source, root).path == first.path
    (source / "config.json").write_text('{"width": 4}')
    assert convert(source, root).path != first.path


def test_what_it_came_from_is_noted_and_the_history_has_a_line(tmp_path: Path) -> None:
    root, source = tmp_path / "root", tmp_path / "epoch_3.pt"
    torch.save({"a.w": torch.ones(3)}, source)
    path = convert(source, root).path
    assert path is not None
    meta = read_meta(path)
    origin = meta.notes["converted_from"]
    assert isinstance(origin, dict)
    assert (origin["name"], origin["kind"]) == ("epoch_3.pt", "a state dict")
    history = read_history(root, ())
    assert [(line.event, line.checkpoint, line.epoch) for line in history.lines] == [
        ("save", path.name, 3)
    ]
    assert history.lines[0].at == meta.saved_at


def test_a_checkpoint_whose_notes_are_the_users_own_is_no_origin(tmp_path: Path) -> None:
    from smartcash_format.manager.functions import save_checkpoint

    root, source = tmp_path / "root", tmp_path / "w.pt"
    state = {"a.w": torch.ones(3)}
    torch.save(state, source)
    save_checkpoint(root / "one", state, epoch=1, notes={"converted_from": "paper"})
    assert not convert(source, root).already
