"""The user's own description of the API is a contract: its snippets run, in order, as they stand.

Three things are exchanged and nothing else: the two import lines and the Drive directory.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="the seed's snippets train a model")

SEED = Path(__file__).parent / "data" / "checkpoint-manager.md"
_FENCE = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
EXCHANGED = (
    ("from smartcash.handlers.checkpoint import", "from smartcash_format import"),
    ("from smartcash.utils.logger import", "from tests.smartcash_logger import"),
)
DRIVE = "/content/drive/MyDrive/SmartCash/checkpoints"


def snippets(drive: Path) -> list[str]:
    """The seed's Python snippets in order, with the three things exchanged."""
    text = SEED.read_text("utf-8")
    for old, new in (*EXCHANGED, (DRIVE, str(drive))):
        assert text.count(old) == 1, f"the seed has {old!r} once"
        text = text.replace(old, new)
    return _FENCE.findall(text)


def training() -> dict[str, object]:
    """The names that the seed's snippets take for granted, as a training loop has them."""
    model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.BatchNorm1d(8))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=2)
    model(torch.randn(3, 4)).sum().backward()
    optimizer.step()
    scheduler.step()
    return {
        "model": model,
        "optimizer": optimizer,
        "scheduler": scheduler,
        "config": {"model": {"backbone": "efficientnet_b4"}, "data": {"source": "roboflow"}},
        "current_epoch": 10,
        "val_loss": 0.25,
        "val_accuracy": 0.9,
        "best_val_loss": 0.5,
    }


def run_all(tmp_path: Path) -> dict[str, object]:
    names = training()
    for number, snippet in enumerate(snippets(tmp_path / "drive"), 1):
        exec(compile(snippet, f"seed snippet {number}", "exec"), names)
    return names


def test_the_seed_has_all_its_snippets() -> None:
    assert len(snippets(Path("drive"))) == 9


def test_the_seeds_snippets_run_on_an_empty_root_and_again_on_the_root_they_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    first = run_all(tmp_path)
    printed = capsys.readouterr().out
    assert "✅ Checkpoint disimpan ke: " in printed
    assert "📂 Melanjutkan training dari epoch 10" in printed
    assert "🧹 0 checkpoint lama dibersihkan" in printed
    assert "📤 1 checkpoint disalin ke Drive" in printed
    assert "📊 Total sesi training: 1" in printed
    assert "❌ Checkpoint tidak valid: " in printed
    assert first["best_checkpoint_path"] == first["latest_checkpoint_path"]
    filtered = first["filtered_checkpoints"]
    assert isinstance(filtered, Sequence)
    assert list(filtered) == [first["best_checkpoint_path"]]
    second = run_all(tmp_path)
    printed = capsys.readouterr().out
    assert "📊 Total sesi training: 2" in printed
    assert second["checkpoint_path"] != first["checkpoint_path"]
    assert (tmp_path / "training_history.json").is_file()
    assert (tmp_path / "runs/train/weights/training_history.yaml").is_file()
