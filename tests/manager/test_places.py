"""No file that is written for people or other programs breaks a checkpoint or takes a history."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path

import pytest

from smartcash_format.disk import drive
from smartcash_format.disk.observe import validate
from smartcash_format.disk.whole_file import whole_file
from smartcash_format.errors import CheckpointWriteError
from smartcash_format.integrations.export import export
from smartcash_format.manager.checkpoint_manager import CheckpointManager
from smartcash_format.spec.problems import Depth
from smartcash_format.testing.sample import write_sample


def _stream(root: Path, file: Path) -> None:
    with whole_file(file, overwrite=True) as stream:
        stream.write(b"signature")


_WRITERS: dict[str, Callable[[Path, Path], object]] = {
    "export": lambda root, file: export(root / "one", file, overwrite=True),
    "history": lambda root, file: CheckpointManager(root).export_history_to_json(file),
    "report": lambda root, file: CheckpointManager(root).report(file),
    "signature": _stream,
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_sample(tmp_path / "root", epoch=1).rename(tmp_path / "root" / "one")
    (tmp_path / "root" / "training_history.yaml").write_text('{"event": "save"}\n')
    return tmp_path / "root"


@pytest.fixture(params=_WRITERS)
def write(request: pytest.FixtureRequest) -> Callable[[Path, Path], object]:
    return _WRITERS[request.param]


@pytest.mark.parametrize("name", ["meta.json", "model.safetensors", "notes/new.html"])
def test_a_checkpoint_is_not_written_into(
    write: Callable[[Path, Path], object], name: str, root: Path
) -> None:
    with pytest.raises(CheckpointWriteError, match=r"was not written: .*one.*its root is"):
        write(root, root / "one" / name)
    (root.parent / "link").symlink_to(root / "one")
    with pytest.raises(CheckpointWriteError, match="its root is"):
        write(root, root.parent / "link" / name)
    assert validate(root / "one", Depth.CONTENT).problems == ()
    assert not (root / "one" / "notes").exists()


def test_a_history_is_not_replaced(write: Callable[[Path, Path], object], root: Path) -> None:
    before = (root / "training_history.yaml").read_bytes()
    with pytest.raises(CheckpointWriteError, match="a root's history has this name") as no:
        write(root, root / "training_history.yaml")
    assert no.value.errno == errno.EINVAL  # the command's advice goes by it
    assert (root / "training_history.yaml").read_bytes() == before


def test_nothing_is_written_below_a_drive_that_is_not_mounted(
    write: Callable[[Path, Path], object], root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drive, "DRIVE", root.parent / "drive")
    (root.parent / "drive" / "MyDrive").mkdir(parents=True)
    with pytest.raises(CheckpointWriteError, match="is not on Google Drive"):
        write(root, root.parent / "drive" / "MyDrive" / "out.pt")
    assert list((root.parent / "drive" / "MyDrive").iterdir()) == []


@pytest.mark.torch
@pytest.mark.parametrize("name", [".mine", ".staging-1", ".trash-1", "training_history.yaml"])
def test_a_checkpoint_is_not_saved_where_none_is_looked_for(name: str, tmp_path: Path) -> None:
    from smartcash_format.manager.functions import save_checkpoint

    with pytest.raises(ValueError, match="a name that no checkpoint has in a root"):
        save_checkpoint(tmp_path / name, {}, epoch=1)
    assert list(tmp_path.iterdir()) == []
